"""Streams: every real shape understood, every broken one told, nothing lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from pydantic import BaseModel

from mistral_nb import errors
from mistral_nb.client import Connection
from mistral_nb.events import ChatChunk, ChatComplete, ChatError, EventBus
from mistral_nb.replies import Reply, ToolCall, Usage
from mistral_nb.settings import resolve
from mistral_nb.streaming import StreamHandle, start_stream
from tests.conftest import SHARED
from tests.replay import CUT, STALL, Replay, delta, sse

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDED = SHARED / "wire" / "recorded"
DONE = "[DONE]"


@pytest.fixture
def replay() -> Iterator[Replay]:
    server = Replay()
    yield server
    server.close()


@pytest.fixture
def linked(replay: Replay) -> Connection:
    return Connection(resolve(api_key="s3cret-key", server_url=replay.url, timeout=5))


@pytest.fixture
def bus(linked: Connection) -> EventBus:
    return EventBus(linked.portal)


@pytest.fixture
def ask(linked: Connection, bus: EventBus, replay: Replay) -> Any:
    def asking(*chunks: Any, messages: Any = "hi", **options: Any) -> StreamHandle:
        if chunks:
            replay.pieces = sse(*chunks)
        return start_stream(linked, bus, messages, **options)

    return asking


def recorded(name: str) -> list[dict[str, Any]]:
    lines = (RECORDED / f"{name}.chunks.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line]


# --- shapes -------------------------------------------------------------------------------


def test_recorded_text(ask: Any) -> None:
    """A recorded stream of text becomes its text, finish reason, usage, model and id."""
    reply = ask(*recorded("chat-text"), DONE).result(10)
    assert reply.text == "Hello, world! This is a test response."
    assert reply.finish_reason == "stop"
    assert reply.usage == Usage(prompt_tokens=13, completion_tokens=8, total_tokens=21)
    assert (reply.model, reply.id) == ("mistral-small-latest", "5319bd0299614c679a0068a4f2c8ffd0")


def test_recorded_reasoning(ask: Any) -> None:
    """Thinking is kept apart from the answer."""
    reply = ask(*recorded("chat-reasoning"), DONE).result(10)
    assert reply.thinking.startswith("The user is asking for 2+2.")
    assert reply.text == "2 + 2 = 4"


def test_recorded_tool_call(ask: Any) -> None:
    """A call that comes whole, with content null and no index, is understood."""
    reply = ask(*recorded("chat-tool-call"), DONE).result(10)
    assert reply.tool_calls == (ToolCall("gSIMJiOkT", "weather", '{"location": "San Francisco"}'),)
    assert reply.tool_calls[0].parsed() == {"location": "San Francisco"}
    assert reply.finish_reason == "tool_calls"


def call(arguments: Any, name: str = "", call_id: str = "", **extra: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, "id": call_id, **extra}


@pytest.mark.parametrize(
    "pieces",
    [
        # in pieces: the same index, later ones nameless, their id empty, "null" or repeated
        [call('{"a"', "f", "id1", index=0), call(": 1}", index=0),
         call("{}", "g", "id2", index=1)],
        [call('{"a"', "f", "id1", index=0), call(": 1}", call_id="null", index=0),
         call("{}", "g", "id2", index=1)],
        [call('{"a"', "f", "id1", index=3), call("{}", "g", "id2", index=4),
         call(": 1}", index=3)],
        [call('{"a"', "f", "id1"), call(": 1}", "f", "id1"), call("{}", "g", "id2")],
        # whole, every index 0 or absent
        [call('{"a": 1}', "f", "id1", index=0), call("{}", "g", "id2", index=0)],
        [call({"a": 1}, "f", "id1"), call({}, "g", "id2")],
    ],
)  # fmt: skip
def test_tool_calls_whole_or_in_pieces(ask: Any, pieces: list[dict[str, Any]]) -> None:
    """However the calls are cut up, two calls with their own arguments come out."""
    chunks = [delta(None, tool_calls=[piece]) for piece in pieces]
    reply = ask(*chunks, delta("", "tool_calls"), DONE).result(10)
    assert [(c.id, c.name, c.parsed()) for c in reply.tool_calls] == [
        ("id1", "f", {"a": 1}), ("id2", "g", {}),
    ]  # fmt: skip


def test_odd_but_legal_chunks(ask: Any) -> None:
    """Empty choices, null usage, unknown fields, lists of parts and unknown parts are fine."""
    reply = ask(
        {"id": "a", "choices": [], "usage": None, "p": "padding"},
        delta([{"type": "text", "text": "see "}, {"type": "reference", "reference_ids": [1, "b"]}]),
        delta([{"type": "image_url", "image_url": "http://x/y.png"}, {"type": "from_the_future"}]),
        delta([{"type": "thinking", "thinking": "as a string"}], surprise=1),
        delta(None),
        delta("this", "stop"),
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11,
                                  "prompt_tokens_details": {"cached_tokens": 4}}},
        DONE,
    ).result(10)  # fmt: skip
    assert (reply.text, reply.thinking) == ("see this", "as a string")
    assert reply.references == ("1", "b")
    assert reply.usage == Usage(9, 2, 11, cached_tokens=4)


def test_cached_tokens_by_their_other_name(ask: Any) -> None:
    """`num_cached_tokens`, as recorded in January, is the same number."""
    last = delta("x", "stop") | {"usage": {"prompt_tokens": 77, "num_cached_tokens": 76}}
    assert ask(last, DONE).result(10).usage.cached_tokens == 76


def test_bytes_split_anywhere(ask: Any, replay: Replay) -> None:
    """Chunks split in the middle of a UTF-8 character, with CRLF and comments, are whole."""
    raw = b": ping\r\n\r\n" + b"".join(sse(delta("naïve 🦜"), delta("", "stop"), DONE)).replace(
        b"\n", b"\r\n"
    )
    raw = raw.replace(b"\\u", b"\\u")
    replay.pieces = [raw[n : n + 3] for n in range(0, len(raw), 3)]
    assert ask().result(10).text == "naïve 🦜"


# --- broken streams -----------------------------------------------------------------------

HALF = [delta("half "), delta("a reply")]


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        ([CUT], errors.StreamCut),
        ([DONE], errors.StreamCut),
        ([], errors.StreamCut),
        (['{"choices": [{'], errors.StreamMalformed),
        (["[1, 2]"], errors.StreamMalformed),
        ([{"choices": [{"index": 0}]}], errors.StreamMalformed),
        ([{"choices": [{"index": 0, "delta": {"content": 5}}]}], errors.StreamMalformed),
        ([{"nothing": "known"}], errors.StreamMalformed),
        ([{"object": "error", "message": "out of capacity", "type": "x", "code": "3505"}],
         errors.StreamRefused),
        ([{"error": {"message": "out of capacity", "code": 500}}], errors.StreamRefused),
    ],
)  # fmt: skip
def test_a_broken_stream_is_one_clear_error_with_the_partial_text(
    ask: Any, bus: EventBus, ending: list[Any], kind: type[errors.StreamError]
) -> None:
    """Every way to break raises its error, keeps the text, and ends the events once."""
    seen = bus.stream("chat:*")
    handle = ask(*HALF, *ending)
    with pytest.raises(kind) as caught:
        handle.result(10)
    assert caught.value.partial.text == "half a reply"
    assert caught.value.partial.finish_reason is None
    names = [event.name for event in seen.drain()]
    assert names == ["chat:start", "chat:chunk", "chat:chunk", "chat:error"]
    if kind is errors.StreamRefused:
        assert "out of capacity" in str(caught.value)


def test_a_stall_ends_after_the_timeout(replay: Replay) -> None:
    """A server that goes silent raises StreamStalled and names the setting."""
    linked = Connection(resolve(api_key="k", server_url=replay.url, timeout=0.3))
    replay.pieces = sse(*HALF, STALL)
    with pytest.raises(errors.StreamStalled, match="timeout") as caught:
        start_stream(linked, EventBus(linked.portal), "hi").result(10)
    assert caught.value.partial.text == "half a reply"
    assert replay.gone.wait(5)


def test_iterating_a_broken_stream_raises_after_its_text(ask: Any) -> None:
    """Iterating gives the text first and then the error, never a quiet end."""
    got: list[str] = []
    with pytest.raises(errors.StreamCut):
        got.extend(ask(*HALF, CUT))
    assert "".join(got) == "half a reply"


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, {"detail": "Unauthorized"}, errors.AuthenticationError, "MISTRAL_API_KEY"),
        (404, {"detail": "Not Found"}, errors.NotFoundError, "Not Found"),
        (400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model",
               "code": "1500"}, errors.InvalidRequestError, "Invalid model: x"),
        (422, {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "required"}]},
         errors.InvalidRequestError, "messages: required"),
        (422, {"detail": "no"}, errors.InvalidRequestError, "no"),
        (429, {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited",
               "code": "1300"}, errors.RateLimitError, "Rate limit exceeded"),
        (503, "upstream <b>down</b>", errors.ServerError, "upstream"),
    ],
)  # fmt: skip
def test_refusals_are_explained(
    ask: Any, replay: Replay, status: int, body: Any, kind: type[errors.ApiError], words: str
) -> None:
    """Each refusal becomes its exception, with the server's reason and what to do."""
    replay.status, replay.headers = status, {"retry-after": "7"}
    replay.pieces = [json.dumps(body).encode()]
    with pytest.raises(kind) as caught:
        ask().result(10)
    assert words in str(caught.value)
    assert "s3cret-key" not in f"{caught.value}{caught.value.__cause__!r}"
    assert (caught.value.status_code, caught.value.retry_after) == (status, 7.0)


def test_a_server_that_is_not_there_is_named() -> None:
    """Connection refused names the address and the setting."""
    linked = Connection(resolve(api_key="k", server_url="http://127.0.0.1:9"))
    with pytest.raises(errors.ServerUnreachable, match=r"127\.0\.0\.1:9.*server_url"):
        start_stream(linked, EventBus(linked.portal), "hi").result(10)


# --- handles ------------------------------------------------------------------------------


def test_every_way_to_wait_gives_the_same(ask: Any) -> None:
    """await, result, for and async for agree, also when asked late and twice."""
    handle = ask(*recorded("chat-text"), DONE)

    async def cell() -> tuple[Reply, str]:
        return await handle, "".join([text async for text in handle])

    awaited, text = asyncio.run(cell())
    assert awaited is handle.result(10)
    assert awaited.text == text == "".join(handle) == handle.text


def test_text_arrives_before_the_end(ask: Any, replay: Replay) -> None:
    """The first piece can be read while the server still holds the rest."""
    handle = ask(delta("first"), STALL)
    assert next(iter(handle)) == "first"
    assert (handle.text, handle.done()) == ("first", False)
    handle.stop()
    assert handle.result(5).text == "first"


def test_stop_keeps_the_text_and_hangs_up(ask: Any, replay: Replay) -> None:
    """stop() gives the partial reply as 'stopped', and the server sees the line closed."""
    handle = ask(*HALF, STALL)
    iterator = iter(handle)
    next(iterator)
    began = time.perf_counter()
    handle.stop()
    handle.stop()
    reply = handle.result(5)
    assert replay.gone.wait(5)
    assert time.perf_counter() - began < 5
    assert reply.finish_reason == "stopped"
    assert "half a reply".startswith(reply.text)


def test_stop_before_the_answer_begins(ask: Any) -> None:
    """A stream stopped at once ends as stopped, with no text and no error."""
    handle = ask(STALL)
    handle.stop()
    reply = handle.result(5)
    assert (reply.text, reply.finish_reason) == ("", "stopped")


def test_stop_reaches_its_own_stream_only(ask: Any) -> None:
    """Of two streams at once, the other one goes on to its end."""
    slow = ask(*HALF, STALL)
    next(iter(slow))
    other = ask(*recorded("chat-text"), DONE)
    slow.stop()
    assert slow.result(5).finish_reason == "stopped"
    assert other.result(5).finish_reason == "stop"


def test_interrupt_in_a_script_stops_the_stream_and_goes_on_up(ask: Any, replay: Replay) -> None:
    """Ctrl-C outside a notebook closes the line and still ends the program."""
    handle = ask(*HALF, STALL)
    next(iter(handle))
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        handle.result(10)
    assert handle.result(5).finish_reason == "stopped"
    assert replay.gone.wait(5)


def test_retry_asks_the_same_again(ask: Any, replay: Replay) -> None:
    """retry() sends an equal request under a new id."""
    first = ask(delta("x"), CUT, temperature=0.2)
    with pytest.raises(errors.StreamCut):
        first.result(10)
    replay.pieces = sse(delta("whole", "stop"), DONE)
    again = first.retry()
    assert again.result(10).text == "whole"
    assert replay.requests[0] == replay.requests[1]
    assert again.request_id != first.request_id


def test_what_is_done_at_the_end_cannot_cost_the_reply(
    ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A view that fails at the end is logged; the reply is given, and the others have their turn."""
    handle = ask(delta("a"), STALL)
    next(iter(handle))
    done: list[str] = []

    async def fail() -> None:
        raise ValueError("broken view")

    async def work() -> None:
        done.append("other")

    handle.finish_with(fail)
    handle.finish_with(work)
    handle.stop()
    assert handle.result(5).text == "a"
    assert done == ["other"]
    assert "broken view" in caplog.text


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (5, "a prompt or a list"),
        (None, "a prompt or a list"),
        ([], "a prompt or a list"),
        ({"role": "user", "content": "x"}, "a prompt or a list"),
        (pd.Series(["one", "two"]), "mnb.process_batch"),
        (pd.DataFrame({"text": ["one"]}), "mnb.process_batch"),
        ([5], "must have a role"),
    ],
)
def test_what_is_no_message_is_said(ask: Any, replay: Replay, messages: Any, words: str) -> None:
    """Numbers, tables and lists of texts are refused before anything is sent, with a way on."""
    with pytest.raises(errors.InputError, match=words):
        ask(messages=messages)
    assert replay.requests == []


def test_a_format_must_be_a_model(ask: Any) -> None:
    """A class that is no pydantic model is refused by its name."""
    with pytest.raises(errors.InputError, match=r"a pydantic model .* not dict"):
        ask(delta("x", "stop"), response_format=dict)


# --- events -------------------------------------------------------------------------------


def test_one_start_one_end_and_numbered_chunks(ask: Any, bus: EventBus) -> None:
    """The bus sees start, chunks in order, and a complete with the text and usage."""
    seen = bus.stream("chat:*")
    handle = ask(*recorded("chat-text"), DONE)
    handle.result(10)
    first, *chunks, last = seen.drain()
    assert (first.name, first.model) == ("chat:start", "mistral-small-latest")
    assert [c.index for c in chunks] == sorted(c.index for c in chunks)
    assert isinstance(last, ChatComplete)
    assert last.text == "".join(c.content for c in chunks) == handle.text
    assert last.usage == handle.result().usage
    assert {event.request_id for event in (first, *chunks, last)} == {handle.request_id}


def test_a_late_listener_is_told_everything(ask: Any) -> None:
    """events() begins with the start whenever it is asked, even after the end."""
    thought = delta([{"type": "thinking", "thinking": "hm"}])
    handle = ask(thought, delta("a"), delta("b"), delta(None, "stop", tool_calls=[
        call("{}", "f", "id1")]), DONE)  # fmt: skip
    handle.result(10)
    events = list(handle.events())
    kinds = [(e.kind, e.content, e.tool_name) for e in events if isinstance(e, ChatChunk)]
    assert kinds == [("thinking", "hm", ""), ("text", "ab", ""), ("tool", "{}", "f")]
    assert [events[0].name, events[-1].name] == ["chat:start", "chat:complete"]


def test_an_error_event_carries_error_and_partial(ask: Any) -> None:
    """The error event holds what was raised and what had come."""
    handle = ask(*HALF, CUT)
    with pytest.raises(errors.StreamCut) as caught:
        handle.result(10)
    *_, last = handle.events()
    assert isinstance(last, ChatError)
    assert last.error is caught.value
    assert last.partial.text == "half a reply"


# --- requests -----------------------------------------------------------------------------


class City(BaseModel):
    """A pydantic model given as response_format."""

    name: str


def test_what_is_sent(ask: Any, replay: Replay) -> None:
    """Prompt, system, earlier replies, options and a pydantic format reach the wire."""
    first = ask(delta("Paris", "stop"), DONE, messages="Capital of France?", system="Be brief.")
    turns = [{"role": "user", "content": "Capital?"}, first.result(10),
             {"role": "user", "content": "And of Spain?"}]  # fmt: skip
    ask(messages=turns, model="mistral-large-latest", temperature=0.1,
        response_format=City).result(10)  # fmt: skip
    one, two = replay.requests
    assert one["messages"] == [{"role": "system", "content": "Be brief."},
                               {"role": "user", "content": "Capital of France?"}]  # fmt: skip
    assert one["stream"] is True
    assert [m["role"] for m in two["messages"]] == ["user", "assistant", "user"]
    assert two["messages"][1]["content"] == "Paris"
    assert (two["model"], two["temperature"]) == ("mistral-large-latest", 0.1)
    assert two["response_format"]["json_schema"]["name"] == "City"
    assert replay.request_headers[0]["authorization"] == "Bearer s3cret-key"


@pytest.mark.parametrize(
    ("messages", "options", "words"),
    [
        ("  ", {}, "prompt is empty"),
        ([], {}, "not empty"),
        ({"role": "user", "content": "x"}, {}, "list of messages"),
        ("x", {"temprature": 1}, "Did you mean temperature"),
        ("x", {"n": 2}, "n must be 1"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_sent(
    ask: Any, replay: Replay, messages: Any, options: dict[str, Any], words: str
) -> None:
    """An empty prompt or an unknown option is an InputError, and no request goes out."""
    with pytest.raises(errors.InputError, match=words):
        ask(messages=messages, **options)
    assert replay.requests == []


def test_a_message_of_the_wrong_shape_is_an_input_error(ask: Any, replay: Replay) -> None:
    """What the SDK's own models refuse is told as bad input, and not sent."""
    with pytest.raises(errors.InputError):
        ask(messages=[{"role": "nobody", "content": 1}]).result(10)
    assert replay.requests == []


def test_a_displayed_reply_keeps_its_math() -> None:
    """Math is left as TeX: MathML is thrown out of a notebook that is not trusted."""
    html = Reply(text="so $x^2$ *now*")._repr_mimebundle_()["text/html"]
    assert "$x^2$" in html
    assert "<em>now</em>" in html


def test_a_displayed_reply_gives_out_harmless_markdown_only() -> None:
    """Beside HTML and text there is Markdown, unless a viewer could run or load what is in it."""
    assert Reply(text="*so*")._repr_mimebundle_()["text/markdown"] == "*so*"
    for hostile in ("<img src=x onerror=alert(1)>", "![](https://evil.test)", "[a](javascript:x)"):
        assert set(Reply(text=hostile)._repr_mimebundle_()) == {"text/html", "text/plain"}


def test_reprs_read_well() -> None:
    """A reply's repr is one line, and shows no more than it needs."""
    long = Reply("word " * 100, finish_reason="stop", usage=Usage(1, 2, 3))
    assert len(repr(long)) < 120
    assert "tokens=3" in repr(long)
    assert str(long) == long.text


def test_a_late_listener_is_told_where_sources_were_cited():
    """What has come is told in joined pieces, with each citation where it stood in the text."""
    from mistral_nb.replies import ReplyBuilder

    builder = ReplyBuilder("m")
    for content in ("Snow", " is white", [{"type": "reference", "reference_ids": ["a"]}], " and",
                    " cold", [{"type": "reference", "reference_ids": ["b", "a"]}], "."):  # fmt: skip
        builder.add({"choices": [{"index": 0, "delta": {"content": content}}]})
    told = [(piece.kind, piece.content) for piece in builder.pieces()]
    assert told == [
        ("text", "Snow is white"),
        ("reference", "a"),
        ("text", " and cold"),
        ("reference", "b,a"),
        ("text", "."),
    ]
