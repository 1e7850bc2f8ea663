"""The chat panel in a real JupyterLab: consent, stop, reload, branches, files, hostile texts."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from mistral_nb.simulator import start_simulator
from tests.browser.contrast import low_contrast
from tests.browser.lab import expect
from tests.xss_corpus import VECTORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator

    from mistral_nb.simulator import Simulator
    from tests.browser.lab import LabPage

TOOLS = '''
import threading, time
ran = []
def send_mail(person: str) -> str:
    """Send a mail to a person.

    Args:
        person: Who gets it.
    """
    ran.append(person)
    return "sent to " + person
def open_gate(person: str) -> str:
    """Open the gate for a person.

    Args:
        person: Who comes.
    """
    time.sleep(30)
    return "open"
'''
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HARM = """root => [...root.querySelectorAll("*")].filter(node =>
    node.matches("script,iframe,object,embed,form,link,style,svg,video,audio,base,meta") ||
    (node.matches("img") && !node.src.startsWith("data:image/")) ||
    [...node.attributes].some(({name, value}) => /^on/i.test(name) || (/href|src|action/i.test(name) && /^\\s*javascript:/i.test(value)))
).filter(node => !node.closest("mjx-container")).map(node => node.outerHTML.slice(0, 200))"""
"""Elements that could run, load or submit something."""


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    """A simulator that a test may slow down."""
    simulator = start_simulator(chunk_delay=0)
    yield simulator
    simulator.stop()


@pytest.fixture(autouse=True)
def quick(server: Simulator) -> Iterator[None]:
    """Each test begins with a server without pauses."""
    server.chunk_delay = 0
    yield
    server.chunk_delay = 0


def opening(server: Simulator, name: str, options: str = "tools=[send_mail, open_gate]") -> str:
    """Source of a cell that opens a panel."""
    return f"""
import mistral_nb as mnb
talking = globals().get("talking") or mnb.connect(api_key="k", server_url={server.url!r})
{TOOLS}
panel = talking.chat_panel(name={name!r}, {options})
panel"""


def opened(
    lab: LabPage, server: Simulator, name: str, *cells: str, kernel: str = "shared"
) -> Locator:
    """Open a notebook with a panel below its first cell, and return the panel."""
    lab.open("chat", [opening(server, name), *cells], kernel)
    lab.run(0)
    return panel_of(lab)


def panel_of(lab: LabPage, cell: int = 0) -> Locator:
    panel = lab.output(cell).locator(".mnb-chat")
    panel.get_by_label("Message").wait_for()
    return panel


def say(panel: Locator, text: str) -> None:
    """Write a message and press Enter."""
    box = panel.get_by_label("Message")
    box.fill(text)
    box.press("Enter")


def turn(panel: Locator, number: int = -1) -> Locator:
    """One turn; the last if no number is given."""
    turns = panel.locator(".mnb-chat-turn")
    return turns.last if number < 0 else turns.nth(number)


def ended(panel: Locator, state: str = "done", turns: int | None = None) -> Locator:
    """Wait until the last turn has ended so, and return it."""
    if turns is not None:
        panel.locator(".mnb-chat-turn").nth(turns - 1).wait_for()
    panel.locator(f'.mnb-chat-turn:last-of-type[data-state="{state}"]').wait_for()
    panel.get_by_role("button", name="Stop").wait_for(state="hidden")
    return turn(panel)


@pytest.mark.smoke("chat, consent")
def test_consent(lab: LabPage, server: Simulator) -> None:
    """A call runs once it is approved, with the arguments as edited; a denied one never runs."""
    panel = opened(lab, server, "consent", "print(ran)")
    log = panel.get_by_role("log")
    assert log.get_attribute("aria-label") == "Transcript"
    say(panel, "Send a mail to Ada")
    panel.get_by_text("asks for your consent").wait_for()
    panel.get_by_text("Send a mail to a person.").wait_for()
    panel.get_by_role("button", name="Approve").click()
    ended(panel).get_by_text("sent to Ada").first.wait_for(state="attached")
    say(panel, "Send a mail to Bob")
    panel.get_by_label("Arguments").fill('{"person": 3}')
    panel.get_by_role("button", name="Approve").click()
    panel.get_by_role("alert").get_by_text("person").wait_for()
    expect(panel.get_by_label("Arguments")).to_be_focused()
    panel.get_by_label("Arguments").fill('{"person": "Grace"}')
    panel.get_by_role("button", name="Approve").click()
    ended(panel, turns=2).get_by_text("sent to Grace").first.wait_for(state="attached")
    say(panel, "Send a mail to Eve")
    panel.get_by_label("Reason for denying").fill("She left")
    panel.get_by_role("button", name="Deny").click()
    last = ended(panel, turns=3)
    last.get_by_text("denied", exact=True).wait_for()
    lab.run(1)
    assert lab.printed(1) == "['Ada', 'Grace']"


def test_consent_for_the_servers_side(lab: LabPage, server: Simulator) -> None:
    """A connector's call asks, with its arguments fixed; a double click on Approve is one answer."""
    search = {"type": "web_search", "tool_configuration": {"requires_confirmation": ["web_search"]}}
    lab.open("chat", [opening(server, "over there", f"tools=[{search}]")])
    lab.run(0)
    panel = panel_of(lab)
    say(panel, "Search the web for tides")
    panel.get_by_text("Runs on Mistral's side").wait_for()
    panel.get_by_text('"query": "Search the web for tides"').wait_for()
    expect(panel.get_by_label("Arguments")).to_have_count(0)
    panel.get_by_role("button", name="Approve").dblclick()
    first = ended(panel)
    first.locator(".mnb-refs a").first.wait_for()
    first.get_by_text("approved", exact=True).wait_for()
    expect(panel.get_by_role("alert")).to_be_hidden()
    say(panel, "Search the web for moons")
    panel.get_by_role("button", name="Deny").press("Enter")
    expect(panel.get_by_label("Message")).to_be_focused()
    last = ended(panel, turns=2)
    last.get_by_text("denied", exact=True).wait_for()
    expect(last.locator(".mnb-refs")).to_have_count(0)


def test_stop_in_mid_tool_and_mid_stream(lab: LabPage, server: Simulator) -> None:
    """Stop ends a turn at once, what has come stays, and a message that waited comes back."""
    panel = opened(lab, server, "stopped")
    say(panel, "Open the gate for Ada")
    panel.get_by_role("button", name="Approve").click()
    panel.get_by_text("runs", exact=True).wait_for()
    panel.get_by_role("button", name="Stop").click()
    ended(panel, "stopped").get_by_text("stopped", exact=True).wait_for()
    server.chunk_delay = 0.02
    say(panel, "Explain tides")
    turn(panel, 1).locator(".mnb-body p").first.wait_for()
    say(panel, "And the moon?")
    panel.get_by_text("Waits for the turn before it").wait_for()
    panel.get_by_label("Message").press("Escape")
    panel.get_by_role("button", name="Stop").wait_for(state="hidden")
    expect(turn(panel, 1)).to_have_attribute("data-state", "stopped")
    expect(panel.locator(".mnb-chat-turn")).to_have_count(2)
    expect(panel.get_by_label("Message")).to_have_value("And the moon?")
    assert turn(panel, 1).locator(".mnb-body").last.text_content()


def test_a_reload_in_mid_stream_and_a_second_view(lab: LabPage, server: Simulator) -> None:
    """After a reload the panel goes on where it is; a view below another cell shows the same."""
    panel = opened(lab, server, "reloaded", "panel", kernel="reloaded")
    lab.save()
    server.chunk_delay = 1  # it lasts longer than the page takes to load
    say(panel, "Explain rivers")
    turn(panel).locator(".mnb-body p").first.wait_for()
    lab.visit(lab.path)
    panel = panel_of(lab)
    assert turn(panel).get_attribute("data-state") == "running"
    lab.run(1)
    second = panel_of(lab, 1)
    second.get_by_role("button", name="Stop").click()
    text = ended(panel, "stopped").locator(".mnb-body").last.text_content() or ""
    assert ended(second, "stopped").locator(".mnb-body").last.text_content() == text
    assert "rivers" in text.lower()


def test_branches(lab: LabPage, server: Simulator) -> None:
    """An edited question and an answer asked for again are versions; one can step between them."""
    panel = opened(lab, server, "branches")
    say(panel, "Reply with exactly: one")
    ended(panel)
    panel.get_by_role("button", name="Edit").click()
    edit = panel.get_by_label("Ask this instead")
    assert edit.input_value() == "Reply with exactly: one"
    edit.fill("Reply with exactly: two")
    edit.press("Enter")
    panel.get_by_text("2/2", exact=True).wait_for()
    ended(panel).locator(".mnb-body").get_by_text("two", exact=True).wait_for()
    panel.get_by_role("button", name="Regenerate").click()
    panel.get_by_text("3/3", exact=True).wait_for()
    ended(panel).locator(".mnb-body").get_by_text("two", exact=True).wait_for()
    panel.get_by_title("The version before").click()
    panel.get_by_text("2/3", exact=True).wait_for()
    panel.get_by_title("The version before").click()
    panel.locator(".mnb-body").get_by_text("one", exact=True).wait_for()
    expect(panel.get_by_title("The version before")).to_be_disabled()
    panel.get_by_role("button", name="Clear").click()
    panel.get_by_text("Nothing has been said yet.").wait_for()


def test_restart_and_reopen(lab: LabPage, server: Simulator) -> None:
    """In a new kernel the panel opens the conversation by its name, with all that was said."""
    panel = opened(lab, server, "reopened", kernel="restarted")
    say(panel, "Reply with exactly: before the restart")
    ended(panel)
    lab.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    panel.get_by_text("has lost its kernel").wait_for()
    lab.wait_idle()
    lab.run(0)
    panel = panel_of(lab)
    panel.locator(".mnb-body").get_by_text("before the restart", exact=True).wait_for()
    say(panel, "Reply with exactly: after it")
    ended(panel, turns=2).locator(".mnb-body").get_by_text("after it", exact=True).wait_for()


@pytest.mark.smoke("buttons while a cell runs")
def test_works_while_a_cell_runs(lab: LabPage, server: Simulator) -> None:
    """With a cell that blocks the kernel, messages, consent and answers go on."""
    lab.need_subshells()
    wait = "while not ran: time.sleep(0.05)\nprint('heard', ran)"
    panel = opened(lab, server, "blocked", wait)
    lab.start(1)
    say(panel, "Send a mail to Ada")
    panel.get_by_role("button", name="Approve").click()
    ended(panel)
    lab.wait_done(1)
    assert lab.printed(1) == "heard ['Ada']"


def test_keys_stay_in_the_panel(lab: LabPage, server: Simulator) -> None:
    """What is typed reaches no shortcut of the notebook; Shift+Enter is a new line."""
    panel = opened(lab, server, "keys", "1")
    box = panel.get_by_label("Message")
    box.click()
    for key in ("d", "d", "a", "b", "x", "Shift+Enter", "i", "i", "0", "0"):
        lab.page.keyboard.press(key)
    assert box.input_value() == "ddabx\nii00"
    assert lab.notebook.locator(".jp-CodeCell").count() == 2
    panel.get_by_role("log").focus()
    for key in ("d", "d", "a", "b", "x"):
        lab.page.keyboard.press(key)
    assert lab.notebook.locator(".jp-CodeCell").count() == 2
    assert panel.locator(".mnb-chat-turn").count() == 0


def test_files(lab: LabPage, server: Simulator) -> None:
    """Files go with a message, pictures are shown; a file that a connector made is downloaded."""
    options = 'tools=["image_generation", "web_search"]'
    lab.open("chat", [opening(server, "files", options)])
    lab.run(0)
    panel = panel_of(lab)
    picture = {"name": "dot.png", "mimeType": "image/png", "buffer": _decoded(PIXEL)}
    notes = {"name": "n" * 200, "mimeType": "text/plain", "buffer": b"words"}
    panel.locator("input[type=file]").set_input_files([picture, notes])
    panel.get_by_role("button", name="dot.png").wait_for()
    long = panel.get_by_role("button", name="n" * 200)
    long.wait_for()
    assert long.evaluate("node => node.scrollWidth <= node.parentNode.clientWidth")
    say(panel, "What is in this picture?")
    asked = ended(panel).locator(".mnb-chat-question")
    source = asked.locator("img").get_attribute("src") or ""
    assert source.startswith("data:image/png;base64,")
    asked.get_by_text("n" * 200).wait_for()
    say(panel, "Draw an image of a cat")
    chip = ended(panel, turns=2).get_by_title("Download").first
    with lab.page.expect_download() as download:
        chip.click()
    assert download.value.path().read_bytes().startswith(b"\x89PNG")
    say(panel, "Search the web for tides")
    link = ended(panel, turns=3).locator(".mnb-refs a").first
    assert re.match("https?://", link.get_attribute("href") or "")
    assert "noopener" in (link.get_attribute("rel") or "")


def test_what_stays_in_the_file(lab: LabPage, server: Simulator) -> None:
    """The saved notebook holds a transcript that needs no kernel; settle() leaves it alone."""
    panel = opened(lab, server, "kept", "panel.settle()")
    say(panel, "Reply with exactly: **kept** words")
    ended(panel)
    kept = lab.output(0).locator(".mnb-transcript")
    kept.get_by_text("kept", exact=True).wait_for(state="attached")
    assert kept.is_hidden()
    html, _ = (each for each in lab.outputs(0) if "data" in each)
    assert "<strong>kept</strong>" in html.data["text/html"]
    assert "Reply with exactly: **kept** words" in html.data["text/plain"]
    lab.run(1)
    panel.wait_for(state="detached")
    kept.get_by_text("kept", exact=True).wait_for()
    mimes = {mime for each in lab.outputs(0) for mime in each.get("data", {})}
    assert mimes == {"text/html", "text/plain"}
    lab.reopen()
    lab.output(0).locator(".mnb-transcript").get_by_text("kept", exact=True).wait_for()


def hostile(server: Simulator) -> str:
    """Source of a cell: a conversation whose every text is an attack, one turn for each."""
    return f"""
import json
from mistral_nb.agents.branches import Node
from mistral_nb.agents.entries import Entry, Media, Turn
vectors = json.loads({json.dumps(json.dumps(list(VECTORS.values())))})
def entries(number, bad):
    call = {{"tool_call_id": "c", "name": bad, "arguments": json.dumps({{bad: bad}})}}
    chunks = [{{"type": "thinking", "thinking": bad}}, {{"type": "text", "text": bad}},
        {{"type": "tool_reference", "tool": bad, "title": bad, "url": bad}},
        {{"type": "tool_file", "tool": bad, "file_id": bad, "file_name": bad, "file_type": bad}},
        {{"type": "image_url", "image_url": bad}}]
    asked = [{{"type": "text", "text": bad}}, {{"type": "document_url", "document_url": bad,
        "document_name": bad}}, {{"type": "image_url", "image_url": {{"url": bad}}}}]
    handoff = {{"previous_agent_name": bad, "next_agent_name": bad}}
    shown = Media("image/svg+xml", bad.encode("utf-8", "replace"), bad)
    return [
        Entry("message.input", "0", {{"content": asked}}),
        Entry("function.call", "1", call),
        Entry("function.result", "2", {{"tool_call_id": "c", "result": bad}}, media=(shown,)),
        Entry("tool.execution", "3", {{"name": bad, "arguments": bad, "info": {{bad: bad}}}}),
        Entry("agent.handoff", "4", handoff),
        Entry(bad, "5", {{bad: bad}}),
        Entry("message.output", "6", {{"content": chunks}}),
    ]
chat = talking.conversation(name="hostile")
parent = None
for number, bad in enumerate(vectors):
    turn = Turn(f"turn-{{number}}", "hostile", parent, tuple(entries(number, bad)), "failed",
        error=bad, model=bad)
    chat._tree.add(Node(turn))
    chat.head = parent = turn.id
"""


def test_hostile_texts(lab: LabPage, server: Simulator) -> None:
    """Wherever an attack stands, no script runs and nothing outside is asked for."""
    head = (
        f'import mistral_nb as mnb\ntalking = mnb.connect(api_key="k", server_url={server.url!r})'
    )
    cell = f"{head}\n{hostile(server)}\npanel = talking.chat_panel(chat)\npanel"
    lab.open("chat", [cell, "panel.settle()"])
    lab.run(0)
    panel = panel_of(lab)
    panel.locator(".mnb-chat-turn").nth(len(VECTORS) - 1).wait_for(state="attached")
    panel.locator("details").evaluate_all("nodes => nodes.forEach(node => { node.open = true; })")
    assert panel.get_by_role("log").evaluate(HARM) == []
    lab.run(1)
    kept = lab.output(0).locator(".mnb-transcript")
    kept.wait_for()
    lab.page.wait_for_timeout(300)  # MathJax comes later
    assert kept.evaluate(HARM) == []
    assert lab.page.evaluate("window.pwned ?? null") is None


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_every_text_can_be_read(lab: LabPage, server: Simulator, theme: str) -> None:
    """Each text of the panel stands out from its ground, in both themes."""
    panel = opened(lab, server, f"themes {theme}")
    say(panel, "Send a mail to Ada")
    panel.get_by_role("button", name="Deny").click()
    ended(panel)
    say(panel, "Send a mail to Bob")
    panel.get_by_role("button", name="Approve").wait_for()
    lab.theme(theme)
    try:
        assert low_contrast(panel) == []
    finally:
        lab.theme("JupyterLab Light")
        panel.get_by_role("button", name="Stop").click()


def _decoded(text: str) -> bytes:
    import base64

    return base64.b64decode(text)
