"""Gather screenshots into a small animated picture."""

from __future__ import annotations

import io
from operator import sub
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageChops

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator

__all__ = ["Film"]

COLOURS = 128
"""The most frequent ones are exact: enough for text, an accent and a bar."""
APART = 8
"""Least distance of two of them, in the channel where they differ most."""


class Film:
    """Frames of one element of a page, and how long each is shown.

    Args:
        element: What is filmed; every frame has its size.
    """

    def __init__(self, element: Locator) -> None:
        self._element = element
        self._frames: list[Image.Image] = []
        self._shown: list[int] = []

    def shoot(self, milliseconds: int) -> None:
        """Take a frame; one that looks like the last only prolongs it.

        Args:
            milliseconds: How long it is shown.
        """
        image = Image.open(io.BytesIO(self._element.screenshot())).convert("RGB")
        if self._frames and not ImageChops.difference(image, self._frames[-1]).getbbox():
            self._shown[-1] += milliseconds
        else:
            self._frames.append(image)
            self._shown.append(milliseconds)

    def save(self, path: Path) -> None:
        """Write the film as a GIF that repeats for ever.

        One palette serves all frames, so that what stays the same is not written again.

        Args:
            path: The file.
        """
        width, height = self._frames[0].size
        strip = Image.new("RGB", (width, height * len(self._frames)))
        for number, frame in enumerate(self._frames):
            strip.paste(frame, (0, number * height))
        palette = Image.new("P", (1, 1))
        palette.putpalette([value for colour in _frequent(strip) for value in colour])
        first, *others = [
            frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self._frames
        ]
        first.save(
            path,
            save_all=True,
            append_images=others,
            duration=self._shown,
            loop=0,
            optimize=True,
        )


def _frequent(image: Image.Image) -> list[tuple[int, int, int]]:
    """Return an image's most frequent colours, none close to another.

    Pillow looks colours up coarsely, and would take one of two neighbours for the other.
    """
    chosen: list[tuple[int, int, int]] = []
    counted: Any = image.getcolors(image.width * image.height)
    for _, colour in sorted(counted, reverse=True):
        if all(max(map(abs, map(sub, colour, other))) > APART for other in chosen):
            chosen.append(colour)
            if len(chosen) == COLOURS:
                break
    return chosen
