"""Execute the lessons from top to bottom and keep their outputs; say what they show and hold.

python scripts/lessons.py [FILE ...]
"""

from __future__ import annotations

import os
import re
import struct
import sys
import tempfile
import time
from base64 import b64decode
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbclient import NotebookClient

if TYPE_CHECKING:
    from collections.abc import Iterator

LESSONS = Path(__file__).resolve().parents[1] / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
FOLDED = re.compile(r"<details><summary>Solution</summary>\n\n(.*?)\n\n</details>", re.DOTALL)
PYTHON = re.compile(r"```python\n(.*?)\n```", re.DOTALL)
CLOCK = re.compile(r"(?: · [\d,]+ tokens/s|\bfor \d+:\d\d\b|\b\d+(?:\.\d)? s\b| )+")
"""What outputs say of the wall clock, and spaces, which align it; all else is exact."""
SOLUTION = "solution"
"""Key in the metadata of a cell that :func:`with_solutions` has put in."""


def solutions(cell: nbformat.NotebookNode) -> list[str]:
    """Return the code of each folded solution in a cell."""
    if cell.cell_type != "markdown":
        return []
    return [code for folded in FOLDED.findall(cell.source) for code in PYTHON.findall(folded)]


def with_solutions(lesson: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a lesson in which each solution is a cell of its own, below its exercise."""
    cells: list[nbformat.NotebookNode] = []
    for cell in lesson.cells:
        answers = [nbformat.v4.new_code_cell(code) for code in solutions(cell)]
        for answer in answers:
            answer.metadata[SOLUTION] = True
        cells += [cell, *answers]
    whole = nbformat.v4.new_notebook(cells=cells, metadata=lesson.metadata)
    nbformat.validate(whole)
    return whole


def differences(
    kept: nbformat.NotebookNode, made: nbformat.NotebookNode, *, without: str | None = None
) -> Iterator[str]:
    """Compare the outputs that a lesson has with those of another execution.

    Args:
        kept: The lesson as it is committed.
        made: The same lesson, executed again; cells with solutions are passed over.
        without: Cells with this tag are passed over as well.

    Yields:
        For each cell that differs, its source and both outputs.
    """
    again = [cell for cell in made.cells if SOLUTION not in cell.metadata]
    for before, after in zip(kept.cells, again, strict=True):
        old, new = (shown(cell.get("outputs", [])) for cell in (before, after))
        if old != new and without not in before.metadata.get("tags", []):
            yield f"{before.source}\n  committed: {old}\n  now:       {new}"


def shown(outputs: list[Any]) -> list[tuple[str, Any]]:
    """Return what a reader sees of a cell's outputs: text and HTML exactly, pictures by size."""
    seen: list[tuple[str, Any]] = []
    for output in joined(outputs):
        if output.output_type == "stream":
            seen.append((output.name, CLOCK.sub(" ", output.text)))
        for kind, data in output.get("data", {}).items():
            seen.append((kind, _size(data) if kind == "image/png" else CLOCK.sub(" ", data)))
        if output.output_type == "error":
            seen.append(("error", f"{output.ename}: {output.evalue}"))
    return seen


def joined(outputs: list[Any]) -> list[Any]:
    """Join neighbouring pieces of one stream: where they are cut is chance."""
    whole = []
    for stream, group in groupby(outputs, lambda output: output.get("name")):
        pieces = list(group)
        if stream is None:
            whole += pieces
        else:
            text = "".join(piece.text for piece in pieces)
            whole.append(nbformat.v4.new_output("stream", name=stream, text=text))
    return whole


def _size(png: str) -> tuple[int, int]:
    """Return a picture's width and height: how it is drawn differs between machines."""
    width, height = struct.unpack(">II", b64decode(png)[16:24])
    return width, height


def execute(path: Path) -> float:
    """Run one lesson with a home of its own and write it back.

    Args:
        path: The notebook; its cells' outputs are replaced.

    Returns:
        Seconds it took.

    Raises:
        CellExecutionError: A cell raised; the file is left as it was.
    """
    began = time.monotonic()
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        os.environ["MISTRAL_NB_HOME"] = home
        client = NotebookClient(
            notebook,
            timeout=120,
            kernel_name="python3",
            resources={"metadata": {"path": str(path.parent)}},
            record_timing=False,
            store_widget_state=False,  # live widgets have settled into static output
        )
        client.execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{path.stem[:2]}-{number:02}"  # stable, so that a diff shows what changed
        if "outputs" in cell:
            cell.outputs = joined(cell.outputs)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)
    return time.monotonic() - began


def main() -> None:
    """Execute the lessons named, or all."""
    for path in [Path(name) for name in sys.argv[1:]] or sorted(LESSONS.glob("*.ipynb")):
        print(f"{path.name}: {execute(path):.1f} s", flush=True)


if __name__ == "__main__":
    main()
