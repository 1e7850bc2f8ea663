"""Laws of labelling through a queue: the table is that of the other engines, however it went."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from mistral_nb.client import Connection
from mistral_nb.errors import CostLimitError, InputError, RunError
from mistral_nb.jobs import crew
from mistral_nb.jobs.crew import QueueCrews
from mistral_nb.labelling import FilesSource, resume, start_run
from mistral_nb.settings import resolve
from mistral_nb.simulator import Faults

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.jobs import Queue
    from mistral_nb.labelling import Run
    from mistral_nb.simulator import Simulator

ROWS = 60
LABELS = ["billing", "delivery", "other"]


@pytest.fixture
def queue(make_queue: Callable[..., Queue], connection: Connection) -> Queue:
    return make_queue(connection)


@pytest.fixture
def label(queue: Queue, connection: Connection) -> Callable[..., Run]:
    """Start a run through the queue."""

    def start(df: pd.DataFrame, **options: Any) -> Run:
        options.setdefault("labels", LABELS)
        options.setdefault("crews", QueueCrews(lambda: queue, named=True))
        return start_run(connection, queue.bus, df, prompt="Which topic? {text}", **options)

    return start


def table(rows: int = ROWS) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"Parcel {n} is late" for n in range(rows)]})


def test_the_table_is_the_same(label: Callable[..., Run], queue: Queue) -> None:
    """Workers give each row the label and the reason that online requests give it."""
    df = pd.concat([table(), pd.DataFrame({"text": [None]})])
    run = label(df, name="by-workers")
    with queue.work():
        found = run.result(60)
    online = label(df, name="online", mode="online", crews=None, reuse=False)
    pd.testing.assert_frame_equal(found, online.result(60))
    assert run.mode == "queue"
    assert run.cost == pytest.approx(online.cost)


def test_a_second_call_sends_nothing(
    label: Callable[..., Run], queue: Queue, simulator: Simulator
) -> None:
    """A run that was left and taken up, in between and at its end, is paid for once."""
    run = label(table(), name="left")
    with queue.work():
        until(lambda: simulator.stats()["chat_requests"] > 5)
        run.stop()
        again = label(table(), name="left").result(60)
    assert again["label"].notna().all()
    assert label(table(), name="left").result(60)["label"].tolist() == again["label"].tolist()
    stats = simulator.stats()
    assert (stats["chat_requests"], stats["chat_repeated"]) == (ROWS, 0)


def test_what_passes_is_tried_again(
    label: Callable[..., Run], queue: Queue, simulator: Simulator
) -> None:
    """Rate limits and errors of the server cost time, and no row and no second payment."""
    simulator.faults = Faults(error_rate=0.1, rate_limit_rate=0.1, retry_after=0.05)
    run = label(table(30), name="stormy")
    with queue.work():
        found = run.result(60)
    assert found["label"].notna().all()
    assert simulator.stats()["chat_repeated"] == 0


def test_a_lost_reply_is_listed(
    label: Callable[..., Run], queue: Queue, simulator: Simulator
) -> None:
    """A request whose reply was lost is sent again, and listed as uncertain: it may cost twice."""
    simulator.faults = Faults(lost_reply_rate=0.1)
    run = label(table(30), name="lossy", retries=9)
    with queue.work():
        found = run.result(60)
    assert found["label"].notna().all()
    kinds = run.report["kind"].tolist()
    assert set(kinds) == {"uncertain"}
    assert 0 < simulator.stats()["chat_repeated"] <= len(kinds)


def test_a_refused_row_has_its_reason(label: Callable[..., Run], queue: Queue) -> None:
    """A request that the server refuses is that row's error, not its neighbours'."""
    long = "word " * 300_000
    df = pd.DataFrame({"text": ["Parcel 1 is late", long, "Parcel 2 is late"]})
    with queue.work():
        found = label(df, name="refused").result(60)
    assert found["label"].notna().tolist() == [True, False, True], found["_error"].tolist()
    assert "maximum context length" in found["_error"][1]


def test_workers_of_another_server_refuse(
    label: Callable[..., Run], make_queue: Callable[..., Queue], make_simulator: Any, queue: Queue
) -> None:
    """A worker that talks to another server than the run answers nothing, and says so."""
    other = make_simulator()
    elsewhere = Connection(resolve(api_key="test-key", server_url=other.url))
    run = label(table(3), name="astray", retries=0)
    with make_queue(elsewhere).work():
        found = run.result(60)
    assert found["_error"].str.contains("this worker talks to").all()
    assert other.stats()["chat_requests"] == 0
    assert queue.counts().result()["failed"] == 1


def test_cancel_keeps_what_was_answered(
    label: Callable[..., Run], queue: Queue, simulator: Simulator
) -> None:
    """A cancelled run keeps every answer that was paid for, and sends nothing more."""
    simulator.faults = Faults(latency=0.05)
    run = label(table(200), name="cancelled")
    with queue.work(concurrency=1):
        until(lambda: run.counts["done"] >= 20)
        run.cancel()
        found = run.result(60)
    labelled = int(found["label"].notna().sum())
    assert 20 <= labelled < 200
    assert simulator.stats()["chat_requests"] == labelled
    assert found["_error"].dropna().str.contains("cancelled").all()


def test_no_request_is_repeated_in_silence(
    label: Callable[..., Run], queue: Queue, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends a job early, a request that may have been paid for is listed or kept."""
    monkeypatch.setattr(crew, "TIMEOUT", 1.0)
    simulator.faults = Faults(latency=0.1, lost_reply_rate=0.2, error_rate=0.1)
    run = label(table(40), name="doubtful", retries=9)
    with queue.work():
        assert run.result(120)["label"].notna().all()
    listed = run.report["kind"].tolist()
    assert set(listed) == {"uncertain"}
    assert 0 < simulator.stats()["chat_repeated"] <= len(listed)


def test_a_lost_job_keeps_what_it_paid_for(
    label: Callable[..., Run], queue: Queue, simulator: Simulator
) -> None:
    """Answers of a job that somebody cancelled in the queue are in the table all the same."""
    simulator.faults = Faults(latency=0.2)
    run = label(table(20), name="robbed", retries=0)
    with queue.work():
        until(lambda: simulator.stats()["chat_requests"] > 8)
        (job,) = queue.jobs("active").result()
        queue.cancel(job.id).result()
        found = run.result(60)
    assert 8 <= found["label"].notna().sum() < 20
    assert simulator.stats()["chat_repeated"] == 0


def test_cancel_waits_for_no_pause(
    label: Callable[..., Run], queue: Queue, simulator: Simulator
) -> None:
    """A run that is cancelled while the server wants a long pause ends at once, with its answers."""
    simulator.faults = Faults(rate_limit_rate=0.2, retry_after=3600)
    run = label(table(20), name="held")
    with queue.work():
        until(lambda: queue.counts().result()["delayed"] == 1)
        run.cancel()
        found = run.result(60)
    answered = simulator.stats()["chat_requests"]
    assert found["label"].notna().sum() == answered > 0


def test_a_pause_keeps_shards_from_the_queue(label: Callable[..., Run], queue: Queue) -> None:
    """A paused run leaves the queue empty, and goes on when it may."""
    run = label(table(20), name="paused")
    run.pause()
    until(lambda: run.status == "running")
    time.sleep(0.5)
    assert not any(queue.counts().result().values())
    with queue.work():
        run.unpause()
        assert run.result(60)["label"].notna().all()


@pytest.mark.parametrize("way", ["resubmit", "move_to_online"])
def test_stuck_jobs_go_elsewhere(
    label: Callable[..., Run], queue: Queue, simulator: Simulator, way: str
) -> None:
    """Jobs that nobody takes up are sent once: as new jobs, or online."""
    run = label(table(30), name="stuck")
    until(lambda: run.counts.get("running") == 30)
    assert queue.counts().result()["queued"] == 2
    follower = run.resubmit(0) if way == "resubmit" else run.move_to_online()
    if way == "resubmit":
        until(lambda: follower.done() or queue.counts().result()["cancelled"] == 2)
        queue.work()
    assert follower.result(60)["label"].notna().all()
    queue.work()
    assert (simulator.stats()["chat_requests"], simulator.stats()["chat_repeated"]) == (30, 0)


def test_failed_rows_are_sent_again(
    label: Callable[..., Run], queue: Queue, simulator: Simulator
) -> None:
    """retry_failed sends the rows without an answer through the queue, and no others."""
    simulator.faults = Faults(error_rate=1.0)
    run = label(table(10), name="again", retries=0)
    with queue.work():
        assert run.result(60)["_error"].notna().all()
        simulator.faults = Faults()
        assert run.retry_failed().result(60)["label"].notna().all()
    assert simulator.stats()["chat_repeated"] == 0


def test_a_limit_of_cost_holds(
    label: Callable[..., Run], queue: Queue, simulator: Simulator
) -> None:
    """Shards that the limit does not pay for never reach the queue."""
    options = {"labels": None, "reuse": False, "shard_lines": 10}
    free = label(table(), name="free", mode="online", crews=None, **options)
    free.result(60)
    limit = 0.6 * free.cost
    run = label(table(), name="dear", max_cost=limit, **options)
    with queue.work(), pytest.raises(CostLimitError):
        run.result(60)
    assert ROWS < simulator.stats()["chat_requests"] < 2 * ROWS
    assert run.cost <= limit


def test_a_sample_and_a_fresh_run(
    label: Callable[..., Run], queue: Queue, simulator: Simulator
) -> None:
    """A sample's answers are taken over by the whole run; fresh=True pays for all of it again."""
    with queue.work():
        assert len(label(table(30), name="s", sample=10).result(60)) == 10
        label(table(30), name="s").result(60)
        assert simulator.stats()["chat_requests"] == 30
        label(table(30), name="s", fresh=True).result(60)
    assert simulator.stats()["chat_requests"] == 60


def test_files_go_through_the_queue(
    label: Callable[..., Run], queue: Queue, tmp_path: Path
) -> None:
    """Parts of a data set in files are labelled by workers as a table is."""
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        table(5).to_csv(tmp_path / "in" / f"{name}.csv", index=False)
    run = label(FilesSource(tmp_path / "in", tmp_path / "out"), name="files")
    with queue.work():
        run.result(60)
    parts = [pd.read_parquet(path) for path in sorted((tmp_path / "out").glob("*.parquet"))]
    assert [part["label"].notna().sum() for part in parts] == [5, 5]


def test_a_lost_worker_is_mentioned(
    queue: Queue,
    make_queue: Callable[..., Queue],
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that is at a job for longer than any request takes is said to be gone."""
    monkeypatch.setattr(crew, "LONELY", 0.2)
    connection = Connection(resolve(api_key="test-key", server_url=simulator.url, timeout=1))
    elsewhere = make_queue(connection)

    @elsewhere.handler("requests")
    async def stuck(_: Any) -> None:
        await asyncio.sleep(60)

    with elsewhere.work(grace=0) as gone:
        run = start_run(
            connection,
            queue.bus,
            table(3),
            prompt="Which topic? {text}",
            labels=LABELS,
            crews=QueueCrews(lambda: queue, named=True),
        )
        until(lambda: "mistral-nb worker" in run.message)
        gone.stop(grace=0)
    with queue.work():
        assert run.result(60)["label"].notna().all()


def test_a_refused_worker_is_mentioned(
    make_queue: Callable[..., Queue],
    make_simulator: Callable[..., Simulator],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run whose worker here was turned away says why, loses no row to it, and goes on with a key."""
    monkeypatch.setattr(crew, "LONELY", 0.2)
    server = make_simulator(api_keys={"right-key"})
    wrong, right = (
        make_queue(Connection(resolve(key, server.url, home=tmp_path / key)))
        for key in ("wrong-key", "right-key")
    )
    crews = QueueCrews(lambda: wrong, named=True)
    wrong.work()
    run = start_run(
        right.connection, right.bus, table(30), prompt="Which? {text}", labels=LABELS, crews=crews
    )
    until(lambda: "refuses its key" in run.message)
    with right.work():
        assert run.result(60)["label"].notna().all()
    assert server.stats()["chat_repeated"] == 0


def test_a_closed_queue_is_not_waited_for(label: Callable[..., Run], queue: Queue) -> None:
    """A run whose queue was closed under it ends at once, and says where its jobs go on."""
    run = label(table(3), name="shut")
    until(lambda: queue.counts().result()["queued"] == 1)
    queue.close()
    with pytest.raises(RunError, match="go on in the queue"):
        run.result(30)


def test_nobody_works(
    label: Callable[..., Run], queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that no worker takes up says so, and how to start one."""
    monkeypatch.setattr(crew, "LONELY", 0.2)
    said = queue.bus.stream("run:progress")
    run = label(table(3), name="lonely")
    messages: list[str] = []
    until(lambda: messages.extend(each.message for each in said.drain()) or _no_worker(messages))
    with queue.work():
        assert run.result(60)["label"].notna().all()
    assert "No worker" not in run.message


def test_a_run_knows_its_queue(
    label: Callable[..., Run], queue: Queue, connection: Connection, make_queue: Any, tmp_path: Path
) -> None:
    """Going on without the run's queue is refused with a message that names it."""
    run = label(table(3), name="kept")
    until(lambda: queue.counts().result()["queued"] == 1)
    run.stop()
    elsewhere = make_queue(connection, name="elsewhere")
    for crews in (None, QueueCrews(lambda: elsewhere, named=False)):
        with pytest.raises(RunError, match=queue.name):
            resume(connection, queue.bus, "kept", crews=crews).result(30)
    with queue.work():
        mine = QueueCrews(lambda: queue, named=True)
        found = resume(connection, queue.bus, "kept", crews=mine).result(60)
    assert found["label"].notna().all()


@pytest.mark.parametrize("options", [{"crews": None, "mode": "queue"}, {"mode": "online"}])
def test_the_mode_and_the_queue_go_together(
    label: Callable[..., Run], options: dict[str, Any]
) -> None:
    """A queue with another mode, or the mode without a queue, is refused before anything is sent."""
    with pytest.raises(InputError, match="queue="):
        label(table(1), **options)


def _no_worker(messages: list[str]) -> bool:
    return any("mistral-nb worker" in each for each in messages)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
