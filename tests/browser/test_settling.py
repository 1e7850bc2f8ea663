"""What stays in the notebook: static, safe, on screen without a kernel, free of widgets."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.browser.lab import ASK, WIDGET_MIME, expect, pieces

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.lab import LabPage, LabServer
    from tests.browser.scripted import ScriptedServer

SOURCE = (
    "# Title\n\nIt costs $5 and $6, or $x^2$.\n\n"
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx = 1\n```\n"
)

STATE = """() => {
    const {content, sessionContext} = window.jupyterapp.shell.currentWidget;
    return [content.widgets[0].model.trusted, Boolean(sessionContext.session)];
}"""
"""Is the open notebook trusted, has it a kernel?"""


@pytest.mark.smoke("live stream")
def test_settles_into_html_and_source(lab: LabPage, scripted: ScriptedServer) -> None:
    """The saved output is HTML and the Markdown source, and no widget is left anywhere."""
    scripted.add("settle", pieces(SOURCE, 7))
    lab.open("settle", [f"{ASK}\nreply = await session.stream('x', model='settle')"])
    lab.run(0)
    lab.output(0).locator("table").wait_for()
    notebook = lab.save()
    data = notebook.cells[0].outputs[0]["data"]
    assert data["text/plain"] == SOURCE
    assert "<h1>Title</h1>" in data["text/html"]
    assert set(data) == {"text/html", "text/plain"}
    assert WIDGET_MIME not in json.dumps(notebook)
    assert "widgets" not in notebook.metadata
    expect(lab.view(0)).to_have_count(0)


def test_settles_after_the_cell_has_ended(lab: LabPage, scripted: ScriptedServer) -> None:
    """A reply that ends while another cell runs settles below its own cell."""
    scripted.add("late", pieces("Late words. " * 10, 12), rate=10)
    lab.open(
        "late",
        [f"{ASK}\nreply = session.stream('x', model='late')", "reply.result()\nprint('done')"],
    )
    lab.run(0)
    lab.run(1)
    data = lab.outputs(0)[0]["data"]
    assert "text/html" in data
    assert WIDGET_MIME not in data
    assert lab.printed(1) == "done"


def test_money_is_not_math(lab: LabPage, scripted: ScriptedServer) -> None:
    """Dollar signs that are no math stay as they are; those that are one are typeset."""
    scripted.add("money", pieces(SOURCE, 7))
    lab.open("money", [f"{ASK}\nreply = await session.stream('x', model='money')"])
    lab.run(0)
    lab.output(0).get_by_text("It costs $5 and $6, or").wait_for()
    lab.output(0).locator("mjx-container").wait_for()
    assert lab.output(0).locator("mjx-container").count() == 1


def test_settle_false_keeps_the_view(lab: LabPage, scripted: ScriptedServer) -> None:
    """settle=False leaves the live view, with Copy, after the end."""
    scripted.add("keep", ["Kept words."])
    lab.open("keep", [f"{ASK}\nreply = await session.stream('x', model='keep', settle=False)"])
    lab.run(0)
    view = lab.view(0)
    view.get_by_text("Kept words.").wait_for()
    view.get_by_role("button", name="Copy").wait_for()
    assert WIDGET_MIME in lab.outputs(0)[0]["data"]


def test_reopened_without_its_kernel(
    lab_server: LabServer, lab: LabPage, scripted: ScriptedServer
) -> None:
    """After the kernel is gone, the notebook shows the reply, trusted or not."""
    scripted.add("reopen", pieces(SOURCE, 7))
    cell = f"{ASK}\nreply = await session.stream('x', model='reopen')"
    lab.open("reopen", [cell], kernel="mortal")
    lab.run(0)
    lab.output(0).locator("table").wait_for()
    lab.save()
    lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    lab.reopen()
    lab.output(0).locator("h1", has_text="Title").wait_for()
    assert lab.output(0).locator("table td").count() == 2
    assert lab.page.evaluate(STATE) == [True, False]
    # What another person's notebook looks like: a file that was not signed here.
    foreign = (lab_server.root / lab.path).read_text().replace("reply =", "answer =")
    (lab_server.root / "foreign.ipynb").write_text(foreign)
    lab.path = "foreign.ipynb"
    lab.reopen()
    lab.output(0).locator("h1", has_text="Title").wait_for()
    assert lab.output(0).locator("table td").count() == 2
    assert lab.page.evaluate(STATE) == [False, False]
    lab.output(0).locator("mjx-container").wait_for()
    assert "model not found" not in lab.notebook.inner_text()


def test_a_kernel_restart_changes_nothing(lab: LabPage, scripted: ScriptedServer) -> None:
    """A settled reply stays on screen and in the file when the kernel restarts."""
    scripted.add("restart", ["Lasting words."])
    lab.open("restart", [f"{ASK}\nreply = await session.stream('x', model='restart')"], "mortal")
    lab.run(0)
    lab.output(0).get_by_text("Lasting words.").wait_for()
    lab.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    lab.wait_idle()
    assert "Lasting words." in lab.output(0).inner_text()
    assert "Lasting words." in lab.outputs(0)[0]["data"]["text/html"]


def test_a_kernel_restart_in_mid_stream_is_said(lab: LabPage, scripted: ScriptedServer) -> None:
    """What has come of a reply stays, the view says why no more comes, and a new run works."""
    script = scripted.add("lost", ["Half a reply."], hold=True)
    lab.open("lost", [f"{ASK}\nreply = session.stream('x', model='lost')"], "mortal")
    lab.run(0)
    view = lab.view(0)
    view.get_by_text("Half a reply.").wait_for()
    lab.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    view.get_by_role("alert").get_by_text("Run the cell again.").wait_for()
    assert "Half a reply." in view.inner_text()
    assert view.get_by_role("button").count() == 0
    script.hold = False
    lab.wait_idle()
    lab.run(0)
    lab.output(0).get_by_text("tokens in").wait_for()


def test_nbconvert_shows_it(
    lab_server: LabServer, lab: LabPage, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """The saved notebook, turned into an HTML page, shows the reply."""
    scripted.add("convert", pieces(SOURCE, 7))
    lab.open("convert", [f"{ASK}\nreply = await session.stream('x', model='convert')"])
    lab.run(0)
    lab.output(0).locator("table").wait_for()
    lab.save()
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--output-dir", str(tmp_path)]
    subprocess.run([*command, str(lab_server.root / lab.path)], check=True, capture_output=True)
    html = (tmp_path / lab.path.replace(".ipynb", ".html")).read_text()
    assert "<h1>Title</h1>" in html
    assert WIDGET_MIME not in html
