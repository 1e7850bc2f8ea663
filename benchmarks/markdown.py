"""What incremental Markdown costs: kernel time, bytes to the browser, and how both grow.

Run it with `python benchmarks/markdown.py`. Times are CPU seconds of this process.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass

from mistral_nb.markdown import Incremental, render

CHUNK = 4
"""Characters of a chunk, about a token."""

CHUNKS_PER_FRAME = 20
"""At 500 chunks a second, a frame every 40 ms."""

WORDS = (
    "The **quick** brown fox jumps over the `lazy` dog, and [a link](https://example.org/x) leads "
    "away from it. It was *really* quick; see $x^2 + y^2$ for a proof. "
)


def mixed(size: int) -> str:
    """Write what a model writes: paragraphs, headings, lists, code, tables, quotes, steps."""
    chance = random.Random(1)
    parts: list[str] = []
    length = number = 0
    while length < size:
        number += 1
        kind = chance.random()
        count = chance.randint(3, 10)
        if kind < 0.5:
            part = WORDS * chance.randint(1, 4)
        elif kind < 0.6:
            part = f"## Heading {number}"
        elif kind < 0.75:
            part = "".join(f"- item **{n}** with some words and `code`\n" for n in range(count))
        elif kind < 0.87:
            body = "".join(
                f"def f{n}(x: int) -> str:\n    return 'v' * {n}\n" for n in range(count)
            )
            part = f"```python\n{body}```"
        elif kind < 0.95:
            rows = "".join(f"| {n} | *x* | some text {n} |\n" for n in range(count))
            part = f"| a | b | c |\n|---|:-:|--:|\n{rows}"
        else:
            part = "> quoted words\n> and more\n\n1. one\n   ```sh\n   ls -l\n   ```\n2. two"
        parts.append(part + "\n\n")
        length += len(parts[-1])
    return "".join(parts)[:size]


def repeated(piece: str, head: str = "") -> object:
    return lambda size: head + piece * (size // len(piece))


SHAPES = {
    "one list": repeated("- item with **some** words\n"),
    "one nested list": repeated("  - item with **some** words\n", "- top\n"),
    "one numbered list with code": repeated("1. do\n\n   ```sh\n   ls -l /tmp\n   ```\n\n"),
    "one table": repeated("| some **cell** | other cell |\n", "| a | b |\n|---|---|\n"),
    "one open fence": repeated("x = compute(x)  # again\n", "```python\n"),
    "one quote": repeated("> Some quoted words go on.\n>\n"),
    "one paragraph": repeated(WORDS),
    "one indented code": repeated("    x = compute(x)\n"),
}


@dataclass
class Cost:
    text: int
    html: int
    patches: int
    seconds: float
    frames: list[float]

    def at(self, share: float) -> float:
        """Milliseconds of a frame, at some share of all frames."""
        return sorted(self.frames)[int(share * (len(self.frames) - 1))] * 1000


def stream(text: str) -> Cost:
    """Stream a text as a reply arrives; patches are counted as compact JSON in UTF-8."""
    incremental = Incremental()
    sent = 0
    frames: list[float] = []
    begin = time.process_time()
    for at in range(0, len(text), CHUNK):
        incremental.feed(text[at : at + CHUNK])
        if at // CHUNK % CHUNKS_PER_FRAME == CHUNKS_PER_FRAME - 1:
            start = time.process_time()
            patches = incremental.frame()
            frames.append(time.process_time() - start)
            sent += weight(patches)
    sent += weight(incremental.finish())
    seconds = time.process_time() - begin
    assert incremental.html == render(text)
    return Cost(len(text.encode()), len(incremental.html.encode()), sent, seconds, frames)


def weight(patches: object) -> int:
    rows = [[patch.block, patch.keep, patch.html] for patch in patches]
    return len(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()) if rows else 0


def whole_every_frame(text: str) -> Cost:
    """What it would cost to render all that has arrived for every frame, and send it."""
    sent = 0
    frames: list[float] = []
    step = CHUNK * CHUNKS_PER_FRAME
    begin = time.process_time()
    html = ""
    for at in range(step, len(text) + step, step):
        start = time.process_time()
        html = render(text[:at])
        frames.append(time.process_time() - start)
        sent += len(html.encode())
    seconds = time.process_time() - begin
    return Cost(len(text.encode()), len(html.encode()), sent, seconds, frames)


HEADER = (
    f"{'text':<30}{'kB':>6}{'ms/kB':>8}{'us/chunk':>10}{'bytes/text':>12}{'html/text':>11}"
    f"{'frame ms p50':>14}{'p99':>7}{'max':>7}"
)


def row(name: str, cost: Cost) -> None:
    print(
        f"{name:<30}{cost.text / 1000:>6.0f}{cost.seconds * 1e6 / cost.text:>8.2f}"
        f"{cost.seconds * 1e6 / cost.text * CHUNK:>10.1f}{cost.patches / cost.text:>12.2f}"
        f"{cost.html / cost.text:>11.2f}{cost.at(0.5):>14.2f}{cost.at(0.99):>7.1f}"
        f"{cost.at(1):>7.1f}",
        flush=True,
    )


def main() -> None:
    render("```python\nx\n```\n\n$x$")  # Pygments and the math converter load themselves here
    print(f"A frame every {CHUNKS_PER_FRAME} chunks of {CHUNK} characters.\n\n{HEADER}")
    row("mixed, whole every frame", whole_every_frame(mixed(40_000)))
    for size in (40_000, 250_000, 500_000, 1_000_000):
        row("mixed", stream(mixed(size)))
    for name, shape in SHAPES.items():
        for size in (40_000, 160_000):
            row(name, stream(shape(size)))


if __name__ == "__main__":
    main()
