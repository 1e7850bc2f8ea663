"""Take a small picture of each lesson, from its committed outputs in a real JupyterLab.

python scripts/covers.py [LESSON ...]
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import nbformat
from PIL import Image, ImageChops
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.lab import LabPage, LabServer, launch  # noqa: E402 - the harness of the tests

LESSONS = ROOT / "notebooks"
COVERS = ROOT / "docs" / "images" / "lessons"
SIZE = (480, 300)
"""Pixels of a picture; the index shows it at half of that."""
MARGIN = 12
LARGEST = 40_000
"""Bytes of a picture, at most."""
WINDOW = {"width": 1060, "height": 900}
"""Of the page: as narrow as the lines of the lessons' outputs allow."""


class Scene(NamedTuple):
    """What a lesson's picture shows.

    Attributes:
        words: Words in the source of the cell; the last such cell is taken.
        code: Show the cell's code above what it gave.
    """

    words: str
    code: bool = False


SCENES = {
    "00_quickstart": Scene("Explain batch processing"),
    "01_streaming": Scene("seconds since the first request"),
    "02_event_bus": Scene("One slow listener"),
    "03_async_batch_processing": Scene('"all at once"'),
    "04_batch_labelling": Scene("quality.plot("),
    "05_larger_than_memory": Scene("the same topic as a person chose"),
    "06_agents_chat": Scene("def only_empty_ones(", code=True),
    "07_background_jobs": Scene("mnb.job_board("),
    "08_sse_streaming": Scene("Cut off, and back"),
    "09_webhooks": Scene("another receiver"),
}
PLAIN = """
.jp-InputPrompt, .jp-OutputPrompt, .jp-Collapser, .jp-cell-toolbar { display: none !important; }
.jp-InputArea-editor, .jp-Cell, .jp-Editor {
  border-color: transparent !important;
  box-shadow: none !important;
}
"""


def take(page: LabPage, server: LabServer, lesson: str) -> Image.Image:
    """Open a lesson without a kernel and picture its scene."""
    scene = SCENES[lesson]
    notebook = nbformat.read(LESSONS / f"{lesson}.ipynb", as_version=4)
    codes = [each for each in notebook.cells if each.cell_type == "code"]
    notebook.cells = [each for each in codes if scene.words in each.source][-1:]
    if not notebook.cells:
        sys.exit(f"{lesson}: no cell has the words {scene.words!r}; change them in {__file__}.")
    page.path = f"{lesson}.ipynb"
    nbformat.write(notebook, server.root / page.path)
    page.reopen()
    cell = page.cell(0)
    outputs = cell.locator(".jp-OutputArea-output")
    outputs.last.wait_for()
    drawn = outputs.locator("img")
    shown = cell if scene.code else drawn if drawn.count() else outputs.last
    return trim(Image.open(io.BytesIO(shown.screenshot())).convert("RGB"))


def trim(picture: Image.Image) -> Image.Image:
    """Cut off what is empty around a picture."""
    empty = Image.new("RGB", picture.size, "white")
    return picture.crop(ImageChops.difference(picture, empty).getbbox())


def fit(picture: Image.Image) -> Image.Image:
    """Bring a picture to the covers' size: a plot whole, of a long text the beginning."""
    width, height = (side - 2 * MARGIN for side in SIZE)
    scale = width / picture.width
    if picture.height * scale < 2 * height:
        scale = min(scale, height / picture.height)
    sides = (round(picture.width * scale), round(picture.height * scale))
    cover = Image.new("RGB", SIZE, "white")
    corner = ((SIZE[0] - sides[0]) // 2, max(MARGIN, (SIZE[1] - sides[1]) // 2))
    cover.paste(picture.resize(sides, Image.Resampling.LANCZOS), corner)
    return cover


def main() -> None:
    """Picture the lessons named, or all."""
    COVERS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = LabServer(Path(folder), {})
        try:
            with sync_playwright() as playwright:
                page = LabPage(server, launch(playwright), device_scale_factor=2)
                page.page.set_viewport_size(WINDOW)
                page.open("first", [""])
                page.save()
                page.page.add_style_tag(content=PLAIN)
                for lesson in sys.argv[1:] or SCENES:
                    path = COVERS / f"{lesson}.png"
                    cover = fit(take(page, server, lesson))
                    cover.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
                    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")
                    if path.stat().st_size > LARGEST:
                        sys.exit(f"That is more than {LARGEST // 1000} kB.")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
