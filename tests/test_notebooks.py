"""What is committed of a lesson: its form, its links, its outputs, and nothing of a machine.

That the lessons run, that their solutions do, and that they show again what is committed is
tested by nbmake (`make test`); this looks at the files as readers get them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import nbformat
import pytest

from scripts.lessons import LESSONS as FOLDER
from scripts.lessons import differences, solutions, with_solutions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT = FOLDER.parent
LESSONS = sorted(FOLDER.glob("*.ipynb"))
STATIC = {"text/plain", "text/html", "text/markdown", "image/png", "image/svg+xml"}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SECRETS = [
    r"\bsk-[A-Za-z0-9]{16,}",
    r"\bwhsec_[A-Za-z0-9+/=]{8,}",
    r"\bBearer [A-Za-z0-9]{16,}",
    r"\b(?=[A-Za-z0-9]*[0-9])(?=[A-Za-z0-9]*[a-z])(?=[A-Za-z0-9]*[A-Z])[A-Za-z0-9]{32}\b",
]
"""What keys look like; the last is a key of Mistral."""


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def lesson(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code(lesson: Any) -> list[Any]:
    return [cell for cell in lesson.cells if cell.cell_type == "code"]


def prose(lesson: Any) -> list[str]:
    return [cell.source for cell in lesson.cells if cell.cell_type == "markdown"]


def outputs(lesson: Any) -> Iterator[Any]:
    for cell in code(lesson):
        yield from cell.outputs


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def broken_links(texts: list[str]) -> list[str]:
    """Return the links, relative to the folder of lessons, that lead nowhere."""
    broken = []
    for link in LINK.findall("\n".join(texts)):
        if link.startswith("https://"):
            continue
        name, _, anchor = unquote(link).partition("#")
        page = FOLDER / name
        if not page.exists() or (anchor and anchor not in anchors(page)):
            broken.append(link)
    return broken


def test_there_are_lessons():
    """Ten lessons, numbered without a gap, the quickstart first."""
    assert [path.stem[:3] for path in LESSONS] == [f"{number:02}_" for number in range(10)]
    assert LESSONS[0].stem == "00_quickstart"


def test_every_lesson_is_in_the_index():
    """The index links to each lesson, and every link in it leads somewhere."""
    index = (FOLDER / "README.md").read_text("utf-8")
    linked = LINK.findall(index)
    assert [path.name for path in LESSONS if path.name not in linked] == []
    assert broken_links([index]) == []


def test_has_the_parts_of_a_lesson(lesson: Any, path: Path):
    """Goal, needs, a prediction before a run, an assertion, an exercise, reading, the next one."""
    texts = prose(lesson)
    assert re.match(rf"# {path.stem[:2]} · \S", texts[0])
    assert re.search(r"^\*\*Goal:\*\* ", texts[0], flags=re.MULTILINE)
    assert re.search(r"^\*\*You need:\*\* .*no cost", texts[0], flags=re.MULTILINE | re.IGNORECASE)
    kinds = [
        "predict" if "**Predict:**" in cell.source else cell.cell_type for cell in lesson.cells
    ]
    assert "predict" in kinds
    assert all(after == "code" for kind, after in pairwise(kinds) if kind == "predict")
    assert any(re.search(r"^\s*assert ", cell.source, flags=re.MULTILINE) for cell in code(lesson))
    (exercise,) = [text for text in texts if "## Exercise" in text]
    assert exercise.index("</details>") < exercise.index("**Read more:** [")
    neighbours = [each.name for each in LESSONS]
    here = neighbours.index(path.name)
    before = neighbours[here - 1] if here else ""
    assert f"({before})" in exercise.partition("**Before:** ")[2] or not before
    assert f"({neighbours[(here + 1) % 10]})" in exercise.partition("**Next:** ")[2]


def test_every_exercise_has_a_solution(lesson: Any):
    """Solutions are folded, and found by what runs them."""
    for cell in lesson.cells:
        exercises = cell.source.count("## Exercise") if cell.cell_type == "markdown" else 0
        assert len(solutions(cell)) == exercises, cell.source
        assert cell.source.count("<details>") == exercises


def test_links_lead_somewhere(lesson: Any):
    """Each link leads to a file that is there, and to a heading in it."""
    assert broken_links(prose(lesson)) == []


def test_links_call_lessons_by_their_titles(lesson: Any):
    """A link that begins with a lesson's number goes on with that lesson's title."""
    for number, title, name in re.findall(
        r"\[(\d\d) · ([^\]]+)\]\((\w+)", "\n".join(prose(lesson))
    ):
        assert prose(nbformat.read(FOLDER / f"{name}.ipynb", as_version=4))[0].startswith(
            f"# {number} · {title}\n"
        )


def test_asks_the_simulator(lesson: Any):
    """The first cell of code asks for the simulator; none asks for a live server."""
    sources = "\n".join(cell.source for cell in code(lesson))
    assert "connect(simulator=True" in code(lesson)[0].source
    assert sources.count("mnb.connect(") == sources.count("mnb.connect(simulator=True")


def test_no_cell_is_empty(lesson: Any):
    """Every cell says or does something, and none ends in blank lines."""
    for cell in lesson.cells:
        assert cell.source.strip()
        assert cell.source == cell.source.rstrip()


def test_holds_no_key(lesson: Any):
    """Nothing in the file looks like a key, a token or a signing secret."""
    for cell in lesson.cells:
        shown = [data for output in cell.get("outputs", []) for data in texts_of(output)]
        for text in [cell.source, *shown]:
            for pattern in SECRETS:
                assert not re.search(pattern, text), re.search(pattern, text)


def texts_of(output: Any) -> list[str]:
    data = output.get("data", {})
    return [output.get("text", ""), *(data[kind] for kind in data if kind != "image/png")]


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


def test_small(lesson: Any):
    """A lesson stays small enough to be read as a diff: 300 kB."""
    assert len(json.dumps(lesson)) < 300_000


def test_lines_of_code_fit(lesson: Any):
    """No line of code is longer than a notebook shows without scrolling."""
    for cell in code(lesson):
        for line in cell.source.splitlines():
            assert len(line) <= 100, line


def test_prose_is_short(lesson: Any):
    """One idea a cell: no text has over 120 words, none holds HTML but folded solutions."""
    for text in prose(lesson):
        spoken = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        assert len(spoken.split()) <= 120, spoken[:80]
        assert set(re.findall(r"<([a-z]+)[ >]", spoken)) <= {"details", "summary"}


# What compares a lesson that is executed with what is committed of it.

SOLVED = "## Exercise\n\n<details><summary>Solution</summary>\n\n```python\n{}\n```\n\n</details>"


def write(path: Path, source: str, shows: str, solution: str) -> Any:
    """Write a lesson of one cell and one exercise."""
    cell = nbformat.v4.new_code_cell(source, execution_count=1)
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=shows)]
    exercise = nbformat.v4.new_markdown_cell(SOLVED.format(solution))
    kernel = {"name": "python3", "display_name": "Python 3"}
    notebook = nbformat.v4.new_notebook(cells=[cell, exercise], metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)
    return notebook


def test_other_outputs_are_told_and_the_clock_is_not(tmp_path: Path):
    """Outputs count to the letter, but for times; cells with solutions do not count."""
    kept = write(tmp_path / "a.ipynb", "1", "2 rows, 0.0 s, for 0:01, in 1 s", "2")
    later = write(tmp_path / "b.ipynb", "1", "2 rows, 0.2 s · 70 tokens/s, for 0:09, in 2 s", "2")
    other = write(tmp_path / "c.ipynb", "1", "3 rows, 0.0 s, for 0:01, in 1 s", "2")
    assert list(differences(kept, with_solutions(later))) == []
    (told,) = differences(kept, with_solutions(other))
    assert "3 rows" in told
    other.cells[0].outputs = []
    assert len(list(differences(kept, with_solutions(other)))) == 1


def test_nbmake_holds_a_lesson_to_its_outputs(tmp_path: Path):
    """A lesson that shows something else fails, and so does one whose solution does not run."""
    write(tmp_path / "good.ipynb", "print(1)", "1\n", "print(2)")
    write(tmp_path / "other.ipynb", "print(1)", "2\n", "print(2)")
    write(tmp_path / "unsolved.ipynb", "print(1)", "1\n", "print(one)")
    options = ["-q", "--nbmake", f"--rootdir={ROOT}", f"--confcutdir={tmp_path}"]
    plugins = ["-p", "notebooks.conftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *plugins, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "2 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert re.search(r"committed: .*2\\n.*\n  now: .*1\\n", done.stdout), done.stdout
    assert "name 'one' is not defined" in done.stdout
