"""Reading arguments of the command line that are more than a word."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mistral_nb.errors import InputError

__all__ = ["a_schema", "an_object", "labels"]


def labels(text: str) -> list[str]:
    """Read labels that are separated by commas.

    Args:
        text: As typed; spaces around a label are not part of it.
    """
    return [label.strip() for label in text.split(",") if label.strip()]


def a_schema(name: str) -> dict[str, Any]:
    """Read a JSON schema from a file.

    Args:
        name: The file.

    Raises:
        ArgumentTypeError: It is not there, or no JSON object.
    """
    try:
        return an_object(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise argparse.ArgumentTypeError(f"{name} cannot be used: {why}") from error


def an_object(text: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        text: The JSON.

    Raises:
        InputError: It is something else.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(f"it is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError("it is not a JSON object")
    return found
