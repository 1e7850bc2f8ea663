"""The frames of a chat panel, for conversations as they are: with a simulator, over HTTP."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb.agents.consent import Consent
from mistral_nb.agents.entries import Entry, Media, Turn
from mistral_nb.agents.opening import Conversations
from mistral_nb.events import EventBus
from mistral_nb.portal import shared
from mistral_nb.replies import Usage
from mistral_nb.widgets.chat_screen import RESULT_LIMIT, ChatScreen, TurnScreen, pretty, usage_line

if TYPE_CHECKING:
    from mistral_nb.agents.conversation import Conversation
    from mistral_nb.client import Connection


@pytest.fixture
def chat(connection: Connection) -> Conversation:
    """A conversation with a model."""
    return Conversations(connection, EventBus(connection.portal)).open(name="notes")


def answering(text: str, state: Any = "arriving", status: Any = "running", **more: Any) -> Turn:
    """Return a turn with a question and what has come of its answer."""
    asked = Entry("message.input", "1", {"content": "Why?"})
    answer = Entry("message.output", "2", {"content": text}, state)
    return Turn("turn-1", "notes", None, (asked, answer), status, **more)


def applied(blocks: list[str], changes: dict[str, Any], place: int = 1, kind: int = 0) -> list[str]:
    """Do to a list of blocks what the browser does."""
    for at, which, patches in changes.get("p", ()):
        for block, keep, html in patches if (at, which) == (place, kind) else ():
            blocks += [""] * (block + 1 - len(blocks))
            blocks[block] = blocks[block][:keep] + html
    return blocks


def test_a_conversation_that_has_not_begun(chat: Conversation) -> None:
    """The first frame tells its name and model; then there is nothing to tell."""
    screen = ChatScreen(chat)
    frame = screen.frame()
    assert frame is not None
    assert frame["n"] == 1
    assert frame["a"]["name"] == "notes"
    assert frame["a"]["who"] == chat.model
    assert "t" not in frame
    assert screen.frame() is None


def test_a_frame_tells_only_what_is_new(chat: Conversation) -> None:
    """After a turn, a frame has its texts; after the next, only those of the next."""
    screen = ChatScreen(chat)
    chat.send("Reply with exactly: one").result(10)
    first = screen.frame()
    chat.send("Reply with exactly: two").result(10)
    second = screen.frame()
    assert first is not None
    assert second is not None
    assert (first["n"], second["n"]) == (1, 2)
    one, two = (turn.id for turn in chat.turns)
    assert first["o"] == [one]
    assert second["o"] == [one, two]
    assert list(second["t"]) == [two]
    assert "".join(applied([], second["t"][two])) == "<p>two</p>"
    assert screen.frame() is None


def test_the_whole_is_the_sum_of_the_frames(chat: Conversation) -> None:
    """Who missed frames gets from the whole what the frames would have given."""
    screen = ChatScreen(chat)
    handle = chat.send("Explain tides")
    seen: list[str] = []
    for _ in handle:
        frame = screen.frame() or {}
        applied(seen, frame.get("t", {}).get(handle.request_id, {}))
    handle.result(10)
    applied(seen, (screen.frame() or {}).get("t", {}).get(handle.request_id, {}))
    whole = screen.whole()
    assert whole["w"] == 1
    assert whole["n"] == screen.number
    assert applied([], whole["t"][handle.request_id]) == seen
    assert ChatScreen(chat).whole()["t"] == whole["t"]


def test_branches_are_told(chat: Conversation) -> None:
    """A version of a turn takes its place, and both know of each other."""
    screen = ChatScreen(chat)
    first = chat.send("Reply with exactly: one").result(10)
    screen.frame()
    second = chat.edit(first, "Reply with exactly: two").result(10)
    frame = screen.frame()
    assert frame is not None
    assert frame["o"] == [second.id]
    assert frame["t"][second.id]["h"]["b"] == [first.id, second.id]
    chat.switch(first)
    back = screen.frame()
    assert back is not None
    assert back["o"] == [first.id]
    assert back["t"][first.id]["h"]["b"] == [first.id, second.id]
    chat.clear()
    assert (screen.frame() or {})["o"] == []


def test_text_grows_and_is_sent_once() -> None:
    """Each frame holds the new words only, whatever came before them."""
    screen = TurnScreen()
    words = "One paragraph.\n\nAnother with **bold** words.\n\n- and\n- a list\n"
    blocks: list[str] = []
    sizes = []
    for end in range(1, len(words) + 1):
        changes = screen.update(answering(words[:end]), [], {})
        applied(blocks, changes)
        sizes.append(sum(len(p[2]) for _, _, patches in changes.get("p", ()) for p in patches))
    applied(blocks, screen.update(answering(words, "done", "done"), [], {}))
    html = "".join(blocks)
    assert "<strong>bold</strong>" in html
    assert "<li>a list</li>" in html
    assert sum(sizes) < 10 * len(html)
    assert screen.settled


def test_text_taken_back() -> None:
    """When the server begins an answer anew, nothing of the first one stays."""
    screen = TurnScreen()
    blocks = applied([], screen.update(answering("First try.\n\nLong."), [], {}))
    applied(blocks, screen.update(answering("Second"), [], {}))
    applied(blocks, screen.update(answering("Second", "done", "done"), [], {}))
    assert "".join(blocks) == "<p>Second</p>"
    assert screen.html(1, 0) == "<p>Second</p>"


def test_text_after_the_end() -> None:
    """A text that grows once more after it was finished is shown as it is then."""
    screen = TurnScreen()
    blocks = applied([], screen.update(answering("One", "done"), [], {}))
    applied(blocks, screen.update(answering("One, two", "done"), [], {}))
    assert "".join(blocks) == "<p>One, two</p>"


def test_nothing_changes_nothing() -> None:
    """The same turn again makes no changes."""
    screen = TurnScreen()
    turn = answering("Words", "done", "done", usage=Usage(3, 2, 5), seconds=1.0, model="m")
    assert screen.update(turn, [], {})["h"]["f"] == "m · 3 tokens in, 2 out · 1.0 s"
    assert screen.update(turn, [], {}) == {}


def call(state: Any, result: Entry | None = None, **data: Any) -> dict[str, Any]:
    """Return the card of a tool call."""
    wire = {"tool_call_id": "c", "name": "add", "arguments": '{"a": 2}', **data}
    entries = [Entry("function.call", "1", wire, state, 1.26)]
    screen = TurnScreen()
    changes = screen.update(
        replace(answering(""), entries=(*entries, *filter(None, [result]))), [], {}
    )
    ((_, card),) = changes["e"]
    return card


def test_cards_of_calls() -> None:
    """A call's card has its name, arguments, state and seconds, and its result, cut if long."""
    waiting = call("waiting")
    assert (waiting["k"], waiting["c"], waiting["s"]) == ("call", "add", "waiting")
    assert waiting["j"] == '{\n  "a": 2\n}'
    long = Entry("function.result", "2", {"tool_call_id": "c", "result": "x" * 10_000_000})
    done = call("done", long)
    assert done["z"] == 1.3
    assert len(done["x"]) == RESULT_LIMIT
    assert done["m"] == 10_000_000 - RESULT_LIMIT
    assert call("done", changed_arguments={"a": 9})["j"] == '{\n  "a": 9\n}'


def test_a_call_that_was_let_through_is_approved() -> None:
    """It ran on the server, which tells of that in an entry of its own; it is not done by that."""
    assert call("done", confirmation_status="allowed")["s"] == "allowed"
    assert call("denied", confirmation_status="denied")["s"] == "denied"


def test_calls_with_one_id_have_their_own_results() -> None:
    """A later response may use an id again; only the call that waits has the buttons."""
    wire = {"tool_call_id": "c", "name": "add", "arguments": "{}"}
    first = Entry("function.call", "1", wire, "done")
    result = Entry("function.result", "2", {"tool_call_id": "c", "result": "4"})
    second = Entry("function.call", "3", wire, "waiting")
    turn = replace(answering(""), entries=(first, result, second))
    consent = Consent(shared(), "turn-1", "c", "add", {}, None)
    cards = dict(TurnScreen().update(turn, [], {"c": consent})["e"])
    assert [(cards[place]["x"], "w" in cards[place]) for place in (0, 2)] == [
        ("4", False),
        ("", True),
    ]


def test_pictures_of_tools() -> None:
    """Pictures are sent as they are; what is none, or too large, as the words for it."""
    data = {"tool_call_id": "c", "result": "a plot"}
    media = (Media("image/png", b"png", "plot"), Media("text/html", b"<b>", "page"))
    card = call("done", Entry("function.result", "2", data, media=media))
    assert card["g"] == [["data:image/png;base64,cG5n", "plot"], ["", "page"]]
    huge = (Media("image/png", b"0" * 3_000_001),)
    assert call("done", Entry("function.result", "2", data, media=huge))["g"][0][0] == ""


def test_halves_of_characters() -> None:
    """A text that no message can hold is mended, wherever it stands."""
    half = "\ud83d"
    card = call("done", Entry("function.result", "2", {"tool_call_id": "c", "result": half}))
    assert card["x"] == "?"
    head = TurnScreen().update(answering("", error=half, model=half), [], {})["h"]
    assert head["x"] == "?"
    entry = Entry(half, "1", {half: [half]})
    changes = TurnScreen().update(replace(answering(""), entries=(entry,)), [], {})
    json.dumps(changes, ensure_ascii=False).encode()


def test_entries_of_unknown_types() -> None:
    """What is not known yet is shown with its type and its data."""
    entry = Entry("future.event", "1", {"surprise": [1]})
    changes = TurnScreen().update(replace(answering(""), entries=(entry,)), [], {})
    assert changes["e"] == [
        [0, {"k": "other", "c": "future.event", "j": pretty({"surprise": [1]})}]
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), ("plain", "plain"), ({"a": 1}, '{\n  "a": 1\n}'), ({1, 2} - {2}, "{1}")],
)
def test_pretty(value: object, text: str) -> None:
    """JSON is laid out, a text stays, and what is no JSON is written somehow."""
    assert pretty(value) == text


def test_usage_line() -> None:
    """Tokens are told where they are known."""
    assert usage_line(None) == ""
    assert usage_line(Usage(1200, 30, 1230)) == "1,200 tokens in, 30 out"
