"""Laws of labelling a table: the right result, and nothing sent that need not be."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from mistral_nb import errors
from mistral_nb.client import Connection
from mistral_nb.events import RunComplete, RunProgress, RunStart
from mistral_nb.events import RunError as RunFailed
from mistral_nb.labelling import resume, start_run
from mistral_nb.settings import resolve
from mistral_nb.simulator import Faults
from tests.conftest import SHARED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.events import EventBus
    from mistral_nb.labelling import Run
    from mistral_nb.simulator import Simulator

    Label = Callable[..., Run]

TEXTS = ["my invoice is wrong", "the parcel never came", "hello", "refund the invoice please"]
TABLE = pd.DataFrame({"text": TEXTS})


class Ticket(BaseModel):
    topic: Literal["billing", "delivery", "other"]
    urgent: bool
    words: int


def sent(simulator: Simulator) -> int:
    return simulator.stats()["batch_rows"]


def test_a_table_comes_back_with_its_labels(label: Label) -> None:
    """Each row has a label of the list, in its place, and no error."""
    df = label(TABLE).result(20)
    assert list(df.columns) == ["text", "label", "_error"]
    assert df["text"].tolist() == TEXTS
    assert df["label"].cat.categories.tolist() == ["billing", "delivery", "other"]
    assert df["label"].notna().all()
    assert df["_error"].isna().all()


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([5, 5, 5, 1], name="dup"),
        pd.MultiIndex.from_tuples([("b", 2), ("a", 1), ("b", 2), ("a", 9)], names=["k", "n"]),
        pd.date_range("2024-01-01", periods=4, tz="UTC"),
    ],
    ids=["duplicate", "multi", "dates"],
)
def test_any_index_stays(label: Label, connection: Connection, bus: EventBus, index: Any) -> None:
    """Duplicate, multi-level and dated indexes stay, also when the table comes from disk."""
    df = TABLE.set_axis(index)
    made = label(df, name="x").result(20)
    assert made.index.identical(index)
    again = resume(connection, bus, "x").result(20)
    pd.testing.assert_frame_equal(again, made)


def test_a_model_becomes_columns(label: Label) -> None:
    """A pydantic schema gives typed columns."""
    df = label(TABLE, schema=Ticket).result(20)
    assert df.dtypes[["topic", "urgent", "words"]].astype(str).tolist() == [
        "category",
        "boolean",
        "Int64",
    ]
    assert df["_error"].isna().all()


def test_without_a_schema_the_reply_is_a_column(label: Label) -> None:
    """Free text goes to `reply`, or to the column that was named."""
    df = label(TABLE, labels=None).result(20)
    assert df["reply"].str.len().gt(0).all()
    df = label(TABLE, labels=None, column="answer", prefix="m_").result(20)
    assert list(df.columns) == ["text", "m_answer", "m_error"]


def test_a_run_can_be_awaited(label: Label) -> None:
    """`await run` gives the same table, on any loop, to many at once."""

    async def main() -> None:
        run = label(TABLE)
        one, two = await asyncio.gather(run, run)
        pd.testing.assert_frame_equal(one, two)

    asyncio.run(main())


def test_an_empty_table_sends_nothing(label: Label, simulator: Simulator) -> None:
    """No rows: the columns are added at once and no request is made."""
    df = label(TABLE.iloc[:0]).result(5)
    assert list(df.columns) == ["text", "label", "_error"]
    assert simulator.stats()["requests"] == {}


def test_rows_that_cannot_be_sent_are_errors(label: Label, simulator: Simulator) -> None:
    """Empty cells are named in `_error` and never sent; other kinds of cells are texts."""
    cells = pd.Series(["a", None, np.nan, 3, 2.5, True, ["x"], ""], dtype=object)
    df = label(pd.DataFrame({"text": cells})).result(20)
    assert df["_error"].isna().tolist() == [True, False, False, True, True, True, True, True]
    assert df.loc[1, "_error"] == "empty value in column 'text'"
    assert sent(simulator) == 6


def test_a_table_of_empty_cells_only_sends_nothing(label: Label, simulator: Simulator) -> None:
    """If no row can be sent there is no batch job."""
    df = label(pd.DataFrame({"text": [None, None]})).result(20)
    assert df["_error"].notna().all()
    assert simulator.stats()["jobs_created"] == 0


def test_large_cells_are_answered(label: Label) -> None:
    """Cells of a megabyte go out and come back."""
    df = label(pd.DataFrame({"text": ["invoice " * 130_000, "hello"]})).result(60)
    assert df["label"].notna()[1]
    assert len(df) == 2


def test_identical_rows_are_paid_once(label: Label, simulator: Simulator) -> None:
    """A hundred equal rows are one request, and all get its answer."""
    df = label(pd.DataFrame({"text": ["same"] * 100 + ["other"]})).result(20)
    assert df["label"].notna().all()
    assert sent(simulator) == 2


def test_the_same_cell_again_costs_nothing(label: Label, simulator: Simulator) -> None:
    """Named or not, the same content again gives the same table without a request."""
    first = label(TABLE).result(20)
    requests = simulator.stats()["requests"]
    again = label(TABLE)
    pd.testing.assert_frame_equal(again.result(20), first)
    assert simulator.stats()["requests"] == requests
    named = label(TABLE, name="named")
    pd.testing.assert_frame_equal(named.result(20), first)
    assert named.counts["reused"] == 4
    assert "earlier runs" in named.message
    assert sent(simulator) == 4


def test_reuse_can_be_refused(label: Label, simulator: Simulator) -> None:
    """`reuse=False` asks again; another model, prompt or option always does."""
    label(TABLE, name="one").result(20)
    label(TABLE, name="two", reuse=False).result(20)
    label(TABLE, name="three", temperature=0.5).result(20)
    label(TABLE, name="four", model="mistral-large-latest").result(20)
    assert sent(simulator) == 16


def test_another_column_name_costs_nothing(label: Label, simulator: Simulator) -> None:
    """The same run with another prefix gives other columns, without a request."""
    first = label(TABLE, name="x").result(20)
    other = label(TABLE, name="x", prefix="new_", column="topic").result(20)
    assert other["new_topic"].tolist() == first["label"].tolist()
    assert sent(simulator) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "mistral-large-latest"}, "its model is 'mistral-small-latest'"),
        ({"prompt": "What? {text}"}, "its prompt is 'Which topic"),
        ({"system": "Be brief."}, "its system prompt"),
        ({"labels": ["x", "y"]}, "its schema is another"),
        ({"temperature": 0.3}, "its temperature is another"),
        ({"df": TABLE.iloc[:2]}, "its number of rows is 4, not 2"),
        ({"df": TABLE.assign(text=["a", *TEXTS[1:]])}, "row 0 asks something else"),
    ],
)
def test_a_name_stands_for_one_content(label: Label, change: dict[str, Any], words: str) -> None:
    """The same name with other content is refused; the error says what differs."""
    label(TABLE, name="x").result(20)
    options = {"df": TABLE, "name": "x", **change}
    with pytest.raises(errors.InputError, match=words) as caught:
        label(options.pop("df"), **options).result(20)
    assert "mnb.forget('x')" in str(caught.value)


def test_two_handles_share_one_run(label: Label, simulator: Simulator) -> None:
    """The cell run again while the first goes on waits with it; nothing is sent twice."""
    runs = [label(TABLE, name="x") for _ in range(3)]
    tables = [run.result(20) for run in runs]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])
    assert sent(simulator) == 4
    assert simulator.stats()["jobs_created"] == 1


def test_events_tell_a_runs_course(label: Label, bus: EventBus) -> None:
    """One start, counts that only grow, one end with a summary."""
    with bus.stream("run:*", request_id="x") as events:
        label(TABLE, name="x").result(20)
        records = list(events)
    assert isinstance(records[0], RunStart)
    assert isinstance(records[-1], RunComplete)
    assert all(isinstance(each, RunProgress) for each in records[1:-1])
    assert all(
        sum(1 for r in records if isinstance(r, kind)) == 1 for kind in (RunStart, RunComplete)
    )
    for record in records[1:]:
        counts = record.counts
        kinds = ("done", "failed", "running", "waiting")
        assert sum(counts[kind] for kind in kinds) == counts["total"] == 4
    assert "4 of 4 rows labelled" in records[-1].message


def test_failed_rows_tell_why(label: Label, simulator: Simulator, bus: EventBus) -> None:
    """Rows that fail for good have the reason, are counted, and spoil no neighbour."""
    simulator.faults = Faults(batch_row_error_rate=0.5, seed=3)
    df = pd.DataFrame({"text": [f"text {n}" for n in range(30)]})
    run = label(df, name="x", retries=0)
    made = run.result(20)
    bad = made["_error"].notna()
    assert 0 < bad.sum() < 30
    assert made["label"].isna().tolist() == bad.tolist()
    assert made.loc[bad, "_error"].str.contains("Internal server error").all()
    assert run.counts["failed"] == bad.sum() == len(run.errors)
    assert run.errors["row"].tolist() == made.index[bad].tolist()
    assert f"{bad.sum()} failed" in run.message


def test_usage_and_cost_are_what_the_server_counted(label: Label, simulator: Simulator) -> None:
    """Tokens add up to the server's own count; the batch price is half the list price."""
    run = label(TABLE, model="mistral-small-latest")
    run.result(20)
    usage = run.usage
    assert usage.total_tokens == simulator.stats()["tokens"] > 0
    full = usage.prompt_tokens * 0.15e-6 + usage.completion_tokens * 0.6e-6
    assert run.cost == pytest.approx(full / 2)


def test_nothing_secret_is_kept(simulator: Simulator, bus: EventBus, home: Path) -> None:
    """The key is in no file of the home folder, no repr and no event."""
    key = "sk-very-secret-0123456789"
    connection = Connection(resolve(api_key=key, server_url=simulator.url))
    run = start_run(connection, bus, TABLE, prompt="{text}", labels=["a", "b"], name="x")
    run.result(20)
    files = [path for path in (home / "runs").rglob("*") if path.is_file()]
    assert len(files) >= 3
    assert not [path for path in files if key.encode() in path.read_bytes()]
    assert key not in repr(run)


def test_a_handle_reads_well(label: Label) -> None:
    """The repr says name, status, counts and model."""
    run = label(TABLE, name="reviews")
    run.result(20)
    expected = "Run 'reviews': done, 4 of 4 rows labelled (mistral-small-latest)"
    assert repr(run) == expected


def test_real_queries_are_labelled_in_order(label: Label) -> None:
    """Real bank queries come back row by row with one of their intents."""
    df = pd.read_csv(SHARED / "data" / "banking77-test.csv").sample(300, random_state=1)
    intents = json.loads((SHARED / "data" / "banking77-categories.json").read_text())
    made = label(df, "Which intent? {text}", labels=intents, shard_lines=70).result(60)
    pd.testing.assert_frame_equal(made[["text", "category"]], df)
    assert made["label"].isin(intents).all()
    assert (made["label"] == made["category"]).mean() > 5 / 77


# What cannot work is told before anything is sent


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"prompt": "{txt}"}, errors.TemplateError, "'txt'.*{text}"),
        ({"prompt": '{"a": 1} {text}'}, errors.TemplateError, "{{ and }}"),
        ({"schema": int}, errors.SchemaError, "object with properties"),
        ({"labels": []}, errors.InputError, "labels is empty"),
        ({"df": TABLE.assign(label="x")}, errors.InputError, "column 'label'.*prefix="),
        ({"df": TABLE.assign(_error="x")}, errors.InputError, "_error"),
        ({"df": TEXTS}, errors.InputError, "df must be a table: .*; not list"),
        ({"df": TABLE["text"]}, errors.InputError, "to_frame"),
        (
            {"df": TABLE.T.set_axis(pd.MultiIndex.from_product([["a"], range(4)]), axis=1)},
            errors.InputError,
            "several levels",
        ),
        ({"mode": "magic"}, errors.InputError, "mode='batch'"),
        ({"name": " "}, errors.InputError, "name"),
        ({"temperatur": 1}, errors.InputError, "Did you mean temperature"),
        ({"temperature": "hot"}, errors.InputError, "temperature"),
        ({"retries": -1}, errors.InputError, "retries"),
        ({"patience": 0}, errors.InputError, "patience"),
        ({"retries": 1.5}, errors.InputError, "retries must be a whole number from 0, not 1.5"),
        ({"patience": "1"}, errors.InputError, "patience must be seconds above 0, not '1'"),
        ({"timeout_hours": "a"}, errors.InputError, "timeout_hours .* from 1 to 168, not 'a'"),
        ({"timeout_hours": 200}, errors.InputError, "timeout_hours .* from 1 to 168, not 200"),
        ({"shard_lines": 0}, errors.InputError, "shard_lines"),
        ({"shard_bytes": 1.5}, errors.InputError, "shard_bytes must be a whole number from 1"),
        ({"prefix": 3}, errors.InputError, "prefix must be a text, not 3"),
        ({"column": 3}, errors.InputError, "column must be a text, not 3"),
        ({"schema": Ticket, "labels": ["a"]}, errors.InputError, "not both"),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_arguments_that_cannot_work_fail_at_the_call(
    label: Label, simulator: Simulator, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    """A bad argument is an error of the call itself, with its name, and no request is made."""
    with pytest.raises(kind, match=words):
        label(options.pop("df", TABLE), **options)
    assert simulator.stats()["requests"] == {}


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"prompt": lambda row: row.text}, errors.InputError, r"Row 0.*row\['text'\]"),
        (
            {"model": "mistral-smal-latest"},
            errors.NotFoundError,
            "'mistral-smal-latest'.*mistral-small-latest",
        ),
        ({"shard_bytes": 100}, errors.InputError, "Row 0: its request has"),
    ],
    ids=["function", "model", "row"],
)
def test_rows_and_models_that_cannot_work_fail_before_sending(
    label: Label,
    simulator: Simulator,
    bus: EventBus,
    home: Path,
    options: dict[str, Any],
    kind: Any,
    words: str,
) -> None:
    """The run fails with what is wrong, uploads nothing and leaves nothing behind."""
    with bus.stream("run:*") as events:
        with pytest.raises(kind, match=words):
            label(TABLE, **options).result(20)
        records = events.drain()
    assert isinstance(records[-1], RunFailed)
    assert simulator.stats()["files_uploaded"] == 0
    assert not list((home / "runs").glob("*"))


def test_a_wrong_key_is_told_before_sending(simulator: Simulator, bus: EventBus) -> None:
    """401 comes from a request that costs nothing."""
    connection = Connection(resolve(api_key="wrong-key", server_url=simulator.url))
    with pytest.raises(errors.AuthenticationError, match="MISTRAL_API_KEY"):
        start_run(connection, bus, TABLE, prompt="{text}").result(20)
    assert simulator.stats()["files_uploaded"] == 0


def test_a_server_that_is_not_there_is_told(bus: EventBus) -> None:
    """No server at the address: said within seconds, with the setting's name."""
    connection = Connection(resolve(api_key="k", server_url="http://127.0.0.1:9"))
    with pytest.raises(errors.ServerUnreachable, match="server_url"):
        start_run(connection, bus, TABLE, prompt="{text}").result(20)


# Going on, looking, forgetting


def test_a_run_goes_on_without_its_table(
    label: Label, connection: Connection, bus: EventBus
) -> None:
    """`resume` by name gives the whole labelled table from disk."""
    table = TABLE.assign(n=[1, 2, 3, 4], when=pd.date_range("2024-01-01", periods=4))
    made = label(table, schema=Ticket, name="x").result(20)
    pd.testing.assert_frame_equal(resume(connection, bus, "x").result(20), made)


def test_an_unknown_name_says_what_there_is(
    label: Label, connection: Connection, bus: EventBus
) -> None:
    """A name that does not exist: the error lists those that do."""
    label(TABLE, name="reviews").result(20)
    with pytest.raises(errors.RunError, match=r"no run named 'review'.*'reviews'"):
        resume(connection, bus, "review").result(20)


def test_a_table_of_objects_is_asked_for(
    label: Label, connection: Connection, bus: EventBus
) -> None:
    """A column no file can hold: resume asks for the table, checks it, and goes on."""
    table = TABLE.assign(thing=[object() for _ in TEXTS])
    made = label(table, name="x").result(20)
    with pytest.raises(errors.RunError, match=r"'thing'.*df=df"):
        resume(connection, bus, "x").result(20)
    with pytest.raises(errors.InputError, match="not the one"):
        resume(connection, bus, "x", table.iloc[:2]).result(20)
    pd.testing.assert_frame_equal(resume(connection, bus, "x", table).result(20), made)


def test_a_simulated_answer_is_never_taken_for_a_real_one(
    label: Label, connection: Connection, bus: EventBus, make_simulator: Callable[..., Simulator]
) -> None:
    """Answers of one server are not reused for another, and a run stays with its server."""
    label(TABLE, name="x").result(20)
    elsewhere = make_simulator(batch_rate=0)
    other = Connection(resolve(api_key="k", server_url=elsewhere.url))
    run = start_run(
        other, bus, TABLE, prompt="Which topic? {text}", labels=["billing", "delivery", "other"]
    )
    run.result(20)
    assert sent(elsewhere) == 4
    with pytest.raises(errors.InputError, match="its server is"):
        start_run(
            other,
            bus,
            TABLE,
            prompt="Which topic? {text}",
            labels=["billing", "delivery", "other"],
            name="x",
        ).result(20)


def test_a_ledger_of_a_newer_version_is_told(
    label: Label, home: Path, connection: Connection, bus: EventBus
) -> None:
    """A ledger from the future says so instead of being misread."""
    label(TABLE, name="x").result(20)
    path = next((home / "runs").glob("x-*/ledger.sqlite3"))
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(errors.StoreError, match="newer version"):
        resume(connection, bus, "x").result(20)
