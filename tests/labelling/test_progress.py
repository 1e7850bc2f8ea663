"""Laws of what a screen is told from the ledger: errors by kind, cost to come, batch jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

from mistral_nb.errors import RunError
from mistral_nb.labelling import resume, start_run
from mistral_nb.labelling.progress import KINDS, job_seconds
from mistral_nb.simulator import Faults
from tests.recorder import GOOD, Recorder, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus
    from mistral_nb.labelling import Run
    from mistral_nb.simulator import Simulator
    from tests.recorder import Arrival, Say


def table(rows: int) -> pd.DataFrame:
    """Rows that ask for different things."""
    return pd.DataFrame({"text": [f"parcel number {number}" for number in range(rows)]})


@pytest.fixture
def answered_by(bus: EventBus) -> Callable[..., Run]:
    """Label online at a server that answers as a script says."""
    from mistral_nb.client import Connection
    from mistral_nb.settings import resolve

    def start(df: pd.DataFrame, script: Callable[[str], Say]) -> Run:
        def answer(_: int, arrival: Arrival) -> Say:
            posted = arrival.line.startswith("POST")
            return script(arrival.prompt) if posted else refusal(404)

        recorder = Recorder(answer)
        connection = Connection(resolve("test-key", recorder.url))
        run = start_run(
            connection, bus, df, prompt="{text}", labels=["billing"], mode="online", name="x"
        )
        try:
            run.result(30)
        finally:
            recorder.close()
        return run

    return start


def test_errors_are_grouped_by_kind(answered_by: Callable[..., Run]) -> None:
    """Errors that differ in numbers and quotes are one kind; rows, words and questions are told."""

    def script(prompt: str) -> Say:
        number = int(prompt.rsplit(maxsplit=1)[-1])
        if number % 4 == 0:
            return refusal(422, f"input of {number} tokens is too long")
        return refusal(400, f"blocked: 'text {number}'") if number % 8 == 2 else GOOD

    details = answered_by(table(40), script).details()
    long, blocked = details.failures
    assert (long.rows, long.status) == (10, 422)
    assert (blocked.rows, blocked.status) == (5, 400)
    assert details.others == 0
    assert [each.row for each in blocked.examples] == [2, 10, 18]
    assert [each.row for each in long.examples] == [0, 4, 8]
    assert "blocked: 'text 10'" in blocked.examples[1].error
    assert blocked.examples[1].asked == "parcel number 10"


def test_kinds_beyond_the_limit_are_counted(answered_by: Callable[..., Run]) -> None:
    """Of many kinds the most frequent are told apart; the rows of the others are counted."""

    def script(prompt: str) -> Say:
        number = int(prompt.rsplit(maxsplit=1)[-1])
        return GOOD if number % 2 else refusal(422, f"kind {'abcdefghijklmnopqrst'[number // 2]}")

    details = answered_by(table(40), script).details()
    assert len(details.failures) == KINDS
    assert sum(each.rows for each in details.failures) + details.others == 20


def test_the_reply_that_did_not_fit_is_told(answered_by: Callable[..., Run]) -> None:
    """An example has the beginning of the raw reply; equal rows are counted each."""
    from tests.recorder import Say, chat_reply

    df = pd.DataFrame({"text": ["number 1", "number 1", "number 2"]})
    bad = Say(200, chat_reply('{"label": "' + 400 * "z" + '"}'))
    run = answered_by(df, lambda prompt: bad if prompt.endswith("1") else GOOD)
    (failure,) = run.details().failures
    assert failure.rows == 2
    assert {each.row for each in failure.examples} == {0, 1}
    assert [each.asked for each in failure.examples] == ["number 1", "number 1"]
    assert all(each.reply.startswith('{"label": "zzz') for each in failure.examples)
    assert all(len(each.reply) <= 240 for each in failure.examples)


def test_a_run_that_is_not_written_has_no_details(connection: Connection, bus: EventBus) -> None:
    """Asked too early, or for a run that is not there, it says so."""
    run = resume(connection, bus, "nowhere")
    with pytest.raises(RunError, match=r"nothing to tell yet|Nothing is kept of the run"):
        run.details()
    with pytest.raises(RunError):
        run.result(20)


def test_the_cost_to_come_is_extended_from_what_was_paid(
    make_simulator: Callable[..., Simulator], bus: EventBus
) -> None:
    """When one of two equal shards is paid, twice its cost is to be expected; in the end, all."""
    from mistral_nb.client import Connection
    from mistral_nb.settings import resolve

    simulator = make_simulator(batch_rate=0)
    connection = Connection(resolve("test-key", simulator.url))
    df = pd.DataFrame({"text": [f"parcel number {10 + number}" for number in range(60)]})
    run = start_run(
        connection, bus, df, prompt="{text}", labels=["a"], name="x", shard_lines=30, mode="batch"
    )
    run.result(30)
    whole = run.details()
    assert whole.projected == pytest.approx(whole.cost)
    with run._ledger() as ledger, ledger.writing() as db:  # as it was before the second came
        db.execute("DELETE FROM attempt WHERE row >= 30")
    half = run.details()
    assert 0 < half.cost < whole.cost
    assert half.projected == pytest.approx(2 * half.cost)
    assert [job.state for job in half.jobs] == ["done", "done"]
    assert set(job_seconds(half.jobs)) == {"job 0", "job 1"}
    assert all(seconds >= 0 for seconds in job_seconds(half.jobs).values())


def test_an_unknown_price_is_unknown(label: Callable[..., Run], simulator: Simulator) -> None:
    """Without a list price neither the cost nor what is to come is told as a number."""
    simulator.faults = Faults()
    details = label(table(5), mode="online", model="voxtral-small-2507", name="x")
    details.result(20)
    assert details.details().cost is None
    assert details.details().projected is None
