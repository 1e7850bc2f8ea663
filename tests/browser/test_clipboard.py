"""The Copy button where it is not simple: two pages on one reply, and plain http."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from tests.browser.lab import ASK, LabPage, expect

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.browser.scripted import ScriptedServer

SHARED = files("mistral_nb.widgets") / "static" / "shared.js"
COPY = "source => new Function(`${source}; return toClipboard;`)()('some *words*')"


def test_a_copy_is_for_the_page_that_asked(
    lab: LabPage, browser: Browser, scripted: ScriptedServer
) -> None:
    """Of two pages that show one reply, only the one whose button was pressed copies it."""
    scripted.add("tabs", ["Copied words."])
    lab.open("tabs", [f"{ASK}\nawait session.stream('x', model='tabs', settle=False)"], "tabs")
    lab.run(0)
    lab.save()
    other = LabPage(lab.server, browser)
    other.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    other.visit(lab.path)
    other.view(0).get_by_role("button", name="Copy").click()
    other.page.wait_for_function("document.querySelector('.mnb-copy').textContent === 'Copied'")
    other.close()
    expect(lab.view(0).get_by_role("button", name="Copy")).to_have_text("Copy")
    assert (lab.problems, other.problems) == ([], [])


def test_copying_over_plain_http(browser: Browser) -> None:
    """Without the browser's clipboard, as on a hub without https, text is copied all the same."""
    page = browser.new_page()
    page.route("**/*", lambda route: route.fulfill(body="<input>", content_type="text/html"))
    page.goto("http://hub.example/")
    assert page.evaluate("navigator.clipboard") is None
    box = page.locator("input")
    box.focus()
    page.evaluate(COPY, SHARED.read_text("utf-8"))
    page.keyboard.press("Control+v")  # the focus is where it was
    assert box.input_value() == "some *words*"
    page.close()
