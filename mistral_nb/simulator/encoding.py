"""JSON as the simulator writes it: quickly, and with whole numbers of any length."""

from __future__ import annotations

import json
from typing import Any

import orjson

__all__ = ["encoded"]


def encoded(value: Any) -> bytes:
    """Write a value as compact JSON.

    Args:
        value: What JSON can hold; requests may bring numbers beyond 64 bits into it.

    Returns:
        JSON text without spaces or line ends.
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # "Integer exceeds 64-bit range", which JSON itself does not mind
        return json.dumps(value, separators=(",", ":")).encode()
