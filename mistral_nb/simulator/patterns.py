"""Texts for regular expressions: found in another text, or written from the pattern's classes."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from pydantic_core import SchemaError, SchemaValidator, core_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MOST_LETTERS", "matching"]

MOST_LETTERS = 100_000
"""A schema that asks for more is out of all proportion."""
MOST_WORDS = 500
"""So many words of a text are looked through."""
LONGEST = 8
"""Words that are tried together."""

_AROUND = re.compile(r"\(\?(?:=|!|<=|<!)(?:[^()\\]|\\.)*\)")
_REPEATED = re.compile(r"(\\?.)\{(\d+)(?:,\d*)?\}")


def matching(pattern: str, value: str, text: str) -> str:
    """Find a value for a pattern.

    Args:
        pattern: Regular expression, as a JSON schema has it.
        value: Is taken if it fits.
        text: Where to look otherwise.

    Returns:
        A text; one for which the pattern could not be met may not match.

    Raises:
        re.error: The pattern is none.
        ValueError: It asks for more letters than anybody would write.
    """
    checker = _checker(pattern)
    if checker is not None:
        anchored = pattern.startswith("^") and pattern.endswith("$")
        if checker.isinstance_python(value):
            return value
        for found in _candidates(text, longest_first=anchored):
            if found and checker.isinstance_python(found):
                return found
    made = re.sub(r"\[A-Z\]", "A", re.sub(r"\[a-z\]", "a", pattern.strip("^$")))
    made = re.sub(r"\\d|\[0-9\]", "7", made)
    made = _REPEATED.sub(_repeated, made)
    return re.sub(r"[+*?()\\^$]", "", made)


@lru_cache(maxsize=256)
def _checker(pattern: str) -> SchemaValidator | None:
    r"""Return what says whether a text fits; None where that cannot be said.

    Python's own engine may need longer than the world has, for a pattern as harmless as
    ``^(\w+\s?)+$``, and all others would wait for it. This one's time is that of the text's
    length; it has no look-around, which is passed over.
    """
    re.compile(pattern)
    try:
        return SchemaValidator(core_schema.str_schema(pattern=_AROUND.sub("", pattern)))
    except SchemaError:
        return None


def _candidates(text: str, *, longest_first: bool) -> Iterator[str]:
    """Yield the words of a text, alone and with those that follow."""
    words = [found.group() for found in islice(re.finditer(r"\S+", text), MOST_WORDS)]
    sizes = range(1, LONGEST + 1)
    for size in reversed(sizes) if longest_first else sizes:
        for place in range(len(words) - size + 1):
            yield " ".join(words[place : place + size]).strip(".,;:!?()[]{}\"'`“”")
    yield from islice(re.findall(r"\w+", text), MOST_WORDS)


def _repeated(found: re.Match[str]) -> str:
    times = int(found.group(2))
    if times > MOST_LETTERS:
        raise ValueError(f"A repetition in a pattern is {times}, more than {MOST_LETTERS}")
    return found.group(1) * times
