"""Laws of the ledger: a paid call of a job is made once, or somebody says that it may not be."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb.client import Connection
from mistral_nb.errors import JobError
from mistral_nb.jobs import job
from mistral_nb.settings import resolve
from tests.recorder import Arrival, Recorder, Say, chat_reply, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mistral_nb.jobs import JobContext, Queue
    from mistral_nb.simulator import Simulator

MESSAGES = {"messages": [{"role": "user", "content": "Hello"}], "model": "m"}
HELLO = {"prompt": "Hello"}


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    server = Recorder()
    yield server
    server.close()


@pytest.fixture
def linked(recorder: Recorder, home: Path) -> Connection:
    return Connection(resolve("a-key", recorder.url, home=home, timeout=5))


@pytest.fixture
def keyed(home: Path, make_simulator: Callable[..., Simulator]) -> Callable[[str], Connection]:
    """Connect with a key to a server that knows one only: "right-key"."""
    server = make_simulator(api_keys={"right-key"})
    return lambda key: Connection(resolve(key, server.url, home=home, timeout=5))


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


def test_a_wrong_key_sends_its_worker_home(
    make_queue: Callable[..., Queue],
    keyed: Callable[[str], Connection],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker whose key is refused gives its jobs back whole, says so, and takes no more."""
    wrong, right = make_queue(keyed("wrong-key")), make_queue(keyed("right-key"))
    names = ["complete", "chat"] * 3
    jobs = wrong.add_many([{"name": name, "data": HELLO} for name in names]).result()
    refused = wrong.work(concurrency=2)
    assert refused.join(30)
    assert wrong.counts().result()["queued"] + wrong.counts().result()["delayed"] == 6
    with right.work():
        assert all(job.result(30)["text"] for job in jobs)
    assert {each.attempts_made for each in right.jobs("completed").result()} == {1}
    assert "401" in str(refused.trouble)
    assert str(refused.trouble) in caplog.text
    assert "wrong-key" not in caplog.text


def test_who_waits_for_a_worker_with_a_wrong_key_is_told(
    make_queue: Callable[..., Queue],
    keyed: Callable[[str], Connection],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Waiting ends with the reason if the worker here was turned away; the job stays, and is done."""
    monkeypatch.setattr(job, "CHECK_EVERY", 0.2)
    queue = make_queue(keyed("wrong-key"))
    asked = queue.add("complete", HELLO).result()
    queue.work()
    with pytest.raises(JobError, match="refuses its key") as told:
        asked.result(30)
    assert told.value.status in {"queued", "delayed"}
    right = make_queue(keyed("right-key"))
    with right.work():
        done = right.get(asked.id).result()
        assert done is not None
        assert done.result(30)["text"]


def test_a_key_that_may_not_do_one_thing(
    make_queue: Callable[..., Queue], linked: Connection, recorder: Recorder
) -> None:
    """401 from a server that knows the key is that job's failure; its worker goes on."""

    def script(_: int, arrival: Arrival) -> Say:
        if "/models" in arrival.line:
            return Say(body=b'{"object": "list", "data": []}')
        if arrival.prompt == "forbidden":
            return refusal(401, "a-key may not use this model")
        return Say(body=chat_reply("yes"))

    recorder.script = script
    queue = make_queue(linked)
    with queue.work() as worker:
        with pytest.raises(JobError, match=r"\[key\] may not use this model") as failed:
            queue.add("complete", {"prompt": "forbidden"}).result().result(20)
        assert queue.add("complete", {"prompt": "fine"}).result().result(20)["text"] == "yes"
        assert worker.running
    assert failed.value.status == "failed"
    assert "a-key" not in str(queue.jobs("failed").result())
