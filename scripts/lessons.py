"""Execute the lessons from top to bottom and keep their outputs.

python scripts/lessons.py [FILE ...]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

LESSONS = Path(__file__).resolve().parents[1] / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


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
    nbformat.validate(notebook)
    nbformat.write(notebook, path)
    return time.monotonic() - began


def main() -> None:
    """Execute the lessons named, or all."""
    for path in [Path(name) for name in sys.argv[1:]] or sorted(LESSONS.glob("*.ipynb")):
        print(f"{path.name}: {execute(path):.1f} s", flush=True)


if __name__ == "__main__":
    main()
