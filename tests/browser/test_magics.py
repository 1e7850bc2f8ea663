"""The cell magic in a real JupyterLab: it streams, stops, keeps its reply and shows tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.lab import ASK, CONNECT, WIDGET_MIME

if TYPE_CHECKING:
    from tests.browser.lab import LabPage
    from tests.browser.scripted import ScriptedServer

LOAD = f"{ASK}{CONNECT}\n%load_ext mistral_nb"
"""Magics use the session that was made last; other tests in this kernel make sessions too."""


@pytest.mark.smoke("live stream")
def test_a_magic_cell_streams_and_settles(lab: LabPage, scripted: ScriptedServer) -> None:
    """The reply shows below the cell, is kept under its name, and is shown once."""
    scripted.add("magic", ["**Bold** ", "words."])
    lab.open("magic", [LOAD, "%%mistral -m magic -o answer\nSay something", "print(answer.text)"])
    for cell in range(3):
        lab.run(cell)
    assert lab.output(1).locator("strong").inner_text() == "Bold"
    assert lab.printed(2) == "**Bold** words."
    (output,) = lab.outputs(1)
    assert WIDGET_MIME not in output["data"]
    assert output["data"]["text/plain"] == "**Bold** words."


def test_stop_in_a_magic_cell(lab: LabPage, scripted: ScriptedServer) -> None:
    """Stop ends the cell that waits for its reply, and the partial reply is kept."""
    script = scripted.add("magic-stop", ["Half. "], hold=True)
    lab.open(
        "magic-stop",
        [LOAD, "%%mistral -m magic-stop -o answer\nSay much", "print(answer.finish_reason)"],
    )
    lab.run(0)
    lab.start(1)
    lab.view(1).get_by_text("Half.").wait_for()
    lab.view(1).get_by_role("button", name="Stop").click()
    lab.eventually(lambda: script.closed_at, "the server sees the connection close")
    lab.wait_done(1)
    lab.run(2)
    assert lab.printed(2) == "stopped"


def test_help_and_tables_show(lab: LabPage, scripted: ScriptedServer) -> None:
    """`%mistral usage` shows a table, and a wrong name is one line of advice."""
    scripted.add("magic-table", ["x"])
    lab.open(
        "magic-table",
        [LOAD, "%%mistral -m magic-table\nhi", "%mistral usage", "%mistral nonsense"],
    )
    for cell in range(4):
        lab.run(cell)
    assert "magic-table" in lab.printed(2)
    assert "models, runs, simulator, usage" in lab.printed(3)
    lab.problems.clear()


def test_help_and_completion(lab: LabPage) -> None:
    """`%%mistral?` shows its options; Tab after `%%mis` completes the name."""
    lab.open("help", [LOAD, "%%mistral?", "%%mis"])
    lab.run(0)
    lab.start(1)
    lab.page.get_by_text("--conversation").first.wait_for()
    name = lab.cell(2).locator(".cm-content")
    name.click()
    lab.page.keyboard.press("End")
    lab.page.keyboard.press("Tab")
    offered = lab.page.locator(".jp-Completer-item", has_text="%%mistral")
    lab.eventually(
        lambda: name.inner_text().strip() == "%%mistral" or offered.count(), "it is completed"
    )
