"""The live view against what people use instead: bytes, CPU, long tasks, delays, in one run.

    python benchmarks/live_view.py [--chunks 4000] [--rate 500] [--runs 3] [--only NAME ...]

A real JupyterLab in headless Chromium shows the same Markdown reply in each way. Bytes are
those of every websocket message to the browser, envelopes and the final output included. CPU
is the kernel's, less that of receiving the same reply unseen. Delays are from a chunk's
arrival in the kernel to the screen refresh that shows it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
from pathlib import Path

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
def note(event): seen[event.name] = time.time()
"""
CELL = """
for name in ('chat:chunk', 'chat:complete'): session.events.once(name, note)
cpu = time.process_time()
{way}
cpu = time.process_time() - cpu
"""
WATCH = """([selector, end]) => {
    const seen = window.seen = {tasks: []};
    new PerformanceObserver(list => seen.tasks.push(...list.getEntries().map(e => e.duration)))
        .observe({type: "longtask"});
    const look = now => {
        const output = document.querySelector(selector);
        const at = Date.now() / 1000;
        const text = (output?.querySelector("[role=log]") ?? output)?.textContent ?? "";
        if (!seen.first && text.trim()) seen.first = at;
        if (!seen.last && output?.textContent.slice(-400).includes(end)) seen.last = at;
        else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""
OUTPUT = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell:nth-of-type(2) .jp-OutputArea"
SLOW = ("HTML.value +=", "display_handle.update", "clear_output")
SIZE = 10
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


def reply(chunks: int, size: int = SIZE) -> str:
    """Build Markdown of ``chunks * size`` characters."""
    text = "".join(PARAGRAPH.format(n=n) for n in range(chunks * size // 1000 + 1))
    return text[: chunks * size - len(END) - 2] + "\n\n" + END


def measure(lab: LabPage, way: str) -> dict[str, float]:
    """Show the reply in one way and measure it."""
    lab.open("bench", [SETUP, CELL.format(way=WAYS[way]), "print(json.dumps([cpu, seen]))"])
    lab.run(0)
    lab.page.evaluate(WATCH, [OUTPUT, END])
    with lab.counting() as received:
        lab.start(1)
        prompt = lab.cell(1).locator(".jp-InputPrompt")
        lab.eventually(lambda: prompt.inner_text().strip("[]: ").isdigit(), "the end", limit=900)
        if way != "unseen":
            with contextlib.suppress(AssertionError):  # some lose what comes too fast
                lab.eventually(lambda: lab.page.evaluate("() => window.seen.last"), "it", limit=60)
        lab.page.wait_for_timeout(1000)
        size = received()
    shown = lab.page.evaluate("() => window.seen")
    lab.run(2)
    cpu, seen = json.loads(lab.output(2).inner_text())
    return {
        "bytes": size,
        "cpu": cpu,
        "longest": max(shown["tasks"], default=0),
        "blocked": sum(each - 50 for each in shown["tasks"]),
        "first": 1000 * (shown.get("first", float("inf")) - seen["chat:chunk"]),
        "last": 1000 * (shown.get("last", float("inf")) - seen["chat:complete"]),
    }


def print_table(results: dict[str, dict[str, float]], chunks: int) -> None:
    """Print one line for each way."""
    unseen, text = results["unseen"], chunks * SIZE
    print(
        f"{'':22}{'bytes/text':>11}{'CPU us/chunk':>14}{'longest task':>14}"
        f"{'blocked':>10}{'first char':>12}{'last char':>11}"
    )
    for way, found in results.items():
        if way == "unseen":
            continue
        print(
            f"{way:22}{found['bytes'] / text:11.1f}"
            f"{(found['cpu'] - unseen['cpu']) / chunks * 1e6:14.0f}"
            f"{found['longest']:11.0f} ms{found['blocked']:7.0f} ms"
            f"{found['first']:9.0f} ms{found['last']:8.0f} ms"
        )


def main() -> None:
    """Measure every way and print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--chunks", type=int, default=4000)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(WAYS))
    options = parser.parse_args()
    server = ScriptedServer()
    server.add("reply", pieces(reply(options.chunks), SIZE), rate=options.rate)
    results = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        jupyter = LabServer(Path(folder) / "lab", {"SCRIPTED_URL": server.url})
        browser = launch(playwright)
        lab = LabPage(jupyter, browser)
        measure(lab, "mistral_nb")  # JupyterLab loads its parts at first use
        for way in dict.fromkeys(["unseen", *options.only]):
            runs = [measure(lab, way) for _ in range(1 if way in SLOW else options.runs)]
            results[way] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        browser.close()
        jupyter.stop()
    server.stop()
    print(
        f"{options.chunks * SIZE / 1000:g} kB of Markdown in {options.chunks} chunks at "
        f"{options.rate:g} chunks/s, medians of {options.runs} runs (of 1 for {', '.join(SLOW)})\n"
    )
    print_table(results, options.chunks)


if __name__ == "__main__":
    main()
