"""Refusing numbers that cannot be meant, before anything is made with them."""

from __future__ import annotations

from typing import Any

from mistral_nb.errors import InputError

__all__ = ["MOST_AT_ONCE", "check_amount", "check_pace", "check_whole"]

MOST_AT_ONCE = 1_000
"""Requests at once: each holds a connection, and systems let a process hold few more."""


def check_whole(name: str, number: Any, least: int = 1, most: int | None = None) -> None:
    """Refuse what is no whole number within bounds.

    Args:
        name: What it is given as.
        number: What was given.
        least: Lowest number possible.
        most: Highest number possible; None for any.

    Raises:
        InputError: Names all three.
    """
    whole = isinstance(number, int) and not isinstance(number, bool)
    if whole and number >= least and (most is None or number <= most):
        return
    bounds = f"from {least}" if most is None else f"from {least} to {most:,}"
    raise InputError(f"{name} must be a whole number {bounds}, not {number!r}.")


def check_amount(name: str, number: Any, unit: str) -> None:
    """Refuse what is no number above 0.

    Args:
        name: What it is given as.
        number: What was given.
        unit: What it counts, e.g. ``"seconds"``.

    Raises:
        InputError: Names all three.
    """
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not number > 0:
        raise InputError(f"{name} must be {unit} above 0, not {number!r}.")


def check_pace(concurrency: int | None, rpm: int | None, tpm: int | None) -> None:
    """Refuse limits of online requests that cannot be kept; None is any.

    Raises:
        InputError: Names the limit.
    """
    if concurrency is not None:
        check_whole("concurrency", concurrency, most=MOST_AT_ONCE)
    for name, number in (("rpm", rpm), ("tpm", tpm)):
        if number is not None:
            check_whole(name, number)
