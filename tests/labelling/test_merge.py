"""Laws of merging: each result beside its row, index and order untouched, real dtypes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel

from mistral_nb.errors import InputError, RunError
from mistral_nb.labelling.merge import Names, merge
from mistral_nb.labelling.schemas import compile_schema

if TYPE_CHECKING:
    from collections.abc import Iterator


class Inner(BaseModel):
    age: int | None


class Result(BaseModel):
    topic: Literal["a", "b"]
    score: float
    urgent: bool
    note: str
    tags: list[str]
    inner: Inner


REPLY = '{"topic":"b","score":1,"urgent":true,"note":"x","tags":["p","q"],"inner":{"age":3}}'
SCHEMA = compile_schema(Result)
NAMES = Names(SCHEMA, None, "")
PLAIN = Names(None, None, "")


def blocks(*rows: tuple[str | None, str | None], size: int = 2) -> Iterator[list[Any]]:
    numbered = [(n, text, error) for n, (text, error) in enumerate(rows)]
    for start in range(0, len(numbered), size):
        yield numbered[start : start + size]


def test_columns_have_the_schemas_dtypes() -> None:
    """Enums are categories, numbers and booleans nullable, nested fields flat, lists objects."""
    df = pd.DataFrame({"text": list("wxyz")})
    made = merge(
        df, blocks((REPLY, None), (None, "bad"), ("nonsense", None), (REPLY, None)), SCHEMA, NAMES
    )
    assert made.dtypes.drop("text").astype(str).to_dict() == {
        "topic": "category",
        "score": "Float64",
        "urgent": "boolean",
        "note": "string",
        "tags": "object",
        "inner.age": "Int64",
        "_error": "string",
    }
    assert made.loc[0].drop(["text", "_error"]).tolist() == ["b", 1.0, True, "x", ["p", "q"], 3]
    assert made["topic"].cat.categories.tolist() == ["a", "b"]
    assert made.loc[1, "_error"] == "bad"
    assert "not JSON" in made.loc[2, "_error"]
    assert made.loc[[1, 2], "topic":"inner.age"].isna().all(axis=None)
    assert made["_error"].isna().tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([7, 7, 7], name="same"),
        pd.MultiIndex.from_tuples([("b", 1), ("a", 1), ("b", 1)]),
        pd.Index([None, 1.5, None]),
        pd.date_range("2024-01-01", periods=3, freq="h"),
    ],
    ids=["duplicate", "multi", "nan", "dates"],
)
def test_index_and_order_are_untouched(index: pd.Index) -> None:
    """Results go by position, so any index is good; the table given is not changed."""
    df = pd.DataFrame({"text": ["x", "y", "z"]}, index=index)
    before = df.copy()
    made = merge(df, blocks(("r0", None), ("r1", None), ("r2", None)), None, Names(None, None, ""))
    assert made.index.identical(index)
    assert made["reply"].tolist() == ["r0", "r1", "r2"]
    pd.testing.assert_frame_equal(df, before)


def test_columns_there_twice_are_no_obstacle() -> None:
    """Two columns of one name stay as they are."""
    df = pd.DataFrame([[1, 2]], columns=["x", "x"])
    made = merge(df, blocks(("r", None)), None, Names(None, "out", "new_"))
    assert list(made.columns) == ["x", "x", "new_out", "new_error"]


def test_free_text_of_a_cut_reply_is_kept() -> None:
    """Without a schema an error row still has the text that came."""
    df = pd.DataFrame({"text": ["x"]})
    made = merge(df, blocks(("half", "cut")), None, Names(None, None, ""))
    assert made.loc[0, ["reply", "_error"]].tolist() == ["half", "cut"]


@pytest.mark.parametrize("value", ["1e400", "9223372036854775808", '"3"', "true", "1.5"])
def test_a_number_no_column_can_hold_is_an_error_row(value: str) -> None:
    """What does not fit the dtype becomes that row's error, not the run's."""
    schema = compile_schema({"properties": {"n": {"type": ["integer"]}}})
    df = pd.DataFrame({"text": ["x"]})
    made = merge(df, blocks((f'{{"n":{value}}}', None)), schema, Names(schema, None, ""))
    assert pd.isna(made.loc[0, "n"])
    assert pd.notna(made.loc[0, "_error"])


def test_a_value_nested_beyond_all_sense_is_an_error_row() -> None:
    """What files and other libraries' tables could not hold is that row's error, nothing else."""
    schema = compile_schema({"properties": {"x": {"type": "array"}}})
    df = pd.DataFrame({"text": ["x", "y"]})
    deep = "[" * 500 + "]" * 500
    results = blocks((f'{{"x":{deep}}}', None), ('{"x":[1]}', None))
    made = merge(df, results, schema, Names(schema, None, ""))
    assert made["x"].tolist() == [None, [1]]
    assert made.loc[0, "_error"] == "the value is nested too deeply"


def test_lists_of_one_length_stay_lists() -> None:
    """Cells that are lists of equal length are not unpacked into a matrix."""
    schema = compile_schema({"properties": {"tags": {"type": "array"}}})
    df = pd.DataFrame({"text": list("xyz")})
    made = merge(
        df, blocks(*[('{"tags":[1,2]}', None)] * 3, size=3), schema, Names(schema, None, "")
    )
    assert made["tags"].tolist() == [[1, 2]] * 3


def test_an_empty_table_gets_its_columns() -> None:
    """No rows still mean all columns with their dtypes."""
    made = merge(pd.DataFrame({"text": []}), [], SCHEMA, NAMES)
    assert made.dtypes["topic"] == "category"
    assert str(made.dtypes["score"]) == "Float64"
    assert len(made) == 0


def test_a_block_without_rows_adds_none() -> None:
    """Parts of a table that are empty are merged like others."""
    made = merge(pd.DataFrame({"text": ["x"]}), [[], [(0, "r", None)], []], None, PLAIN)
    assert made["reply"].tolist() == ["r"]
    assert len(merge(pd.DataFrame({"text": []}), [[]], None, PLAIN)) == 0


def test_another_number_of_rows_is_refused() -> None:
    """A ledger with a gap, or of another table, never shifts results silently."""
    df = pd.DataFrame({"text": ["x", "y"]})
    with pytest.raises(RunError, match="another table"):
        merge(df, blocks(("r", None)), None, Names(None, None, ""))
    with pytest.raises(RunError, match="row 1"):
        merge(df, [[(0, "r", None), (2, "r", None)]], None, Names(None, None, ""))


def test_a_result_column_that_exists_is_refused() -> None:
    """The error names the column and the ways out."""
    with pytest.raises(InputError, match=r"column 'topic'.*prefix="):
        NAMES.check(["text", "topic"])
    with pytest.raises(InputError, match="_error"):
        NAMES.check(["_error"])
    Names(SCHEMA, None, "new_").check(["text", "topic", "_error"])
