"""Exit statuses of the command, and what its rooms share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

__all__ = ["DONE", "INCOMPLETE", "INTERRUPTED", "UNUSABLE", "Add"]

DONE, INCOMPLETE, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
Add = Callable[[str, Callable[[Any], int], str], "argparse.ArgumentParser"]
"""Adds a command: its name, what carries it out, what it is for."""
