"""The harness itself: JupyterLab opens, runs a cell and saves, and asks nothing outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.browser.lab import LabPage


def test_a_cell_runs_and_is_saved(lab: LabPage) -> None:
    """A cell's output is on screen and in the saved file."""
    lab.open("harness", ["print(6 * 7)", "get_ipython().kernel.get_parent()"])
    lab.run(0)
    assert lab.output(0).inner_text().strip() == "42"
    assert lab.outputs(0)[0]["text"] == "42\n"
    lab.run(1)
    print(lab.output(1).inner_text().strip())
    lab.open("harness", ["print(6 * 8)", "get_ipython().kernel.get_parent()"])
    lab.run(0)
    assert lab.outputs(0)[0]["text"] == "48\n"
