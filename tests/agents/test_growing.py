"""Events become entries: every shape of facts, missing fields, and the unknown."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistral_nb.agents import growing, remote
from mistral_nb.agents.entries import Entry, Turn
from mistral_nb.agents.growing import GrowingTurn, RefusedError
from mistral_nb.replies import Piece

STARTED = {"type": "conversation.response.started", "conversation_id": "conv_1"}
DONE = {
    "type": "conversation.response.done",
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
}


def delta(content: Any, name: str = "msg_1", **more: Any) -> dict:
    return {"type": "message.output.delta", "id": name, "content": content, **more}


def call(arguments: str, name: str = "f", call_id: str = "c1", **more: Any) -> dict:
    fields = {"id": f"fc_{call_id}", "name": name, "tool_call_id": call_id, "arguments": arguments}
    return {"type": "function.call.delta", **fields, **more}


def execution(what: str, **more: Any) -> dict:
    return {"type": f"tool.execution.{what}", "id": "tool_exec_1", "name": "web_search", **more}


def grow(*events: dict) -> GrowingTurn:
    turn = GrowingTurn()
    turn.begin_round()
    for event in events:
        list(turn.take(event))
    return turn


def only(turn: GrowingTurn) -> Any:
    (entry,) = turn.entries
    return entry


def test_started_names_the_conversation() -> None:
    """The server's id is known from the first event on; it is no entry."""
    turn = grow(STARTED)
    assert (turn.remote, turn.entries, turn.complete) == ("conv_1", (), False)


def test_done_ends_messages_and_counts_tokens() -> None:
    """Usage adds up over rounds, and a message that was arriving is done."""
    turn = grow(STARTED, delta("a"))
    assert only(turn).state == "arriving"
    changed = list(turn.take(DONE))
    assert (changed, only(turn).state, turn.complete) == ([0], "done", True)
    turn.begin_round()
    assert not turn.complete
    list(turn.take(DONE))
    assert turn.usage is not None
    assert turn.usage.total_tokens == 14


def test_done_without_usage_is_done() -> None:
    """A missing or null usage is no failure."""
    for event in ({"type": DONE["type"]}, {**DONE, "usage": None}):
        turn = grow(event)
        assert (turn.complete, turn.usage) == (True, None)


def test_an_error_says_message_and_code() -> None:
    """The response's own error ends the turn with its words."""
    with pytest.raises(RefusedError) as caught:
        grow({"type": "conversation.response.error", "message": "Overloaded", "code": 1000})
    assert (caught.value.message, caught.value.code) == ("Overloaded", 1000)
    with pytest.raises(RefusedError):
        grow({"type": "conversation.response.error"})


def test_a_message_grows_by_its_id() -> None:
    """Strings and text chunks with one id are one message; another id begins another."""
    turn = grow(delta("Hel"), delta({"type": "text", "text": "lo"}), delta("Bye", "msg_2"))
    assert [entry.text for entry in turn.entries] == ["Hello", "Bye"]
    assert turn.entries[0].data["content"] == "Hello"


def test_a_later_response_may_use_an_id_again() -> None:
    """Some models count their calls anew each time: it is another call, with a result of its own."""
    turn = GrowingTurn()
    for number in range(2):
        turn.begin_round()
        list(turn.take(call(f'{{"n":{number}}}', call_id="call_0")))
        assert len(turn.round_calls()) == 1
        turn.put("function.result", {"tool_call_id": "call_0", "result": f"r{number}"})
    uses = Turn("t", "c", entries=turn.entries).tool_calls
    assert [(use.arguments, use.text) for use in uses] == [({"n": 0}, "r0"), ({"n": 1}, "r1")]
    assert len(remote.as_inputs(turn.entries)) == 4


def test_a_call_without_an_id_gets_one() -> None:
    """Two of them are two calls, whose results and consents are told apart."""
    events = [call("{}", call_id="") | {"id": f"fc_{number}"} for number in range(2)]
    bare = [{k: v for k, v in event.items() if k != "tool_call_id"} for event in events]
    for turn in (grow(*events), grow(*bare)):
        assert [entry.call_id for entry in turn.entries] == ["fc_0", "fc_1"]


def test_arguments_in_many_pieces_are_not_read_anew_for_each() -> None:
    """Half a megabyte of them in pieces: their text is put together once, when it is asked for."""
    turn = GrowingTurn()
    turn.begin_round()
    for _ in range(50_000):
        list(turn.take(call("0123456789")))
    assert turn._parts[0]._frozen is None
    assert len(turn.entry(0).data["arguments"]) == 500_000


def test_who_reads_meanwhile_leaves_nothing_old_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader on another thread, overtaken while it reads, has what was; the next has what is."""
    turn = grow(STARTED, delta("old"))
    reading, overtaken = threading.Event(), threading.Event()

    def slow(*fields: Any) -> Entry:
        reading.set()
        assert overtaken.wait(10)
        return Entry(*fields)

    with monkeypatch.context() as patch:
        patch.setattr(growing, "Entry", slow)
        reader = threading.Thread(target=turn.entry, args=(0,))
        reader.start()
        assert reading.wait(10)
        patch.undo()
        list(turn.take(delta(" and new")))
        overtaken.set()
        reader.join(10)
    assert turn.entry(0).text == "old and new"


def test_pieces_tell_kind_and_place() -> None:
    """A chunk says what was added, and to which entry; a new entry is told first."""
    turn = GrowingTurn()
    turn.begin_round()
    assert list(turn.take(delta("a"))) == [0, Piece("text", "a", 0)]
    assert list(turn.take(call('{"x'))) == [1, Piece("tool", '{"x', 1, "f", "c1")]
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    assert list(turn.take(delta(thinking))) == [Piece("thinking", "hm", 0)]


def test_thinking_and_text_are_chunks_in_order() -> None:
    """Thinking before text stays apart from it."""
    think = {"type": "thinking", "thinking": [{"type": "text", "text": "hm "}]}
    entry = only(grow(delta(think), delta(think), delta("So "), delta("it is")))
    assert (entry.thinking, entry.text) == ("hm hm ", "So it is")
    assert [chunk["type"] for chunk in entry.data["content"]] == ["thinking", "text"]


@pytest.mark.parametrize(
    "chunk",
    [
        {"type": "tool_reference", "tool": "web_search", "title": "T", "url": "https://x.test"},
        {"type": "tool_file", "tool": "code_interpreter", "file_id": "f1", "file_name": "a"},
        {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
        {"type": "document_url", "document_url": "https://x.test/a.pdf"},
        {"type": "hologram", "depth": 3},
    ],
)
def test_chunks_that_are_no_text_are_kept_in_place(chunk: dict) -> None:
    """Whatever stands in a message stays in its content, between the texts around it."""
    entry = only(grow(delta("See "), delta(chunk), delta(".")))
    assert entry.data["content"] == [
        {"type": "text", "text": "See "},
        chunk,
        {"type": "text", "text": "."},
    ]
    assert entry.text == "See ."


def test_sources_files_and_images_are_read() -> None:
    """Citations, files and images come from the chunks, with missing fields as nothing."""
    entry = only(
        grow(
            delta({"type": "tool_reference", "tool": "web_search", "title": "T", "url": "u"}),
            delta({"type": "tool_reference"}),
            delta({"type": "tool_file", "file_id": "f1", "file_name": "a.png"}),
            delta({"type": "image_url", "image_url": "data:x"}),
        )
    )
    assert [(c.title, c.url) for c in entry.citations] == [("T", "u"), ("", None)]
    assert [(f.file_id, f.name) for f in entry.files] == [("f1", "a.png")]
    assert entry.images == ("data:x",)


def test_a_call_in_pieces_is_one_call() -> None:
    """Later pieces may lack the name; arguments join, and parse once they are whole."""
    turn = grow(call('{"city":'), call('"Oslo"}', name=""))
    entry = only(turn)
    assert (entry.name, entry.call_id, entry.arguments) == ("f", "c1", {"city": "Oslo"})
    assert (turn.round_calls(), entry.state) == ([0], "arriving")


def test_calls_side_by_side_do_not_mix() -> None:
    """Pieces of two calls in turns go to their own."""
    turn = grow(call('{"a":', call_id="1"), call('{"b":', call_id="2"))
    list(turn.take(call("1}", call_id="1")))
    list(turn.take(call("2}", call_id="2")))
    assert [entry.arguments for entry in turn.entries] == [{"a": 1}, {"b": 2}]


def test_what_is_no_json_stays_text() -> None:
    """Arguments that are cut, or no object, are given as they came."""
    assert only(grow(call('{"a": '))).arguments == '{"a": '
    assert only(grow(call("[1]"))).arguments == "[1]"
    assert only(grow(call(""))).arguments == {}


@pytest.mark.parametrize("status", ["pending", "allowed", "denied"])
def test_confirmation_status_is_kept(status: str) -> None:
    """A call that the server holds back says so, whichever piece brings it."""
    entry = only(grow(call("{"), call("}", confirmation_status=status)))
    assert entry.data["confirmation_status"] == status


def test_an_execution_runs_and_is_done() -> None:
    """Started, delta and done are one entry; without arguments, as in the docs, too."""
    turn = grow(execution("started"))
    assert only(turn).state == "running"
    list(turn.take(execution("delta", arguments='{"query":')))
    list(turn.take(execution("delta", arguments='"tides"}')))
    list(turn.take(execution("done", info={"code": "1"})))
    entry = only(turn)
    assert (entry.state, entry.arguments) == ("done", {"query": "tides"})
    assert entry.data["info"] == {"code": "1"}


def test_an_execution_may_come_late() -> None:
    """Delta or done without a start still make an entry."""
    assert only(grow(execution("delta", arguments="{}"))).state == "running"
    assert only(grow(execution("done"))).state == "done"


def test_a_handoff_joins_both_halves() -> None:
    """Who gave it and who took it are one entry."""
    first = {"previous_agent_id": "ag_1", "previous_agent_name": "Desk"}
    second = {"next_agent_id": "ag_2", "next_agent_name": "Finance"}
    turn = grow({"type": "agent.handoff.started", "id": "h", **first})
    assert only(turn).state == "running"
    list(turn.take({"type": "agent.handoff.done", "id": "h", **second}))
    entry = only(turn)
    assert entry.state == "done"
    assert {**first, **second}.items() <= entry.data.items()


@pytest.mark.parametrize(
    "event",
    [
        {"type": "moderation.checked", "score": 1},
        {"no": "type"},
        {},
        {"type": None, "value": []},
    ],
)
def test_unknown_events_are_kept(event: dict) -> None:
    """An event nobody knows is an entry of its own, with all that it said."""
    entry = only(grow(event))
    assert entry.data["raw"] == event
    assert entry.state == "done"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "message.output.delta"},
        {"type": "message.output.delta", "id": 3, "content": [None, 4, {"type": "text"}]},
        {"type": "message.output.delta", "id": "m", "content": {"type": "thinking"}},
        {"type": "message.output.delta", "id": "m", "content": [{"type": "text", "text": 5}]},
        {"type": "function.call.delta"},
        {"type": "function.call.delta", "id": "f", "arguments": {"a": 1}, "name": ["x"]},
        {"type": "tool.execution.started"},
        {"type": "tool.execution.done", "info": "text"},
        {"type": "agent.handoff.done"},
        {"type": "conversation.response.started"},
        {"type": "conversation.response.done", "usage": {"prompt_tokens": "three"}},
    ],
)
def test_odd_events_harm_nothing(event: dict) -> None:
    """Fields that are missing or of the wrong type end no turn, and the entries can be read."""
    turn = grow(STARTED, event, delta("still here", "msg_9"))
    for entry in turn.entries:
        assert repr(entry)
        assert isinstance(entry.text + entry.thinking + entry.name + entry.call_id, str)
        assert isinstance(entry.arguments, dict | str)
        assert isinstance((*entry.citations, *entry.files, *entry.images), tuple)
    assert turn.entries[-1].text == "still here"


def test_settling_ends_all_that_goes_on() -> None:
    """Stopped in the middle: what was arriving or running is stopped, what was done is done."""
    turn = grow(delta("a"), execution("started"), call("{}"))
    turn.put("message.input", {"content": "b"})
    assert turn.settle("stopped") == [0, 1, 2]
    assert [entry.state for entry in turn.entries] == ["stopped", "stopped", "stopped", "done"]


ANSWER = 'Some *text* with "quotes" and \u00e4 \U0001f600.'
ARGUMENTS = '{"city": "Paris", "days": [1, 2]}'


@given(st.lists(st.integers(0, 60), max_size=6), st.lists(st.integers(0, 60), max_size=6))
def test_how_a_stream_is_cut_does_not_matter(text_cuts: list[int], call_cuts: list[int]) -> None:
    """Whatever the pieces, the entries are the same, and the pieces join to what was said."""

    def cut(whole: str, places: list[int]) -> list[str]:
        edges = [0, *sorted(min(place, len(whole)) for place in places), len(whole)]
        return [whole[a:b] for a, b in itertools.pairwise(edges)]

    turn = GrowingTurn()
    turn.begin_round()
    events = [delta(piece) for piece in cut(ANSWER, text_cuts)]
    events += [call(piece) for piece in cut(ARGUMENTS, call_cuts)]
    changes = [change for event in (STARTED, *events, DONE) for change in turn.take(event)]
    message, made = turn.entries
    assert (message.text, made.arguments) == (ANSWER, {"city": "Paris", "days": [1, 2]})
    for kind, whole in (("text", ANSWER), ("tool", ARGUMENTS)):
        pieces = (c for c in changes if isinstance(c, Piece) and c.kind == kind)
        assert "".join(piece.content for piece in pieces) == whole
