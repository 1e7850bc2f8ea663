"""Tables of other libraries: in as they are, out in their own kind, with the same rows."""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel

from mistral_nb.errors import InputError, RunError
from mistral_nb.labelling import natives, resume

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.labelling import Run

ROWS = {
    "text": ["where is my parcel?", "my invoice is wrong", None],
    "n": [1, None, 3],
    "when": [dt.datetime(2026, 1, 2, tzinfo=dt.UTC)] * 3,
    "tags": [["a"], [], None],
}


class Label(BaseModel):
    class Person(BaseModel):
        name: str

    topic: Literal["billing", "delivery"]
    stars: Literal[1, 2, 3]
    sure: bool
    score: float
    who: Person


def tables() -> list[Any]:
    polars = pl.DataFrame(ROWS).with_columns(
        kind=pl.Series(["x", "y", "x"], dtype=pl.Enum(["x", "y"]))
    )
    return [polars, pa.table(ROWS), pd.DataFrame(ROWS, index=[7, 7, 9])]


@pytest.mark.parametrize("table", tables(), ids=lambda t: type(t).__module__)
def test_the_result_has_the_kind_that_went_in(label: Callable[..., Run], table: Any) -> None:
    """All columns as they were, the result's beside them, with types of the same meaning."""
    made = label(table, "Topic? {text}", schema=Label)
    done = made.result()
    assert type(done) is type(table)
    columns = ["topic", "stars", "sure", "score", "who.name", "_error"]
    if isinstance(table, pl.DataFrame):
        assert done.select(table.columns).equals(table)
        assert done.schema["kind"] == pl.Enum(["x", "y"])
        assert done["topic"].to_list()[:1] == ["delivery"]
        assert done["topic"].dtype == pl.Categorical
        kinds = [done.schema[name] for name in columns[1:5]]
        assert kinds == [pl.Int64, pl.Boolean, pl.Float64, pl.String]
    elif isinstance(table, pa.Table):
        assert done.select(table.column_names).equals(table)
        assert done["topic"].to_pylist()[0] == "delivery"
        assert done["stars"].type == pa.int64()
    else:
        assert done.index.equals(table.index)
        assert done["topic"].iloc[0] == "delivery"
    frame = natives.as_pandas(done)
    assert list(frame.columns)[-6:] == columns
    assert frame["_error"].iloc[2] == "empty value in column 'text'"
    assert made.evaluate(gold=["delivery", "billing", None], column="topic").accuracy == 1
    assert made.columns == columns[:-1]


def test_the_same_rows_are_the_same_requests(label: Callable[..., Run]) -> None:
    """Whatever library holds them: the second run takes all answers over from the first."""
    texts = {"text": ["where is my parcel?", "my invoice is wrong"], "n": [1, 2]}
    label(pl.DataFrame(texts), "Topic? {text} {n}", name="one").result()
    for number, table in enumerate((pa.table(texts), pd.DataFrame(texts))):
        run = label(table, "Topic? {text} {n}", name=f"other-{number}")
        run.result()
        assert run.counts["reused"] == 2


def test_another_process_gives_the_kind_back(
    label: Callable[..., Run], connection: Any, bus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed by name, or with the table at hand; where the library is missing, that is said."""
    table = pl.DataFrame(ROWS)
    done = label(table, "Topic? {text}", name="kept").result()
    again = resume(connection, bus, "kept").result()
    assert isinstance(again, pl.DataFrame)
    assert again.equals(done)
    given = resume(connection, bus, "kept", table).result()
    assert given.equals(done)
    with pytest.raises(InputError, match="not the one"):
        resume(connection, bus, "kept", table.head(2)).result()
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(RunError, match=r"pip install 'mistral-nb\[polars\]'"):
        resume(connection, bus, "kept").result()


def test_objects_and_vectors_find_a_form(label: Callable[..., Run]) -> None:
    """Vectors are lists of numbers; objects are structs, or JSON where they differ too much."""
    texts = pl.DataFrame({"text": ["kill", "hello"]})
    vectors = label(texts, "{text}", endpoint="embeddings", labels=None).result()
    assert vectors.schema["embedding"] == pl.List(pl.Float32)
    assert vectors["embedding"].list.len().to_list() == [1024, 1024]
    flags = label(texts, "{text}", endpoint="moderations", labels=None, flatten=False).result()
    assert flags["categories"].struct.field("violence_and_threats").to_list() == [True, False]
    mixed = pd.DataFrame({"x": pd.Series([{"a": 1}, [2], None], dtype=object)})
    assert natives.in_kind(mixed, "polars")["x"].to_list() == ['{"a":1}', "[2]", None]


def test_objects_of_polars_are_what_they_are(label: Callable[..., Run]) -> None:
    """Not the addresses that Arrow has in their place."""
    table = pl.DataFrame({"a": [1], "text": pl.Series([{"parcel"}], dtype=pl.Object), "b": [2]})
    frame = natives.as_pandas(table)
    assert list(frame.columns) == ["a", "text", "b"]
    assert frame["text"].tolist() == [{"parcel"}]
    assert label(table).result()["label"].to_list() == ["delivery"]


@pytest.mark.parametrize("kind", [pa.string_view(), pa.large_string()])
def test_texts_of_arrow_may_be_of_any_type(label: Callable[..., Run], kind: pa.DataType) -> None:
    """The types of text that are young are texts as well."""
    done = label(pa.table({"text": pa.array(["parcel", None], type=kind)})).result()
    assert done["label"].to_pylist() == ["delivery", None]


def test_a_sample_of_rows_keeps_its_kind(label: Callable[..., Run]) -> None:
    """sample= draws rows of the caller's own table."""
    done = label(pl.DataFrame({"text": [f"parcel {n}" for n in range(9)]}), sample=2).result()
    assert isinstance(done, pl.DataFrame)
    assert done.height == 2


@pytest.mark.parametrize("mode", ["batch", "online"])
def test_a_table_without_rows_costs_nothing(
    label: Callable[..., Run], simulator: Any, mode: str
) -> None:
    """It comes back with the result's columns, and nothing was sent."""
    for table in (pl.DataFrame({"text": []}), pa.table({"text": []}), pd.DataFrame({"text": []})):
        done = label(table, mode=mode).result()
        assert type(done) is type(table)
        assert list(natives.as_pandas(done).columns) == ["text", "label", "_error"]
    assert simulator.stats()["jobs_created"] == simulator.stats()["chat_requests"] == 0


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pd.Series(["a"]), r"df is a Series: give a table, e\.g\. series\.to_frame\('text'\)"),
        (pl.Series(["a"]), r"df is a Series: give a table, e\.g\. series\.to_frame\(\)"),
        (pl.LazyFrame({"text": ["a"]}), r"lazy LazyFrame: .* Give df\.collect\(\) instead"),
        (["a"], "df must be a table: a pandas or polars DataFrame.*not list"),
        ({"text": ["a"]}, "not dict"),
        (None, "not NoneType"),
        (pa.table([["a"], ["b"]], names=["text", "text"]), "cannot be read|fits 2 columns"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "fits 2 columns of that name"),
    ],
)
def test_what_is_no_table_is_refused(label: Callable[..., Run], table: Any, words: str) -> None:
    """With what to give instead."""
    with pytest.raises(InputError, match=words):
        label(table)


def test_columns_that_are_there_twice_may_stay(label: Callable[..., Run]) -> None:
    """As long as the prompt does not name them: they come back as they were."""
    df = pd.DataFrame([["parcel", 1, 2]], columns=["text", "x", "x"], index=[5])
    done = label(df).result()
    assert list(done.columns) == ["text", "x", "x", "label", "_error"]
    assert done.iloc[0, :4].tolist() == ["parcel", 1, 2, "delivery"]
