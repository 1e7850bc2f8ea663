"""The first lesson as a newcomer meets it: in JupyterLab, without a key, on the simulator."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest

from tests.browser.lab import WIDGET_MIME

if TYPE_CHECKING:
    from tests.browser.lab import LabPage

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STREAM = 1
"""The code cell of the quickstart that streams."""


def open_lesson(lab: LabPage, lesson: Path) -> int:
    """Open a lesson's code cells in a kernel of their own; return how many there are."""
    data = lab.server.root.parent / "data"  # lessons read ../data
    data.mkdir(exist_ok=True)
    shutil.copy(ROOT / "data" / "support_tickets.csv", data)
    cells = nbformat.read(lesson, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    lab.open(lesson.stem, code, kernel=lesson.stem)
    return len(code)


def test_the_quickstart(lab: LabPage) -> None:
    """Text grows before it ends, Stop stops it, and the saved file holds no widget."""
    count = open_lesson(lab, LESSONS[0])
    lab.run(0)
    lab.start(STREAM)
    stop = lab.view(STREAM).get_by_role("button", name="Stop")
    lab.view(STREAM).get_by_text("In one sentence").wait_for()
    early = len(lab.view(STREAM).inner_text())
    lab.eventually(lambda: len(lab.view(STREAM).inner_text()) > 2 * early, "the text grows")
    assert stop.is_visible()
    lab.wait_done(STREAM)
    whole = len(lab.output(STREAM).inner_text())
    for cell in range(STREAM + 1, count):
        lab.run(cell)
    lab.start(STREAM)
    lab.view(STREAM).get_by_text("In one sentence").wait_for()
    stop.click()
    lab.output(STREAM).get_by_text("Stopped").wait_for()
    assert 0 < len(lab.output(STREAM).inner_text()) < whole
    notebook = lab.save()
    kinds = [output["output_type"] for cell in notebook.cells for output in cell.outputs]
    assert "error" not in kinds
    assert WIDGET_MIME not in json.dumps(notebook)
    data = notebook.cells[STREAM].outputs[0]["data"]
    assert set(data) == {"text/html", "text/plain"}
    assert "Stopped" in data["text/html"]


@pytest.mark.parametrize("lesson", LESSONS[1:], ids=lambda path: path.stem)
def test_other_lessons_run(lab: LabPage, lesson: Path) -> None:
    """Every cell runs without an error; a panel that stays has its static form beside it."""
    for cell in range(open_lesson(lab, lesson)):
        lab.run(cell)
    notebook = lab.save()
    kinds = [output["output_type"] for cell in notebook.cells for output in cell.outputs]
    assert "error" not in kinds
    for cell in notebook.cells:
        kept = [set(output.get("data", {})) for output in cell.outputs]
        if any(WIDGET_MIME in each for each in kept):
            assert {"text/html", "text/plain"} in kept
