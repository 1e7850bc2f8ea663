"""The Markdown that the simulated model writes when it is asked to explain something."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mistral_nb.simulator.words import STOP, chance

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["essay", "thoughts", "topic"]

_LEAD = re.compile(
    r"^(?:please\s+|can you\s+|could you\s+)*"
    r"(?:explain|describe|tell me about|write (?:a|an)?\s*\w* ?(?:about|on)|what (?:is|are)|"
    r"how (?:do|does|to|can)|why (?:is|are|do|does)|give me|introduce|summari[sz]e|teach me)\s+",
    re.IGNORECASE,
)

_OPENINGS = (
    "**{Topic}** looks simple from outside and repays a second look. The short version first.",
    "In one sentence: **{topic}** is a way to get more done while waiting less.",
    "Most people meet **{topic}** by accident. It helps to know its three parts by name.",
)
_POINTS = (
    "**Start small.** Try {topic} on one example whose result you already know.",
    "**Name the parts.** Half of the trouble with {topic} comes from one word used for two things.",
    "**Watch it run.** Print what happens, in order, before you make {topic} faster.",
    "**Measure.** A guess about {topic} is right about half of the time; a number settles it.",
    "**Stop cleanly.** Decide early what should happen to {topic} when someone interrupts it.",
    "**Keep a record.** Write down what was asked and what came back, so nothing is done twice.",
)
_ROWS = (
    ("one at a time", "easy to follow", "slow when waiting"),
    ("side by side", "fast for many small tasks", "needs a limit"),
    ("in the background", "the notebook stays free", "results come later"),
    ("in one large batch", "cheapest", "no result until it ends"),
)
_CLOSINGS = (
    "> Rule of thumb: make it work, make it clear, and only then make it fast.",
    "> If you remember one thing about {topic}: the waiting is the part worth removing.",
    "> Next step: change one line of the example and predict the output before you run it.",
)
_PICTURE = (
    "Think of a kitchen. One cook can watch three pots, because pots mostly *wait*. The same "
    "holds for {topic}: the work is short, the waiting is long, and the art lies in doing "
    "something useful in between."
)
_TIMES = (
    "Both steps wait at the same time, so the whole takes `0.2` seconds and not `0.3`. With $n$ "
    "tasks of $t$ seconds each, that is about $t$ instead of $n \\cdot t$."
)
_CODE = """```python
import asyncio


async def step(name: str, seconds: float) -> str:
    await asyncio.sleep(seconds)  # other steps go on meanwhile
    return f"{name} is done"


async def main() -> None:
    results = await asyncio.gather(step("first", 0.2), step("second", 0.1))
    print(results)  # ['first is done', 'second is done']
```"""


def topic(prompt: str) -> str:
    """Return what a prompt asks about, in a few words."""
    first = re.split(r"[.?!\n]", prompt.strip(), maxsplit=1)[0]
    rest = _LEAD.sub("", first).strip(" :,;\"'`") or "this"
    words = rest.split()[:7]
    while len(words) > 1 and words[-1].lower() in STOP:
        words.pop()
    return re.sub(r"[*_`|<>\[\]#$\\]", "", " ".join(words)) or "this"


def essay(prompt: str, seed: object) -> str:
    """Write a few hundred words with headings, a list, code, a table and a quotation.

    Args:
        prompt: What was asked; its subject is woven in.
        seed: Same seed and prompt, same essay.
    """
    about = topic(prompt)
    lower = about if about[:2].isupper() else about[:1].lower() + about[1:]

    def said(text: str) -> str:
        return text.format(topic=lower, Topic=about[:1].upper() + about[1:])

    def pick(name: str, options: Sequence[str]) -> str:
        return said(options[int(chance(seed, prompt, name) * len(options))])

    order = sorted(_POINTS, key=lambda point: chance(seed, prompt, point))
    points = "\n".join(f"{number}. {said(point)}" for number, point in enumerate(order[:4], 1))
    rows = "\n".join(f"| {a} | {b} | {c} |" for a, b, c in _ROWS)
    return "\n\n".join(
        (
            f"## {about[:1].upper() + about[1:]}",
            pick("opening", _OPENINGS),
            said(_PICTURE),
            f"### How to go about it\n\n{points}",
            f"### A small example\n\n{_CODE}",
            _TIMES,
            f"### Which way to choose\n\n| way | good at | price |\n|---|---|---|\n{rows}",
            pick("closing", _CLOSINGS),
        )
    )


def thoughts(prompt: str, answer: str) -> str:
    """Write what a reasoning model thinks before it answers."""
    asked = " ".join(prompt.split())[:80]
    return (
        f'The user is asking: "{asked}". Let me go through it step by step. '
        f"First, what is wanted: something about {topic(prompt)}. "
        f"Then, what is known, and what would be a useful form for the answer. "
        f"I think about {max(1, len(answer.split()))} words will do."
    )
