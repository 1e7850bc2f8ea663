"""Errors as IPython and programs that run notebooks show them."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import mistral_nb as mnb
from mistral_nb.errors import InputError
from mistral_nb.widgets.error_panel import present

if TYPE_CHECKING:
    from pathlib import Path

HELPER = "def ask(mnb):\n    return mnb.connect('key', 'http://127.0.0.1:9').models()\n"


def in_terminal(folder: Path, *lines: str) -> str:
    """Run lines in a plain IPython and return what it printed."""
    (folder / "helper.py").write_text(HELPER)
    command = [sys.executable, "-m", "IPython", "--colors=NoColor", "--no-banner", "--quick"]
    text = "\n".join(["import sys; sys.path.insert(0, '.')", *lines, "exit"]) + "\n"
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, cwd=folder, timeout=60, check=True
    )
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)


def notebook(*cells: str) -> nbformat.NotebookNode:
    """Return a notebook of code cells."""
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


def test_a_terminal_gets_words_and_the_last_own_line(tmp_path: Path) -> None:
    """A plain IPython prints the lesson with the person's last own line, %tb all of it."""
    lines = ("import helper, mistral_nb as mnb", "helper.ask(mnb)", "print('middle')", "%tb")
    short, whole = in_terminal(tmp_path, *lines).split("middle\n")
    assert "ServerUnreachable: No connection to http://127.0.0.1:9" in short
    assert "helper.py, line 2\n    return mnb.connect(" in short
    assert "What to do  Open the address" in short
    assert "concurrent" not in short
    assert "concurrent" in whole


def test_whoever_asks_for_tracebacks_gets_them(tmp_path: Path) -> None:
    """After `%xmode Verbose` an error of ours is shown as any other."""
    said = in_terminal(
        tmp_path,
        "%xmode Verbose",
        "from mistral_nb.errors import RunError",
        "raise RunError('Oh.')",
    )
    assert "Traceback (most recent call last)" in said
    assert "%debug" not in said


def test_a_runner_of_notebooks_sees_the_cell_fail(tmp_path: Path) -> None:
    """The cell's error names message and place, %debug begins there, and no folder is kept."""
    cells = ["1 / 0", "import mistral_nb as mnb\nmnb.connect('a b')", "%debug"]
    made = notebook(*cells)
    client = NotebookClient(
        made, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    panel, error = made.cells[1].outputs
    assert error.output_type == "error"
    assert error.ename == "SettingsError"
    (line,) = error.traceback
    assert line.endswith(
        "The API key holds spaces, line breaks or characters that no key has. (Cell In[2], line 2)"
    )
    assert "settings.py" in panel.data["text/html"]
    assert str(tmp_path.parents[2]) not in str(panel.data)
    assert "site-packages" not in str(panel.data)
    assert "settings.py" in made.cells[2].outputs[0].text


def test_without_ipython_an_error_is_printed_as_python_does() -> None:
    """Where no shell runs, what is returned is Python's own traceback."""
    with pytest.raises(InputError) as caught:
        mnb.stream("")
    lines = present(caught.value)
    assert lines[0].startswith("Traceback (most recent call last)")
    assert lines[-1].startswith("mistral_nb.errors.InputError: The prompt is empty")


def test_an_error_in_another_error_is_told_whole(tmp_path: Path) -> None:
    """The folded traceback has the cause, words cannot steer a terminal, and nbclient fails."""
    code = (
        "from mistral_nb.errors import RunError\n"
        "try:\n    raise KeyError('inner \\x1b[31m')\nexcept KeyError as error:\n"
        "    raise RunError('outer \\x1b[2J. Do this.') from error"
    )
    made = notebook(code)
    with pytest.raises(CellExecutionError, match=r"RunError.*: outer .*Cell In"):
        NotebookClient(made).execute()
    html = made.cells[0].outputs[0].data["text/html"]
    assert "KeyError" in html
    assert "direct cause" in html
    assert "\x1b" not in html
    assert "\x1b" not in made.cells[0].outputs[0].data["text/plain"]
