"""Laws of bad weather for jobs: a server that dies, a cell that blocks, an API that refuses."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb.client import Connection
from mistral_nb.events import EventBus
from mistral_nb.jobs import Job, Queue
from mistral_nb.settings import resolve
from tests.faults.job_victim import touch
from tests.recorder import Arrival, Recorder, Say, chat_reply, refusal
from tests.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.sizes import Size

STARTS = 10
"""Starts a second that all workers together are allowed."""
PAUSE = 2.7
"""Seconds that the server asks for, now and then."""
ON_THE_WIRE = 1.5
"""Seconds in which requests may still arrive that crossed an answer on their way, on a busy
machine as well."""


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may kill."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer(tmp_path / "redis")
    yield server
    server.kill()


@pytest.mark.redis
@pytest.mark.timeout(600)
def test_redis_is_killed_and_comes_back(
    own_redis: RedisServer, offline: Connection, size: Size
) -> None:
    """No job that was acknowledged is lost when Redis dies, and workers take up work again."""
    queue = Queue(own_redis.url, connection=offline, bus=EventBus(offline.portal), lease=2.0)
    done: Counter[int] = Counter()

    @queue.handler("count")
    async def count(data: int) -> int:
        done[data] += 1
        return data

    acknowledged: list[Job] = []

    def produce() -> None:
        for number in range(size.jobs):
            acknowledged.append(queue.add("count", number).result(60))
            time.sleep(0.005)

    producer = threading.Thread(target=produce)
    with queue, queue.work(concurrency=5):
        producer.start()
        for share in (0.2, 0.6):
            while len(acknowledged) < size.jobs * share:
                time.sleep(0.005)
            own_redis.kill()
            time.sleep(0.3)
            own_redis.start()
        producer.join(120)
        assert [job.result(60) for job in acknowledged] == list(range(size.jobs))
    assert set(done) == set(range(size.jobs))


@pytest.mark.full
@pytest.mark.redis
def test_an_idle_worker_wakes_for_a_job_that_is_due(
    redis_server: RedisServer, offline: Connection
) -> None:
    """A wait for jobs that is longer than the Redis client's patience still ends in time."""
    bus = EventBus(offline.portal)
    with Queue(redis_server.url, "idle", connection=offline, bus=bus) as queue:

        @queue.handler("late")
        async def late(_: Any) -> str:
            return "here"

        job = queue.add("late", delay=6).result()
        with queue.work():
            assert job.result(20) == "here"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["busy", pytest.param("asleep", marks=pytest.mark.full)])
def test_a_blocking_cell_runs_nothing_twice(
    make_queue: Callable[..., Queue], url: str, tmp_path: Path, size: Size, kind: str
) -> None:
    """While a cell blocks for far more than the lease, its worker keeps its jobs."""
    lease = 5.0  # renewed in that time on a busy machine as well
    queue = make_queue(lease=lease)
    queue.handler("touch")(touch)
    touched = tmp_path / "touched"
    data = {"file": str(touched), "seconds": lease * 1.25}
    jobs = [{"name": "touch", "data": {**data, "number": n}} for n in range(8)]
    other = [sys.executable, "-m", "tests.faults.job_victim", url, queue.name]
    other += ["http://127.0.0.1:9", str(tmp_path / "home"), str(lease)]
    with subprocess.Popen(other, stdout=subprocess.PIPE, text=True) as rival:
        assert rival.stdout is not None
        assert rival.stdout.readline() == "working\n"
        added = queue.add_many(jobs).result()
        with queue.work(concurrency=4):
            until = time.monotonic() + size.block
            while time.monotonic() < until:
                time.sleep(size.block if kind == "asleep" else 0)
            for job in added:
                job.result(60)
        rival.kill()
    assert sorted(map(int, touched.read_text().split())) == list(range(8))
    assert all(each.stalls == 0 for each in queue.jobs("completed").result())


def rough() -> Callable[[int, Arrival], Say]:
    """Refuse each prompt's first request, and its third, ... with 429 or 5xx; some with a pause.

    Not by the dice: an unlucky job's doubling waits would be as long as its luck is bad.
    """
    dice = random.Random(7)
    troubles = [refusal(429), refusal(500), refusal(503)]
    asked: Counter[str] = Counter()

    def script(number: int, arrival: Arrival) -> Say:
        asked[arrival.prompt] += 1
        if number % 60 == 25:  # the starts before it are the limit's alone
            return refusal(429, retry_after=f"{PAUSE:g}")
        if asked[arrival.prompt] % 2:
            return dice.choice(troubles)
        return Say(body=chat_reply(arrival.prompt[::-1]))

    return script


@pytest.mark.timeout(600)
def test_half_of_all_requests_refused(
    make_queue: Callable[..., Queue], tmp_path: Path, size: Size
) -> None:
    """All jobs are done in the end, the limit and each pause kept by all workers together."""
    recorder = Recorder()
    servers = [
        Connection(resolve("a-key", recorder.url, home=tmp_path / f"home{n}", timeout=5))
        for n in range(2)
    ]
    queues = [make_queue(server) for server in servers]
    data: list[dict[str, Any]] = [
        {"name": "complete", "data": {"prompt": f"r{n}"}, "attempts": 30, "backoff": 0.02}
        for n in range(size.refused)
    ]
    with queues[0].work():  # what the first request imports must not make starts bunch up
        queues[0].add("complete", {"prompt": "warm"}).result().result(60)
    recorder.arrivals.clear()
    recorder.script = rough()
    jobs = queues[0].add_many(data).result()
    begun = time.monotonic()
    workers = [queue.work(concurrency=5, limiter=(STARTS, 1.0)) for queue in queues]
    replies = [job.result(300) for job in jobs]
    for worker in workers:
        worker.stop()
    recorder.close()
    assert [reply["text"] for reply in replies] == [f"r{n}"[::-1] for n in range(size.refused)]
    # A request arrives after its job's start, however late on a busy machine.
    arrived = sorted(arrival.at - begun for arrival in recorder.arrivals)
    assert len(arrived) > STARTS
    assert all(at > number // STARTS - 0.05 for number, at in enumerate(arrived))
    pauses = [at - begun for at, said in recorder.answered if "retry-after" in said.headers]
    assert pauses
    for told in pauses:
        assert not [at for at in arrived if told + ON_THE_WIRE < at < told + PAUSE]
