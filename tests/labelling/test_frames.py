"""Laws of keeping the input table: what comes back is what went in."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mistral_nb.errors import RunError, StoreError
from mistral_nb.labelling import frames
from mistral_nb.labelling.frames import keep_frame, load_frame, same_frame

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["one", "zwei", "drei ✓", None]


def there_and_back(df: pd.DataFrame, folder: Path) -> pd.DataFrame:
    keep_frame(df, folder / "input.arrow")
    assert same_frame(df, folder / "input.arrow")
    return load_frame(folder / "input.arrow")


@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(10, 50, 10, name="step"),
        pd.Index([3, 3, 1, 1], name="twice"),
        pd.Index(["a", "b", "a", "c"], name=0),
        pd.Index([1.5, np.nan, 2.5, np.nan]),
        pd.MultiIndex.from_tuples([("x", 1), ("x", 1), ("y", 2), ("y", 3)], names=["k", None]),
        pd.MultiIndex.from_product([["a", "b"], pd.date_range("2024-01-01", periods=2)]),
        pd.date_range("2024-03-30", periods=4, freq="D", tz="Europe/Paris", name="day"),
        pd.CategoricalIndex(["lo", "hi", "lo", "hi"], categories=["lo", "hi"], ordered=True),
        pd.interval_range(0, 4),
        pd.period_range("2024-01", periods=4, freq="M"),
        pd.to_timedelta([1, 2, 3, 4], unit="h"),
    ],
    ids=lambda index: f"{type(index).__name__}-{index.dtype}",
)
def test_every_index_comes_back(index: pd.Index, tmp_path: Path) -> None:
    """Duplicate, multi-level, named, dated and categorical indexes survive the disk."""
    df = pd.DataFrame({"text": TEXTS}, index=index)
    pd.testing.assert_frame_equal(there_and_back(df, tmp_path), df)


def test_every_dtype_comes_back(tmp_path: Path) -> None:
    """Dtypes survive, nullable, categorical (unused categories too), dated and arrow ones."""
    df = pd.DataFrame(
        {
            "text": TEXTS,
            "string": pd.array(TEXTS, dtype="string"),
            "object": pd.Series(TEXTS, dtype=object),
            "int": [1, 2, 3, 4],
            "int8": np.array([1, 2, 3, 4], dtype="int8"),
            "Int64": pd.array([1, None, 3, 4], dtype="Int64"),
            "float": [1.5, np.nan, np.inf, 0.1],
            "bool": [True, False, True, False],
            "boolean": pd.array([True, None, False, True], dtype="boolean"),
            "cat": pd.Categorical(["b", "a", "b", None], categories=["z", "b", "a"], ordered=True),
            "when": pd.to_datetime(["2024-01-01", None, "2024-06-01", "2025-01-01"]),
            "zone": pd.date_range("2024-01-01", periods=4, tz="UTC"),
            "arrow": pd.array([[1], None, [2, 3], []], dtype=pd.ArrowDtype(pa_list())),
            "period": pd.period_range("2024-01", periods=4, freq="M"),
            "complexless": [np.float32(1), np.float32(2), np.float32(3), np.float32(4)],
        }
    )
    pd.testing.assert_frame_equal(there_and_back(df, tmp_path), df)


def pa_list() -> object:
    import pyarrow as pa

    return pa.list_(pa.int64())


def test_loose_objects_come_back(tmp_path: Path) -> None:
    """Object columns of mixed texts, numbers, lists and dicts survive with their types."""
    cells = {
        "mixed": ["a", 1, 2.5, True, None, np.nan],
        "nested": [[1, "x"], {"k": [None]}, [], {}, None, "s"],
        "money": [decimal.Decimal("1.50"), None] * 3,
        "day": [dt.date(2024, 1, 2), None] * 3,
        "raw": [b"\x00\xff", None] * 3,
        "nothing": [None] * 6,
    }
    df = pd.DataFrame({name: pd.Series(each, dtype=object) for name, each in cells.items()})
    loaded = there_and_back(df, tmp_path)
    pd.testing.assert_frame_equal(loaded, df)
    assert [type(cell) for cell in loaded["mixed"]] == [str, int, float, bool, type(None), float]


def test_labels_of_any_plain_kind_come_back(tmp_path: Path) -> None:
    """Column labels that are numbers, empty, or there twice survive."""
    df = pd.DataFrame([[1, 2, 3, 4]], columns=pd.Index(["a", "a", "", "b.c"], name="labels"))
    pd.testing.assert_frame_equal(there_and_back(df, tmp_path), df)
    df = pd.DataFrame([["x", "y"]])
    pd.testing.assert_frame_equal(there_and_back(df, tmp_path), df, check_column_type=False)


def test_many_pieces_are_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table longer than a piece comes back whole, a column empty at its start included."""
    monkeypatch.setattr(frames, "PIECE", 3)
    df = pd.DataFrame(
        {
            "late": pd.Series([None] * 8 + ["x", 1], dtype=object),
            "cat": pd.Categorical(list("aabbccddee")),
            "text": [None] * 5 + list("vwxyz"),
        },
        index=pd.Index([0, 1] * 5),
    )
    pd.testing.assert_frame_equal(there_and_back(df, tmp_path), df)


def test_an_empty_table_comes_back(tmp_path: Path) -> None:
    """A table without rows keeps its columns and dtypes."""
    df = pd.DataFrame({"text": pd.Series([], dtype="str"), "n": pd.Series([], dtype="Int64")})
    pd.testing.assert_frame_equal(there_and_back(df, tmp_path), df)


def test_python_objects_are_named_not_pickled(tmp_path: Path) -> None:
    """A column no file can hold is named when the table is asked for, and matched by df=."""
    df = pd.DataFrame({"text": ["a", "b"], "thing": [object(), {1, 2}]})
    keep_frame(df, tmp_path / "input.arrow")
    with pytest.raises(RunError, match="'thing'"):
        load_frame(tmp_path / "input.arrow")
    assert same_frame(df, tmp_path / "input.arrow")
    assert not same_frame(df.iloc[:1], tmp_path / "input.arrow")


def test_another_table_is_told_apart(tmp_path: Path) -> None:
    """A changed cell, index or column name is another table."""
    df = pd.DataFrame({"text": ["a", "b"], "n": [1, 2]})
    keep_frame(df, tmp_path / "input.arrow")
    assert not same_frame(df.assign(text=["a", "c"]), tmp_path / "input.arrow")
    assert not same_frame(df.set_axis([5, 6]), tmp_path / "input.arrow")
    assert not same_frame(df.rename(columns={"n": "m"}), tmp_path / "input.arrow")


def test_a_damaged_file_is_a_clear_error(tmp_path: Path) -> None:
    """A cut or missing file is a StoreError that names it."""
    path = tmp_path / "input.arrow"
    with pytest.raises(StoreError, match=r"input\.arrow"):
        load_frame(path)
    keep_frame(pd.DataFrame({"text": ["a"] * 100}), path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(StoreError, match=r"input\.arrow"):
        load_frame(path)


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["a", None], type=pa.string_view()),
        pa.array([(1, 2, 3), None], type=pa.month_day_nano_interval()),
        pa.array([float("nan"), None], type=pa.float32()),
        pa.array([[{"a": 1}], None]),
    ],
    ids=lambda array: str(array.type),
)
def test_any_type_of_arrow_comes_back(array: pa.Array, tmp_path: Path) -> None:
    """Also those that pandas knows little of, and numbers that are none."""
    df = pd.DataFrame({"x": pd.arrays.ArrowExtensionArray(array)})
    back = there_and_back(df, tmp_path)["x"]
    assert back.dtype == df["x"].dtype
    assert str(pa.array(back)) == str(array)


def test_two_levels_of_one_name_come_back(tmp_path: Path) -> None:
    """An index whose levels are called alike is no obstacle."""
    index = pd.MultiIndex.from_tuples([(1, "x"), (1, "y")], names=["k", "k"])
    df = pd.DataFrame({"text": ["a", "b"]}, index=index)
    pd.testing.assert_frame_equal(there_and_back(df, tmp_path), df)


def test_steady_steps_of_time_come_back(tmp_path: Path) -> None:
    """An index of durations keeps its frequency."""
    df = pd.DataFrame({"text": ["a", "b"]}, index=pd.timedelta_range("1h", periods=2, freq="h"))
    pd.testing.assert_frame_equal(there_and_back(df, tmp_path), df)


@pytest.mark.parametrize("empty", [pd.NA, pd.NaT])
def test_loose_objects_with_gaps_stay_objects(empty: object, tmp_path: Path) -> None:
    """Whatever kind of gap there is beside them, numbers and texts keep their types."""
    df = pd.DataFrame({"x": pd.Series([empty, 1, 2], dtype=object)})
    back = there_and_back(df, tmp_path)["x"]
    assert back.dtype == object
    assert back.tolist() == [None, 1, 2]
    assert type(back[1]) is int


@pytest.mark.parametrize(
    "column",
    [
        pd.array(["whole", "\ud800"], dtype=pd.StringDtype("python")),
        pd.Categorical([(1, 2), (3, 4)]),
    ],
)
def test_what_no_file_holds_is_named(column: object, tmp_path: Path) -> None:
    """Half a surrogate pair and categories that are tuples lead to the way on, not a failure."""
    keep_frame(pd.DataFrame({"odd": column}), tmp_path / "input.arrow")
    with pytest.raises(RunError, match=r"'odd'.*mnb\.resume\(name, df=df\)"):
        load_frame(tmp_path / "input.arrow")
