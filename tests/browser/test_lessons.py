"""The lessons as people meet them: in JupyterLab, without a key, by Run All and by hand."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import nbformat
import pytest

from scripts.lessons import LESSONS as FOLDER
from scripts.lessons import differences
from tests.browser.lab import WIDGET_MIME, free_port, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.lab import LabPage

LESSONS = sorted(FOLDER.glob("*.ipynb"))
STREAM = 1
"""The code cell of the quickstart that streams."""
SLOWLY = """
from mistral_nb.widgets import stream_view
stream_view.READY_LIMIT = 60.0
session.connection.simulator.chunk_delay = 0.5"""
"""Has replies last longer than a busy page takes to show them."""
AT_ONCE = 5
"""Lessons run side by side: mostly they wait."""
RUN_ALL = """async paths => {
    const {commands, shell} = window.jupyterapp;
    const panels = [];
    const runs = [];
    for (const path of paths) {
        const panel = await commands.execute("docmanager:open", {path});
        await panel.sessionContext.ready;
        panels.push(panel);
        runs.push(commands.execute("notebook:run-all-cells"));
    }
    await Promise.all(runs);
    for (const panel of panels) await panel.context.save();
}"""


@pytest.fixture(autouse=True)
def _data(lab: LabPage) -> None:
    """Put the tickets where lessons look for them."""
    data = lab.server.root.parent / "data"
    data.mkdir(exist_ok=True)
    shutil.copy(FOLDER.parent / "data" / "support_tickets.csv", data)


def without_widgets(notebook: nbformat.NotebookNode) -> int:
    """Take the live widgets out of a saved notebook; return how many there were."""
    found = 0
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        live = [output for output in outputs if WIDGET_MIME in output.get("data", {})]
        found += len(live)
        if live:
            cell.outputs = [output for output in outputs if output not in live]
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("batch", range(0, len(LESSONS), AT_ONCE))
def test_run_all_shows_what_is_committed(lab: LabPage, batch: int) -> None:
    """Run All shows what the file on GitHub shows; only the chat panel stays alive beside it."""
    lessons = LESSONS[batch : batch + AT_ONCE]
    for lesson in lessons:
        shutil.copy(lesson, lab.server.root)
    lab.clear()
    lab.page.evaluate(RUN_ALL, [lesson.name for lesson in lessons])
    lab.path = lessons[-1].name
    live = {}
    for lesson in lessons:
        kept, made = nbformat.read(lesson, as_version=4), lab.server.read(lesson.name)
        live[lesson.stem] = without_widgets(made)
        assert list(differences(kept, made)) == []
    expected = {lesson.stem: int(lesson.stem == "06_agents_chat") for lesson in lessons}
    assert live == expected
    shut_down(lab, lessons)


def shut_down(lab: LabPage, lessons: list[Path]) -> None:
    """End the lessons' kernels: each holds a simulator."""
    names = {lesson.name for lesson in lessons}
    for session in lab.server.api("GET", "sessions"):
        if session["path"] in names:
            lab.server.api("DELETE", f"sessions/{session['id']}")


def test_the_quickstart_by_hand(lab: LabPage) -> None:
    """Text grows before it ends, Stop stops it, and the saved file holds no widget."""
    cells = nbformat.read(LESSONS[0], as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    quickly = "session.connection.simulator.chunk_delay = 0"
    lab.open("quickstart", [code[0] + SLOWLY, code[STREAM], quickly])
    lab.run(0)
    lab.start(STREAM)
    stop = lab.view(STREAM).get_by_role("button", name="Stop")
    lab.view(STREAM).get_by_text("In one sentence").wait_for()
    early = len(lab.view(STREAM).inner_text())
    lab.eventually(lambda: len(lab.view(STREAM).inner_text()) > 2 * early, "the text grows")
    stop.click()
    lab.output(STREAM).get_by_text("Stopped").wait_for()
    lab.wait_done(STREAM)
    partial = len(lab.output(STREAM).inner_text())
    notebook = lab.save()
    assert WIDGET_MIME not in json.dumps(notebook)
    data = notebook.cells[STREAM].outputs[0]["data"]
    assert set(data) == {"text/html", "text/plain"}
    assert "Stopped" in data["text/html"]
    lab.run(2)
    lab.run(STREAM)
    assert len(lab.output(STREAM).inner_text()) > partial


def test_consent_in_the_lesson_on_chat(lab: LabPage) -> None:
    """In lesson 06 the panel takes a message, asks for consent, and the notebook's table changes."""
    lesson = next(each for each in LESSONS if each.stem.startswith("06"))
    cells = nbformat.read(lesson, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    panel = next(number for number, source in enumerate(code) if "chat_panel" in source)
    sources = [code[0], code[1], code[panel], 'tickets.loc["T0010", "status"]']
    lab.open("consent", sources)
    for number in range(3):
        lab.run(number)
    chat = lab.output(2).locator(".mnb-chat")
    chat.get_by_label("Message").fill('Close ticket "T0010".')
    chat.get_by_label("Message").press("Enter")
    chat.get_by_role("button", name="Approve").click()
    chat.get_by_text("Here is what I found: T0010 is closed").wait_for()
    lab.run(3)
    assert "closed" in lab.printed(3)


def test_the_command_lab_opens_the_first_lesson(tmp_path: Path) -> None:
    """`mistral-nb lab` leads to the quickstart, and what lessons link to is under its root."""
    pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")
    url = f"http://127.0.0.1:{(port := free_port())}"
    options = ["--no-browser", f"--ServerApp.port={port}", "--IdentityProvider.token=open"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mistral_nb", "lab", *options],
        env={**os.environ, "HOME": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path / "run")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def answers(path: str) -> str:
        with urllib.request.urlopen(f"{url}/{path}token=open", timeout=30) as response:
            return response.geturl()

    def up() -> bool:
        try:
            return bool(answers("api/status?"))
        except OSError:
            return False

    try:
        wait_until(up, "JupyterLab answers", limit=180)
        assert "/lab/tree/notebooks/00_quickstart.ipynb" in answers("?")
        for path in ("docs/streams.md", "notebooks/09_webhooks.ipynb", "README.md"):
            assert path in answers(f"api/contents/{path}?content=0&")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
