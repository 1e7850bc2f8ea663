"""Laws of online runs: the same table as a batch, every answer in the ledger, nothing lost."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from pydantic import BaseModel, field_validator

from mistral_nb import errors
from mistral_nb.client import Connection
from mistral_nb.events import EventBus
from mistral_nb.labelling import start_run
from mistral_nb.labelling.folder import RunFolder
from mistral_nb.labelling.ledger import Ledger
from mistral_nb.labelling.prices import price_of
from mistral_nb.settings import resolve
from mistral_nb.simulator import Faults
from tests.conftest import SHARED
from tests.labelling.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.labelling import Run
    from mistral_nb.simulator import Simulator


def table(rows: int) -> pd.DataFrame:
    """Rows that ask for different things, with an index that says nothing."""
    texts = [f"where is parcel number {number}" for number in range(rows)]
    return pd.DataFrame({"text": texts}, index=[number // 2 for number in range(rows)])


class Never(BaseModel):
    """A schema that no reply ever fits."""

    word: str

    @field_validator("word")
    @classmethod
    def refuse(cls, word: str) -> str:
        """Refuse it."""
        raise ValueError(f"not {word}")


def test_every_mode_gives_the_same_table(simulator: Simulator) -> None:
    """Real rows labelled in each mode: the same table, and only batches are jobs."""
    # Patient enough for a busy machine: a request that is sent again would be paid for again.
    connection = Connection(resolve(api_key="key", server_url=simulator.url, timeout=100))
    label = partial(
        start_run, connection, EventBus(connection.portal), prompt="Which topic? {text}"
    )
    df = pd.read_csv(SHARED / "data" / "banking77-test.csv")
    df.loc[7, "text"] = df.loc[3, "text"]
    ways = {"reuse": False, "labels": sorted(set(df["category"]))}
    online = label(df, mode="online", concurrency=16, name="online", **ways)
    first = online.result(100)
    assert first["label"].notna().all()
    assert simulator.stats()["jobs_created"] == 0
    batch = label(df, mode="batch", name="batch", **ways)
    pd.testing.assert_frame_equal(first, batch.result(60))
    assert simulator.stats()["jobs_created"] == 1
    auto = label(df, mode="auto", name="auto", **ways)
    pd.testing.assert_frame_equal(first, auto.result(60))
    few = label(df.head(50), mode="auto", name="few", **ways)
    pd.testing.assert_frame_equal(first.head(50), few.result(60))
    assert simulator.stats()["jobs_created"] == 2  # auto takes few rows online, many to a batch
    assert online.counts == {**batch.counts, "done": len(df)}
    assert online.usage == batch.usage
    assert online.cost == pytest.approx(2 * batch.cost)
    price, used = price_of("mistral-small-latest", batch=False), online.usage
    assert price
    bill = price.of(used.prompt_tokens, used.completion_tokens, used.cached_tokens)
    assert online.cost == pytest.approx(bill)


def test_the_same_call_again_costs_nothing(label: Callable[..., Run], simulator: Simulator) -> None:
    """Called again, an online run gives its table and sends nothing."""
    first = label(table(30), mode="online").result(30)
    sent = simulator.stats()["requests"]
    pd.testing.assert_frame_equal(first, label(table(30), mode="online").result(30))
    assert simulator.stats()["requests"] == sent


def test_a_third_of_all_requests_failing_stops_no_row(
    make_simulator: Callable[..., Simulator], bus: EventBus
) -> None:
    """With 500s, 429s and lost replies, all rows end and the good ones have no error."""
    storm = Faults(error_rate=0.1, rate_limit_rate=0.1, retry_after=0.05, lost_reply_rate=0.1)
    server = make_simulator(faults=storm)
    connection = Connection(resolve(api_key="key", server_url=server.url, timeout=5))
    run = start_run(
        connection,
        bus,
        table(60),
        prompt="Which? {text}",
        labels=["a", "b"],
        mode="online",
        concurrency=16,
    )
    df = run.result(60)
    assert (df["label"].isna() == df["_error"].notna()).all()
    assert df["label"].notna().sum() >= 55
    assert run.counts["done"] + run.counts["failed"] == 60


def test_invalid_replies_are_sent_again_within_the_cap(
    label: Callable[..., Run], simulator: Simulator
) -> None:
    """A reply that never fits the schema is asked for thrice, paid thrice, then an error row."""
    run = label(table(4), schema=Never, mode="online", name="never")
    df = run.result(30)
    assert df["_error"].notna().all()
    assert run.errors["raw"].notna().all()
    assert simulator.stats()["chat_requests"] == 12
    once = label(table(4), schema=Never, mode="online", name="once", retries=0, reuse=False)
    once.result(30)
    assert run.usage.total_tokens == 3 * once.usage.total_tokens


def test_a_wrong_key_ends_the_run_with_one_error(
    make_simulator: Callable[..., Simulator], bus: EventBus
) -> None:
    """A key that stops working in the middle is said once; a good one goes on from there."""
    server = make_simulator(api_keys=["good"], faults=Faults(latency=0.05))
    good = Connection(resolve(api_key="good", server_url=server.url, timeout=5))
    bad = Connection(resolve(api_key="bad", server_url=server.url, timeout=5))
    options = {"prompt": "Which? {text}", "labels": ["a", "b"], "mode": "online", "name": "r"}
    run = start_run(good, bus, table(200), concurrency=4, **options)
    until(lambda: run.counts["done"] >= 8)
    run.stop()
    with pytest.raises(errors.AuthenticationError, match=r"resume\('r'\)"):
        start_run(bad, bus, table(200), **options).result(30)
    df = start_run(good, bus, table(200), concurrency=64, **options).result(60)
    assert df["label"].notna().all()


def test_stop_detaches_and_lists_what_was_under_way(
    label: Callable[..., Run], simulator: Simulator
) -> None:
    """Left in the middle, the run goes on later; only requests under way are sent twice."""
    simulator.faults = Faults(latency=0.2)
    run = label(table(100), mode="online", concurrency=8, name="left")
    until(lambda: run.counts["done"] >= 16)
    run.stop()
    assert run.status == "detached"
    simulator.faults = Faults()
    again = label(table(100), mode="online", concurrency=8, name="left")
    df = again.result(60)
    assert df["label"].notna().all()
    uncertain = (again.report["kind"] == "uncertain").sum()
    assert 1 <= uncertain <= 10
    assert simulator.stats()["chat_requests"] <= 100 + uncertain
    assert f"{uncertain} requests were sent again" in again.message


def test_cancel_keeps_what_came(label: Callable[..., Run], simulator: Simulator) -> None:
    """A cancelled run ends with its answers so far, and says so in every other row."""
    simulator.faults = Faults(latency=0.1)
    run = label(table(400), mode="online", concurrency=4)
    until(lambda: run.counts["done"] >= 8)
    run.cancel()
    df = run.result(30)
    assert run.status == "cancelled"
    assert df["label"].notna().sum() == simulator.stats()["chat_requests"] < 400
    assert set(df["_error"].dropna()) == {"cancelled before it was answered"}


@pytest.mark.parametrize(("rows", "mode"), [(200, "online"), (201, "batch")])
def test_auto_chooses_by_rows_and_says_so(
    label: Callable[..., Run], simulator: Simulator, rows: int, mode: str
) -> None:
    """Up to 200 rows go online, more in a batch; the run's message tells."""
    run = label(table(rows), mode="auto", concurrency=16)
    run.result(60)
    assert f"auto chose {mode}" in run.message
    assert (simulator.stats()["jobs_created"] == 0) == (mode == "online")


def test_a_run_keeps_its_mode(label: Callable[..., Run], simulator: Simulator) -> None:
    """A run asked for again in the other mode goes on as it began, and says so."""
    simulator.faults = Faults(latency=0.2)
    run = label(table(100), mode="online", concurrency=4)
    until(lambda: run.counts["done"] > 0)
    run.stop()
    simulator.faults = Faults()
    again = label(table(100), mode="batch")
    assert again.result(60)["label"].notna().all()
    assert "started in online mode" in again.message


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"concurrency": 4}, "concurrency= is for mode='online'"),
        ({"mode": "batch", "rpm": 4}, "rpm= is for mode='online'"),
        ({"mode": "online", "tpm": 0}, "tpm must be a whole number from 1, not 0"),
        ({"mode": "online", "concurrency": 1.5}, "concurrency must be a whole number"),
        ({"mode": "online", "concurrency": 10**6}, "from 1 to 1,000, not 1000000"),
        ({"mode": "on"}, "mode='on' is not possible"),
    ],
)
def test_options_of_the_other_mode_are_refused(
    label: Callable[..., Run], options: dict[str, object], says: str
) -> None:
    """What means nothing in a mode is an error that says what it is for."""
    with pytest.raises(errors.InputError, match=says):
        label(table(2), **options)


def test_the_time_each_answer_took_is_kept(label: Callable[..., Run], home: Path) -> None:
    """The ledger knows how long every answer took: more than nothing."""
    run = label(table(20), mode="online", name="timed")
    run.result(30)
    with closing(Ledger(RunFolder.of(home, "timed").ledger)) as ledger:
        seconds = ledger.seconds()
    assert len(seconds) == 20
    assert all(0 < each < 30 for each in seconds)
