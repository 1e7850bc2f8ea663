"""Tables of other libraries, such as polars and Arrow: in as they are, out in their own kind.

Inside, every table is a pandas one with Arrow's types, which keeps values exactly and copies
next to nothing. The result's columns are put beside the caller's own table, so none of its
columns makes the journey twice. Narwhals knows the libraries; none of them is imported here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import narwhals as nw
import orjson
import pandas as pd
import pyarrow as pa

from mistral_nb.errors import InputError, RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PANDAS", "as_pandas", "beside", "in_kind", "kind_of", "rows_of"]

PANDAS = "pandas"


def kind_of(table: Any) -> str:
    """Return which library a table is of, e.g. ``"polars"``.

    Raises:
        InputError: It is no table, or not one in memory.
    """
    if isinstance(table, pd.DataFrame):
        return PANDAS
    if isinstance(table, pd.Series):
        raise _no_series("to_frame('text')")
    try:
        known = nw.from_native(table, pass_through=True, allow_series=True)
    except nw.exceptions.NarwhalsError as error:  # such as two columns of one name
        raise InputError(f"The table cannot be read: {' '.join(str(error).split())}.") from error
    if isinstance(known, nw.Series):
        raise _no_series("to_frame()")
    if isinstance(known, nw.LazyFrame):
        raise InputError(
            f"df is a lazy {type(table).__name__}: its rows are not there yet. "
            "Give df.collect() instead."
        )
    if not isinstance(known, nw.DataFrame):
        raise InputError(
            "df must be a table: a pandas or polars DataFrame, an Arrow table, or files with "
            f"mnb.label_files; not {type(table).__name__}."
        )
    return str(known.implementation.value)


def as_pandas(table: Any) -> pd.DataFrame:
    """Return a table as a pandas one; of another library, with Arrow's types.

    Raises:
        InputError: It is no table, or not one in memory.
    """
    if kind_of(table) == PANDAS:
        frame: pd.DataFrame = table
        return frame
    try:
        known = nw.from_native(table, eager_only=True)
        loose = [name for name, dtype in known.schema.items() if dtype == nw.Object]
        arrow: pa.Table = known.drop(loose).to_arrow()
        made: pd.DataFrame = arrow.to_pandas(types_mapper=pd.ArrowDtype)
        for name in loose:  # as Arrow has it, an object is its address
            made.insert(
                known.columns.index(name), name, pd.Series(known[name].to_list(), dtype=object)
            )
    except (nw.exceptions.NarwhalsError, pa.ArrowException, ValueError, TypeError) as error:
        raise InputError(f"The table cannot be read: {error}.") from error
    return made


def beside(table: Any, new: pd.DataFrame) -> Any:
    """Return a table with further columns, in its own kind.

    Args:
        table: A table of another library than pandas, shape (rows, columns).
        new: The further columns, in the order of its rows.
    """
    known = nw.from_native(table, eager_only=True)
    further = nw.DataFrame.from_arrow(_arrow(new), backend=known.implementation)
    return nw.concat([known, further], how="horizontal").to_native()


def in_kind(frame: pd.DataFrame, kind: str) -> Any:
    """Return a pandas table as one of another library.

    Args:
        frame: The table; its index is left out.
        kind: As :func:`kind_of` has it.

    Raises:
        RunError: The library is not installed.
    """
    if kind == PANDAS:
        return frame
    try:
        backend: Any = import_module(kind)
    except ImportError as error:
        raise RunError(
            f"The run's table is a {kind} one, and {kind} is not installed here: install it "
            "(pip install 'mistral-nb[polars]'), then go on. The answers are safe."
        ) from error
    return nw.DataFrame.from_arrow(_arrow(frame), backend=backend).to_native()


def rows_of(table: Any, positions: Sequence[int]) -> Any:
    """Return some rows of a table, in its own kind."""
    if isinstance(table, pd.DataFrame):
        return table.iloc[list(positions)]
    return nw.from_native(table, eager_only=True)[list(positions)].to_native()


def _arrow(frame: pd.DataFrame) -> pa.Table:
    columns = [_column(frame.iloc[:, number]) for number in range(frame.shape[1])]
    return pa.table(dict(zip(map(str, frame.columns), columns, strict=True)))


def _column(column: pd.Series[Any]) -> pa.Array:
    """Return a column as Arrow has it; objects that differ too much become JSON texts."""
    try:
        made = pa.array(column, from_pandas=True)
        if pa.types.is_dictionary(made.type) and not _is_text(made.type.value_type):
            made = made.dictionary_decode()  # numbers as categories: few libraries have them
    except (pa.ArrowException, TypeError, ValueError):
        return pa.array([_json(cell) for cell in column], type=pa.string())
    return made


def _json(cell: Any) -> str | None:
    if cell is None:
        return None
    return orjson.dumps(cell, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _no_series(way: str) -> InputError:
    return InputError(
        f"df is a Series: give a table, e.g. series.{way}; or label it as it is with "
        "series.mistral.classify([...])."
    )
