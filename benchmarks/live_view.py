"""The live view against what people use instead: bytes, CPU, long tasks, delays, in one run.

    python benchmarks/live_view.py [--chunks 4000] [--rate 500] [--runs 3] [--only NAME ...]
    python benchmarks/live_view.py --growth     # the live view alone, up to 1 MB

A real JupyterLab in headless Chromium shows the same Markdown reply in each way; chatlas and
Panel take part where they are installed (`pip install chatlas openai panel`).

Each is measured in a new kernel, after a short reply in a cell before it.

- Bytes are those of every websocket message to the browser while the cell runs, envelopes
  and the final output included.
- CPU is the kernel's, less that of receiving the same reply unseen by the same client.
- The longest task is the longest that a PerformanceObserver reports on the main thread, from
  the click to a second after the end; the row "unseen" shows what JupyterLab itself does.
- Stop is from the press of the button to the end of the connection, seen by the server.
- Delays are from the moment the server sends a chunk to the screen refresh that shows it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.lab import ASK, LabPage, LabServer, launch, pieces
from tests.browser.scripted import Script, ScriptedServer

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
import html, time, anywidget, ipywidgets
from IPython.display import Markdown, clear_output, display
def unseen(): return session.stream('x', model='reply', show=False)
session.stream('x', model='first').result()  # the SDK and the widget manager load themselves
"""
PEERS = {
    "chatlas": {
        "chatlas unseen": "chat.chat('x', echo='none')",
        "chatlas": "chat.chat('x', echo='output')",
    },
    "panel": {
        "Panel's chat feed": """\
feed, message = panel.chat.ChatFeed(), None
display(feed)
async for chunk in unseen(): message = feed.stream(chunk, message=message)""",
    },
}
PEERS_SETUP = {
    "chatlas": """
import chatlas
url = os.environ['SCRIPTED_URL'] + '/v1'
chat = chatlas.ChatMistral(base_url=url, model='reply', api_key='k')
""",
    "panel": "\nimport panel\npanel.extension(inline=True)\n",
}
CELL = """
cpu = time.process_time()
{way}
cpu = time.process_time() - cpu
with open(os.environ["CPU_FILE"], "w") as file: file.write(str(cpu))
"""
WATCH = """([selector, first, last]) => {
    const seen = window.seen = {tasks: []};
    new PerformanceObserver(list => seen.tasks.push(...list.getEntries().map(e => e.duration)))
        .observe({type: "longtask"});
    const inShadows = node => [...node.querySelectorAll("*")].filter(each => each.shadowRoot)
        .map(each => textOf(each.shadowRoot)).join("");
    const textOf = node => node.textContent + (inShadows(node));
    const look = () => {
        const output = document.querySelector(selector);
        const at = Date.now() / 1000;
        let text = (output?.querySelector("[role=log]") ?? output)?.textContent ?? "";
        if (output?.querySelector("[data-root-id]")) text = textOf(output); // Panel
        else text = text.slice(0, 2000) + text.slice(-2000);
        if (!seen.first && text.includes(first)) seen.first = at;
        if (!seen.last && text.includes(last)) seen.last = at;
        else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""
OUTPUT = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell:nth-of-type(2) .jp-OutputArea"
SLOW = ("HTML.value +=", "display_handle.update", "clear_output", "chatlas", "Panel's chat feed")
GROWTH = (4_000, 25_000, 100_000)
"""Chunks of the replies that show how the live view's cost grows: 40 kB to 1 MB."""
SIZE = 10
BEGIN = "0. W"
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


class Bench:
    """Shows one reply after another in a real JupyterLab.

    Args:
        folder: Where JupyterLab's files go.
        playwright: Starts the browser.
        rate: Chunks a second.
    """

    def __init__(self, folder: Path, playwright: object, rate: float) -> None:
        self.rate = rate
        self._count = 0
        self._kernel = ""
        self.server = ScriptedServer()
        self.server.add("first", [reply(200)])
        self.peers = [name for name in PEERS if importlib.util.find_spec(name)]
        self.ways = WAYS | {way: cell for name in self.peers for way, cell in PEERS[name].items()}
        self._setup = SETUP + "".join(PEERS_SETUP[name] for name in self.peers)
        self._cpu = folder / "cpu"
        env = {"SCRIPTED_URL": self.server.url, "CPU_FILE": str(self._cpu)}
        self._jupyter = LabServer(folder / "lab", env)
        self._browser = launch(playwright)
        self._lab = LabPage(self._jupyter, self._browser)

    def close(self) -> None:
        """End the browser, JupyterLab and the server."""
        self._browser.close()
        self._jupyter.stop()
        self.server.stop()

    def _open(self, cell: str) -> LabPage:
        """Open a notebook of two cells in a kernel of its own, and run the first."""
        # With Panel's extension in the page, JupyterLab shows widgets in the first notebook of
        # a kernel only.
        self._count += 1
        kernel = f"bench-{self._count}"
        self._lab.open("bench", [self._setup, cell], kernel=kernel)
        if self._kernel:  # that of the notebook before, which is closed now
            self._jupyter.api("DELETE", f"kernels/{self._kernel}")
        self._kernel = self._jupyter.kernel(kernel)
        self._lab.run(0)
        return self._lab

    def measure(self, way: str, chunks: int) -> dict[str, float]:
        """Show a reply in one way and measure it."""
        script = self.server.add("reply", pieces(reply(chunks), SIZE), rate=self.rate)
        self._cpu.unlink(missing_ok=True)
        lab = self._open(CELL.format(way=self.ways[way]))
        lab.page.evaluate(WATCH, [OUTPUT, BEGIN, END])
        with lab.counting() as received:
            lab.start(1)
            # Not by the prompt: JupyterLab may never hear of the end of a cell that floods it.
            lab.eventually(self._ended, "the cell ends", limit=300)
            if not way.endswith("unseen"):
                with contextlib.suppress(AssertionError):  # some lose what comes too fast
                    lab.eventually(lambda: lab.page.evaluate("seen.last"), "it", limit=60)
            lab.page.wait_for_timeout(1000)
            size = received()
        shown = lab.page.evaluate("seen")
        return {
            "bytes": size / (chunks * SIZE),
            "cpu": float(self._cpu.read_text()) / chunks * 1e6,
            **screen_times(script, shown),
        }

    def _ended(self) -> bool:
        return self._cpu.exists() and self._cpu.stat().st_size > 0

    def stop_delay(self) -> float:
        """Press Stop in a blocking cell; return milliseconds until the server is left alone."""
        script = self.server.add("endless", ["Words. "], hold=True)
        lab = self._open("session.stream('x', model='endless').result()")
        lab.start(1)
        lab.view(1).get_by_text("Words.").wait_for()
        lab.page.wait_for_timeout(500)
        pressed = time.monotonic()
        lab.page.evaluate("() => document.querySelector('.mnb-stop').click()")
        lab.wait_done(1)
        return 1000 * (script.closed_at[0] - pressed)


def screen_times(script: Script, shown: dict[str, float | list[float]]) -> dict[str, float]:
    """Return milliseconds: the longest main-thread task and the delays of first and last."""
    never = float("inf")
    return {
        "longest": max(shown["tasks"], default=0),
        "first": 1000 * (shown.get("first", never) - script.first_at),
        "last": 1000 * (shown.get("last", never) - script.last_at),
    }


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def print_row(name: str, found: dict[str, float], unseen: dict[str, float]) -> None:
    """Print one line of the table."""
    longest = f"{found['longest']:.0f} ms" if found["longest"] else "< 50 ms"
    print(
        f"{name:24}{found['bytes']:11.1f}{found['cpu'] - unseen['cpu']:14.0f}{longest:>14}"
        f"{found['first']:9.0f} ms{found['last']:8.0f} ms",
        flush=True,
    )


def main() -> None:
    """Measure every way, or the growth of one, and print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--chunks", type=int, default=4000)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--growth", action="store_true")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as playwright,
        contextlib.closing(Bench(Path(folder), playwright, options.rate)) as bench,
    ):
        show(bench, options)


def show(bench: Bench, options: argparse.Namespace) -> None:
    """Print the table."""
    print(
        f"{options.chunks * SIZE / 1000:g} kB of Markdown in {options.chunks} chunks at "
        f"{options.rate:g} chunks/s, medians of {options.runs} runs (of 1 for the slow ones)\n"
    )
    print(
        f"{'':24}{'bytes/text':>11}{'CPU us/chunk':>14}{'longest task':>14}"
        f"{'first char':>12}{'last char':>11}"
    )
    runs = range(options.runs)
    stopping = statistics.median(bench.stop_delay() for _ in runs)
    unseen = medians([bench.measure("unseen", options.chunks) for _ in runs])
    if options.growth:
        for chunks in GROWTH:
            found = bench.measure("mistral_nb", chunks)
            print_row(f"mistral_nb, {chunks * SIZE / 1000:g} kB", found, unseen)
    else:
        print_row("unseen", unseen, unseen)
        compare(bench, options.only or list(bench.ways), options.chunks, runs, unseen)
    print(f"\nStop in a blocking cell: the connection is closed after {stopping:.0f} ms")


def compare(
    bench: Bench, ways: list[str], chunks: int, runs: range, unseen: dict[str, float]
) -> None:
    """Print a line for each way to show a reply."""
    for way in ways:
        if way.endswith("unseen"):
            continue
        found = medians([bench.measure(way, chunks) for _ in runs[: 1 if way in SLOW else None]])
        own = f"{way} unseen"
        print_row(way, found, bench.measure(own, chunks) if own in bench.ways else unseen)


if __name__ == "__main__":
    main()
