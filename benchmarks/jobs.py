"""Background jobs: added and done a second, on the file and on Redis, beside plain BullMQ.

    python benchmarks/jobs.py [--jobs 3000] [--concurrency 5] [--runs 3]

Jobs that do nothing are added in bulk by one process and then done by another, so the figures
are what the queue itself costs. Every way runs in fresh processes, in turn, so that all meet
the same weather; medians over the runs. Redis is append-only with an fsync a second, its usual
setting; the file is synced at every commit. CPU is the worker's own, which a busy machine
disturbs less than the time on the clock. Without redis-server only the file is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NAME = "bench"


class Clock:
    """Time on the clock and this process's CPU, in seconds, from when it was made."""

    def __init__(self) -> None:
        self.seconds, self.cpu = -time.perf_counter(), -time.process_time()

    def stop(self) -> Clock:
        """Take the time; return itself."""
        self.seconds += time.perf_counter()
        self.cpu += time.process_time()
        return self


def our_queue(url: str) -> Any:
    """Open a queue of ours, with a handler that does nothing."""
    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus
    from mistral_nb.jobs import Queue
    from mistral_nb.settings import resolve

    connection = Connection(resolve("bench", "http://127.0.0.1:9", home=tempfile.mkdtemp()))
    queue = Queue(url, NAME, connection=connection, bus=EventBus(connection.portal))

    @queue.handler("nothing")
    async def nothing(data: Any) -> None:
        pass

    return queue


def our_add(url: str, jobs: int, _: int) -> Clock:
    """Add jobs in bulk."""
    with our_queue(url) as queue:
        queue.add("nothing").result()  # the first one opens files and connections
        clock = Clock()
        queue.add_many([{"name": "nothing", "data": n} for n in range(jobs)]).result()
        return clock.stop()


def our_work(url: str, jobs: int, concurrency: int) -> Clock:
    """Do all jobs."""
    with our_queue(url) as queue:
        clock = Clock()
        with queue.work(concurrency) as worker:
            while worker.done <= jobs:
                time.sleep(0.005)
            clock.stop()
        assert queue.counts().result()["completed"] == jobs + 1
        return clock


def plain_add(url: str, jobs: int, _: int) -> Clock:
    """Add jobs by bullmq's own addBulk."""
    from bullmq import Queue

    async def add() -> Clock:
        queue = Queue(NAME, {"connection": url})
        await queue.add("nothing", 0)
        clock = Clock()
        for first in range(0, jobs, 500):
            part = range(first, min(jobs, first + 500))
            await queue.addBulk([{"name": "nothing", "data": n, "opts": {}} for n in part])
        clock.stop()
        await queue.close()
        return clock

    return asyncio.run(add())


def plain_work(url: str, jobs: int, concurrency: int) -> Clock:
    """Do all jobs with bullmq's own worker."""
    from bullmq import Queue, Worker

    async def work() -> Clock:
        done, over = 0, asyncio.Event()

        async def nothing(*_: Any) -> None:
            nonlocal done
            done += 1
            if done > jobs:
                over.set()

        clock = Clock()
        worker = Worker(NAME, nothing, {"connection": url, "concurrency": concurrency})
        await over.wait()
        clock.stop()
        await worker.close()
        queue = Queue(NAME, {"connection": url})
        assert await queue.getCompletedCount() == jobs + 1
        await queue.close()
        return clock

    return asyncio.run(work())


Step = Callable[[str, int, int], Clock]
WAYS: dict[str, tuple[str, Step, Step]] = {
    "file": ("mistral_nb, SQLite file", our_add, our_work),
    "redis": ("mistral_nb, Redis", our_add, our_work),
    "bullmq": ("bullmq (Python), plain", plain_add, plain_work),
}


def measure(way: str, step: str, url: str, jobs: int, concurrency: int) -> None:
    """Take one step of one way in this process and print its figures as JSON."""
    clock = WAYS[way][1 if step == "add" else 2](url, jobs, concurrency)
    figures = {f"{step} rate": jobs / clock.seconds, f"{step} cpu": clock.cpu / jobs * 1e6}
    print(json.dumps(figures))


class Redis:
    """A server of the benchmark's own; every run gets a database of its own."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = ["redis-server", "--port", str(self.port), "--save", "", "--databases", "999"]
        command += ["--appendonly", "yes", "--dir", tempfile.mkdtemp(), "--bind", "127.0.0.1"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.runs = 0
        time.sleep(0.5)

    def url(self) -> str:
        """Return the address of an empty database."""
        self.runs += 1
        return f"redis://127.0.0.1:{self.port}/{self.runs}"


def run_way(way: str, redis: Redis | None, options: argparse.Namespace) -> dict[str, float]:
    """Measure one way once: adding in one process, doing in another."""
    url = f"sqlite:///{tempfile.mkdtemp()}/queue.sqlite"
    if way != "file":
        assert redis is not None
        url = redis.url()
    figures: dict[str, float] = {}
    for step in ("add", "work"):
        command = [sys.executable, __file__, "--measure", way, step, url]
        command += ["--jobs", str(options.jobs), "--concurrency", str(options.concurrency)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, env=environment, text=True
        )
        figures |= json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Measure every way in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--jobs", type=int, default=3000)
    parser.add_argument("--concurrency", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure, options.jobs, options.concurrency)
        return
    redis = Redis() if shutil.which("redis-server") else None
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.runs):
        for way in WAYS:
            if way == "file" or redis is not None:
                found.setdefault(way, []).append(run_way(way, redis, options))
    if redis is not None:
        redis.process.terminate()
        redis.process.wait()
    tell(found, options)


def tell(found: dict[str, list[dict[str, float]]], options: argparse.Namespace) -> None:
    """Print medians, and how the Redis engine compares with plain bullmq."""
    print(
        f"{options.jobs:,} jobs that do nothing, {options.concurrency} at once, "
        f"medians of {options.runs} runs in turn"
    )
    print(f"{'':26} {'added/s':>8} {'CPU us':>7} {'done/s':>8} {'CPU us':>7}")
    medians: dict[str, dict[str, float]] = {}
    for way, runs in found.items():
        names = ("add rate", "add cpu", "work rate", "work cpu")
        medians[way] = {name: statistics.median(run[name] for run in runs) for name in names}
        cells = [medians[way][name] for name in names]
        print("{:26} {:8,.0f} {:7.0f} {:8,.0f} {:7.0f}".format(WAYS[way][0], *cells))
    if "bullmq" in medians:
        ours, plain = medians["redis"], medians["bullmq"]
        print(
            f"On Redis ours does {ours['work rate'] / plain['work rate']:.0%} of plain bullmq's "
            f"jobs a second, with {ours['work cpu'] / plain['work cpu']:.0%} of its CPU."
        )


if __name__ == "__main__":
    main()
