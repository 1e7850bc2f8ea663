"""The live view against what people use instead: bytes, CPU, long tasks, delays, in one run.

    python benchmarks/live_view.py [--chunks 4000] [--rate 500] [--runs 3] [--only NAME ...]

A real JupyterLab in headless Chromium shows the same Markdown reply in each way. Bytes are
those of every websocket message to the browser, envelopes and the final output included. CPU
is the kernel's, less that of receiving the same reply unseen. Delays are from a chunk's
arrival in the kernel to the screen refresh that shows it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.browser.lab import ASK, LabPage, LabServer, launch, pieces
from tests.browser.scripted import ScriptedServer

WAYS = {
    "unseen": "session.stream('x', model='reply', show=False).result()",
    "mistral_nb": "session.stream('x', model='reply').result()",
    "print": "for chunk in unseen(): print(chunk, end='', flush=True)",
    "HTML.value +=": """\
box = ipywidgets.HTML()
display(box)
for chunk in unseen(): box.value += html.escape(chunk)""",
    "display_handle.update": """\
text = ''
box = display(Markdown(''), display_id=True)
for chunk in unseen():
    text += chunk
    box.update(Markdown(text))""",
    "clear_output": """\
text = ''
for chunk in unseen():
    text += chunk
    clear_output(wait=True)
    display(Markdown(text))""",
}
SETUP = f"""{ASK}
import html, json, time, ipywidgets
from IPython.display import Markdown, clear_output, display
def unseen(): return session.stream('x', model='reply', show=False)
seen = {{}}
session.events.on('chat:*', lambda event: seen.setdefault(event.name, time.time()), maxsize=1)
"""
CELL = """
seen.clear()
cpu = time.process_time()
{way}
cpu = time.process_time() - cpu
"""
WATCH = """([selector, end]) => {
    const seen = window.seen = {tasks: []};
    new PerformanceObserver(list => seen.tasks.push(...list.getEntries().map(e => [Math.round((performance.timeOrigin + e.startTime)) / 1000, e.duration])))
        .observe({type: "longtask"});
    const look = now => {
        const output = document.querySelector(selector);
        const at = Date.now() / 1000;
        const text = output?.querySelector("p,h2,pre,code")?.textContent ?? "";
        if (!seen.first && text.trim()) seen.first = at;
        if (!seen.last && output?.textContent.slice(-400).includes(end)) seen.last = at;
        else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""
END = "The very last words."
PARAGRAPH = """\
## {n}. Where the pieces wait

A reply arrives in **small pieces**, and every listener has a buffer of its own for them. As
long as the listener keeps up, the buffer is empty and nothing is joined or lost; when it falls
behind, the policy decides what happens next. The `coalesce` policy joins neighbouring pieces
of text, so that the memory behind a stalled listener is that of the text and no more.

There are two things to keep in mind here. First, a piece is *not* a word: it may end in the
middle of one, and even in the middle of a pair of asterisks. Second, the order of pieces is
the order of the text, whatever the network does, because they share one connection.

- A buffer that is full makes the producer wait, or makes room, as its policy says.
- Start and end are never dropped, so every listener can tell a whole reply from a cut one.
- A listener that raises is reported once, and harms nobody else.

```python
for piece in reply:
    total += len(piece)
    if total > limit:
        reply.stop()
```

"""


def reply(chunks: int, size: int = 10) -> str:
    """Build Markdown of ``chunks * size`` characters."""
    text = "".join(PARAGRAPH.format(n=n) for n in range(chunks * size // 1000))
    return text[: chunks * size - len(END) - 2] + "\n\n" + END


def measure(lab: LabPage, way: str) -> dict[str, Any]:
    """Show the reply in one way and measure it."""
    lab.open("bench", [SETUP, CELL.format(way=WAYS[way]), "print(json.dumps([cpu, seen]))"])
    lab.run(0)
    number = lab.output(1)
    del number
    lab.page.evaluate(WATCH, [".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell:nth-of-type(2) .jp-OutputArea", END])
    with lab.counting() as received:
        lab.start(1)
        lab.eventually(
            lambda: lab.cell(1).locator(".jp-InputPrompt").inner_text().strip("[]: ").isdigit(),
            "the cell ends", limit=600,
        )
        lab.page.wait_for_timeout(1000)
        size = received()
    shown = lab.page.evaluate("() => window.seen")
    lab.run(2)
    cpu, seen = json.loads(lab.output(2).inner_text())
    return {"bytes": size, "cpu": cpu, "shown": shown, "seen": seen}


def main() -> None:
    """Measure every way and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--chunks", type=int, default=4000)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(WAYS))
    options = parser.parse_args()
    text = reply(options.chunks)
    server = ScriptedServer()
    server.add("reply", pieces(text, 10), rate=options.rate)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        jupyter = LabServer(Path(folder) / "lab", {"SCRIPTED_URL": server.url})
        browser = launch(playwright)
        lab = LabPage(jupyter, browser)
        for way in options.only:
            runs = [measure(lab, way) for _ in range(options.runs)]
            print(way, json.dumps(runs))
        browser.close()
        jupyter.stop()
    server.stop()
    print(statistics)


if __name__ == "__main__":
    main()
