"""Law of crashes: kill workers at any moment; no job is lost, stuck, failed or paid for twice."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from mistral_nb.client import Connection
from mistral_nb.jobs.crew import QueueCrews
from mistral_nb.jobs.shards import ROWS_AT_ONCE
from mistral_nb.labelling import start_run
from mistral_nb.settings import resolve
from mistral_nb.simulator import Faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mistral_nb.jobs import Queue
    from mistral_nb.simulator import Simulator
    from tests.faults.sizes import Size

WORKERS = 2
CONCURRENCY = 5
LEASE = 1.5


@pytest.fixture
def start(url: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start workers in processes of their own; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(queue: Queue, server: str = "http://127.0.0.1:9") -> subprocess.Popen[str]:
        words = [url, queue.name, server, str(tmp_path / "home"), str(LEASE)]
        command = [sys.executable, "-m", "tests.faults.job_victim", *words]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ended(queue: Queue) -> int:
    counts = queue.counts().result()
    return sum(counts[status] for status in ("completed", "failed", "cancelled", "uncertain"))


def work_and_be_killed(
    start: Callable[[], subprocess.Popen[str]],
    simulator: Simulator,
    requests: int,
    size: Size,
    seed: int,
) -> None:
    """Start workers, and kill one of them, now and then, until the last kill is done.

    Args:
        start: Starts one.
        simulator: Counts what they have paid for.
        requests: How many that will be.
        size: How many kills.
        seed: Of the moments.
    """
    dice = random.Random(seed)
    workers = [start() for _ in range(WORKERS)]
    for kill in range(size.worker_kills):
        wanted = requests * (kill + dice.uniform(0.1, 0.9)) / (size.worker_kills + 1)
        wait_until(lambda wanted=wanted: simulator.stats()["chat_requests"] >= wanted)
        number = dice.randrange(WORKERS)
        workers[number].kill()
        workers[number] = start()


@pytest.mark.timeout(300)
def test_killed_workers(
    make_queue: Callable[..., Queue],
    make_simulator: Callable[..., Simulator],
    start: Callable[..., subprocess.Popen[str]],
    seed: int,
    size: Size,
) -> None:
    """Every job ends completed, or listed as uncertain; the server was paid once for each."""
    many = size.jobs
    simulator = make_simulator(faults=Faults(latency=0.02))
    queue = make_queue(lease=LEASE)
    jobs = [{"name": "complete", "data": {"prompt": f"Ticket {n}"}} for n in range(many)]
    queue.add_many(jobs).result()
    work_and_be_killed(lambda: start(queue, simulator.url), simulator, many, size, seed)
    wait_until(lambda: ended(queue) == many, size.patience)
    counts = queue.counts().result()
    assert counts["completed"] + counts["uncertain"] == many, counts
    assert counts["uncertain"] <= size.worker_kills * CONCURRENCY
    stats = simulator.stats()
    assert stats["chat_repeated"] == 0
    assert many - counts["uncertain"] <= stats["chat_requests"] <= many
    listed = queue.jobs("uncertain", limit=many).result()
    assert len(listed) == counts["uncertain"]
    for doubt in listed:  # a person decides to pay again
        assert queue.replay(doubt.id).result()
    wait_until(lambda: queue.counts().result()["completed"] == many)


@pytest.mark.timeout(300)
def test_killed_workers_of_a_labelling_run(
    make_queue: Callable[..., Queue],
    make_simulator: Callable[..., Simulator],
    start: Callable[..., subprocess.Popen[str]],
    seed: int,
    size: Size,
) -> None:
    """Every row is labelled; what was sent twice is listed, and no more than was under way."""
    rows = size.jobs
    simulator = make_simulator(faults=Faults(latency=0.02))
    connection = Connection(resolve("key", simulator.url))
    queue = make_queue(connection, lease=LEASE)
    df = pd.DataFrame({"text": [f"Parcel {n} is late" for n in range(rows)]})
    crews = QueueCrews(lambda: queue, named=True)
    labels = ["delivery", "refund"]
    run = start_run(connection, queue.bus, df, prompt="Sort: {text}", labels=labels, crews=crews)
    work_and_be_killed(lambda: start(queue, simulator.url), simulator, rows, size, seed)
    assert run.result(size.patience)["label"].notna().all()
    stats = simulator.stats()
    doubts = (run.report["kind"] == "uncertain").sum()
    assert stats["chat_requests"] == rows + stats["chat_repeated"]
    assert stats["chat_repeated"] <= doubts <= size.worker_kills * CONCURRENCY * ROWS_AT_ONCE


@pytest.mark.full
def test_poison(
    make_queue: Callable[..., Queue], start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """A job that kills its worker each time ends as failed, and holds up nobody else."""
    queue = make_queue(lease=LEASE)
    poison = queue.add("poison").result()
    touched = tmp_path / "touched"
    queue.add_many(
        [{"name": "touch", "data": {"file": str(touched), "number": n}} for n in range(20)]
    ).result()
    worker = start(queue)
    end = time.monotonic() + 240
    while not poison.refresh().result().ended:
        assert time.monotonic() < end
        if worker.poll() is not None:
            worker = start(queue)
        time.sleep(0.05)
    snapshot = poison.refresh().result()
    assert snapshot.status == "failed"
    assert "worker was lost 6 times" in str(snapshot.error)
    wait_until(lambda: ended(queue) == 21)
    assert queue.counts().result()["completed"] == 20
    assert set(touched.read_text().split()) == {str(n) for n in range(20)}


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
