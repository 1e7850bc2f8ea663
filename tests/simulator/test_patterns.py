"""A pattern gets a text that fits it, in a moment, whatever the pattern."""

from __future__ import annotations

import re

import pytest

from mistral_nb.simulator.patterns import matching

TEXT = "The parcel AB-1234 for (75001) Paris was lost; write to ada@example.org, please."
EMAIL = r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_.-]+)@([A-Za-z0-9-]+\.)+[A-Za-z]{2,}$"


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        (r"^\d{5}$", "no", "75001"),
        (r"\d{5}", "no", "75001"),
        (r"^[A-Z]{2}-\d{4}$", "XY-0000", "XY-0000"),
        (r"^[A-Z]{2}-\d{4}$", "no", "AB-1234"),
        (r"^[A-Z]{3}-\d{4}$", "no", "AAA-7777"),
        (EMAIL, "no", "ada@example.org"),
        (r"^(\w+ )+\w+$", "no!", "Paris was lost"),
    ],
)
def test_a_text_that_fits_is_found_or_written(pattern: str, value: str, expected: str) -> None:
    """The value itself, words of the text, or what the pattern spells out."""
    found = matching(pattern, value, TEXT)
    assert re.search(pattern, found)
    assert found == expected


@pytest.mark.parametrize("pattern", [r"^(\w+\s?)+$", r"^(a|a)*$", r"^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_no_pattern_takes_for_ever(pattern: str) -> None:
    """One at which a backtracking engine despairs is checked as quickly as any."""
    found = matching(pattern, "a" * 80 + "!", "b" * 80 + "! " + "word " * 100 + "!")
    assert len(found) < 100


def test_what_is_no_pattern_is_an_error() -> None:
    """As Python says it."""
    with pytest.raises(re.error):
        matching("(", "", "")
