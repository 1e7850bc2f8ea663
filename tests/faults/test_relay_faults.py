"""Law of the relay: whatever breaks, a listener has every event once, in order, and one end."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import TYPE_CHECKING, Any

import pytest

import mistral_nb as mnb
from mistral_nb.client import Connection
from mistral_nb.events import EventBus
from mistral_nb.jobs import Queue
from mistral_nb.settings import resolve
from tests.faults.relay_process import RelayProcess
from tests.faults.wire_cutter import WireCutter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mistral_nb.event_source import ServerEvent, ServerEvents
    from mistral_nb.simulator import Simulator
    from tests.faults.sizes import Size

ENDS = ("complete", "error")
LONGEST_ANSWER = 8000
HEADERS = 1000
"""Bytes within which an answer has told its first id."""


@pytest.fixture
def relay(tmp_path: Path, simulator: Simulator) -> Iterator[RelayProcess]:
    """A relay in a process of its own, in front of the simulator."""
    relay = RelayProcess(tmp_path / "relay", simulator.url)
    yield relay
    relay.kill()


def numbers(events: list[ServerEvent]) -> list[int]:
    return [int(event.id.rpartition(":")[2]) for event in events]


def text_of(events: list[ServerEvent]) -> str:
    return "".join(event.json()["content"] for event in events if event.name == "chunk")


async def read(events: ServerEvents, into: list[ServerEvent]) -> None:
    """Follow a stream to its end."""
    async for event in events:
        into.append(event)  # noqa: PERF401 - others look on


async def until(condition: Callable[[], bool]) -> None:
    """Let a moment come."""
    while not condition():  # noqa: ASYNC110 - what is looked at tells nobody
        await asyncio.sleep(0.01)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["GET", "POST"])
def test_cut_lines(
    relay: RelayProcess, simulator: Simulator, way: str, size: Size, seed: int
) -> None:
    """However often the line is cut, each stream is resumed: no id is missing, none is double."""
    dice, many = random.Random(seed), size.streams
    lowest = HEADERS if way == "POST" else 1  # a POST without an id is never sent again
    line = WireCutter(relay.port, lambda: dice.randrange(lowest, LONGEST_ANSWER))

    def followed(number: int) -> ServerEvents:
        options: dict[str, Any] = {"headers": relay.headers, "attempts": 30}
        if way == "GET":
            return mnb.sse(line.url + relay.ask(f"Story {number}", 50), **options)
        body = {"prompt": f"Story {number}", "max_tokens": 50}
        return mnb.sse(f"{line.url}/api/chat/stream", method=way, json=body, **options)

    streams: list[list[ServerEvent]] = [[] for _ in range(many)]

    async def follow_all() -> None:
        async with line.listening():
            asked = [await asyncio.to_thread(followed, n) for n in range(many)]
            await asyncio.gather(*map(read, asked, streams))

    asyncio.run(follow_all())
    assert line.cuts >= many // 2
    assert simulator.stats()["streams"]["opened"] == many
    for events in streams:
        assert numbers(events) == list(range(1, len(events) + 1))
        assert [event.name for event in events if event.name in ENDS] == ["complete"]
        assert events[-1].json()["characters"] == len(text_of(events)) > 0


@pytest.mark.timeout(300)
def test_a_killed_relay(relay: RelayProcess, simulator: Simulator, size: Size, seed: int) -> None:
    """Ended streams are told again whole; each that was cut off ends with one error, for all."""
    dice, many = random.Random(seed), min(size.streams, 60)
    ended = [relay.ask(f"Note {n}", 10) for n in range(many)]
    before = [list(mnb.sse(relay.url + path)) for path in ended]
    simulator.chunk_delay = 0.03
    cut = [relay.ask(f"Write a long story, in detail: {n}", 4000) for n in range(many)]
    moment = dice.randrange(3, 30)
    streams: list[list[ServerEvent]] = [[] for _ in range(many)]

    async def kill_in_the_middle() -> None:
        following = [mnb.sse(relay.url + path) for path in cut]
        reading = asyncio.gather(*map(read, following, streams))
        await until(lambda: min(map(len, streams)) >= moment)
        relay.kill()
        relay.start()
        await reading

    asyncio.run(kill_in_the_middle())
    assert [list(mnb.sse(relay.url + path)) for path in ended] == before
    for path, events in zip(cut, streams, strict=True):
        assert [event.name for event in events if event.name in ENDS] == ["error"]
        assert "relay was stopped" in events[-1].json()["message"]
        assert numbers(events) == list(range(1, len(events) + 1))
        again = list(mnb.sse(relay.url + path))
        assert [event.name for event in again if event.name in ENDS] == ["error"]
        assert text_of(events).startswith(text_of(again))


def test_a_job_outlives_the_relay(relay: RelayProcess, tmp_path: Path) -> None:
    """Everybody who followed a job hears of its end, though the relay was killed in between."""
    connection = Connection(resolve("key", "http://127.0.0.1:9", home=tmp_path / "relay"))
    go = threading.Event()
    with Queue(connection=connection, bus=EventBus(connection.portal)) as queue:

        @queue.handler("wait")
        def wait(_: Any) -> str:
            go.wait(60)
            return "done"

        relay.post("/api/jobs", {"name": "wait", "jobId": "one"})
        url = f"{relay.url}/api/jobs/one/events"
        streams: list[list[ServerEvent]] = [[], [], []]

        async def live_on() -> None:
            following = [
                mnb.sse(url, headers=relay.headers, ends=["completed", "failed"]) for _ in streams
            ]
            reading = asyncio.gather(*map(read, following, streams))
            await until(lambda: all(streams))
            with queue.work():
                await until(lambda: all(events[-1].name == "active" for events in streams))
                relay.kill()
                relay.start()
                go.set()
                await reading

        asyncio.run(live_on())
    for events in streams:
        assert [event.name for event in events if event.name == "completed"] == ["completed"]
        assert events[-1].json()["result"] == "done"
