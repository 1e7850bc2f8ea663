"""The job board in a real JupyterLab: followed, steered by its buttons, reloaded, settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.contrast import low_contrast
from tests.browser.lab import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.browser.lab import LabPage

BAD = '<img src=x onerror=\\"window.hacked=1\\"><script>window.hacked=1</script>'
START = f"""
import asyncio, os
import mistral_nb as mnb
session = mnb.connect(api_key="test-key", server_url="http://127.0.0.1:9")
queue = mnb.Queue(name="NAME")
mended, over = False, asyncio.Event()

@queue.handler("work")
async def work(data, context):
    if data == "bad" and not mended:
        raise mnb.jobs.GiveUp("it is broken: {BAD}")
    if data == "long":
        context.progress("half way")
        await over.wait()
        raise mnb.jobs.GiveUp("it ended badly")
    return data

@queue.handler("pay")
async def pay(data, context):
    async def send():
        if not mended:
            raise mnb.errors.ServerUnreachable("the line was cut")
    await context.pay("call", send)

for data in ["a", "b", "c", "bad", "long"]:
    queue.add("work", data, job_id=data).result()
queue.add("pay", job_id="doubt").result()
worker = queue.work()
board = mnb.job_board(queue)
"""


def opened(lab: LabPage, name: str, *more: str) -> Locator:
    """Open a notebook with a queue and its board."""
    # A kernel of its own: the shared one's session is another one.
    lab.open("board", [START.replace("NAME", name), *more], kernel=f"board-{name}")
    lab.run(0)
    board = lab.output(0).locator(".mnb-board")
    board.get_by_text("half way").wait_for()
    return board


def counted(board: Locator, number: int, state: str) -> None:
    """Wait until the board counts so many jobs in a state."""
    board.locator(f".mnb-board-count[data-state={state}] b").get_by_text(
        str(number), exact=True
    ).wait_for()


def row(board: Locator, job: str) -> Locator:
    return board.locator(f"tr:has(td[title={job}])")


def tell(lab: LabPage, code: str) -> None:
    """Run code in the notebook's kernel; the focus stays where it is."""
    lab.page.evaluate(
        """code => {
            const {session} = window.jupyterapp.shell.currentWidget.sessionContext;
            return session.kernel.requestExecute({code}).done;
        }""",
        code,
    )


@pytest.mark.smoke("job board")
def test_a_queue_is_followed_and_steered(lab: LabPage) -> None:
    """Counts, errors and progress show; Retry, Cancel and Replay do what they say; it settles."""
    board = opened(lab, "steered", "mended = True")
    counted(board, 3, "completed")
    counted(board, 1, "failed")
    counted(board, 1, "uncertain")
    row(board, "bad").get_by_text("it is broken: <img").wait_for()
    assert lab.page.evaluate("window.hacked") is None
    assert low_contrast(board) == []
    lab.run(1)
    row(board, "bad").get_by_role("button", name="Retry").click()
    counted(board, 4, "completed")
    cancel = row(board, "long").get_by_role("button")
    cancel.click()
    row(board, "long").get_by_text("Really cancel?").wait_for()
    cancel.click()
    counted(board, 1, "cancelled")
    doubt = row(board, "doubt").get_by_role("button")
    doubt.focus()
    lab.page.keyboard.press("Enter")
    row(board, "doubt").get_by_text("Pay again?").wait_for()
    lab.page.keyboard.press("Enter")
    counted(board, 5, "completed")
    board.wait_for(state="detached")  # nothing is on its way, nothing left to deal with
    static = lab.output(0)
    static.get_by_text("Queue steered: 5 completed, 1 cancelled").wait_for()
    static.locator("td", has_text="doubt").first.wait_for()
    assert static.locator("button, script").count() == 0


def test_a_question_is_about_what_was_seen(lab: LabPage) -> None:
    """When a job ends under the finger, its button asks nothing more, and keeps the focus."""
    board = opened(lab, "asked", "1")
    button = row(board, "long").get_by_role("button")
    button.click()
    expect(button).to_have_text("Really cancel?")
    lab.page.keyboard.press("Tab")
    expect(button).to_have_text("Cancel")
    button.click()
    lab.page.keyboard.press("Escape")
    expect(button).to_have_text("Cancel")
    button.click()
    expect(button).to_have_text("Really cancel?")
    tell(lab, "queue.portal.call_soon(over.set)")
    row(board, "long").get_by_text("it ended badly").wait_for()  # and it stands further down
    expect(button).to_have_text("Retry")
    expect(button).to_be_focused()
    tell(lab, "mended = True")
    row(board, "bad").get_by_role("button").focus()
    lab.page.keyboard.press("Enter")
    counted(board, 4, "completed")
    expect(board).to_be_focused()  # the button is gone, and keys do not go to the notebook


def test_a_board_comes_back_after_a_reload(lab: LabPage) -> None:
    """A page that is loaded again shows the queue as it is."""
    board = opened(lab, "reloaded", "queue.add('work', 'd', job_id='d').result()")
    lab.save()
    lab.visit(lab.path)
    board = lab.output(0).locator(".mnb-board")
    counted(board, 3, "completed")
    lab.run(1)
    counted(board, 4, "completed")
    # This page does not know which output to replace: the board stays, and shows the end.
    board.get_by_role("button", name="Settle").click()
    board.get_by_text("Queue reloaded, as it was").wait_for()
    assert board.get_by_role("button").count() == 0
