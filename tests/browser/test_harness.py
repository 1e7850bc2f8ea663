"""The harness itself: JupyterLab opens, runs a cell and saves, and asks nothing outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.browser.lab import LabPage


def test_a_cell_runs_and_is_saved(lab: LabPage) -> None:
    """A cell's output is on screen and in the saved file."""
    lab.open("harness", ["print(6 * 7)"])
    lab.run(0)
    assert lab.printed(0) == "42"
    assert lab.outputs(0)[0]["text"] == "42\n"


def test_a_request_off_the_machine_is_noticed(lab: LabPage) -> None:
    """The guard that other tests rely on sees a request and a script's error."""
    lab.open("guard", ["1"])
    lab.page.evaluate("() => { fetch('https://example.org/x').catch(() => {}); }")
    lab.page.evaluate("() => { setTimeout(() => { throw new Error('seen'); }); }")
    # The refused request is told of twice, by the guard and by the browser: a count would not do.
    for sign in ("request left the machine: https://example.org/x", "page error: Error: seen"):
        lab.eventually(lambda sign=sign: any(sign in each for each in lab.problems), sign)
    lab.problems.clear()
