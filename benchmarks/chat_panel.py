"""The chat panel's figures: a long transcript, typing beside it, and bytes of a streamed turn.

    python benchmarks/chat_panel.py [--messages 1000] [--runs 3]

A real JupyterLab in headless Chromium shows a conversation of that many messages.

- First paint is from the kernel's last word before it shows the panel, which is when the page
  has the cell's first output, to the screen refresh that shows the last message.
- Typing is from a key's press to the screen refresh after it, for 40 keys, with the transcript
  above the box.
- Bytes are those of every websocket message to the browser, envelopes included, from a question
  to the end of its answer, for each character of the answer. The stream view, with its code and
  what stays in the file, gets the same text; the panel's transcript for the file comes later.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from mistral_nb.simulator import start_simulator
from tests.browser.lab import LabPage, LabServer, launch

OPEN = """\
import mistral_nb as mnb
from mistral_nb.agents.branches import Node
from mistral_nb.agents.entries import Entry, Turn
talking = mnb.connect(api_key="k", server_url={url!r})
chat = talking.conversation(name="long {run}")
words = "Some **bold** words, a list:\\n\\n- one\\n- two\\n\\nand `code`.\\n\\n" * 3
for number in range({messages} // 2):
    asked = Entry("message.input", f"a{{number}}", {{"content": f"Question {{number}}"}})
    told = Entry("message.output", f"b{{number}}", {{"content": f"{{words}}Answer {{number}}."}})
    turn = Turn(f"t{{number}}", chat.name, chat.head, (asked, told), "done", "stop")
    chat._tree.add(Node(turn))
    chat.head = turn.id
"""
SHOW = "panel = talking.chat_panel(chat); panel"
WAIT = """async text => {
    const end = performance.now() + 60000;
    for (;;) {
        const turns = document.querySelectorAll(".mnb-chat-turn");
        if (turns.length && turns[turns.length - 1].textContent.includes(text)) break;
        if (performance.now() > end) throw new Error("nothing was shown");
        await new Promise(requestAnimationFrame);
    }
    await new Promise(requestAnimationFrame);
    return performance.now() - window.begun;
}"""
TYPING = """() => {
    window.delays = [];
    document.querySelector(".mnb-chat-box").addEventListener("keydown", event => {
        requestAnimationFrame(() => setTimeout(
            () => window.delays.push(performance.now() - event.timeStamp)));
    });
}"""
PROMPT = "Explain tides"


def first_paint(lab: LabPage, messages: int) -> float:
    """Return milliseconds from the start of the panel's cell to its last message."""
    lab.cell(2).locator(".cm-content").click()
    lab.page.evaluate(
        "addEventListener('keydown', event => { window.begun ??= event.timeStamp; }, {capture: true})"
    )
    lab.page.keyboard.press("Shift+Enter")
    return float(lab.page.evaluate(WAIT, f"Answer {messages // 2 - 1}."))


def typing(lab: LabPage) -> list[float]:
    """Return milliseconds from keys to the screen."""
    box = lab.output(2).get_by_label("Message")
    box.click()
    lab.page.evaluate(TYPING)
    for key in "what is written here is shown at once ok":
        lab.page.keyboard.press(key)
    lab.eventually(lambda: lab.page.evaluate("window.delays.length") >= 40, "keys are shown")
    box.fill("")
    return [float(each) for each in lab.page.evaluate("window.delays")]


def bytes_of_a_turn(lab: LabPage) -> float:
    """Return bytes for each character of an answer in the panel."""
    panel = lab.output(2).locator(".mnb-chat")
    box = panel.get_by_label("Message")
    with lab.counting() as count:
        box.fill(PROMPT)
        box.press("Enter")
        panel.get_by_role("button", name="Stop").wait_for()
        panel.get_by_role("button", name="Stop").wait_for(state="hidden")
        sent = count()
    return sent / len(panel.locator(".mnb-body").last.text_content() or "x")


def bytes_of_a_stream(lab: LabPage) -> float:
    """Return the same for the stream view, up to its end and without what stays in the file."""
    with lab.counting() as count:
        lab.start(1)
        lab.view(1).wait_for()
        lab.view(1).locator('[data-state="done"]').or_(
            lab.output(1).locator(".jp-RenderedHTMLCommon")
        ).first.wait_for()
        lab.wait_done(1)
        sent = count()
    return sent / len(lab.output(1).last.inner_text())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    simulator = start_simulator()
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    server = LabServer(Path(folder.name) / "lab", {})
    paints, keys, turns, streams = [], [], [], []
    try:
        with sync_playwright() as playwright:
            browser = launch(playwright)
            for run in range(options.runs):
                lab = LabPage(server, browser)
                head = OPEN.format(url=simulator.url, run=run, messages=options.messages)
                stream = f"talking.stream({PROMPT!r}).result();"
                lab.open("chat", [head, stream, SHOW], kernel=f"run {run}")
                lab.run(0)
                streams.append(bytes_of_a_stream(lab))
                paints.append(first_paint(lab, options.messages))
                time.sleep(1)
                keys += typing(lab)
                turns.append(bytes_of_a_turn(lab))
                lab.close()
            browser.close()
    finally:
        server.stop()
        simulator.stop()
        folder.cleanup()
    print(f"first paint of {options.messages} messages: {statistics.median(paints):.0f} ms")
    print(f"a key: median {statistics.median(keys):.0f} ms, longest {max(keys):.0f} ms")
    print(f"bytes a character: panel {statistics.median(turns):.1f}, ", end="")
    print(f"stream view {statistics.median(streams):.1f}")


if __name__ == "__main__":
    main()
