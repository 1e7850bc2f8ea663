"""Laws of one attempt at a job: whatever its handler does, it ends, and in words that can be kept."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb.errors import InputError, JobError
from mistral_nb.jobs import JobContext, RetryLater, running

if TYPE_CHECKING:
    from mistral_nb.jobs import Queue


class SpeechlessError(Exception):
    """An exception whose words cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no file caf\udce9.csv"), "caf?.csv"),
        (SpeechlessError(), "SpeechlessError"),
    ],
    ids=["half a character", "no words"],
)
def test_an_error_of_any_words_ends_its_job_alone(
    queue: Queue, error: Exception, told: str
) -> None:
    """What cannot be written down of an error is left out; the other jobs of the worker go on."""
    gate = threading.Event()

    @queue.handler("fail")
    async def fail(_: Any) -> None:
        raise error

    @queue.handler("wait")
    def wait(_: Any) -> str:
        gate.wait(20)
        return "done"

    beside = queue.add("wait").result()
    with queue.work(concurrency=2):
        failing = queue.add("fail", attempts=1).result()
        with pytest.raises(JobError) as failed:
            failing.result(20)
        gate.set()
        assert beside.result(20) == "done"
        assert queue.add("wait").result().result(20) == "done"
    assert failed.value.status == "failed"
    assert told in str(failed.value)


def test_a_handler_that_will_not_be_cancelled(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job whose handler goes on beyond its time and its cancellation fails all the same."""
    monkeypatch.setattr(running, "UNWINDING", 0.05)
    released = asyncio.Event()

    @queue.handler("stubborn")
    async def stubborn(_: Any) -> None:
        while not released.is_set():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if time.monotonic() > begun + 10:
                    raise

    begun = time.monotonic()
    job = queue.add("stubborn", attempts=1, timeout=0.1).result()
    with queue.work(grace=0), pytest.raises(JobError, match="would not be cancelled"):
        job.result(20)
    begun = -60.0


def test_no_number_of_attempts_is_too_large(queue: Queue) -> None:
    """The wait before the two-thousandth attempt is a number, too."""
    from mistral_nb.jobs.model import Claim, make_spec

    spec = make_spec("x", attempts=5000, backoff=1e-300)
    assert 0 <= running._backoff(Claim(spec, 2000, 1), RuntimeError()) < 1


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_later_is_a_time(seconds: float) -> None:
    """RetryLater refuses what is no number of seconds, where it is written."""
    with pytest.raises(InputError, match="RetryLater"):
        RetryLater(seconds)


def test_progress_that_cannot_be_told_costs_nothing(queue: Queue) -> None:
    """A store that fails under a job's progress leaves its result alone."""

    @queue.handler("tell")
    async def tell(_: Any, context: JobContext) -> str:
        class Broken:
            async def progress(self, *_: Any) -> None:
                raise OSError("no space")

        context._paid = Broken()  # type: ignore[assignment]
        context.progress(1)
        return "done"

    job = queue.add("tell", attempts=1).result()
    with queue.work():
        assert job.result(20) == "done"
