"""The SSE client: one stream over as many connections as it takes."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading

import pytest

import mistral_nb as mnb
from mistral_nb import event_source as module
from mistral_nb.errors import (
    AuthenticationError,
    InputError,
    ServerError,
    ServerUnreachable,
    SettingsError,
    StreamCut,
    StreamMalformed,
    StreamStalled,
)
from tests.replay import CUT, STALL, Replay

END = b"event: complete\nid: 9\ndata: {}\n\n"


@pytest.fixture
def server():
    replay = Replay()
    yield replay
    replay.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT", 0.01)


def piece(number: int) -> bytes:
    return f"event: chunk\nid: {number}\ndata: {number}\n\n".encode()


def ids(url: str, **options) -> list[str]:
    return [event.id for event in mnb.sse(url, **options)]


def test_events_arrive_in_order_with_name_id_and_data(server):
    """Names, ids and data come as sent, and the stream ends after `complete`."""
    server.pieces = [b": hello\n\n", piece(1), b"data: a\ndata: b\n\n", END, piece(10)]
    events = list(mnb.sse(server.url))
    assert [(event.name, event.id, event.data) for event in events] == [
        ("chunk", "1", "1"),
        ("message", "1", "a\nb"),
        ("complete", "9", "{}"),
    ]
    assert events[-1].json() == {}


def test_a_cut_line_is_taken_up_after_the_last_event(server):
    """After a cut the client asks for what comes after the last id, and yields each id once."""
    server.turns = [{"pieces": [piece(1), piece(2), CUT]}, {"pieces": [piece(3), END]}]
    assert ids(server.url) == ["1", "2", "3", "9"]
    assert [headers.get("last-event-id") for headers in server.request_headers] == [None, "2"]


def test_an_end_without_a_last_event_is_a_cut(server):
    """A connection that ends cleanly but too early is taken up like any other."""
    server.turns = [{"pieces": [piece(1)]}, {"pieces": [END]}]
    assert ids(server.url) == ["1", "9"]


async def each(url: str, **options) -> list[str]:
    return [event.id async for event in mnb.sse(url, **options)]


def test_async_iteration_on_the_portal_and_on_any_other_loop(server):
    """`async for` works on the toolkit's loop and on a loop of one's own."""
    server.pieces = [piece(1), END]
    assert mnb.run(each(server.url)) == ["1", "9"]
    assert asyncio.run(each(server.url)) == ["1", "9"]


def test_a_post_is_sent_again_only_with_an_id(server):
    """A POST that was cut before any id came is not repeated; with an id it is."""
    server.turns = [{"pieces": [b"data: x\n\n", CUT]}]
    with pytest.raises(StreamCut, match="broke"):
        ids(server.url, method="POST", json={"a": 1})
    assert server.requests == [{"a": 1}]
    server.requests.clear()
    server.turns = [{"pieces": [piece(1), CUT]}, {"pieces": [END]}]
    assert ids(server.url, method="POST", json={"a": 1}) == ["1", "9"]
    assert server.requests == [{"a": 1}, {"a": 1}]


def test_a_post_that_may_have_been_carried_out_is_not_repeated(server):
    """500 ends a POST, 503 does not: it says that nothing was begun."""
    server.turns = [{"status": 500, "pieces": [b"{}"]}]
    with pytest.raises(ServerError):
        ids(server.url, method="POST", json={})
    server.turns = [{"status": 503, "pieces": [b"{}"]}, {"status": 200, "pieces": [END]}]
    assert ids(server.url, method="POST", json={}) == ["9"]


def test_refusals_that_never_work_are_raised_at_once(server):
    """401 is raised as it is, after one request."""
    server.turns = [{"status": 401, "pieces": [b'{"detail": "no"}']}]
    with pytest.raises(AuthenticationError, match="no"):
        ids(server.url)
    assert len(server.requests) == 1


def test_attempts_have_a_limit_that_an_event_sets_back(server):
    """Failures in a row end in their error; an event in between starts the count anew."""
    server.turns = [
        {"status": 502, "pieces": [b"bad"]},
        {"status": 200, "pieces": [piece(1), CUT]},
        {"pieces": [piece(2), CUT]},
        {"status": 502, "pieces": [b"bad"]},
    ]
    events = mnb.sse(server.url, attempts=2)
    assert [next(events).id, next(events).id] == ["1", "2"]
    with pytest.raises(ServerError, match="502"):
        next(events)
    assert len(server.requests) == 4


def test_a_line_that_only_says_when_to_come_back_is_given_up(server):
    """`retry:` is no event: connections that bring nothing else count as failures."""
    server.turns = [{"pieces": [b"retry: 10\n\n"]}] * 9
    with pytest.raises(StreamCut):
        ids(server.url, attempts=3)
    assert len(server.requests) == 3


def test_retry_after_is_waited_for(server, monkeypatch):
    """The server's Retry-After is the pause before the next attempt."""
    waits = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    server.turns = [
        {"status": 429, "headers": {"retry-after": "7"}, "pieces": [b"{}"]},
        {"status": 200, "headers": {}, "pieces": [b"retry: 4000\n\n", CUT]},
        {"pieces": [END]},
    ]
    assert ids(server.url) == ["9"]
    assert waits[0] == 7
    assert 3 <= waits[1] <= 10


def test_silence_has_a_limit(server):
    """A stream that says nothing for `timeout` seconds is stalled."""
    server.pieces = [piece(1), STALL]
    events = mnb.sse(server.url, timeout=0.2, attempts=1)
    assert next(events).id == "1"
    with pytest.raises(StreamStalled, match="after the event '1'"):
        next(events)


def test_no_content_ends_the_stream(server):
    """204 tells an EventSource to stop, and us."""
    server.status = 204
    assert ids(server.url) == []


def test_what_is_no_stream_of_events_is_said(server):
    """Another content type, too large an event and data that is no JSON are named."""
    server.headers = {"content-type": "text/html"}
    server.pieces = [b"<html>"]
    with pytest.raises(StreamMalformed, match="text/event-stream"):
        ids(server.url)
    server.headers = {}
    server.pieces = [b"data: " + b"x" * 3000 + b"\n\n"]
    with pytest.raises(StreamMalformed, match="1000 byte"):
        ids(server.url, max_event_bytes=1000)
    server.pieces = [b"id: 1\ndata: {oops\n\n"]
    with pytest.raises(StreamMalformed, match="not JSON"):
        next(mnb.sse(server.url)).json()


def test_nobody_there():
    """A dead address is named after the last attempt."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ServerUnreachable, match=str(port)):
        ids(f"http://127.0.0.1:{port}", attempts=2)


def test_a_step_that_was_given_up_is_taken_up_again(server):
    """A timeout around a step loses no event and passes for no end, on any loop."""
    server.pieces = [piece(1), b": still here\n\n", piece(2), END]
    server.pause = 0.15

    async def patient() -> tuple[list[str], int]:
        got, given_up = [], 0
        events = mnb.sse(server.url)
        while len(got) < 3:
            try:
                got.append((await asyncio.wait_for(anext(events), 0.05)).id)
            except TimeoutError:
                given_up += 1
        with pytest.raises(StopAsyncIteration):
            await anext(events)
        return got, given_up

    for run in (asyncio.run, mnb.run):
        got, given_up = run(patient())
        assert got == ["1", "2", "9"]
        assert given_up > 0
    assert len(server.requests) == 2


def test_who_waits_on_a_stream_that_is_left_sees_its_end(server):
    """close() from another thread ends a loop that waits for the next event, and hangs up."""
    server.pieces = [piece(1), STALL]
    events = mnb.sse(server.url)
    got = [next(events).id]
    threading.Timer(0.1, events.close).start()
    got += [event.id for event in events]
    assert got == ["1"]
    assert server.gone.wait(5)


def test_an_interrupt_leaves_the_stream(server):
    """Ctrl-C amid a plain loop hangs up at once, though the stream is still held, and is its end."""
    server.pieces = [piece(1), STALL]
    events = mnb.sse(server.url)
    assert next(events).id == "1"
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        next(events)
    assert server.gone.wait(5)
    assert list(events) == []


def test_a_stream_that_nobody_holds_hangs_up(server):
    """Forgotten in the middle of a step, it closes its connection by itself."""
    server.pieces = [piece(1), STALL]

    async def forgetful() -> None:
        events = mnb.sse(server.url)
        await anext(events)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(events), 0.05)

    asyncio.run(forgetful())
    gc.collect()
    assert server.gone.wait(5)


def test_ids_and_pauses_may_be_anything_the_format_allows(server):
    """An id beyond ASCII goes back as UTF-8; a pause beyond all numbers is bounded."""
    id_line = "event: chunk\nid: é\ndata: 1\n\n".encode()
    server.turns = [{"pieces": [b"retry: 1\n\n", id_line, CUT]}, {"pieces": [END]}]
    assert ids(server.url) == ["é", "9"]
    sent = server.request_headers[-1]["last-event-id"]
    assert sent.encode("latin-1").decode() == "é"
    server.pieces = [b"retry: " + b"9" * 400 + b"\n\n", piece(1), END]
    assert ids(server.url) == ["1", "9"]


def test_one_last_event_may_be_given_as_a_name(server):
    """`ends="done"` is that name, not its letters."""
    server.pieces = [b"event: done\ndata: 1\n\n"]
    assert [event.name for event in mnb.sse(server.url, ends="done")] == ["done"]


def test_a_proxy_that_cannot_be_used_is_said(server, monkeypatch):
    """The environment's proxies hold here as everywhere, and a wrong one is named by its variable."""
    monkeypatch.setenv("HTTP_PROXY", "gopher://me:hunter2@127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(SettingsError, match="HTTP_PROXY") as caught:
        ids(server.url)
    assert "hunter2" not in str(caught.value)


def test_leaving_closes_the_connection(server):
    """A `with` block left early hangs up, and the server sees it."""
    server.pieces = [piece(1), STALL]
    with mnb.sse(server.url) as events:
        assert next(events).id == "1"
    assert server.gone.wait(5)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "ftp://x"},
        {"url": "x"},
        {"url": None},
        {"url": "http://["},
        {"url": "http://x\x00"},
        {"attempts": 0},
    ],
)
def test_bad_arguments_are_refused(options):
    """A wrong address or number is named before anything is sent."""
    with pytest.raises(InputError):
        mnb.sse(**{"url": "http://127.0.0.1:1", **options})
