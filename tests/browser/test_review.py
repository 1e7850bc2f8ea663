"""Reviewing labels in a real JupyterLab, with the keyboard, row by row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.browser.contrast import low_contrast
from tests.conftest import SHARED

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator

    from tests.browser.lab import LabPage

HEAD = "import time\nimport pandas as pd\nfrom pathlib import Path\nfrom mistral_nb.widgets.review import review\n"
FEW = """
df = pd.DataFrame({
    "text": ["first", "second", "third", "fourth", "fifth", "sixth", "seventh"],
    "label": pd.Categorical(["a", "b", "a", "b", "a", None, "b"], categories=["a", "b", "c"]),
    "_error": [None] * 5 + ["the reply was cut"] + [None],
})
r = review(df, text="text"MORE)
"""
SAY = "print(*r.table['label_reviewed'].astype(object).fillna('-'), *r.table['review'].astype(object).fillna('-'))"


def opened(lab: LabPage, source: str, *more: str, kernel: str = "shared") -> Locator:
    """Open a review and put the keyboard in it."""
    lab.open("review", [HEAD + source, *more], kernel)
    lab.run(0)
    view = lab.output(0).locator(".mnb-review")
    view.locator(".mnb-review-text").wait_for()
    view.locator(".mnb-review-progress").click()
    return view


def few(more: str = "") -> str:
    return FEW.replace("MORE", f", {more}" if more else "")


def shows(view: Locator, text: str) -> None:
    """Wait for a row's text."""
    view.locator(".mnb-review-text").get_by_text(text, exact=True).wait_for()


def saved(view: Locator, progress: str) -> None:
    """Wait until the kernel has what was done."""
    view.locator(".mnb-review-progress").get_by_text(progress, exact=True).wait_for()
    view.get_by_text("Saving").wait_for(state="hidden")


def press(lab: LabPage, *keys: str) -> None:
    for key in keys:
        lab.page.keyboard.press(key)


@pytest.mark.smoke("review")
def test_a_review_needs_only_the_keyboard(lab: LabPage) -> None:
    """Accept, choose, skip and undo by keys; the table holds what was decided."""
    view = opened(lab, few(), SAY)
    shows(view, "sixth")
    view.get_by_text("the reply was cut").wait_for()
    assert view.get_by_role("button", name="Accept").is_disabled()
    press(lab, "Enter")
    view.get_by_text("no label to accept").first.wait_for()
    press(lab, "3")
    shows(view, "first")
    press(lab, "Enter")
    shows(view, "second")
    press(lab, "a")
    shows(view, "third")
    press(lab, "s")
    shows(view, "fourth")
    press(lab, "ArrowRight")
    shows(view, "fifth")
    press(lab, "2")
    shows(view, "seventh")
    saved(view, "6 of 7, 2 corrected, 2 skipped")
    press(lab, "ArrowLeft")
    shows(view, "fifth")
    saved(view, "5 of 7, 1 corrected, 2 skipped")
    press(lab, "u")
    shows(view, "fourth")
    saved(view, "4 of 7, 1 corrected, 1 skipped")
    lab.run(1)
    said = lab.printed(1).split()
    assert said[:7] == ["a", "b", "-", "-", "-", "c", "-"]
    assert said[7:] == ["accepted", "accepted", "skipped", "-", "-", "corrected", "-"]


def test_the_end_offers_the_skipped_rows(lab: LabPage) -> None:
    """When all rows are done, the skipped ones can be gone through again."""
    view = opened(lab, few("where=[True, True] + [False] * 5"))
    press(lab, "s")
    shows(view, "second")
    press(lab, "Enter")
    view.get_by_role("paragraph").get_by_text("All 2 rows are reviewed.").wait_for()
    view.get_by_role("button", name="Go through the skipped (1)").click()
    shows(view, "first")
    press(lab, "Enter")
    view.get_by_role("paragraph").get_by_text("All 2 rows are reviewed.").wait_for()
    assert view.get_by_role("button", name="Go through").is_hidden()


def test_help_tells_the_keys(lab: LabPage) -> None:
    """The question mark shows and hides what the keys do."""
    view = opened(lab, few())
    keys = view.get_by_role("button", name="Keys")
    press(lab, "?")
    view.get_by_text("take the last decision back").wait_for()
    assert keys.get_attribute("aria-expanded") == "true"
    press(lab, "?")
    assert view.get_by_text("take the last decision back").is_hidden()


@pytest.mark.parametrize("many", [False, True])
def test_no_key_reaches_the_notebook(lab: LabPage, many: bool) -> None:
    """JupyterLab's one-letter commands do nothing to the notebook while reviewing."""
    labels = "[f'label {n}' for n in range(30)]" if many else "list('abc')"
    source = f"df = pd.DataFrame({{'text': [str(n) for n in range(99)], 'label': {labels}[0]}})\n"
    view = opened(lab, source + f"r = review(df, text='text', labels={labels})", "1")
    cells = lab.notebook.locator(".jp-Cell").count()
    press(lab, *"abxcvddzmyrhlj", "Shift+Enter", "Space", "Backspace", "Escape", "Escape", "0", "0")
    press(lab, "Shift+M", "ArrowDown", "ArrowUp")
    lab.page.wait_for_timeout(300)
    assert lab.notebook.locator(".jp-Cell").count() == cells
    assert lab.notebook.locator(".jp-CodeCell").count() == cells
    assert lab.cell(1).locator(".jp-InputPrompt").inner_text().strip() == "[ ]:"
    assert lab.page.locator(".jp-Dialog").count() == 0
    assert view.evaluate("node => node.contains(document.activeElement)")


def test_ctrl_s_still_saves_the_notebook(lab: LabPage) -> None:
    """The one shortcut a person wants while reviewing works."""
    opened(lab, few())
    dirty = lab.page.locator(".lm-TabBar-tab.lm-mod-current.jp-mod-dirty")
    dirty.first.wait_for()
    press(lab, "Control+s")
    dirty.first.wait_for(state="detached")


def test_many_labels_are_found_by_typing(lab: LabPage) -> None:
    """Among 77 labels typed words find one; Enter chooses the highlighted, a digit another."""
    file = SHARED / "data" / "banking77-test.csv"
    source = f"df = pd.read_csv({str(file)!r})\ndf['label'] = df['category']\n"
    source += "df.loc[1, 'label'] = 'age_limit'\nr = review(df, text='text', gold='category')"
    view = opened(lab, source, "print(*r.table['label_reviewed'].dropna())")
    options = view.get_by_role("option")
    assert options.count() == 77
    assert options.nth(0).inner_text().split() == ["1", "age_limit", "proposed"]
    assert options.nth(1).inner_text().split() == ["2", "card_arrival", "gold"]
    lab.page.keyboard.type("exchange wrong")
    assert options.count() == 2
    assert view.get_by_role("combobox").input_value() == "exchange wrong"
    selected = view.get_by_role("option", selected=True)
    assert "card_payment_wrong_exchange_rate" in selected.inner_text()
    identifier = view.get_by_role("combobox").get_attribute("aria-activedescendant")
    assert selected.get_attribute("id") == identifier
    press(lab, "ArrowDown")
    assert "for_cash" in selected.inner_text()
    press(lab, "Escape")
    assert options.count() == 77
    lab.page.keyboard.type("wrong exch")
    press(lab, "1")
    saved(view, "1 of 3,080, 1 corrected")
    assert view.get_by_role("combobox").input_value() == ""
    press(lab, "Enter")
    saved(view, "2 of 3,080, 1 corrected")
    lab.run(1)
    assert lab.printed(1).split() == [*("card_arrival", "wrong_exchange_rate_for_cash_withdrawal")]


def test_hostile_text_is_only_text(lab: LabPage) -> None:
    """Markup, mathematics and other writing directions in cells, labels and names stay text."""
    bad = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>$\\\\href{javascript:1}{x}$'
    source = f"""
bad = '{bad}'
df = pd.DataFrame({{"text": [bad, "שלום"], "label": [bad, bad], bad: bad}}, index=[bad, "b"])
r = review(df, text="text", gold=[None, None], context_columns=[bad], others={{bad: df["label"]}})
"""
    view = opened(lab, source, "r.settle()")
    assert view.locator("img, script, mjx-container, a").count() == 0
    assert view.locator(".mnb-review-text").inner_text().startswith("<img src=x")
    press(lab, "Enter")
    shows(view, "שלום")
    direction = "node => getComputedStyle(node).direction"
    assert view.locator(".mnb-review-text").evaluate(direction) == "rtl"
    press(lab, "Enter")
    view.get_by_role("paragraph").get_by_text("All 2 rows").wait_for()
    lab.run(1)
    lab.output(0).get_by_text("2 of 2 rows").wait_for()
    assert lab.output(0).locator("img, script, mjx-container").count() == 0
    assert lab.page.evaluate("window.hacked") is None


def test_a_megabyte_is_shown_on_demand(lab: LabPage) -> None:
    """A long cell is cut until the whole is asked for; keys scroll it."""
    source = "df = pd.DataFrame({'text': ['word ' * 200_000 + 'end'], 'label': 'a'})\n"
    # A kernel of its own: a page asks a shared one for every widget it ever made.
    with lab.counting() as received:
        view = opened(lab, source + "r = review(df, text='text')", kernel="megabyte")
        assert received() < 500_000
    view.get_by_role("button", name="Show all 1,000,003 characters").click()
    text = view.locator(".mnb-review-text")
    lab.eventually(lambda: text.evaluate("n => n.textContent.length") == 1_000_003, "whole")
    assert text.evaluate("node => node.clientHeight") < 500
    press(lab, "PageDown")
    lab.eventually(lambda: text.evaluate("node => node.scrollTop") > 100, "it scrolls")


def test_a_review_goes_on_after_a_restart(lab: LabPage, tmp_path: Path) -> None:
    """A killed kernel is said, and what was saved is there when the cell runs again."""
    store = f"store=Path({str(tmp_path / 'review.db')!r})"
    view = opened(lab, few(store), "import os\nos._exit(1)", SAY, kernel="doomed")
    press(lab, "2")
    shows(view, "first")
    press(lab, "Enter")
    saved(view, "2 of 7, 1 corrected")
    lab.start(1)
    lab.page.get_by_role("button", name=re.compile("^(Ok|Dismiss)")).first.click()
    lab.wait_idle()
    view.locator(".mnb-review-progress").click()
    press(lab, "1")
    view.get_by_role("alert").get_by_text("run the cell again").wait_for()
    lab.run(0)
    view.get_by_text("2 of 7, 1 corrected").wait_for()
    shows(view, "second")
    view.locator(".mnb-review-progress").click()
    press(lab, "ArrowLeft")
    shows(view, "first")
    saved(view, "1 of 7, 1 corrected")
    lab.run(2)
    assert lab.printed(2).split()[:7] == ["-", "-", "-", "-", "-", "b", "-"]


@pytest.mark.smoke("buttons while a cell runs")
def test_a_review_works_while_a_cell_runs(lab: LabPage) -> None:
    """Decisions are taken, saved and answered while a cell blocks the kernel."""
    lab.need_subshells()
    view = opened(lab, few(), "while r.counts['done'] < 7:\n    time.sleep(0.05)\nprint('seen')")
    lab.start(1)
    lab.eventually(lambda: "[*]" in lab.cell(1).locator(".jp-InputPrompt").inner_text(), "runs")
    view.locator(".mnb-review-progress").click()
    for text in ("sixth", "first", "second", "third", "fourth", "fifth", "seventh"):
        shows(view, text)
        press(lab, "1")
    saved(view, "7 of 7, 4 corrected")
    lab.output(1).get_by_text("seen").wait_for()


def test_a_reloaded_page_goes_on(lab: LabPage) -> None:
    """After a reload the view is there again and works; nothing decided is lost."""
    view = opened(lab, few(), SAY, kernel="reload")
    press(lab, "3")
    saved(view, "1 of 7, 1 corrected")
    lab.save()
    lab.visit(lab.path)
    shows(view, "first")
    view.locator(".mnb-review-progress").click()
    press(lab, "Enter")
    saved(view, "2 of 7, 1 corrected")
    lab.run(1)
    assert lab.printed(1).split()[:7] == ["a", "-", "-", "-", "-", "c", "-"]


def test_two_views_show_the_same(lab: LabPage) -> None:
    """A review shown twice is one review."""
    view = opened(lab, few(), "r")
    lab.run(1)
    other = lab.output(1).locator(".mnb-review")
    shows(other, "sixth")
    view.locator(".mnb-review-progress").click()
    press(lab, "1")
    shows(view, "first")
    shows(other, "first")
    other.locator(".mnb-review-progress").click()
    press(lab, "Enter")
    saved(other, "2 of 7, 1 corrected")
    saved(view, "2 of 7, 1 corrected")


def test_finishing_leaves_static_output(lab: LabPage) -> None:
    """Finish replaces the view by a summary, in the saved file as well."""
    view = opened(lab, few())
    press(lab, "3")
    saved(view, "1 of 7, 1 corrected")
    view.get_by_role("button", name="Finish").click()
    lab.output(0).get_by_text("1 of 7 rows, 0 accepted, 1 corrected, 0 skipped").wait_for()
    assert view.count() == 0
    data = lab.outputs(0)[0]["data"]
    assert set(data) == {"text/html", "text/plain"}
    assert "sixth" in data["text/html"]


def test_the_mouse_works_as_well(lab: LabPage) -> None:
    """Every key has a button, and after a click the keys go on."""
    view = opened(lab, few())
    view.get_by_role("button", name="c", exact=False).filter(has_text="3").click()
    shows(view, "first")
    view.get_by_role("button", name="Accept").click()
    shows(view, "second")
    view.get_by_role("button", name="Skip").click()
    shows(view, "third")
    view.get_by_role("button", name="Undo").click()
    shows(view, "second")
    press(lab, "Enter")
    shows(view, "third")


def test_a_screen_reader_can_follow(lab: LabPage) -> None:
    """The parts have roles and names, and each new row is announced."""
    view = opened(lab, few())
    assert view.get_attribute("role") == "group"
    assert view.get_attribute("aria-label") == "Review of label"
    press(lab, "2")
    shows(view, "first")
    bar = view.get_by_role("progressbar")
    assert bar.get_attribute("aria-valuenow") == "1"
    assert bar.get_attribute("aria-valuemax") == "7"
    status = view.get_by_role("status").inner_text()
    assert status == "Corrected: b. Row 0, label a. first"
    view.get_by_role("group", name="Labels").wait_for()
    assert view.get_by_role("button", name="1 a proposed").get_attribute("aria-keyshortcuts") == "1"


def test_focus_is_visible_and_free(lab: LabPage) -> None:
    """What has the focus is outlined; Tab goes through the parts and out of the view."""
    view = opened(lab, few())
    press(lab, "Tab")
    style = "() => getComputedStyle(document.activeElement).outlineStyle"
    assert lab.page.evaluate(style) == "solid"
    for _ in range(12):
        press(lab, "Tab")
    assert not view.evaluate("node => node.contains(document.activeElement)")


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_text_can_be_read_in_both_themes(lab: LabPage, theme: str) -> None:
    """Every text of the view has a contrast of at least 4.5 to 1."""
    view = opened(lab, few("gold=['a'] * 7, context_columns=['_error']"))
    press(lab, "2", "?")
    saved(view, "1 of 7, 1 corrected")
    lab.theme(theme)
    lab.page.mouse.move(5, 5)
    low = low_contrast(view)
    lab.theme("JupyterLab Light")
    assert low == []
