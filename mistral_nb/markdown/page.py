"""What the browser shows, and the patches that bring it up to date."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Page", "Patch"]

_CLOSERS = re.compile(r"(?:</(?:p|li|ul|ol|blockquote|h[1-6]|code|pre|td|tr|tbody|table)>)*\Z")


@dataclass(frozen=True, slots=True)
class Patch:
    """One change of one block of the page.

    Attributes:
        block: Number of the block, from 0.
        keep: How much of the block's HTML stays, in UTF-16 code units as JavaScript counts.
        html: What follows it. A block whose HTML becomes empty is gone.
    """

    block: int
    keep: int
    html: str


class Page:
    """Blocks of HTML: closed ones, and open ones that still change.

    The first open block has a *frozen* beginning that only grows, so that a change at its end
    costs no look at the whole.

    Attributes:
        closed: HTML of the closed blocks.
        frozen: HTML of the first open block that later text does not change.
        patches: Changes since they were last taken.
    """

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.frozen = ""
        self.patches: list[Patch] = []
        # What the browser has of the open blocks; of the first, what follows `_known`
        # characters of the frozen beginning.
        self._tails: list[str] = []
        self._known = 0
        self._known_units = 0

    @property
    def blocks(self) -> tuple[str, ...]:
        """What the browser has once all patches are applied."""
        if not self._tails:
            return tuple(self.closed)
        first = self.frozen[: self._known] + self._tails[0]
        return (*self.closed, first, *self._tails[1:])

    def show(self, tails: list[str]) -> None:
        """Make the open blocks end so; the first follows the frozen beginning."""
        for number, tail in enumerate(tails):
            self._put(number, tail)
        for number in range(len(tails), len(self._tails)):
            self._put(number, "")

    def close(self, tail: str) -> None:
        """End the first open block; it never changes again."""
        self._put(0, tail)
        self.closed.append(self.frozen + tail)
        self._tails.pop(0)
        self.frozen = ""
        self._known = self._known_units = 0

    def rewind(self, length: int) -> None:
        """Take back what is frozen beyond some characters."""
        if self._known > length:
            taken = self.frozen[length : self._known]
            self._tails[0] = taken + self._tails[0]
            self._known = length
            self._known_units -= utf16_units(taken)
        self.frozen = self.frozen[:length]

    def replace(self, block: int, html: str) -> None:
        """Change a closed block."""
        self._patch(block, 0, self.closed[block], html)
        self.closed[block] = html

    def append_plain(self, html: str) -> None:
        """Add text to the last open block, as it is, until there is time to look at it."""
        for number in range(len(self._tails) - 1, -1, -1):
            tail = self._tails[number]
            if tail:
                closers = _CLOSERS.search(tail, max(0, len(tail) - 200))
                at = closers.start() if closers else len(tail)
                self._put(number, tail[:at] + html + tail[at:])
                return

    def take(self) -> list[Patch]:
        """Hand out the changes."""
        taken, self.patches = self.patches, []
        return taken

    def _put(self, number: int, tail: str) -> None:
        if number == len(self._tails):
            self._tails.append("")
        units = 0
        old = self._tails[number]
        if number == 0:
            units = self._known_units
            grown = self.frozen[self._known :]
            tail = grown + tail
        self._patch(len(self.closed) + number, units, old, tail)
        if number == 0 and grown:
            self._known += len(grown)
            self._known_units += utf16_units(grown)
            tail = tail[len(grown) :]
        self._tails[number] = tail

    def _patch(self, block: int, units: int, old: str, new: str) -> None:
        if old != new:
            kept = common_prefix(old, new)
            self.patches.append(Patch(block, units + utf16_units(new[:kept]), new[kept:]))


def utf16_units(text: str) -> int:
    """Count the UTF-16 code units of a text, as JavaScript's ``length`` does."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


def common_prefix(one: str, other: str) -> int:
    """Count the characters two texts begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
