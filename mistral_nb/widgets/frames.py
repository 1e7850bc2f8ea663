"""What one reply shows so far, and the numbered frames that tell a browser what changed.

The keys of a frame are listed at the top of `static/stream_view.js`. Frames go out on one
channel and each says only what is new; a view that missed one asks for the whole, which is
a frame as well.
"""

from __future__ import annotations

import time
import uuid
import zlib
from typing import TYPE_CHECKING, Any

from mistral_nb.events import ChatChunk, ChatComplete, ChatError
from mistral_nb.markdown import Incremental, cite, render
from mistral_nb.widgets.endings import ending_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mistral_nb.events import Record
    from mistral_nb.markdown import Patch
    from mistral_nb.widgets.endings import Ending

__all__ = ["Area", "Frame", "Screen", "checksum"]

Frame = dict[str, Any]
"""A JSON object with short keys."""


def checksum(html: str) -> int:
    """Return the Adler-32 of the text's UTF-16 code units, as the browser computes it."""
    return zlib.adler32(html.encode("utf-16-le", "surrogatepass"))


class Area:
    """A growing Markdown text and its HTML, block by block."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self._markdown = Incremental()
        self._fed = False

    def feed(self, text: str) -> None:
        """Add to the text."""
        self._markdown.feed(text)
        self._fed = True

    def patches(self, *, last: bool = False) -> list[list[object]]:
        """Return what has changed since the last call: [block, keep, html], ..."""
        if last:
            return self._applied(self._markdown.finish())
        if not self._fed:
            return []
        self._fed = False
        return self._applied(self._markdown.frame())

    def _applied(self, patches: Iterable[Patch]) -> list[list[object]]:
        frame: list[list[object]] = []
        for patch in patches:
            self.blocks += [""] * (patch.block + 1 - len(self.blocks))
            kept = _first_units(self.blocks[patch.block], patch.keep)
            self.blocks[patch.block] = kept + patch.html
            frame.append([patch.block, patch.keep, patch.html])
        return frame

    def whole(self) -> list[list[object]]:
        """Return the patches that make all of it out of nothing."""
        return [[number, 0, html] for number, html in enumerate(self.blocks)]

    @property
    def html(self) -> str:
        """All of it as the browser has it."""
        return "".join(self.blocks)

    @property
    def static_html(self) -> str:
        """All of it for a notebook file, with math as TeX."""
        if "<math" not in self.html:
            return self.html
        return render(self._markdown.text, math="tex")


class Call:
    """A tool call as far as it has come."""

    __slots__ = ("arguments", "name")

    def __init__(self) -> None:
        self.name = ""
        self.arguments = ""


class Screen:
    """Everything a view of one reply shows, grown from the reply's events.

    Args:
        model: Model that was asked.
        number: Number of the last frame that an earlier try sent to the same views.

    Attributes:
        number: Number of the last frame.
        calls: Tool calls in order.
        references: Ids of the sources cited; the first is number 1.
        anchor: Begins the names of its elements, which differ from those of every other reply.
        thought: Seconds of thinking, once it is over.
        ending: How the reply ended; None while it goes on.
    """

    def __init__(self, model: str, number: int = 0) -> None:
        self.model = model
        self.number = number
        self.calls: list[Call] = []
        self.references: list[str] = []
        self.anchor = f"mnb-{uuid.uuid4().hex[:8]}"
        self.thought: float | None = None
        self.ending: Ending | None = None
        self._answer = Area()
        self._thinking = Area()
        self._news: Frame = {}
        self._first_thought: float | None = None

    @property
    def html(self) -> str:
        """The answer as sanitised HTML for a notebook file, with math as TeX."""
        return self._answer.static_html

    @property
    def thinking_html(self) -> str:
        """The thinking, likewise."""
        return self._thinking.static_html

    def take(self, records: Iterable[Record]) -> None:
        """Take in events of the reply, in order."""
        for record in records:
            if isinstance(record, ChatChunk):
                self._take_chunk(record)
            elif isinstance(record, ChatComplete | ChatError):
                self._end(record)

    def _take_chunk(self, chunk: ChatChunk) -> None:
        now = time.monotonic()
        if chunk.kind == "thinking":
            self._first_thought = self._first_thought or now
            self._thinking.feed(chunk.content)
            return
        self._thinking_over(now)
        if chunk.kind == "text":
            self._answer.feed(chunk.content)
        elif chunk.kind == "tool":
            self._take_call(chunk)
        else:
            self._cite(chunk.content.split(","))

    def _thinking_over(self, now: float) -> None:
        if self._first_thought is not None and self.thought is None:
            self.thought = self._news["s"] = round(now - self._first_thought, 1)

    def _take_call(self, chunk: ChatChunk) -> None:
        while len(self.calls) <= chunk.part:
            self.calls.append(Call())
        call = self.calls[chunk.part]
        call.name = call.name or chunk.tool_name
        call.arguments += chunk.content
        pieces = self._news.setdefault("c", [])
        if pieces and pieces[-1][0] == chunk.part and not chunk.tool_name:
            pieces[-1][2] += chunk.content
        else:
            pieces.append([chunk.part, chunk.tool_name, chunk.content])

    def _cite(self, ids: list[str]) -> None:
        """Put numbered marks into the answer where sources are cited."""
        for source in ids:
            if source not in self.references:
                self.references.append(source)
                self._news.setdefault("r", []).append([len(self.references), source])
            self._answer.feed(cite(self.references.index(source) + 1))

    def _end(self, record: ChatComplete | ChatError) -> None:
        self._thinking_over(time.monotonic())
        self.ending = ending_of(record)
        self._news["e"] = {}

    def frame(self) -> Frame | None:
        """Return the next frame, or None if nothing has changed since the last."""
        frame, self._news = self._news, {}
        last = "e" in frame
        if answer := self._answer.patches(last=last):
            frame["t"] = answer
        if thinking := self._thinking.patches(last=last):
            frame["h"] = thinking
        if not frame:
            return None
        self.number += 1
        frame["n"] = self.number
        if last:
            frame["e"] = self._end_frame()
        return frame

    def whole(self) -> Frame:
        """Return all there is as the next frame, for a view that has nothing or missed some."""
        self.frame()
        frame: Frame = {"n": self.number, "w": 1, "m": self.model}
        frame["t"] = self._answer.whole()
        frame["h"] = self._thinking.whole()
        frame["c"] = [[part, call.name, call.arguments] for part, call in enumerate(self.calls)]
        frame["r"] = [[number, source] for number, source in enumerate(self.references, start=1)]
        if self._first_thought is not None:
            frame["hs"] = round(time.monotonic() - self._first_thought, 1)
        if self.thought is not None:
            frame["s"] = self.thought
        if self.ending is not None:
            frame["e"] = self._end_frame()
        return frame

    def _end_frame(self) -> Frame:
        assert self.ending is not None
        end: Frame = {"s": self.ending.state, "f": self.ending.footer}
        end["k"] = checksum(self._answer.html + self._thinking.html)
        if self.ending.panel:
            advice = ["Press Retry, or run the cell again."] * self.ending.may_retry
            end["x"] = [*self.ending.panel, *advice]
            end["r"] = int(self.ending.may_retry)
        return end


def _first_units(text: str, count: int) -> str:
    """Return the first ``count`` UTF-16 code units, as JavaScript counts characters."""
    if text.isascii():
        return text[:count]
    return text.encode("utf-16-le", "surrogatepass")[: 2 * count].decode(
        "utf-16-le", "surrogatepass"
    )
