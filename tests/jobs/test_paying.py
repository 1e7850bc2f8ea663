"""Laws of the ledger: a paid call of a job is made once, or somebody says that it may not be."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb.client import Connection
from mistral_nb.errors import JobError
from mistral_nb.settings import resolve
from tests.recorder import Arrival, Recorder, Say, chat_reply, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mistral_nb.jobs import JobContext, Queue

MESSAGES = {"messages": [{"role": "user", "content": "Hello"}], "model": "m"}


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    server = Recorder()
    yield server
    server.close()


@pytest.fixture
def linked(recorder: Recorder, home: Path) -> Connection:
    return Connection(resolve("a-key", recorder.url, home=home, timeout=5))


def test_an_answer_that_is_there_is_used_again(queue: Queue) -> None:
    """What was paid for before a failure is not paid for after it."""
    calls: list[str] = []

    async def send() -> dict[str, int]:
        calls.append("call")
        return {"answer": 42}

    @queue.handler("costly")
    async def costly(_: Any, context: JobContext) -> list[Any]:
        first = await context.pay("first", send)
        if context.attempt < 3:
            raise RuntimeError("after the call")
        return [first, await context.pay("second", send)]

    job = queue.add("costly", backoff=0.01).result()
    with queue.work():
        assert job.result(20) == [{"answer": 42}] * 2
    assert calls == ["call", "call"]


@pytest.mark.parametrize("on_uncertain", ["ask", "retry"])
def test_a_call_in_doubt(make_queue: Callable[..., Queue], on_uncertain: Any) -> None:
    """A call that was under way when a worker went is listed, or repeated if one said so."""
    queues = [make_queue(), make_queue()]
    calls: list[int] = []
    under_way = threading.Event()
    for number, each in enumerate(queues):

        async def send(number: int = number) -> str:
            calls.append(number)
            under_way.set()
            await asyncio.sleep(60 if len(calls) == 1 else 0)
            return "answer"

        @each.handler("costly")
        async def costly(_: Any, context: JobContext, send: Any = send) -> str:
            return str(await context.pay("call", send))

    job = queues[0].add("costly").result()
    first = queues[0].work()
    assert under_way.wait(20)
    first.stop(grace=0)
    with queues[1].work(on_uncertain=on_uncertain):
        if on_uncertain == "retry":
            assert job.result(20) == "answer"
        else:
            with pytest.raises(JobError, match=r"call.* may have been carried out") as doubt:
                job.result(20)
            assert doubt.value.status == "uncertain"
            assert calls == [0]
            assert [each.id for each in queues[1].jobs("uncertain").result()] == [job.id]
            assert queues[1].counts().result()["uncertain"] == 1
            assert job.replay().result() is True
            assert job.result(20) == "answer"
    assert calls == [0, 1]


def test_a_refusal_costs_nothing(
    make_queue: Callable[..., Queue], linked: Connection, recorder: Recorder
) -> None:
    """429 and 5xx leave no doubt: the call is made again, and its answer counts."""

    def script(number: int, _: Arrival) -> Say:
        return (refusal(429), refusal(503), Say(body=chat_reply("yes")))[number]

    recorder.script = script
    queue = make_queue(linked)
    job = queue.add("complete", MESSAGES, backoff=0.01).result()
    with queue.work():
        assert job.result(20)["text"] == "yes"
    assert len(recorder.arrivals) == 3


@pytest.mark.parametrize("trouble", [Say(cut="body"), Say(body=b"<html>")], ids=["cut", "garbage"])
def test_an_answer_that_is_lost_is_a_doubt(
    make_queue: Callable[..., Queue], linked: Connection, recorder: Recorder, trouble: Say
) -> None:
    """An answer that came and cannot be read may be on the bill: nobody asks again unasked."""
    recorder.script = lambda number, _: trouble if number == 0 else Say(body=chat_reply("yes"))
    queue = make_queue(linked)
    job = queue.add("complete", MESSAGES, backoff=0.01).result()
    with queue.work():
        with pytest.raises(JobError) as doubt:
            job.result(20)
        assert doubt.value.status == "uncertain"
        assert len(recorder.arrivals) == 1
        job.replay().result()
        assert job.result(20)["text"] == "yes"


def test_a_wrong_key_is_no_doubt_and_no_secret(
    make_queue: Callable[..., Queue], linked: Connection, recorder: Recorder
) -> None:
    """401 ends a job at once; the key that the server quotes is in no record of the queue."""
    recorder.script = lambda *_: refusal(401, "Bearer a-key is wrong")
    queue = make_queue(linked)
    job = queue.add("complete", MESSAGES).result()
    with queue.work(), pytest.raises(JobError, match=r"\[key\] is wrong") as failed:
        job.result(20)
    assert failed.value.status == "failed"
    assert "a-key" not in str(job.refresh().result())
