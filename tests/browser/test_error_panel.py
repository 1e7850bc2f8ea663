"""Errors in a real JupyterLab: a panel in words, the traceback folded, Run All stopped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.browser.contrast import low_contrast
from tests.browser.lab import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.browser.lab import LabPage

HOSTILE = (
    "<img src=x onerror=alert(1)> $\\\\href{javascript:alert(1)}{x}$ <script>alert(2)</script>"
)
REFUSED = 'import mistral_nb as mnb\nmnb.connect("key", "http://127.0.0.1:9").models()'
BAD_WORDS = f'from mistral_nb.errors import RunError\nraise RunError("{HOSTILE}. Do this.")'


def panel(lab: LabPage, cell: int) -> Locator:
    """The panel in a cell's output."""
    return lab.output(cell).locator(".mnb-error")


def test_an_error_is_a_panel_with_the_traceback_folded(lab: LabPage) -> None:
    """An error says what, why and what to do; its traceback unfolds by keyboard, without folders."""
    lab.open("refused", [REFUSED, "%tb"])
    lab.run(0)
    shown = panel(lab, 0)
    assert shown.get_attribute("role") == "alert"
    for words in ("No connection to http://127.0.0.1:9", "Why", "What to do", "server_url (MIST"):
        assert words in shown.inner_text()
    line = re.compile(r"^ServerUnreachable: No connection.*\(Cell In.*line 2\)$")
    expect(lab.output(0).nth(1)).to_have_text(line)
    traceback = shown.locator("pre")
    assert not traceback.is_visible()
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        lab.theme(theme)
        assert low_contrast(shown) == []
    shown.locator("summary").focus()
    lab.page.keyboard.press("Enter")
    traceback.wait_for()
    assert "mistral_nb/session.py" in traceback.inner_text()
    assert "/home" not in traceback.inner_text()
    assert "site-packages" not in traceback.inner_text()
    traceback.click()
    selected = lab.page.evaluate("() => getSelection().toString()")
    assert selected.startswith("Traceback")
    assert selected.rstrip().endswith("and the network.")
    lab.run(1)
    # All of it, from IPython itself.
    lab.output(1).filter(has_text="connection_pool.py").wait_for()


def test_run_all_stops_at_the_error(lab: LabPage) -> None:
    """A cell that shows a panel has failed: those after it do not run."""
    lab.open("run-all", [REFUSED, 'print("ran")'])
    lab.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    panel(lab, 0).wait_for()
    lab.wait_idle()
    assert lab.output(1).count() == 0
    kinds = [output["output_type"] for output in lab.outputs(0)]
    assert kinds == ["display_data", "error"]


def test_hostile_words_in_an_error_are_words(lab: LabPage) -> None:
    """Markup, scripts and TeX in a message are shown as they are, also in the traceback."""
    lab.open("hostile", [BAD_WORDS])
    lab.run(0)
    shown = panel(lab, 0)
    assert "<img src=x onerror=alert(1)>" in shown.inner_text()
    shown.locator("summary").click()
    shown.locator("pre").wait_for()
    assert shown.locator("img, script, a, mjx-container").count() == 0
