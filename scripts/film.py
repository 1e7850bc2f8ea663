"""Gather screenshots into a small animated picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image, ImageChops

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator

__all__ = ["Film"]

COLOURS = 128
"""Enough for text, one accent and a bar; more would only sharpen edges nobody sees."""


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
        palette = strip.quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
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
