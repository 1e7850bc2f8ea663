"""Laws of every queue, whichever engine keeps it."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
import traceback
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb.errors import InputError, JobError, SettingsError, WaitTimeout
from mistral_nb.events import EventBus
from mistral_nb.jobs import CALLBACK, GiveUp, Job, JobContext, Queue, RetryLater

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.client import Connection


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that comes soon."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def test_a_job_is_done_and_its_result_comes_back(queue: Queue) -> None:
    """What the handler makes of the data is what waiting for the job gives."""

    @queue.handler("double")
    async def double(data: dict[str, int]) -> dict[str, int]:
        return {"twice": 2 * data["n"]}

    job = queue.add("double", {"n": 21}).result()
    assert dict(job) == {
        "jobId": job.id, "status": "queued", "statusUrl": f"/api/jobs/{job.id}"
    }  # fmt: skip
    with queue.work():
        assert job.result(20) == {"twice": 42}
    assert job.status == "completed"
    snapshot = job.refresh().result()
    assert (snapshot.attempts_made, snapshot.data) == (1, {"n": 21})
    assert snapshot.added_at <= snapshot.started_at <= snapshot.ended_at
    assert queue.counts().result()["completed"] == 1


def test_everything_is_awaited_as_well(queue: Queue) -> None:
    """In a coroutine the same verbs are awaited."""

    @queue.handler("echo")
    def echo(data: Any) -> Any:
        return [data, threading.current_thread() is threading.main_thread()]

    async def cell() -> None:
        job = await queue.add("echo", "ä")
        assert await job == ["ä", False]
        again = await queue.get(job.id)
        assert again is not None
        assert await again == ["ä", False]
        assert await queue.get("no-such-job") is None

    with queue.work():
        asyncio.run(cell())


def test_one_id_is_one_job(queue: Queue) -> None:
    """An id that exists gives the job that is there, done or not; nothing runs twice."""
    ran: list[Any] = []

    @queue.handler("once")
    async def once(data: Any) -> Any:
        ran.append(data)
        return data

    first = queue.add("once", 1, job_id="invoice-7").result()
    assert queue.add("once", 2, job_id="invoice-7").result().id == first.id
    with queue.work():
        assert first.result(20) == 1
        third = queue.add("once", 3, job_id="invoice-7").result()
        assert dict(third)["status"] == "completed"
        assert third.result(20) == 1
    assert ran == [1]


def test_failures_are_tried_again_and_then_given_up(queue: Queue) -> None:
    """A job has its attempts; then it is in the dead-letter list, and can be replayed."""
    attempts: list[int] = []
    healthy = False

    @queue.handler("shaky")
    async def shaky(_: Any, context: JobContext) -> str:
        attempts.append(context.attempt)
        if not healthy:
            raise RuntimeError("no luck with a-secret-key")
        return "well"

    job = queue.add("shaky", attempts=3, backoff=0.01).result()
    with queue.work():
        with pytest.raises(JobError, match=r"failed: RuntimeError: no luck with \[key\]") as failed:
            job.result(20)
        assert (failed.value.status, failed.value.job_id) == ("failed", job.id)
        assert attempts == [1, 2, 3]
        (dead,) = queue.jobs("failed").result()
        assert (dead.id, dead.attempts_made, dead.attempts) == (job.id, 3, 3)
        healthy = True
        assert job.replay().result() is True
        assert job.result(20) == "well"
    assert attempts == [1, 2, 3, 1]
    assert queue.jobs("failed").result() == []
    assert job.replay().result() is False


def test_who_follows_a_replayed_job_hears_its_new_end(queue: Queue) -> None:
    """An end that a replay has undone is none: events go on to the one that holds."""
    healthy = threading.Event()

    @queue.handler("shaky")
    async def shaky(_: Any) -> str:
        if not healthy.is_set():
            raise GiveUp("not today")
        return "well"

    job = queue.add("shaky").result()
    followed = job.events()
    assert next(followed).name == "job:queued"
    with queue.work():
        with pytest.raises(JobError):
            job.result(20)
        healthy.set()
        assert job.replay().result() is True
        assert job.result(20) == "well"
        names = [record.name for record in followed]
    assert names[-1] == "job:completed"
    assert "job:failed" not in names
    assert [record.name for record in job.events()] == ["job:completed"]


def test_waits_double_and_are_jittered(queue: Queue) -> None:
    """Each wait is about twice the last; what the handler asks for is kept exactly."""
    began: list[float] = []

    @queue.handler("late")
    async def late(_: Any, context: JobContext) -> None:
        began.append(time.monotonic())
        if context.attempt == 3:
            raise RetryLater(0.3, "not yet")
        if context.attempt < 5:
            raise RuntimeError("again")

    job = queue.add("late", attempts=5, backoff=0.08).result()
    with queue.work():
        job.result(30)
    waits = [after - before for before, after in itertools.pairwise(began)]
    assert all(wait >= least for wait, least in zip(waits, (0.06, 0.12, 0.3, 0.48), strict=True))


def test_what_cannot_work_is_not_tried_again(queue: Queue) -> None:
    """GiveUp, an unusable result, a wrong argument and an unknown name end a job at once."""

    @queue.handler("hopeless")
    async def hopeless(data: str) -> Any:
        if data == "give up":
            raise GiveUp("there is no point")
        if data == "input":
            raise InputError("this row is wrong")
        return object()

    jobs = [queue.add("hopeless", kind).result() for kind in ("give up", "input", "no JSON")]
    jobs.append(queue.add("unheard-of").result())
    with queue.work():
        for job, reason in zip(
            jobs,
            ("there is no point", "row is wrong", "must be a value that JSON", "No handler"),
            strict=True,
        ):
            with pytest.raises(JobError, match=reason):
                job.result(20)
            assert job.refresh().result().attempts_made == 1


def test_a_job_has_a_time_limit(queue: Queue) -> None:
    """An attempt that takes too long is ended, and counts as a failure."""
    ended: list[str] = []

    @queue.handler("endless")
    async def endless(_: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cut")
            raise

    job = queue.add("endless", attempts=2, backoff=0.01, timeout=0.1).result()
    with queue.work(), pytest.raises(JobError, match=r"longer than its 0\.1 s"):
        job.result(20)
    assert ended == ["cut", "cut"]


def test_a_handler_that_cancels_itself_harms_nobody(queue: Queue) -> None:
    """A CancelledError from a handler is a failure of its job, and the worker goes on."""

    @queue.handler("suicide")
    async def suicide(_: Any) -> None:
        raise asyncio.CancelledError

    @queue.handler("fine")
    async def fine(_: Any) -> str:
        return "fine"

    with queue.work(concurrency=1) as worker:
        jobs = [queue.add("suicide", attempts=1).result() for _ in range(3)]
        for job in jobs:
            with pytest.raises(JobError, match="cancelled from inside"):
                job.result(20)
        assert queue.add("fine").result().result(20) == "fine"
        assert worker.running


def test_priorities_and_order(queue: Queue) -> None:
    """0 goes before 1, 1 before 2; within a priority, first come, first served."""
    order: list[str] = []

    @queue.handler("note")
    async def note(data: str) -> None:
        order.append(data)

    for data, priority in (("c", 2), ("d", 2), ("b", 1), ("a", 0), ("a2", 0)):
        queue.add("note", data, priority=priority).result()
    with queue.work(concurrency=1):
        until(lambda: len(order) == 5)
    assert order == ["a", "a2", "b", "c", "d"]


def test_a_delayed_job_waits_for_its_time(queue: Queue) -> None:
    """A delayed job does not start before its time, and needs nobody to wake it."""

    @queue.handler("now")
    async def now(_: Any) -> float:
        return time.time()

    with queue.work():
        added = time.time()
        job = queue.add("now", delay=0.4).result()
        assert dict(job)["status"] == "delayed"
        assert queue.counts().result()["delayed"] == 1
        assert job.result(20) >= added + 0.39


def test_cancelling(queue: Queue) -> None:
    """A waiting job never runs, a running one is ended, an ended one stays as it is."""
    started = threading.Event()
    ran: list[str] = []

    @queue.handler("long")
    async def long(data: str) -> None:
        ran.append(data)
        started.set()
        await asyncio.sleep(60)

    waiting = queue.add("long", "waiting").result()
    assert waiting.cancel().result() is True
    assert waiting.status == "cancelled"
    assert waiting.cancel().result() is False
    running = queue.add("long", "running").result()
    with queue.work():
        assert started.wait(20)
        assert running.cancel().result() is True
        for job in (running, waiting):
            with pytest.raises(JobError, match="was cancelled") as ended:
                job.result(20)
            assert ended.value.status == "cancelled"
    assert ran == ["running"]
    assert queue.counts().result() | {"cancelled": 2} == queue.counts().result()
    assert {each.id for each in queue.jobs("cancelled").result()} == {waiting.id, running.id}


def test_withdrawing(queue: Queue) -> None:
    """What no worker is at can be cancelled alone: a job under way goes on."""
    begun, let_go = threading.Event(), threading.Event()

    def withdrawn(job: Job) -> bool:
        return queue.portal.call(partial(queue.engine.cancel, job.id, active=False))

    @queue.handler("wait")
    def wait(_: object) -> str:
        begun.set()
        let_go.wait(20)
        return "done"

    under_way = queue.add("wait").result()
    with queue.work(concurrency=1):
        assert begun.wait(20)
        waiting = queue.add("wait").result()
        assert [withdrawn(under_way), withdrawn(waiting), withdrawn(waiting)] == [
            False,
            True,
            False,
        ]
        let_go.set()
        assert under_way.result(30) == "done"
    assert waiting.status == "cancelled"


def test_events_tell_a_job_from_its_present_state_to_its_end(queue: Queue) -> None:
    """Events begin with the state there is, end with the end, and the bus has them all."""
    go = threading.Event()

    @queue.handler("steps")
    def steps(_: Any, context: JobContext) -> str:
        assert go.wait(20)
        context.progress({"step": 1})
        return "done"

    heard: list[str] = []
    queue.bus.on("job:*", lambda record: heard.append(record.name))
    job = queue.add("steps").result()
    events = job.events()
    assert next(events).name == "job:queued"
    with queue.work():
        go.set()
        rest = list(events)
        names = [record.name for record in rest]
        assert names[-2:] == ["job:progress", "job:completed"]
        assert "job:active" in names
        assert rest[-2].progress == {"step": 1}
        assert (rest[-1].result, rest[-1].request_id, rest[-1].queue) == (
            "done", job.id, queue.name,
        )  # fmt: skip
        assert [record.name for record in job.events()] == ["job:completed"]
    until(lambda: "job:completed" in heard)
    assert heard[0] == "job:queued"


def test_events_reach_other_processes_too(make_queue: Callable[..., Queue]) -> None:
    """Who only watches hears of jobs that others add and others work on."""
    here, there = make_queue(), make_queue()

    @there.handler("far")
    async def far(data: int) -> int:
        return data + 1

    async def cell() -> list[str]:
        job = await here.add("far", 1)
        names = [record.name async for record in job.events()]
        assert await job == 2
        return names

    with there.work():
        assert asyncio.run(cell())[-1] == "job:completed"


def test_a_limit_holds_for_all_workers_together(make_queue: Callable[..., Queue]) -> None:
    """In no stretch of the limit's time do more jobs start than it allows, over all workers."""
    queues = [make_queue(), make_queue()]
    began: list[float] = []
    for queue in queues:

        @queue.handler("tick")
        async def tick(_: Any) -> None:
            began.append(time.monotonic())

    queues[0].add_many([{"name": "tick"} for _ in range(16)]).result()
    workers = [queue.work(limiter=(5, 0.5)) for queue in queues]
    until(lambda: len(began) == 16)
    for worker in workers:
        worker.stop()
    began.sort()
    gaps = [later - first for first, later in zip(began, began[5:], strict=False)]
    assert min(gaps) > 0.3  # a busy machine may be late to begin, by a little


def test_many_at_once(make_queue: Callable[..., Queue]) -> None:
    """Added in bulk, worked on by two workers: each job runs once."""
    queues = [make_queue(), make_queue()]
    ran: Counter[int] = Counter()
    for queue in queues:

        @queue.handler("count")
        async def count(data: int) -> int:
            ran[data] += 1
            return data

    jobs = queues[0].add_many([{"name": "count", "data": n} for n in range(300)]).result()
    with queues[0].work(), queues[1].work():
        assert [job.result(30) for job in jobs] == list(range(300))
    assert set(ran.values()) == {1}
    assert len(ran) == 300


def test_a_blocking_handler_keeps_its_job(make_queue: Callable[..., Queue]) -> None:
    """A handler that blocks for less than the lease, in whatever way, runs once."""
    queue, other = make_queue(lease=2.0), make_queue(lease=2.0)
    ran: list[str] = []
    for each in (queue, other):

        @each.handler("block")
        async def block(data: str) -> None:
            ran.append(data)
            time.sleep(0.7)  # noqa: ASYNC251 - the point of the test

    with queue.work(), other.work():
        jobs = [queue.add("block", f"{n}").result() for n in range(3)]
        for job in jobs:
            job.result(20)
    assert sorted(ran) == ["0", "1", "2"]


def test_a_stopped_worker_hands_back_what_it_cannot_finish(
    make_queue: Callable[..., Queue],
) -> None:
    """A graceful stop ends what ends in time; the rest runs elsewhere, no attempt is lost."""
    queue, other = make_queue(), make_queue()
    started = threading.Event()

    @queue.handler("slow")
    async def slow(data: float) -> str:
        started.set()
        await asyncio.sleep(data)
        return "here"

    @other.handler("slow")
    async def quick(_: float, context: JobContext) -> str:
        return f"there, attempt {context.attempt}"

    short, long = (queue.add("slow", seconds).result() for seconds in (0.2, 60))
    worker = queue.work()
    assert started.wait(20)
    worker.stop(grace=1.0)
    assert not worker.running
    assert short.result(20) == "here"
    with other.work():
        assert long.result(20) == "there, attempt 1"


def test_a_callback_is_a_job_of_its_own(queue: Queue) -> None:
    """A job with a callback_url leaves one job, whose data say how it ended."""
    told: list[dict[str, Any]] = []

    @queue.handler("work")
    async def work(data: str) -> str:
        if data == "bad":
            raise GiveUp("it is bad")
        return "good"

    @queue.handler(CALLBACK)
    async def deliver(data: dict[str, Any]) -> None:
        told.append(data)

    queue.status_base = "http://relay"
    good, bad = (
        queue.add("work", data, callback_url="https://example.org/hook").result()
        for data in ("good", "bad")
    )
    with queue.work():
        until(lambda: len(told) == 2)
    found = {each["data"]["jobId"]: each for each in told}
    assert found[good.id].pop("timestamp") is not None
    assert found[good.id] == {
        "url": "https://example.org/hook",
        "event": "job.completed",
        "data": {
            "jobId": good.id, "name": "work", "status": "completed", "result": "good",
            "error": None, "statusUrl": f"http://relay/api/jobs/{good.id}",
        },
    }  # fmt: skip
    assert found[bad.id]["event"] == "job.failed"
    assert found[bad.id]["data"]["error"] == "it is bad"
    assert queue.get(f"callback-{good.id}").result() is not None


def test_listing(queue: Queue) -> None:
    """Jobs are listed by status, newest or oldest first, so many and no more."""
    # At once, so that some are of the same millisecond.
    jobs = queue.add_many([{"name": "nobody", "data": n} for n in range(5)]).result()
    newest = queue.jobs("queued", limit=2).result()
    assert [each.data for each in newest] == [4, 3]
    oldest = queue.jobs(limit=3, newest=False).result()
    assert [each.id for each in oldest] == [job.id for job in jobs[:3]]
    assert queue.counts().result()["queued"] == 5
    with pytest.raises(InputError, match="No status is 'lost'"):
        queue.jobs("lost")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"name": ""}, "name must be"),
        ({"name": "x", "data": object()}, "data must be a value that JSON"),
        ({"name": "x", "job_id": "a:b"}, "job_id must be"),
        ({"name": "x", "job_id": "77"}, "not only digits"),
        ({"name": "x", "attempts": 0}, "attempts must be"),
        ({"name": "x", "timeout": 0}, "timeout must be"),
        ({"name": "x", "delay": -1}, "delay must be"),
        ({"name": "x", "priority": -1}, "priority must be"),
        ({"name": "x", "callback_url": "file:///etc/passwd"}, "callback_url must begin"),
        ({"name": "x", "callback_url": 5}, "callback_url must begin"),
    ],
)
def test_wrong_arguments_are_refused_at_once(
    queue: Queue, arguments: dict[str, Any], reason: str
) -> None:
    """An argument that cannot be used is named, and nothing is added."""
    with pytest.raises(InputError, match=reason):
        queue.add(**arguments)
    with pytest.raises(InputError, match=reason):
        queue.add_many([{"name": "fine"}, arguments])
    assert sum(queue.counts().result().values()) == 0


def test_wrong_numbers_and_shapes_are_named(queue: Queue) -> None:
    """What is no limit, no pace and no job is said in a sentence, where it is written."""
    for limit in (0, -1, "all"):
        with pytest.raises(InputError, match="limit must be a whole number"):
            queue.jobs(limit=limit)  # type: ignore[arg-type]
    for pace in (10, (10,), ("ten", 1), (10, float("inf"))):
        with pytest.raises(InputError, match=r"limiter must be \(starts, seconds\)"):
            queue.work(limiter=pace)  # type: ignore[arg-type]
    for job in ({"nme": "x"}, {}, "x"):
        with pytest.raises(InputError, match=r"dict of add\(\)'s arguments: add\(\)"):
            queue.add_many([job])  # type: ignore[list-item]
    with pytest.raises(InputError, match="grace must be"):
        queue.work(grace="long")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Name the jobs"):
        queue.handler(lambda data: data)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be a function"):
        queue.handler("x")(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address",
    [
        "postgres://me:s3cret@host/0",
        "redis//:s3cret@host:6379/0",
        "redis://:s3cret\u2100@host:6379/0",
        "redis://:s3cret/more@host:6379/0",
        "redis://me:12/s3cret@host:6379/0",
        "redis://[:s3cret@host",
    ],
)
def test_a_wrong_address_is_not_quoted(offline: Connection, address: str) -> None:
    """An address that cannot be used is refused in words that hold no password."""
    with pytest.raises((InputError, SettingsError)) as told:
        Queue(address, connection=offline, bus=EventBus(offline.portal))
    assert "s3cret" not in "".join(traceback.format_exception(told.value, chain=True))


def test_waiting_has_an_end(queue: Queue) -> None:
    """A wait with a limit ends; the job goes on."""
    job = queue.add("nobody").result()
    with pytest.raises(WaitTimeout):
        job.result(0.05)
    assert job.status == "queued"
