"""The relay's page in Chromium: a reply through EventSource and through fetch, hostile text kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mistral_nb.client import Connection
from mistral_nb.events import EventBus
from mistral_nb.jobs import Queue
from mistral_nb.relay import Relay
from mistral_nb.settings import resolve
from tests.browser.lab import STEP, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from tests.browser.scripted import ScriptedServer

TOKEN = "a token for tests only"
GRACE = 2.5
HOSTILE = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script> & **bold**"


@pytest.fixture
def relay(
    request: pytest.FixtureRequest, scripted: ScriptedServer, tmp_path: Path
) -> Iterator[Relay]:
    grace = getattr(request, "param", GRACE)
    connection = Connection(resolve("key", scripted.url, "page", tmp_path))
    with (
        Queue(connection=connection, bus=EventBus(connection.portal)) as queue,
        Relay(queue, token=TOKEN, grace=grace) as relay,
    ):
        yield relay


@pytest.fixture
def page(browser: Browser, relay: Relay) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 800, "height": 700})
    page.set_default_timeout(1000 * STEP)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.extend(_strange(request.url, relay.url)))
    page.goto(relay.page)
    yield page
    page.close()
    assert problems == []


def _strange(url: str, base: str) -> list[str]:
    """Return the address of a request that leaves the relay, or that shows the token."""
    return [url] if not url.startswith(base) or TOKEN.replace(" ", "%20") in url else []


def ask(page: Page, way: str) -> None:
    page.get_by_role("button", name=way).click()


@pytest.mark.parametrize("way", ["EventSource", "fetch"])
def test_a_reply_arrives_as_text(page: Page, scripted: ScriptedServer, way: str) -> None:
    """Text grows to its end, markup in it stays text, and usage is shown."""
    scripted.add("page", [HOSTILE, " More.", "\n\nAnd a new paragraph."])
    ask(page, way)
    page.get_by_role("status").get_by_text("Done").wait_for()
    assert page.get_by_role("log").inner_text() == f"{HOSTILE} More.\n\nAnd a new paragraph."
    assert page.evaluate("window.hacked") is None
    assert page.get_by_role("button", name="Stop").is_disabled()


@pytest.mark.parametrize("way", ["EventSource", "fetch"])
def test_stop_reaches_the_server(page: Page, scripted: ScriptedServer, way: str) -> None:
    """Stop ends the reply here, and the upstream connection closes."""
    script = scripted.add("page", ["Half. "], hold=True)
    ask(page, way)
    page.get_by_role("log").get_by_text("Half.").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("status").get_by_text("stopped", exact=False).wait_for()
    wait_until(lambda: script.closed_at, "the server sees the connection close", page=page)


@pytest.mark.parametrize("way", ["EventSource", "fetch"])
def test_a_new_question_ends_the_one_before(page: Page, scripted: ScriptedServer, way: str) -> None:
    """Who asks again sees the new reply alone; the old one is stopped, here and upstream."""
    old = scripted.add("page", ["Old. "], hold=True)
    ask(page, way)
    page.get_by_role("log").get_by_text("Old.").wait_for()
    new = scripted.add("page", ["New. ", "More."], limit=1)
    ask(page, way)
    page.get_by_role("log").get_by_text("New.").wait_for()
    wait_until(lambda: old.closed_at, "the old reply is stopped", page=page)
    page.wait_for_timeout(300)  # its end comes here, too
    assert page.get_by_role("status").inner_text().endswith("answers…")
    assert page.get_by_role("button", name="Stop").is_enabled()
    new.limit = None
    page.get_by_role("status").get_by_text("Done").wait_for()
    assert page.get_by_role("log").inner_text() == "New. More."


def test_a_wrong_token_is_said(page: Page) -> None:
    """Without the token the page says so, and opens the place to enter it."""
    page.get_by_text("Token", exact=True).click()
    page.get_by_label("The relay printed it").fill("another")
    ask(page, "fetch")
    page.get_by_role("status").get_by_text("Refused (401)").wait_for()


@pytest.mark.parametrize("relay", [STEP], indirect=True)  # a busy browser comes back late
def test_event_source_takes_a_broken_line_up_again(
    page: Page, scripted: ScriptedServer, relay: Relay
) -> None:
    """When the line breaks, the browser comes back by itself and misses nothing."""
    words = [f"{number} " for number in range(60)]
    script = scripted.add("page", words, limit=10)
    ask(page, "EventSource")
    page.get_by_role("log").get_by_text("0 1 2 3").wait_for()
    for connection in list(relay._served._server.server_state.connections):
        connection.transport.abort()
    page.get_by_role("status").get_by_text("connecting again").wait_for()
    script.limit = None
    page.get_by_role("status").get_by_text("Done").wait_for()
    assert page.get_by_role("log").inner_text() == "".join(words)
