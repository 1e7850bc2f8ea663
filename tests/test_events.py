"""The event bus: order, policies, bounds, and listeners that misbehave."""

from __future__ import annotations

import asyncio
import gc
import logging
import queue
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mistral_nb import events as events_module
from mistral_nb import portal as portals
from mistral_nb.buffers import Buffer
from mistral_nb.errors import InputError
from mistral_nb.events import (
    ChatChunk,
    ChatComplete,
    ChatStart,
    EventBus,
    Record,
    RunProgress,
)
from mistral_nb.records import (
    JobActive,
    JobCompleted,
    JobDelayed,
    JobFailed,
    JobProgress,
    JobQueued,
    JobStalled,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.fixture
def bus() -> EventBus:
    return EventBus(portals.shared())


def chunk(index: int, content: str = "x", request: str = "r", **fields: object) -> ChatChunk:
    return ChatChunk(request, content, index, **fields)


def start(request: str = "r") -> ChatStart:
    return ChatStart(request, "model", 0.0)


def complete(request: str = "r") -> ChatComplete:
    return ChatComplete(request, "text", None, "stop", None)


def publish(bus: EventBus, records: Iterable[Record]) -> None:
    async def work() -> None:
        for record in records:
            await bus.publish(record)

    portals.shared().call(work)


class Gate:
    """A listener that hangs until it is let go, then keeps what it gets."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.ended = threading.Event()
        self.got: list[Record] = []

    def __call__(self, record: Record) -> None:
        self.entered.set()
        self.go.wait(20)
        self.got.append(record)
        if record.final:
            self.ended.set()


def heard(bus: EventBus, pattern: str, records: list[Record]) -> list[str]:
    """Publish the records and return the names a listener on the pattern heard."""
    with bus.stream(pattern) as stream:
        publish(bus, records)
        return [record.name for record in stream.drain()]


def test_patterns_choose_events(bus: EventBus) -> None:
    """A name hears one event, a shell-style pattern a family."""
    records = [start(), chunk(0), RunProgress("run", {}), complete()]
    assert heard(bus, "chat:chunk", records) == ["chat:chunk"]
    assert heard(bus, "chat:*", records) == ["chat:start", "chat:chunk", "chat:complete"]
    assert heard(bus, "*", records) == [record.name for record in records]


@pytest.mark.parametrize("kind", ["plain", "async", "async object"])
def test_every_kind_of_listener_hears_in_order(bus: EventBus, kind: str) -> None:
    """Plain functions, coroutine functions and objects with an async call hear all, in order."""
    got: list[Record] = []
    done = threading.Event()

    def plain(record: Record) -> None:
        got.append(record)
        if record.final:
            done.set()

    async def coroutine(record: Record) -> None:
        await asyncio.sleep(0)
        plain(record)

    class Callable_:
        async def __call__(self, record: Record) -> None:
            plain(record)

    listener = {"plain": plain, "async": coroutine, "async object": Callable_()}[kind]
    bus.on("chat:*", listener)
    sent = [start(), *(chunk(n) for n in range(500)), complete()]
    publish(bus, sent)
    assert done.wait(10)
    assert got == sent


def test_once_hears_one_and_off_hears_none(bus: EventBus) -> None:
    """once() ends after its first event; off() takes a function or a subscription away."""
    gone: list[Record] = []
    first: queue.Queue[Record] = queue.Queue()
    kept = bus.stream("chat:*")
    once = bus.once("chat:chunk", first.put)
    bus.on("chat:chunk", gone.append)
    bus.off(gone.append)
    by_subscription = bus.on("chat:chunk", gone.append)
    bus.off(by_subscription)
    publish(bus, [chunk(0), complete()])
    assert first.get(timeout=10) == chunk(0)
    while once in bus._subscriptions:
        time.sleep(0.01)
    publish(bus, [chunk(1), complete()])
    assert len(kept.drain()) == 4
    assert (gone, first.qsize()) == ([], 0)


def test_a_request_stream_ends_with_its_request(bus: EventBus) -> None:
    """With a request_id the iterator hears that request only, and ends by itself."""
    stream = bus.stream("chat:*", request_id="mine")
    publish(bus, [start("mine"), chunk(0, request="other"), complete("other"), complete("mine")])
    assert [record.request_id for record in stream] == ["mine", "mine"]


def test_async_iteration_on_a_loop_of_ones_own(bus: EventBus) -> None:
    """Async for works on any loop while events come from the portal's thread."""

    async def cell() -> list[int]:
        stream = bus.stream("chat:*", request_id="r")
        thread = threading.Thread(
            target=publish, args=(bus, [*(chunk(n) for n in range(100)), complete()])
        )
        thread.start()
        return [record.index async for record in stream if isinstance(record, ChatChunk)]

    assert asyncio.run(cell()) == list(range(100))


def test_coalesce_joins_and_loses_nothing(bus: EventBus) -> None:
    """Behind a hanging listener chunks are joined; the text and the ends arrive whole."""
    gate = Gate()
    bus.on("chat:*", gate, policy="coalesce", maxsize=5)
    publish(bus, [start(), *(chunk(n, f"{n} ") for n in range(1000)), complete()])
    gate.go.set()
    assert gate.ended.wait(10)
    chunks = [record for record in gate.got if isinstance(record, ChatChunk)]
    assert "".join(c.content for c in chunks) == "".join(f"{n} " for n in range(1000))
    assert sum(c.count for c in chunks) == 1000
    assert len(gate.got) < 20


def test_drop_oldest_counts_and_keeps_the_ends(bus: EventBus) -> None:
    """drop_oldest forgets chunks, counts them, and never a start or an end."""
    gate = Gate()
    subscription = bus.on("chat:*", gate, policy="drop_oldest", maxsize=4)
    publish(bus, [start()])
    assert gate.entered.wait(10)
    publish(bus, [start("2"), *(chunk(n) for n in range(100)), complete()])
    gate.go.set()
    assert gate.ended.wait(10)
    chunks = [record.index for record in gate.got if isinstance(record, ChatChunk)]
    assert [record.name for record in gate.got if not isinstance(record, ChatChunk)] == [
        "chat:start", "chat:start", "chat:complete",
    ]  # fmt: skip
    assert chunks == list(range(100 - len(chunks), 100))
    assert subscription.dropped == 100 - len(chunks)


def test_block_makes_the_producer_wait(bus: EventBus) -> None:
    """A full block listener holds the producer back, and loses nothing."""
    gate = Gate()
    subscription = bus.on("chat:*", gate, policy="block", maxsize=3)
    sent = [*(chunk(n) for n in range(50)), complete()]
    producer = threading.Thread(target=publish, args=(bus, sent))
    producer.start()
    assert gate.entered.wait(10)
    time.sleep(0.1)
    assert producer.is_alive()
    assert subscription.waiting <= 3
    gate.go.set()
    assert gate.ended.wait(10)
    producer.join(10)
    assert gate.got == sent


def test_a_block_listener_that_hangs_is_given_up(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A listener that never takes anything cannot hold a stream for ever."""
    monkeypatch.setattr(events_module, "BLOCK_LIMIT", 0.05)
    gate = Gate()
    bus.on("chat:*", gate, policy="block", maxsize=2)
    with caplog.at_level(logging.WARNING):
        publish(bus, [*(chunk(n) for n in range(50)), complete()])
    assert len(caplog.records) == 1
    assert "joined" in caplog.text
    gate.go.set()
    assert gate.ended.wait(10)
    assert sum(r.count for r in gate.got if isinstance(r, ChatChunk)) == 50


def test_a_raising_listener_is_reported_once_and_harms_nobody(
    bus: EventBus, caplog: pytest.LogCaptureFixture
) -> None:
    """Its exception is logged once; it and the others go on hearing."""
    others: list[Record] = []
    done = threading.Event()
    calls = []

    def bad(record: Record) -> None:
        calls.append(record)
        if record.final:
            done.set()
        raise ValueError("broken listener")

    subscription = bus.on("chat:*", bad)
    bus.on("chat:*", others.append)
    with caplog.at_level(logging.WARNING):
        publish(bus, [start(), chunk(0), complete()])
        assert done.wait(10)
    assert len(calls) == 3
    assert [record.getMessage().count("raised") for record in caplog.records] == [1]
    assert isinstance(subscription.error, ValueError)


def test_flush_waits_for_the_listeners(bus: EventBus) -> None:
    """After flush() every listener has dealt with all there was; a hanging one is told."""
    plain: list[Record] = []
    later: list[Record] = []

    async def coroutine(record: Record) -> None:
        await asyncio.sleep(0.001)
        later.append(record)

    def slow(record: Record) -> None:
        time.sleep(0.001)
        plain.append(record)

    bus.on("chat:*", slow)
    bus.on("chat:*", coroutine)
    for _ in range(20):
        publish(bus, [start(), *(chunk(n) for n in range(5)), complete()])
        assert bus.flush()
        assert len(plain) == len(later) == 7
        plain.clear()
        later.clear()
    gate = Gate()
    bus.on("chat:*", gate)
    publish(bus, [chunk(0)])
    assert not bus.flush(0.05)
    gate.go.set()
    assert bus.flush()
    assert bus.flush(0)


def test_memory_stays_flat_behind_a_stalled_listener() -> None:
    """A quarter of a million chunks of 6 bytes cost about their text."""
    buffer = Buffer("coalesce", 100)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(250_000):
        buffer.put(chunk(n, f"{n % 99999:5d} "))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 2.5e6
    assert len("".join(record.content for record in buffer.drain())) == 250_000 * 6


def test_progress_is_replaced_by_newer_progress() -> None:
    """A full buffer keeps the latest counts of a run, not every one."""
    buffer = Buffer("coalesce", 1)
    for n in range(10):
        buffer.put(RunProgress("run", {"done": n}))
    assert [dict(record.counts) for record in buffer.drain()] == [{"done": 9}]


pieces = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["text", "thinking", "tool", "reference"]),
        st.integers(0, 1),
        st.integers(0, 3),
    ),
    max_size=60,
)
"""Request, kind, part, and how many records the listener takes after each piece."""


@given(
    pieces=pieces,
    maxsize=st.integers(1, 5),
    drains=st.sets(st.integers(0, 60)),
)
@example(  # a chunk that followed a joined one was overtaken by the next
    pieces=[("a", "text", 0, takes) for takes in (0, 0, 1, 1, 0, 0)], maxsize=2, drains=set()
)
@settings(max_examples=300, deadline=None)
def test_joining_keeps_every_order_that_matters(
    pieces: list[tuple[str, str, int, int]], maxsize: int, drains: set[int]
) -> None:
    """However slow the listener: prose in order per request, arguments in order per call."""
    buffer, got = Buffer("coalesce", maxsize), []
    sent = []
    for index, (request, kind, part, takes) in enumerate(pieces):
        record = chunk(index, f"{index} ", request, kind=kind, part=part if kind == "tool" else 0)
        sent.append(record)
        buffer.put(record)
        if index in drains:
            got += buffer.drain()
        got += [buffer.take() for _ in range(min(takes, len(buffer)))]
    got += buffer.drain()

    def prose(records: list[ChatChunk], request: str) -> list[tuple[str, str]]:
        runs: list[tuple[str, str]] = []
        for record in records:
            if record.request_id != request or record.kind not in {"text", "thinking"}:
                continue
            if runs and runs[-1][0] == record.kind:
                runs[-1] = (record.kind, runs[-1][1] + record.content)
            else:
                runs.append((record.kind, record.content))
        return runs

    def rest(records: list[ChatChunk], *place: object) -> str:
        return "".join(r.content for r in records if (r.request_id, r.kind, r.part) == place)

    for request in "ab":
        assert prose(got, request) == prose(sent, request)
        for place in (("tool", 0), ("tool", 1), ("reference", 0)):
            assert rest(got, request, *place) == rest(sent, request, *place)
    assert sum(record.count for record in got) == len(sent)


JOB = {
    "queued": lambda job, n: JobQueued(job, at=n),
    "active": lambda job, n: JobActive(job, at=n),
    "progress": lambda job, n: JobProgress(job, at=n, progress=n),
    "stalled": lambda job, n: JobStalled(job, at=n),
    "delayed": lambda job, n: JobDelayed(job, at=n, error="again"),
    "failed": lambda job, n: JobFailed(job, at=n),
    "completed": lambda job, n: JobCompleted(job, at=n),
}


@given(
    policy=st.sampled_from(["coalesce", "drop_oldest", "block"]),
    told=st.lists(
        st.tuples(st.sampled_from(sorted(JOB)), st.sampled_from(["a", "b"]), st.integers(0, 2)),
        max_size=60,
    ),
    maxsize=st.integers(1, 4),
)
@settings(max_examples=300, deadline=None)
def test_of_a_jobs_states_the_newest_is_kept(
    policy: str, told: list[tuple[str, str, int]], maxsize: int
) -> None:
    """However slow the listener: no end is lost or overtaken, and the last word is the last."""
    buffer, got, sent = Buffer(policy, maxsize), [], []
    for number, (kind, job, takes) in enumerate(told):
        sent.append(JOB[kind](job, number))
        buffer.put(sent[-1])
        got += [buffer.take() for _ in range(min(takes, len(buffer)))]
    got += buffer.drain()
    assert len(buffer) == 0
    assert buffer.dropped == (len(sent) - len(got) if policy == "drop_oldest" else 0)
    for job in "ab":
        theirs = [each for each in sent if each.request_id == job]
        heard = [each for each in got if each.request_id == job]
        assert [each.at for each in heard] == sorted(each.at for each in heard)
        assert [each for each in heard if each.final] == [each for each in theirs if each.final]
        if theirs and policy != "drop_oldest":
            assert heard[-1] == theirs[-1]
        if theirs and theirs[0].name == "job:queued":
            assert heard[0] == theirs[0]


@pytest.mark.parametrize("policy", ["coalesce", "drop_oldest", "block"])
def test_a_job_that_is_tried_for_ever_stays_small(policy: str) -> None:
    """Behind a stalled listener each job keeps its start, its newest state and its ends."""
    buffer = Buffer(policy, 10)
    for n in range(10_000):
        for job in ("a", "b"):
            for kind in ("queued", "active", "progress", "delayed"):
                buffer.put(JOB[kind](job, n))
    for job in ("a", "b"):
        buffer.put(JOB["failed"](job, 10_000))
    assert len(buffer) <= 12
    heard = buffer.drain()
    assert [each.request_id for each in heard if each.final] == ["a", "b"]


def test_ends_that_wait_do_not_slow_the_bus_down() -> None:
    """What may be forgotten is found at once behind any number of ends, and its place is freed."""
    buffer = Buffer("drop_oldest", 10)
    for n in range(30_000):
        buffer.put(JOB["completed"](str(n), n))
    for n in range(100_000):  # looking for each among the ends would take longer than the test may
        buffer.put(chunk(n, "x"))
    assert buffer.dropped == 99_999
    assert len(buffer) == 30_001
    assert len(buffer._items) < 61_000
    assert sum(each.final for each in buffer.drain()) == 30_000


def test_a_forgotten_stream_leaves_the_bus(bus: EventBus) -> None:
    """An iterator that nobody holds any more does not gather events."""
    bus.stream("*")
    gc.collect()
    assert bus._subscriptions == []


def test_a_wait_whose_loop_is_gone_harms_nobody(bus: EventBus) -> None:
    """A loop that was closed in the middle of a wait breaks no producer, and the stream goes on."""
    stream = bus.stream("chat:*")

    async def cell() -> None:
        await asyncio.wait_for(stream.wait(), 0.01)

    with pytest.raises(TimeoutError):
        asyncio.run(cell())
    publish(bus, [start(), complete()])
    assert [record.name for record in stream.drain()] == ["chat:start", "chat:complete"]


def test_garbage_may_be_collected_inside_the_bus(bus: EventBus) -> None:
    """A forgotten stream leaves in the middle of whatever the bus and its buffers do."""

    class Collecting(str):
        __slots__ = ()

        def __hash__(self) -> int:
            gc.collect()
            return super().__hash__()

    def forget_streams() -> None:
        for number in range(3):
            stream = bus.stream(Collecting("a*"))
            vars(stream)["itself"] = stream
            del stream
            bus._listeners(f"a{number}")

    thread = threading.Thread(target=forget_streams, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    gc.collect()
    assert bus._subscriptions == []


@pytest.mark.parametrize("wrong", [{"policy": "hope"}, {"maxsize": 0}])
def test_unusable_bounds_are_refused(bus: EventBus, wrong: dict[str, object]) -> None:
    """An unknown policy or an empty buffer is an InputError at once."""
    with pytest.raises(InputError):
        bus.on("*", print, **wrong)
