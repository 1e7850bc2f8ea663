"""Hold each lesson that nbmake runs to what is committed of it, and run its solutions as well.

nbmake is given a copy in which each folded solution is a cell below its exercise. A key and a
server are set that no lesson may use, and a home folder that it has to leave alone.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbmake.nb_result import NotebookError, NotebookResult
from nbmake.pytest_items import NotebookFailedException, NotebookItem

from scripts.lessons import differences, with_solutions

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).resolve().parents[1] / "data" / "support_tickets.csv"
NOBODY = "http://127.0.0.1:9"
"""The discard port: nothing answers there."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run the copy, then compare."""
    if not isinstance(item, NotebookItem):
        return (yield)
    lesson = nbformat.read(item.filename, as_version=4)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name,
        pytest.MonkeyPatch.context() as patch,
    ):
        folder = Path(name)
        patch.setenv("MISTRAL_API_KEY", "a-key-that-no-lesson-may-use")
        patch.setenv("MISTRAL_SERVER_URL", NOBODY)
        patch.setenv("MISTRAL_NB_HOME", str(folder / "home"))
        patch.setattr(item, "filename", str(_copy(lesson, folder)))
        patch.setattr(item.config.option, "overwrite", True)  # nbmake then writes the copy
        yield
        missing = None if shutil.which("redis-server") else "redis"
        made = nbformat.read(item.filename, as_version=4)
        problems = list(differences(lesson, made, without=missing))
        if (folder / "home").exists():
            problems.append("The lesson wrote into the home folder: mnb.connect(simulator=True)?")
    if problems:
        told = "\n\n".join([*problems, "If all is well: python scripts/lessons.py FILE"])
        error = NotebookError(f"{item.name} shows something else than is committed", told, 0)
        raise NotebookFailedException(NotebookResult(lesson, error))
    return None


def _copy(lesson: nbformat.NotebookNode, folder: Path) -> Path:
    """Write a lesson with its solutions where ``../data`` is beside it."""
    (folder / "data").mkdir()
    shutil.copy(DATA, folder / "data")
    path = folder / "notebooks" / "lesson.ipynb"
    path.parent.mkdir()
    nbformat.write(with_solutions(lesson), path)
    return path
