"""The numbers in a text, and which of them a value is meant to have."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Numerals", "Range"]

LONGEST_SCALE = 10
"""From one end of a scale of stars or grades to the other."""
SHORTEST_NAME = 3
"""A parameter called ``a`` has no number before it: "3 a day" speaks of no ``a``."""

_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_NUMBER = re.compile(
    r"(?:(?<![\w)])-)?(?:"  # a sign; a dash after a number or a word is none
    r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?"  # 1,200.50
    r"|(?P<comma>(?<![\d,])\d+,\d\d(?![\d,]))"  # 42,50
    r"|\d+(?:\.\d+)?)"
)


@dataclass(frozen=True)
class Range:
    """What a number may be.

    Attributes:
        low: Least value allowed; None for no limit.
        high: Greatest value allowed; None for no limit.
    """

    low: float | None
    high: float | None

    @classmethod
    def of(cls, schema: dict[str, Any], step: float = 0) -> Range:
        """Read the limits of a JSON schema; one that is excluded itself is moved by a step."""
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        tiny = step or 0.001
        if low is not None and "exclusiveMinimum" in schema:
            low = max(low, schema["exclusiveMinimum"] + tiny)
        if high is not None and "exclusiveMaximum" in schema:
            high = min(high, schema["exclusiveMaximum"] - tiny)
        return cls(low, high)

    @property
    def narrow(self) -> bool:
        """Whether it is a scale to judge by, where a text's numbers would fit by chance."""
        low, high = self.low, self.high
        return low is not None and high is not None and high - low <= LONGEST_SCALE

    def __contains__(self, number: float) -> bool:
        above = self.low is None or number >= self.low
        return above and (self.high is None or number <= self.high) and math.isfinite(number)


class Numerals:
    """The numbers that a text says, each taken by one value only as long as there are others.

    Args:
        text: What values are about; the numbers of its dates are none.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        undated = _DATE.sub(lambda found: " " * len(found.group()), text)
        self._said = {found.start(): found for found in _NUMBER.finditer(undated)}
        self._taken: set[int] = set()
        self._named: set[int] = set()
        self._places: dict[str, int | None] = {}

    def reserve(self, names: Iterable[str]) -> None:
        """Keep the numbers that stand beside these names for the values of these names."""
        self._named |= {place for name in names if (place := self._beside(name)) is not None}

    def free(self, wanted: Range, name: str) -> int:
        """Return how many numbers a list of this name may take: those that wait for a value."""
        return 0 if wanted.narrow else sum(1 for _ in self._waiting(wanted, name))

    def left(self) -> bool:
        """Return whether no value has taken some number yet."""
        return bool(self._said.keys() - self._taken)

    def take(self, wanted: Range, name: str) -> float | None:
        """Return the number that a value is meant to have: the one beside its name, or the next.

        Args:
            wanted: What it may be; on a scale only a number beside the name counts.
            name: The value's name.

        Returns:
            The number; None if the text says none.
        """
        place = next(self._candidates(wanted, name), None)
        if place is None:
            return None
        self._taken.add(place)
        return _value(self._said[place])

    def _candidates(self, wanted: Range, name: str) -> Iterator[int]:
        if wanted.narrow:
            beside = self._beside(name)
            if beside is not None and self._fits(beside, wanted):
                yield beside
        else:
            # What "2 and 3" are for is said by their order alone; once all are taken, the first.
            yield from self._waiting(wanted, name)
            yield from (place for place in self._said if self._fits(place, wanted))

    def _waiting(self, wanted: Range, name: str) -> Iterator[int]:
        """Yield the numbers that nobody has taken: the one beside the name, then nobody's."""
        beside = self._beside(name)
        if beside is not None and beside not in self._taken and self._fits(beside, wanted):
            yield beside
        for place in self._said:
            spoken_for = place in self._taken or place in self._named
            if not spoken_for and place != beside and self._fits(place, wanted):
                yield place

    def _fits(self, place: int, wanted: Range) -> bool:
        return place in self._said and _value(self._said[place]) in wanted

    def _beside(self, name: str) -> int | None:
        """Return where the number of a name stands, as in "height of 3" or "3 dice"."""
        if name not in self._places:
            self._places[name] = self._look_for(name)
        return self._places[name]

    def _look_for(self, name: str) -> int | None:
        if not self._said:
            return None
        words = re.escape(name.replace("_", " "))
        after = re.compile(rf"\b{words}\W+(?:(?:is|of|to)\W+)?(?=[\d-])", re.IGNORECASE)
        if found := after.search(self._text):
            return found.end()
        if len(name) < SHORTEST_NAME:
            return None
        before = re.compile(rf"\s+{words}\b", re.IGNORECASE)
        said = self._said.items()
        return next((at for at, number in said if before.match(self._text, number.end())), None)


def _value(found: re.Match[str]) -> float:
    return float(found.group().replace(",", "." if found["comma"] else ""))
