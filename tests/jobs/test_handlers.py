"""Laws of the built-in handlers: real requests to the simulator, results as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.client import Connection
    from mistral_nb.jobs import Queue
    from mistral_nb.simulator import Simulator


@pytest.fixture
def queue(make_queue: Callable[..., Queue], connection: Connection) -> Queue:
    return make_queue(connection)


@pytest.mark.parametrize("name", ["chat", "complete"])
def test_a_reply(queue: Queue, name: str, simulator: Simulator) -> None:
    """A chat job gives the reply's text, tokens and end; it is asked for once."""
    job = queue.add(name, {"prompt": "Say hello", "system": "Be brief", "temperature": 0}).result()
    with queue.work():
        reply = job.result(30)
    assert reply["text"]
    assert reply["finish_reason"] == "stop"
    assert reply["usage"]["total_tokens"] == simulator.stats()["tokens"] > 0
    assert reply["model"].startswith("mistral-small")
    assert simulator.stats()["chat_requests"] == 1


def test_a_streamed_reply_is_heard_of_under_the_jobs_id(queue: Queue) -> None:
    """The chat handler's stream publishes chat events that carry the job's id."""
    heard = queue.bus.stream("chat:*")
    job = queue.add("chat", {"messages": [{"role": "user", "content": "Say hello"}]}).result()
    with queue.work():
        reply = job.result(30)
    records = heard.drain()
    heard.close()
    assert {record.request_id for record in records} == {job.id}
    assert records[0].name == "chat:start"
    assert records[-1].text == reply["text"]


def test_embeddings(queue: Queue) -> None:
    """An embed job gives one list of numbers a text, in the texts' order."""
    texts = ["one", "two", "three"]
    job = queue.add("embed", {"inputs": texts}).result()
    alone = queue.add("embed", {"inputs": texts[2]}).result()
    with queue.work():
        found = job.result(30)
        assert len(found["embeddings"]) == 3
        assert found["embeddings"][2] == alone.result(30)["embeddings"][0]
    assert found["model"] == "mistral-embed"


def test_a_shard_of_labels(queue: Queue, simulator: Simulator) -> None:
    """A label job gives one value a row, in their order; a row without a text says why."""
    rows = [{"text": "a refund please"}, {"text": None}, {"text": "where is my parcel"}]
    data = {"rows": rows, "prompt": "Which topic? {text}", "labels": ["refund", "delivery"]}
    job = queue.add("label", data).result()
    with queue.work():
        found = job.result(30)
    assert found["values"][1] is None
    assert found["errors"][1]
    assert {found["values"][0], found["values"][2]} <= {"refund", "delivery"}
    assert (found["errors"][0], found["errors"][2]) == (None, None)
    assert found["tokens"] == simulator.stats()["tokens"]
    assert simulator.stats()["chat_requests"] == 2


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("chat", {}, "must have messages"),
        ("complete", "text", "must be an object"),
        ("complete", {"prompt": "x", "temprature": 1}, "temprature"),
        ("embed", {}, "must have inputs"),
        ("label", {"rows": "x", "prompt": "{a}"}, "must have rows"),
        ("label", {"rows": [{"a": 1}], "prompt": "{b}", "labels": ["x"]}, "no column"),
    ],
)
def test_unusable_data_end_a_job_at_once(
    queue: Queue, name: str, data: Any, reason: str, simulator: Simulator
) -> None:
    """Data that cannot work are refused in plain words, and nothing is sent."""
    job = queue.add(name, data).result()
    with queue.work(), pytest.raises(JobError, match=reason):
        job.result(30)
    assert job.refresh().result().attempts_made == 1
    assert simulator.stats()["chat_requests"] == 0
