"""The view of a labelling run in a real JupyterLab: live, steered, reloaded, restarted, settled."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from mistral_nb.simulator import Faults, start_simulator
from tests.browser.contrast import low_contrast
from tests.browser.lab import expect
from tests.recorder import GOOD, Arrival, Recorder, Say, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator

    from mistral_nb.simulator import Simulator
    from tests.browser.lab import LabPage

HTML = "text/html"
BAD = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
TEX = r"$\href{javascript:window.hacked=1}{x}$"


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    """A simulator whose batch jobs move when a test says so."""
    simulator = start_simulator(batch_rate=None)
    yield simulator
    simulator.stop()


@pytest.fixture(autouse=True)
def at_rest(server: Simulator) -> Iterator[None]:
    """No fault is left to the next test, and no job stays behind."""
    server.batch_rate, server.faults = None, Faults()
    yield
    server.batch_rate, server.faults = 0, Faults()


def label(server: Simulator, name: str, rows: int = 60, **options: object) -> str:
    """Source of a cell that starts a run."""
    asked = {"labels": ["a", "b"], "name": name, **options}
    words = ", ".join(f"{key}={value!r}" for key, value in asked.items())
    return f"""
import mistral_nb as mnb, pandas as pd
steered = mnb.connect(api_key="k", server_url={server.url!r})
df = pd.DataFrame({{"text": [f"{name}: where is parcel {{n}}" for n in range({rows})]}})
run = steered.label(df, "Topic? {{text}}", {words})
"""


def opened(lab: LabPage, *cells: str, kernel: str = "shared") -> Locator:
    """Open a notebook, run its first cell and return the view below it."""
    lab.open("run", cells, kernel)
    lab.run(0)
    view = lab.output(0).locator(".mnb-run")
    view.get_by_text("Running", exact=True).wait_for()
    return view


def bar(view: Locator, words: str) -> None:
    """Wait until the bar says this to a screen reader."""
    view.locator(f'[role=progressbar][aria-valuetext^="{words}"]').wait_for()


@pytest.mark.smoke("run view")
def test_a_run_is_followed_and_settles(lab: LabPage, server: Simulator) -> None:
    """The bar, the jobs, the errors and the cost move; at the end static content is left."""
    server.faults = Faults(batch_row_error_rate=0.2)
    source = label(server, "followed", shard_lines=30, retries=0)
    view = opened(lab, source, "(await run)['label'].notna().sum()")
    bar(view, "0 of 60 rows, 0 %")
    assert view.locator("[role=group]").count() == 0  # the view itself is the group
    assert view.get_attribute("aria-label") == "Run followed"
    jobs = view.locator("summary", has_text="Batch jobs: 0 of 2 ended")
    jobs.click()
    view.locator("td", has_text=re.compile("queued|running")).first.wait_for()
    view.get_by_text("told when a batch job ends").wait_for()
    server.batch_rate = 2
    view.locator("li[data-kind=answered] b", has_not_text="0").wait_for()
    view.get_by_text(re.compile("rows/(s|min)")).wait_for()
    view.get_by_text("about").first.wait_for()
    server.batch_rate = 0
    lab.output(0).get_by_text("Errors by kind").wait_for()
    assert lab.output(0).locator(".mnb-run").count() == 0
    assert "of 60 rows labelled" in lab.output(0).inner_text()
    (output,) = lab.outputs(0)
    assert sorted(output.data) == [HTML, "text/plain"]
    assert "class=" not in output.data[HTML]
    lab.run(1)


def test_a_pause_starts_nothing_new(lab: LabPage, server: Simulator) -> None:
    """Paused online, no request goes out; resumed, all rows are answered."""
    server.faults = Faults(latency=1)
    view = opened(lab, label(server, "paused", mode="online", concurrency=2))
    view.get_by_role("button", name="Pause").click()
    view.get_by_text("nothing new is sent").wait_for()
    assert view.locator(".mnb-run-status").inner_text() == "Paused"
    expect(view.locator("li[data-kind=running]")).to_be_hidden()  # what was under way has ended
    sent = server.stats()["chat_requests"]
    lab.page.wait_for_timeout(400)
    assert server.stats()["chat_requests"] == sent
    assert sent < 60
    server.faults = Faults()
    view.get_by_role("button", name="Resume").click()
    lab.output(0).get_by_text("60 of 60 rows labelled").wait_for()


def test_cancel_asks_a_second_time(lab: LabPage, server: Simulator) -> None:
    """Only the second yes, in place, cancels the remote job; Escape and No keep it."""
    worked = server.stats()["batch_rows"]
    view = opened(lab, label(server, "cancelled"), "run.status")
    cancel = view.get_by_role("button", name="Cancel…")
    question = view.get_by_role("alertdialog")
    view.locator("details", has_text="Batch jobs").evaluate("node => { node.open = true; }")
    view.locator("td", has_text=re.compile("queued|running")).wait_for()
    cancel.focus()
    lab.page.keyboard.press("Enter")
    question.get_by_text("batch jobs at the server").wait_for()
    assert question.get_by_role("button", name="Keep it going").evaluate(
        "node => node === document.activeElement"
    )
    lab.page.keyboard.press("Escape")
    question.wait_for(state="hidden")
    assert cancel.evaluate("node => node === document.activeElement")
    cancel.click()
    question.get_by_role("button", name="Keep it going").click()
    question.wait_for(state="hidden")
    assert view.locator(".mnb-run-status").inner_text() == "Running"
    cancel.click()
    question.get_by_role("button", name="Cancel the run").click()
    lab.output(0).get_by_text("0 of 60 rows labelled").wait_for()
    lab.run(1)
    assert lab.printed(1) == "'cancelled'"
    assert server.stats()["batch_rows"] == worked


def test_keys_stay_in_the_view(lab: LabPage, server: Simulator) -> None:
    """No letter typed on a button reaches the notebook, but Ctrl+S saves it."""
    view = opened(lab, label(server, "keys"), "1")
    cells = lab.notebook.locator(".jp-Cell").count()
    view.get_by_role("button", name="Pause").focus()
    for key in ("a", "b", "x", "d", "d", "m", "0", "0"):
        lab.page.keyboard.press(key)
    dirty = lab.page.locator(".lm-TabBar-tab.lm-mod-current.jp-mod-dirty")
    dirty.first.wait_for()
    lab.page.keyboard.press("Control+s")
    dirty.first.wait_for(state="detached")
    assert lab.notebook.locator(".jp-Cell").count() == cells
    assert lab.page.locator(".jp-Dialog").count() == 0


def test_text_can_be_read_in_both_themes(lab: LabPage, server: Simulator) -> None:
    """Every text has a contrast of at least 4.5 to 1, paused and asked whether to cancel."""
    view = opened(lab, label(server, "read"))
    view.get_by_role("button", name="Pause").click()
    view.locator("details", has_text="Batch jobs").evaluate("node => { node.open = true; }")
    view.get_by_role("button", name="Cancel…").click()
    try:
        for theme in ("JupyterLab Dark", "JupyterLab Light"):
            lab.theme(theme)
            assert low_contrast(view) == []
    finally:
        lab.theme("JupyterLab Light")


@pytest.mark.smoke("buttons while a cell runs")
def test_it_moves_and_obeys_while_a_cell_blocks(lab: LabPage, server: Simulator) -> None:
    """A cell that waits for the result holds up neither the view nor its buttons."""
    lab.need_subshells()
    server.faults = Faults(latency=1)
    view = opened(
        lab,
        label(server, "blocked", mode="online", concurrency=2),
        "run.result()['label'].notna().sum()",
    )
    lab.start(1)
    view.get_by_role("button", name="Pause").click()
    view.get_by_role("button", name="Resume").wait_for()
    assert lab.cell(1).locator(".jp-InputPrompt").inner_text().strip() == "[*]:"
    server.faults = Faults()
    view.get_by_role("button", name="Resume").click()
    lab.wait_done(1)
    assert "60" in lab.printed(1)


def test_one_run_in_two_places(lab: LabPage, server: Simulator) -> None:
    """The run's name in another cell shows it there too; both views move, and both settle."""
    view = opened(lab, label(server, "twice"), "run")
    lab.run(1)
    second = lab.output(1).locator(".mnb-run")
    for each in (view, second):
        bar(each, "0 of 60 rows")
    second.get_by_role("button", name="Pause").click()
    view.get_by_role("button", name="Resume").click()
    server.batch_rate = 0
    for number in (0, 1):
        lab.output(number).get_by_text("60 of 60 rows labelled").wait_for()
        expect(lab.output(number).locator(".mnb-run")).to_have_count(0)


@pytest.mark.smoke("page reload")
def test_a_page_loaded_again_shows_all_there_is(lab: LabPage, server: Simulator) -> None:
    """After a reload in mid-run the view is there at once, moves, and shows the end."""
    view = opened(lab, label(server, "reloaded", shard_lines=30))
    jobs = view.locator("summary", has_text="Batch jobs: 0 of 2 ended")
    jobs.wait_for()
    lab.save()
    lab.visit(lab.path)
    bar(view, "0 of 60 rows")
    jobs.wait_for()
    server.batch_rate = 0
    bar(view, "60 of 60 rows")
    view.locator(".mnb-run-status", has_text="Done").wait_for()
    view.get_by_text("60 of 60 rows labelled").wait_for()
    assert view.get_by_role("button").count() == 0


def test_after_a_restart_resume_shows_a_new_view(lab: LabPage, server: Simulator) -> None:
    """The old view says that it lost its kernel; mnb.resume goes on, nothing is sent twice."""
    jobs = server.stats()["jobs_created"]
    view = opened(
        lab,
        "from mistral_nb.widgets import run_screen\nrun_screen.STILL = 0.5"
        + label(server, "restarted"),
        f"import mistral_nb as mnb\nmnb.connect(api_key='k', server_url={server.url!r})\n"
        "run = mnb.resume('restarted')",
        kernel="mortal",
    )
    view.locator("summary", has_text="0 of 1 ended, 1 stalled").wait_for()
    view.locator("td", has_text="still for").wait_for()  # it opens by itself
    lab.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    view.get_by_role("alert").get_by_text("mnb.resume('restarted')").wait_for()
    assert view.get_by_role("button", name="Cancel…").is_disabled()
    lab.wait_idle()
    lab.run(1)
    second = lab.output(1).locator(".mnb-run")
    bar(second, "0 of 60 rows")
    server.batch_rate = 0
    lab.output(1).get_by_text("60 of 60 rows labelled").wait_for()
    assert server.stats()["jobs_created"] == jobs + 1


def test_hostile_words_are_only_words(lab: LabPage) -> None:
    """Markup and mathematics in a name, a row and a server's error stay text, live and settled."""
    words = BAD + TEX

    def refuse(number: int, arrival: Arrival) -> Say:
        if not arrival.line.startswith("POST"):
            return refusal(404)
        return refusal(422, f"{words} {number}") if number % 2 else GOOD

    recorder = Recorder(refuse, latency=0.7)
    name = f"{BAD[:60]}{TEX}"
    source = f"""
import mistral_nb as mnb, pandas as pd
hostile = mnb.connect(api_key="k", server_url={recorder.url!r})
df = pd.DataFrame({{"text": [{json.dumps(words)} + str(n) for n in range(40)]}})
run = hostile.label(df, "{{text}}", labels=["billing"], name={name!r}, mode="online", concurrency=1)
"""
    try:
        view = opened(lab, source)
        assert view.locator(".mnb-run-name").inner_text() == name
        view.locator("summary", has_text="Errors").click()
        view.get_by_text("window.hacked=1</script>").first.wait_for()
        assert view.locator("dt", has_text="Row 0").count() == 1
        assert view.locator("img, script, mjx-container, a").count() == 0
        recorder.latency = 0
        lab.output(0).get_by_text("failed (see the error column").wait_for()
        lab.page.wait_for_timeout(300)  # MathJax comes later
        assert lab.output(0).locator("img, script, mjx-container, a").count() == 0
        assert "<img src=x" in lab.output(0).inner_text()
        assert lab.page.evaluate("window.hacked") is None
    finally:
        recorder.close()
