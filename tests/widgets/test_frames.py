"""Frames: small, numbered, complete."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mistral_nb.errors import InputError, StreamCut
from mistral_nb.events import ChatChunk, ChatComplete, ChatError, Record
from mistral_nb.markdown import render
from mistral_nb.streaming import Reply
from mistral_nb.widgets.frames import Screen, checksum

MARKDOWN = st.text(st.sampled_from("ab \n*_`#-1.>|[]()$\\🙂é"), max_size=120)


def chunk(content: str, kind: Any = "text", **fields: Any) -> ChatChunk:
    return ChatChunk("r", content, 0, kind, **fields)


def end(finish: str = "stop") -> ChatComplete:
    return ChatComplete("r", "", None, finish, Reply(text="", finish_reason=finish, seconds=1.0))


class Page:
    """What the browser makes of frames: the counterpart of `static/stream_view.js`."""

    def __init__(self) -> None:
        self.number = 0
        self.blocks: list[str] = []
        self.end: dict[str, Any] | None = None

    def take(self, frame: dict[str, Any] | None) -> None:
        if frame is None:
            return
        frame = json.loads(json.dumps(frame))
        if frame.get("w"):
            self.blocks = []
        else:
            assert frame["n"] == self.number + 1
        self.number = frame["n"]
        for block, keep, html in frame.get("t", []):
            self.blocks += [""] * (block + 1 - len(self.blocks))
            kept = self.blocks[block].encode("utf-16-le")[: 2 * keep].decode("utf-16-le")
            self.blocks[block] = kept + html
        self.end = frame.get("e", self.end)

    @property
    def html(self) -> str:
        return "".join(self.blocks)


def followed(screen: Screen, records: list[Record]) -> Page:
    """Give the records to the screen one at a time, and each frame to a page."""
    page = Page()
    for record in records:
        screen.take([record])
        page.take(screen.frame())
    return page


@given(st.lists(MARKDOWN, max_size=8))
def test_frames_add_up_to_the_whole_reply(parts: list[str]) -> None:
    """However the text is cut, the page ends with the HTML of the whole, and its checksum."""
    page = followed(Screen("m"), [*map(chunk, parts), end()])
    assert page.html == render("".join(parts))
    assert page.end is not None
    assert page.end["k"] == checksum(page.html)


@given(st.lists(MARKDOWN, min_size=2, max_size=8), st.integers(0, 7))
def test_a_late_page_is_told_the_whole(parts: list[str], late: int) -> None:
    """A page that begins with a whole frame goes on with the next ones as if it saw all."""
    screen = Screen("m")
    early = followed(screen, [*map(chunk, parts[:late])])
    page = Page()
    page.take(screen.whole())
    assert page.html == early.html
    for record in [*map(chunk, parts[late:]), end()]:
        screen.take([record])
        page.take(screen.frame())
    assert page.html == render("".join(parts))


def test_nothing_new_is_no_frame() -> None:
    """Without news there is no frame, and numbers have no gap."""
    screen = Screen("m")
    assert screen.frame() is None
    screen.take([chunk("a")])
    assert (screen.frame() or {})["n"] == 1
    assert screen.frame() is None
    screen.take([chunk("b")])
    assert (screen.frame() or {})["n"] == 2


def test_checksums_count_utf_16_as_browsers_do() -> None:
    """The checksum of characters beyond the BMP is that of their two code units."""
    units = "🙂".encode("utf-16-le")
    a, b = 1, 0
    for byte in units:
        a = (a + byte) % 65521
        b = (b + a) % 65521
    assert checksum("🙂") == b * 65536 + a


def test_tool_pieces_of_one_frame_are_joined() -> None:
    """Many pieces of one call between two frames become one entry, in order."""
    screen = Screen("m")
    screen.take([chunk('{"a"', "tool", tool_name="f"), chunk(": 1", "tool"), chunk("}", "tool")])
    screen.take([chunk("{}", "tool", part=1, tool_name="g")])
    assert (screen.frame() or {})["c"] == [[0, "f", '{"a": 1}'], [1, "g", "{}"]]
    assert screen.whole()["c"] == [[0, "f", '{"a": 1}'], [1, "g", "{}"]]


def test_sources_are_numbered_once() -> None:
    """A source cited twice keeps its number; its mark stands where it is cited."""
    screen = Screen("m")
    screen.take([chunk("a"), chunk("x,y", "reference"), chunk(" b"), chunk("x", "reference")])
    frame = screen.frame() or {}
    assert frame["r"] == [[1, "x"], [2, "y"]]
    mark = '<sup class="mnb-cite">[{}]</sup>'.format
    assert frame["t"] == [[0, 0, f"<p>a{mark(1)}{mark(2)} b{mark(1)}</p>"]]


def test_the_end_is_told_once() -> None:
    """The last frame carries the end; the whole repeats it for late pages."""
    screen = Screen("m")
    screen.take([chunk("a"), end("stopped")])
    assert (screen.frame() or {})["e"]["s"] == "stopped"
    assert screen.frame() is None
    assert screen.whole()["e"]["s"] == "stopped"
    assert screen.whole()["n"] == 1


def test_retry_is_advised_where_it_is_offered() -> None:
    """An error's panel says what to do, and the button is there, only where it may help."""
    partial = Reply(text="")
    for error, offered in ((StreamCut("why"), 1), (InputError("why"), 0)):
        screen = Screen("m")
        screen.take([ChatError("r", error, partial)])
        end = (screen.frame() or {})["e"]
        assert end["r"] == offered
        assert ("Press Retry" in end["x"][-1]) == bool(offered)


def test_a_retry_goes_on_with_the_numbers() -> None:
    """A new screen for the same views numbers its frames after those of the old one."""
    screen = Screen("m", number=7)
    assert screen.whole()["n"] == 7
    screen.take([chunk("a")])
    assert (screen.frame() or {})["n"] == 8
