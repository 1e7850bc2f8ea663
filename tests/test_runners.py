"""Programs that run notebooks without a screen: what they leave in the file."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import nbformat
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from mistral_nb.simulator import Simulator

SETUP = "import mistral_nb as mnb\nsession = mnb.connect(api_key='k', server_url={url!r})"
CELLS = [
    "reply = await mnb.stream('Reply with exactly: **awaited** text')",
    "reply = mnb.stream('Reply with exactly: waited for').result()",
    "mnb.stream('Reply with exactly: iterated').text\nfor text in mnb.stream('2+2?'): pass",
    (
        "import pandas as pd\n"
        "df = pd.DataFrame({'text': ['billing was wrong']})\n"
        "run = mnb.label(df, 'Topic? {text}', labels=['billing', 'other'], name='runner')\n"
        "labelled = await run"
    ),
]


@pytest.mark.parametrize("runner", ["nbconvert", "papermill"])
def test_outputs_are_static(tmp_path: Path, simulator: Simulator, runner: str) -> None:
    """Replies and progress end as HTML and text, without a widget, shown once each."""
    source, target = tmp_path / "in.ipynb", tmp_path / "out.ipynb"
    cells = [SETUP.format(url=simulator.url), *CELLS]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
    )
    nbformat.write(notebook, source)
    command = {
        "nbconvert": ["jupyter", "nbconvert", "--to", "notebook", "--execute", str(source),
                      "--output", str(target)],
        "papermill": ["papermill", str(source), str(target), "--no-progress-bar"],
    }[runner]  # fmt: skip
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, timeout=100)
    done = nbformat.read(target, as_version=4)
    assert "widget" not in target.read_text()
    texts = [
        [output["data"]["text/plain"] for output in cell.outputs if "data" in output]
        for cell in done.cells[-4:]
    ]
    assert texts[0] == ["**awaited** text"]
    assert texts[1] == ["waited for"]
    assert "2+2 = 4" in texts[2]
    html = done.cells[-4].outputs[0]["data"]["text/html"]
    assert "<strong>awaited</strong>" in html
    assert "1 of 1 rows labelled" in " ".join(texts[3])
