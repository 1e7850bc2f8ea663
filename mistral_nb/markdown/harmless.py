"""Whether Markdown source may also go out as ``text/markdown``."""

from __future__ import annotations

__all__ = ["is_harmless"]


def is_harmless(source: str) -> bool:
    """Tell."""
    return not source
