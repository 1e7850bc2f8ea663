"""A browser that is closed while work goes on, and opened again later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.lab import ASK, LabPage, pieces, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.browser.lab import LabServer
    from tests.browser.scripted import ScriptedServer

TEXT = " ".join(f"word{number}" for number in range(200))


def test_the_browser_is_closed_and_opened_again(
    lab_server: LabServer, browser: Browser, scripted: ScriptedServer
) -> None:
    """What ended while nobody looked is shown whole on return, and the kernel has it."""
    script = scripted.add("away", pieces(TEXT, 7), limit=20)
    left = LabPage(lab_server, browser)
    left.open("away", [f"{ASK}\nreply = session.stream('x', model='away')", "reply.text"])
    left.run(0)
    left.view(0).get_by_text("word5").wait_for()
    left.save()
    left.close()
    script.limit = None
    wait_until(lambda: script.sent == len(script.deltas), "the reply ends without a reader")
    back = LabPage(lab_server, browser)
    back.visit(left.path)
    # JupyterLab keeps no display id in the file, so this page shows the ended widget.
    back.view(0).get_by_text("word199").wait_for()
    assert back.view(0).get_by_role("log").inner_text() == TEXT
    back.view(0).get_by_role("button", name="Stop").wait_for(state="hidden")
    back.run(1)
    assert "word199" in back.printed(1)
    back.close()
    assert (left.problems, back.problems) == ([], [])
