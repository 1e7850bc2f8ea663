"""What is committed of a lesson: its outputs, and nothing that ties it to a machine or a kernel.

That the lessons run is tested by nbmake (`make test`); this looks at the files as readers get them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STATIC = {"text/plain", "text/html", "text/markdown", "image/png", "image/svg+xml"}


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def lesson(request: pytest.FixtureRequest) -> Any:
    return nbformat.read(request.param, as_version=4)


def code(lesson: Any) -> list[Any]:
    return [cell for cell in lesson.cells if cell.cell_type == "code"]


def outputs(lesson: Any) -> Iterator[Any]:
    for cell in code(lesson):
        yield from cell.outputs


def test_there_are_lessons():
    """The lessons are found, and the first is the quickstart."""
    assert LESSONS
    assert LESSONS[0].stem == "00_quickstart"


def test_executed_in_order(lesson: Any):
    """Every code cell was executed once, from top to bottom, in a new kernel."""
    assert [cell.execution_count for cell in code(lesson)] == [*range(1, len(code(lesson)) + 1)]
    nbformat.validate(lesson)


def test_outputs_are_static(lesson: Any):
    """Outputs need no kernel and no widget manager: only text, HTML and pictures."""
    for output in outputs(lesson):
        assert set(output.get("data", {})) <= STATIC
    assert "widgets" not in lesson.metadata


def test_no_error_is_kept(lesson: Any):
    """No output is a traceback, and nothing was written to stderr."""
    for output in outputs(lesson):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text


def test_outputs_show_something(lesson: Any):
    """The lesson is worth reading without running it: outputs are there."""
    assert len(list(outputs(lesson))) >= 3


def test_nothing_of_the_machine(lesson: Any):
    """No absolute path, object address, time of run or server port is kept."""
    kept = json.dumps([lesson.metadata, [dict(output) for output in outputs(lesson)]])
    kept = re.sub(r'"image/png": "[^"]*"', "", kept)
    for pattern in (r"/(root|home|tmp|work|Users|var)/", r" at 0x[0-9a-f]{6,}", r"127\.0\.0\.1:\d"):
        assert not re.search(pattern, kept), re.search(f".{{0,60}}{pattern}.{{0,60}}", kept)


def test_small(lesson: Any, request: pytest.FixtureRequest):
    """A lesson stays small enough to be read as a diff: 300 kB."""
    assert len(json.dumps(lesson)) < 300_000


def test_prose_is_short(lesson: Any):
    """One idea a cell: no text has over 120 words, none holds HTML but folded solutions."""
    for cell in lesson.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL)
            assert len(prose.split()) <= 120, prose[:80]
            assert set(re.findall(r"<([a-z]+)[ >]", prose)) <= {"details", "summary"}
