"""Putting results beside the rows they belong to: by position, in columns with real dtypes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pandas as pd

from mistral_nb.errors import InputError, RunError
from mistral_nb.labelling.answers import TOO_DEEP
from mistral_nb.labelling.labels import encodable
from mistral_nb.labelling.schemas import Column, Invalid, Schema

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["ERROR", "Cut", "Names", "Results", "merge", "result_columns"]

REPLY = Column("reply", (), "string")
"""The column of a run without a schema."""
ERROR = Column("_error", (), "string")
"""What kind of column the errors are."""
Results = Iterable[Sequence[tuple[int, str | None, str | None]]]
"""Blocks of (row, text, error), one for every row and in order."""


class Names:
    """The names of the result columns.

    Args:
        schema: The run's schema, or None for free text.
        column: Name of the only column, if the caller chose one.
        prefix: Put before every result column's name.

    Raises:
        InputError: A name is no text.
    """

    def __init__(self, schema: Schema | None, column: str | None, prefix: str) -> None:
        for what, name in (("column", column), ("prefix", prefix)):
            if not isinstance(name, str | None):
                raise InputError(f"{what} must be a text, not {name!r}.")
        plain = schema.columns if schema else (REPLY,)
        names = [each.name for each in plain] if schema or not column else [column]
        self.columns = plain
        self.names = [f"{prefix}{name}" for name in names]
        self.error = f"{prefix}error" if prefix.endswith("_") else f"{prefix}_error"

    def check(self, columns: Sequence[Hashable]) -> None:
        """Refuse names that cannot be kept, and a table that has a result column already.

        Raises:
            InputError: Says which.
        """
        odd = [name for name in self.names if not encodable(name)]
        if odd:
            raise InputError(f"{odd[0]!r} cannot be a column's name: it holds half a character.")
        taken = [name for name in [*self.names, self.error] if name in columns]
        if taken:
            raise InputError(
                f"The table already has the column {taken[0]!r}, which the result would add. "
                f"Give prefix=, e.g. prefix='new_', or drop it: df.drop(columns={taken!r})."
            )
        twice = [name for name in self.names if name == self.error]
        if twice:
            raise InputError(f"The schema's field {twice[0]!r} has the error column's name.")


def merge(
    df: pd.DataFrame,
    results: Results,
    schema: Schema | None,
    names: Names,
) -> pd.DataFrame:
    """Add the result columns to a table.

    Args:
        df: The table, shape (rows, columns); it is not changed.
        results: One for every row.
        schema: Reads the texts, which were checked when they came; None keeps them as they are.
        names: Names of the result columns.

    Returns:
        The table with the same index and order, shape (rows, columns + results + 1).

    Raises:
        RunError: There is not exactly one result a row.
    """
    new = result_columns(results, schema, names)
    if len(new) != len(df):
        raise RunError(
            f"The run has {len(new)} rows, the table has {len(df)}: it is another table. "
            "Pass the one that the run was started with."
        )
    new.index = df.index
    return pd.concat([df, new], axis=1)


def result_columns(
    results: Results, schema: Schema | None, names: Names, first: int = 0
) -> pd.DataFrame:
    """Turn results into columns.

    Args:
        results: One for every row.
        schema: Reads the texts.
        names: Names of the columns.
        first: Number of the first row.

    Returns:
        The columns, that of the errors last, shape (rows, results + 1).

    Raises:
        RunError: A row has no result.
    """
    kinds = [*names.columns, ERROR]
    blocks: list[list[Any]] = [[] for _ in kinds]
    read = _reader(schema)
    count = first
    for block in filter(None, results):  # that of an empty part has no rows
        for row, _, _ in block:
            if row != count:
                raise RunError(
                    f"The ledger has no result for row {count}; it is damaged. Label again with "
                    "fresh=True, or put the run's folder back from a copy."
                )
            count += 1
        table = zip(*[read(text, error) for _, text, error in block], strict=True)
        for parts, column, cells in zip(blocks, kinds, table, strict=True):
            parts.append(_array(column, cells))
    joined = {}
    for name, column in zip([*names.names, names.error], kinds, strict=True):
        joined[name] = _joined(column, blocks.pop(0))  # its parts are free before the next
    return pd.DataFrame(joined, copy=False)


class Cut:
    """Gives out a run's results in blocks of any length.

    Args:
        results: Blocks as the ledger has them.
    """

    def __init__(self, results: Results) -> None:
        self._rows = chain.from_iterable(results)

    def take(self, rows: int) -> list[tuple[int, str | None, str | None]]:
        """Return the next results.

        Raises:
            RunError: There are not so many.
        """
        block = list(islice(self._rows, rows))
        if len(block) != rows:
            raise RunError(
                "The data set has more rows than the run: it is another data set. "
                "Put back the one that the run was started with."
            )
        return block


def _reader(schema: Schema | None) -> Callable[[str | None, str | None], tuple[Any, ...]]:
    """Return what makes one row's cells of its text and error, the error last."""
    if schema is None:
        return lambda text, error: (text, error)
    casts = [_cast(column) for column in schema.columns]
    blank = (None,) * len(casts)

    def read(text: str | None, error: str | None) -> tuple[Any, ...]:
        if error is None and text is not None:
            try:
                values = zip(casts, schema.read(text), strict=True)
                return (*[None if v is None else cast(v) for cast, v in values], None)
            except (Invalid, ValueError, TypeError, OverflowError) as problem:
                error = str(problem)
        return (*blank, error)

    return read


def _cast(column: Column) -> Callable[[Any], Any]:
    """Return what makes a cell of a value; of a category, its code."""
    if column.kind == "vector":
        return partial(np.asarray, dtype=column.categories[0])
    if column.kind != "category":
        return _CASTS[column.kind]
    code = {value: number for number, value in enumerate(column.categories)}.get

    def cast(value: Any) -> int:
        found = code(value)
        if found is None:
            raise ValueError(f"{value!r} is not one of the allowed values")
        return found

    return cast


def _integer(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value or abs(value) >= 2**63:
        raise ValueError(f"{value!r} is no whole number of 64 bits")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _object(value: Any) -> Any:
    try:
        orjson.dumps(value)  # as files and other libraries' tables will hold it
    except TypeError:
        raise ValueError(f"the value is {TOO_DEEP}") from None
    return value


_CASTS: dict[str, Callable[[Any], Any]] = {
    "integer": _integer,
    "number": float,
    "string": _text,
    "boolean": _boolean,
    "object": _object,
}
_DTYPES: dict[str, Any] = {
    "integer": "Int64",
    "number": "Float64",
    "string": "string",
    "boolean": "boolean",
}


def _array(column: Column, cells: Sequence[Any]) -> Any:
    """Turn a block of cells into a compact array, so that no list of all rows is ever held."""
    if column.kind == "category":
        codes = (-1 if cell is None else cell for cell in cells)
        return np.fromiter(codes, dtype=np.int32, count=len(cells))
    if column.kind in {"object", "vector"}:
        array = np.empty(len(cells), dtype=object)
        for number, cell in enumerate(cells):  # at once, numpy would unpack lists of one length
            array[number] = cell
        return array
    return pd.array(cells, dtype=_DTYPES[column.kind])


def _joined(column: Column, parts: list[Any]) -> Any:
    if column.kind == "category":
        codes = np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)
        dtype = pd.CategoricalDtype(list(column.categories))
        return pd.Categorical.from_codes(codes, dtype=dtype)
    if column.kind in {"object", "vector"}:
        return np.concatenate(parts) if parts else np.empty(0, dtype=object)
    if not parts:
        return pd.array([], dtype=_DTYPES[column.kind])
    return pd.concat([pd.Series(part) for part in parts], ignore_index=True)
