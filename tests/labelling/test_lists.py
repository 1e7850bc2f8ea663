"""`process_batch`: many prompts at once, results in order, one bad prompt stops no other."""

from __future__ import annotations

import asyncio
import enum
import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel, field_validator

import mistral_nb as mnb
from mistral_nb import errors
from mistral_nb.client import Connection
from mistral_nb.labelling.lists import process_batch
from mistral_nb.settings import resolve
from mistral_nb.simulator import Faults
from tests.recorder import GOOD, Arrival, Recorder, Say, chat_reply, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mistral_nb.simulator import Simulator


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    server = Recorder(lambda _, arrival: Say(body=chat_reply(arrival.prompt[::-1])))
    yield server
    server.close()


@pytest.fixture
def linked(recorder: Recorder) -> Connection:
    return Connection(resolve(api_key="a-key", server_url=recorder.url, timeout=5))


def test_results_come_in_the_order_of_the_prompts(recorder: Recorder, linked: Connection) -> None:
    """However the answers overtake each other, result n belongs to prompt n."""
    prompts = [f"prompt {number}" for number in range(100)]
    results = process_batch(linked, prompts, concurrency=16).result(30)
    assert [result.index for result in results] == list(range(100))
    assert [result.content for result in results] == [prompt[::-1] for prompt in prompts]
    assert all(result.error is None and result.attempts == 1 for result in results)
    assert results[0].usage is not None
    assert results[0].usage.total_tokens == 48
    assert results[0].reply is not None
    assert results[0].reply.finish_reason == "stop"


def test_an_empty_list(recorder: Recorder, linked: Connection) -> None:
    """Nothing asked, nothing sent, an empty list."""
    assert process_batch(linked, []).result(10) == []
    assert recorder.arrivals == []


def test_messages_system_and_options_go_out_as_the_api_wants_them(
    recorder: Recorder, linked: Connection
) -> None:
    """A text becomes a user message; lists of messages are sent as they are."""
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                {"role": "user", "content": "c"}]  # fmt: skip
    process_batch(
        linked, ["hello", messages], concurrency=1, model="m-1", system="Be brief", temperature=0.5
    ).result(10)
    first, second = (json.loads(arrival.body) for arrival in recorder.arrivals)
    system = {"role": "system", "content": "Be brief"}
    assert first["messages"] == [system, {"role": "user", "content": "hello"}]
    assert second["messages"] == [system, *messages]
    assert all(b["model"] == "m-1" and b["temperature"] == 0.5 for b in (first, second))


@pytest.mark.parametrize(
    "bad", ["", "  \n", None, 3, [], ["text"], {"role": "user"}, "half a \ud800 pair", float("nan")]
)
def test_a_prompt_that_cannot_be_sent_is_an_error_of_its_own(
    recorder: Recorder, linked: Connection, bad: Any
) -> None:
    """The others are answered; the error says which prompt and why."""
    results = process_batch(linked, ["one", bad, "two"]).result(10)
    assert [result.content for result in results] == ["eno", None, "owt"]
    assert isinstance(results[1].error, errors.InputError)
    assert "Prompt 1 cannot be sent" in str(results[1].error)
    assert len(recorder.arrivals) == 2


@pytest.mark.parametrize("prompts", ["one text", b"bytes", {"a": 1}, 5, None])
def test_what_is_no_list_is_refused(linked: Connection, prompts: Any) -> None:
    """A single text is not taken for a list of letters."""
    with pytest.raises(errors.InputError, match="list"):
        process_batch(linked, prompts)


def test_an_unknown_option_is_refused_before_anything_is_sent(
    recorder: Recorder, linked: Connection
) -> None:
    """A misspelt option comes back with advice."""
    with pytest.raises(errors.InputError, match="temperature"):
        process_batch(linked, ["hi"], temprature=1)
    with pytest.raises(errors.InputError, match="concurrency"):
        process_batch(linked, ["hi"], concurrency=0)
    assert recorder.arrivals == []


def test_one_bad_prompt_stops_no_other(recorder: Recorder, linked: Connection) -> None:
    """A refused prompt has the server's reason, the others their answer."""
    recorder.script = lambda _, arrival: (
        refusal(422, "Too long") if arrival.prompt == "p3" else GOOD
    )
    results = process_batch(linked, [f"p{number}" for number in range(10)]).result(10)
    assert [result.index for result in results if result.error] == [3]
    assert isinstance(results[3].error, errors.InvalidRequestError)
    assert "Too long" in str(results[3].error)
    assert results[3].content is None


def test_a_wrong_key_is_one_error(recorder: Recorder, linked: Connection) -> None:
    """Settings that can never work are raised, not repeated in every result."""
    recorder.script = lambda *_: refusal(401, "Unauthorized")
    with pytest.raises(errors.AuthenticationError, match="MISTRAL_API_KEY"):
        process_batch(linked, ["a"] * 500).result(10)
    assert len(recorder.arrivals) <= 10


def test_what_was_answered_before_the_end_of_a_run_is_not_lost(
    recorder: Recorder, linked: Connection
) -> None:
    """When the key stops working, the answers so far are the result."""
    recorder.script = lambda number, _: GOOD if number < 7 else refusal(401)
    results = process_batch(linked, ["a"] * 50, concurrency=1).result(10)
    assert sum(result.error is None for result in results) == 7
    assert all(
        isinstance(result.error, errors.AuthenticationError) for result in results if result.error
    )


# Schemas


class Ticket(BaseModel):
    topic: str
    urgent: bool

    @field_validator("topic")
    @classmethod
    def known(cls, topic: str) -> str:
        if topic == "???":
            raise ValueError("no such topic")
        return topic


@dataclass
class Point:
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


TICKET = '{"topic": "billing", "urgent": true}'
JSON_SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(("schema", "text", "content"), [
    (Ticket, TICKET, Ticket(topic="billing", urgent=True)),
    (Point, '{"x": 1, "y": 2}', Point(1, 2)),
    (Colour, '{"label": "red"}', Colour.RED),
    (Literal["a", "b"], '{"label": "b"}', "b"),
    (["a", "b"], '{"label": "b"}', "b"),
    (JSON_SCHEMA, '{"n": 3}', {"n": 3}),
])  # fmt: skip
def test_content_is_the_schemas_own_value(
    recorder: Recorder, linked: Connection, schema: Any, text: str, content: Any
) -> None:
    """A model gives its instance, labels a label, a JSON schema the parsed object."""
    recorder.script = lambda *_: Say(body=chat_reply(text))
    results = process_batch(linked, ["x"], schema=schema).result(10)
    assert results[0].error is None
    assert results[0].content == content
    asked = json.loads(recorder.arrivals[0].body)["response_format"]
    assert asked["type"] == "json_schema"
    assert asked["json_schema"]["strict"] is True


def test_labels_may_be_given_by_name(recorder: Recorder, linked: Connection) -> None:
    """labels= is the same as a schema of labels."""
    recorder.script = lambda *_: Say(body=chat_reply('{"label": "b"}'))
    assert process_batch(linked, ["x"], labels=["a", "b"]).result(10)[0].content == "b"


@pytest.mark.parametrize(
    "labels", [np.array(["a", "b"]), pd.Index(["a", "b"]), {"a": 0, "b": 1}.keys()]
)
def test_labels_may_be_any_collection(recorder: Recorder, linked: Connection, labels: Any) -> None:
    """Such as a column's different values; an answer in another case means its label."""
    recorder.script = lambda *_: Say(body=chat_reply('{"label":"B"}'))
    assert process_batch(linked, ["x"], labels=labels).result(10)[0].content == "b"


@pytest.mark.parametrize("text", ["no JSON", '{"topic": 1, "urgent": true}',
                                  '{"topic": "???", "urgent": true}'])  # fmt: skip
def test_a_reply_that_does_not_fit_is_asked_for_again(
    recorder: Recorder, linked: Connection, text: str
) -> None:
    """A misfit is repeated; one that stays is an error that keeps the reply."""
    recorder.script = lambda number, _: Say(body=chat_reply(text if number < 1 else TICKET))
    assert process_batch(linked, ["x"], schema=Ticket).result(10)[0].attempts == 2
    recorder.script = lambda *_: Say(body=chat_reply(text))
    result = process_batch(linked, ["x"], schema=Ticket).result(10)[0]
    assert result.content is None
    assert "reply" in str(result.error)
    assert result.reply is not None
    assert result.reply.text == text
    assert result.attempts == 3


def test_a_reply_of_another_shape_is_an_error(recorder: Recorder, linked: Connection) -> None:
    """A chat completion without a message is no result."""
    recorder.script = lambda *_: Say(body=b'{"choices": []}')
    result = process_batch(linked, ["x"]).result(10)[0]
    assert "shape" in str(result.error)
    assert result.content is None


# Ways to use it


def test_it_can_be_awaited_and_run(recorder: Recorder, linked: Connection) -> None:
    """Await it on any loop, hand it to mnb.run, or gather several."""

    async def cell() -> list[Any]:
        return await process_batch(linked, ["ab"])

    assert asyncio.run(cell())[0].content == "ba"
    assert mnb.run(cell())[0].content == "ba"
    assert mnb.run(process_batch(linked, ["ab"]))[0].content == "ba"

    async def several() -> list[Any]:
        return await asyncio.gather(process_batch(linked, ["ab"]), process_batch(linked, ["cd"]))

    assert [results[0].content for results in asyncio.run(several())] == ["ba", "dc"]


def test_the_module_level_call_works_without_a_key() -> None:
    """With no settings at all the simulator answers."""
    results = mnb.process_batch(["Say hello", "Say goodbye"], concurrency=2).result(60)
    assert len(results) == 2
    assert all(result.content for result in results)


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_progress_is_told_to_the_end(
    recorder: Recorder, linked: Connection, kind: Literal["plain", "coroutine"]
) -> None:
    """Counts never fall, and the last call is all of all; a plain function gets a thread."""
    told, threads = [], set()

    def plain(done: int, total: int) -> None:
        told.append((done, total))
        threads.add(threading.get_ident())

    async def coroutine(done: int, total: int) -> None:
        plain(done, total)

    recorder.latency = 0.01
    process_batch(linked, ["x"] * 60, on_progress=plain if kind == "plain" else coroutine).result(
        20
    )
    assert told == sorted(told)
    assert told[-1] == (60, 60)
    assert (linked.portal._thread_id in threads) == (kind == "coroutine")


def test_a_progress_callback_that_fails_harms_nothing(
    recorder: Recorder, linked: Connection
) -> None:
    """It is told of once and not called again; the results are all there."""
    calls = []

    def broken(done: int, total: int) -> None:
        calls.append(done)
        raise ZeroDivisionError("oops")

    with pytest.warns(UserWarning, match="on_progress failed: ZeroDivisionError"):
        results = process_batch(linked, ["x"] * 30, on_progress=broken).result(20)
    assert len(calls) == 1
    assert all(result.error is None for result in results)


def test_stop_gives_what_is_done(recorder: Recorder, linked: Connection) -> None:
    """Stopped prompts have an error that says so; the answered ones keep their answer."""
    handle = process_batch(linked, ["x"] * 500, concurrency=2)

    def script(number: int, _: Arrival) -> Say:
        if number == 40:
            handle.stop()
        return GOOD

    recorder.script = script
    results = handle.result(20)
    assert len(results) == 500
    assert 35 <= sum(result.error is None for result in results) <= 60
    assert {str(result.error) for result in results if result.error} == {
        "Not answered: the call was stopped first."
    }
    assert repr(handle).startswith("ListRun(")


def test_pause_and_results_so_far(recorder: Recorder, linked: Connection) -> None:
    """A paused call tells what it has, and goes on when asked to."""
    handle = process_batch(linked, ["ab"] * 50, concurrency=1)
    recorder.script = lambda number, _: handle.pause() or GOOD if number == 10 else GOOD
    for _ in range(1000):
        if len(handle.results) >= 11:
            break
        time.sleep(0.005)
    time.sleep(0.05)
    assert 11 <= len(handle.results) <= 12
    assert not handle.done()
    handle.resume()
    assert len(handle.result(20)) == 50


def test_against_the_simulator_with_faults(make_simulator: Callable[..., Simulator]) -> None:
    """Real replies through real trouble: every prompt ends, most of them well."""
    simulator = make_simulator(faults=Faults(error_rate=0.1, rate_limit_rate=0.1, seed=4))
    linked = Connection(resolve(api_key="k", server_url=simulator.url, timeout=20))
    prompts = [f"Is the number {number} even?" for number in range(60)]
    results = process_batch(linked, prompts, concurrency=8, labels=["yes", "no"]).result(60)
    assert len(results) == 60
    assert {result.content for result in results if result.error is None} <= {"yes", "no"}
    assert sum(result.error is not None for result in results) <= 2
    assert max(result.attempts for result in results) <= 6
