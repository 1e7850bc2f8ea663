"""Keeping a run's input table on disk, so that a new process can give the result.

The table is written as an Arrow file (Feather): exact dtypes and dictionaries, in pieces, no
pickle. Columns and index levels get neutral names there, since a table may have two columns
of one name or labels that are not texts; the true ones are kept beside them.
"""

from __future__ import annotations

import itertools
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from mistral_nb.errors import RunError, StoreError
from mistral_nb.labelling.labels import encodable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["keep_frame", "load_frame", "require_kept", "same_frame"]

PIECE = 20_000
"""Rows written at a time: bounds the extra memory."""
_KEY = b"mistral_nb"


def keep_frame(df: pd.DataFrame, path: Path, kind: str = "pandas") -> None:
    """Write a table to disk.

    Columns that no file format can hold (Python objects) are left out and named in the
    file, so that :func:`load_frame` can say what it needs.

    Args:
        df: The table, shape (rows, columns).
        path: File to write.
        kind: Library that the table came from, for its result.

    Raises:
        StoreError: The disk is full or cannot be written.
    """
    about: dict[str, Any] = {"rows": len(df), "index": _about_index(df.index), "kind": kind}
    about |= {"lost": [], "json": [], "arrow": [], "objects": []}
    schemas: dict[str, pa.DataType] = {}
    for position in range(df.shape[1]):
        column = df.iloc[:, position]
        if column.dtype != object:
            schemas[f"c{position}"] = _arrow_type(column)
        elif all(map(_is_json, column.tolist())):
            about["json"].append(position)
            schemas[f"c{position}"] = pa.large_string()
        else:
            about["objects"].append(position)
            schemas[f"c{position}"] = _arrow_type(column)
        if isinstance(column.dtype, pd.ArrowDtype):
            about["arrow"].append(position)
        if schemas[f"c{position}"] is None:
            about["lost"].append(str(df.columns[position]))
    about["columns"] = _about_columns(df.columns)
    try:
        _write(df, path, about, schemas)
    except OSError as error:
        raise StoreError(
            f"Cannot write {path}: {error.strerror or error}. "
            "Make room, or set MISTRAL_NB_HOME to a folder that can be written."
        ) from error


def load_frame(path: Path) -> pd.DataFrame:
    """Read the table back.

    Args:
        path: File that :func:`keep_frame` wrote.

    Returns:
        The table with its index, dtypes and labels.

    Raises:
        RunError: Some of it could not be kept; the message names the columns.
        StoreError: The file is missing or damaged.
    """
    require_kept(path)
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    about = json.loads(table.schema.metadata[_KEY])
    # pandas cannot read the names of nested Arrow dtypes: those columns keep their arrays.
    arrow = {f"c{n}": table[f"c{n}"] for n in about["arrow"]}
    order = [f"c{n}" for n in sorted(int(c[1:]) for c in table.column_names if c[0] == "c")]
    objects = {f"c{n}": table[f"c{n}"].to_pylist() for n in about.get("objects", ())}
    table = table.drop_columns([*arrow, *objects])
    frame: pd.DataFrame = table.to_pandas(split_blocks=True, self_destruct=True)
    levels = [name for name in frame.columns if name.startswith("i")]
    index = _index(frame[levels], about["index"])
    frame = frame.drop(columns=levels)
    for name, array in arrow.items():
        frame[name] = pd.arrays.ArrowExtensionArray(array)
    for name, cells in objects.items():
        frame[name] = pd.Series(cells, index=frame.index, dtype=object)
    frame = frame[order]
    for position in about["json"]:
        cells = [json.loads(text) for text in frame[f"c{position}"]]
        frame[f"c{position}"] = pd.Series(cells, index=frame.index, dtype=object)
    frame.index = index
    columns = about["columns"]
    frame.columns = pd.Index(columns["labels"], dtype=columns["dtype"], name=columns["name"])
    return frame


def require_kept(path: Path) -> str:
    """Raise unless :func:`load_frame` will be able to give the whole table.

    Returns:
        The library that the table came from.

    Raises:
        RunError: Some of it could not be kept; the message names the columns.
        StoreError: The file is missing or damaged.
    """
    about = _about(path)
    if about["lost"] or about["columns"] is None or about["index"] is None:
        what = ", ".join(map(repr, about["lost"])) or "the index or the column labels"
        raise RunError(
            f"The table holds Python objects that cannot be kept in a file ({what}). "
            "Pass the table itself: mnb.resume(name, df=df). The answers are safe."
        )
    kind: str = about.get("kind", "pandas")
    return kind


def same_frame(df: pd.DataFrame, path: Path) -> bool:
    """Return True if a table is the kept one, as far as it could be kept."""
    about = _about(path)
    if about["rows"] != len(df):
        return False
    try:
        kept = load_frame(path)
    except RunError:
        return bool(_about_columns(df.columns) == about["columns"])
    if not kept.index.equals(df.index) or not kept.columns.equals(df.columns):
        return False
    return all(_same(kept.iloc[:, n], df.iloc[:, n]) for n in range(df.shape[1]))


def _about(path: Path) -> dict[str, Any]:
    try:
        with pa.memory_map(str(path)) as source:
            found: dict[str, Any] = json.loads(pa.ipc.open_file(source).schema.metadata[_KEY])
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise StoreError(f"Cannot read {path}: {error}. Pass the table again with df=.") from error
    return found


def _same(one: pd.Series[Any], other: pd.Series[Any]) -> bool:
    if isinstance(one.dtype, pd.ArrowDtype) and one.dtype == other.dtype:
        # pandas cannot compare nested Arrow values
        a, b = pa.array(one), pa.array(other)
        if pa.types.is_floating(a.type) and a.is_null().equals(b.is_null()):
            return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
        return bool(a.equals(b))
    if _loose(one) and _loose(other):  # gaps of any kind are gaps
        one, other = (each.where(each.notna(), None) for each in (one, other))
    return bool(one.equals(other))


def _write(
    df: pd.DataFrame, path: Path, about: dict[str, Any], types: dict[str, pa.DataType]
) -> None:
    fields = [name for name, each in types.items() if each is not None]
    levels = _levels(df.index) if about["index"] and _stored(df.index) else None
    pieces = _pieces(df, levels, fields, about)
    first = next(pieces)
    schema = _schema(first, about, types, fields)
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with path.open("wb") as file:
        with pa.ipc.new_file(file, schema, options=options) as writer:
            for piece in itertools.chain([first], pieces):
                writer.write(pa.Table.from_pandas(piece, schema=schema, preserve_index=False))
        file.flush()
        os.fsync(file.fileno())


def _schema(
    piece: pd.DataFrame, about: dict[str, Any], types: dict[str, pa.DataType], fields: list[str]
) -> pa.Schema:
    """Say the type of every column for all pieces; the first may hold only empty cells."""
    arrow = [f"c{position}" for position in about["arrow"]]
    found = pa.Schema.from_pandas(piece.drop(columns=arrow), preserve_index=False)
    for name in fields:
        field = pa.field(name, types[name])
        place = found.get_field_index(name)
        found = found.append(field) if name in arrow else found.set(place, field)
    return found.with_metadata({**(found.metadata or {}), _KEY: json.dumps(about).encode()})


def _pieces(
    df: pd.DataFrame, levels: pd.DataFrame | None, fields: list[str], about: dict[str, Any]
) -> Iterator[pd.DataFrame]:
    """Cut the table, with neutral names, and texts in place of loose objects."""
    for start in range(0, max(len(df), 1), PIECE):
        rows = slice(start, start + PIECE)
        columns: dict[str, Any] = {}
        for name in fields:
            position = int(name[1:])
            column = df.iloc[rows, position].reset_index(drop=True)
            if position in about["json"]:
                column = pd.Series([json.dumps(cell) for cell in column], dtype=object)
            columns[name] = column
        if levels is not None:
            for number in range(levels.shape[1]):
                columns[f"i{number}"] = levels.iloc[rows, number].reset_index(drop=True)
        yield pd.DataFrame(columns)


def _arrow_type(column: pd.Series[Any]) -> pa.DataType | None:
    """Return the Arrow type of a whole column, or None if it has none."""
    dtype = column.dtype
    try:
        if isinstance(dtype, pd.CategoricalDtype) and dtype.categories.dtype == object:
            _exact(dtype.categories.to_series())
        elif isinstance(dtype, pd.StringDtype) and dtype.storage == "python":
            pa.array(column)  # raises where a text is none
        elif _loose(column):
            return _exact(column)
        piece = column.iloc[:1].to_frame("x")
        return pa.Schema.from_pandas(piece, preserve_index=False)[0].type
    except (pa.ArrowException, TypeError, ValueError):
        return None


def _loose(column: pd.Series[Any]) -> bool:
    """Return True for a column of Python objects; pandas itself fails on some of Arrow's types."""
    return isinstance(column.dtype, np.dtype) and column.dtype.kind == "O"


def _exact(column: pd.Series[Any]) -> pa.DataType:
    """Return the Arrow type that gives a column's objects back; raise ValueError if none does."""
    found = pa.array(column, from_pandas=True)
    if found.to_pylist() != column.where(column.notna(), None).tolist():
        raise ValueError
    return found.type


def _is_json(cell: Any) -> bool:
    """Return True if JSON gives the very same value back."""
    kind = type(cell)
    if kind in {str, int, float, bool, type(None)}:
        return kind is not str or cell.isascii() or encodable(cell)
    if kind is list:
        return all(map(_is_json, cell))
    return kind is dict and all(type(key) is str and _is_json(each) for key, each in cell.items())


def _plain(label: Any) -> Any:
    """Return a label as JSON holds it; raise TypeError if it cannot."""
    label = label.item() if hasattr(label, "item") else label
    if type(label) not in {str, int, float, bool, type(None)}:
        raise TypeError
    return label


def _about_columns(columns: pd.Index[Any]) -> dict[str, Any] | None:
    try:
        labels = [_plain(label) for label in columns]
        return {"labels": labels, "dtype": str(columns.dtype), "name": _plain(columns.name)}
    except TypeError:
        return None


def _stored(index: pd.Index[Any]) -> bool:
    return not isinstance(index, pd.RangeIndex)


def _about_index(index: pd.Index[Any]) -> dict[str, Any] | None:
    try:
        about: dict[str, Any] = {"names": [_plain(name) for name in index.names]}
    except TypeError:
        return None
    if isinstance(index, pd.RangeIndex):
        about["range"] = [index.start, index.stop, index.step]
        return about
    about["multi"] = isinstance(index, pd.MultiIndex)
    steady = isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex))
    about["freq"] = getattr(index, "freqstr", None) if steady else None
    levels = _levels(index)
    kept = all(_arrow_type(levels.iloc[:, n]) is not None for n in range(levels.shape[1]))
    return about if kept else None


def _levels(index: pd.Index[Any]) -> pd.DataFrame:
    """Return the levels as columns; two of them may have one name."""
    return index.set_names(list(range(index.nlevels))).to_frame(index=False)


def _index(levels: pd.DataFrame, about: dict[str, Any]) -> pd.Index[Any]:
    index: pd.Index[Any]
    if "range" in about:
        index = pd.RangeIndex(*about["range"])
    elif about["multi"]:
        index = pd.MultiIndex.from_frame(levels)
    else:
        index = pd.Index(levels.iloc[:, 0])
        if about["freq"]:
            index.freq = about["freq"]  # type: ignore[attr-defined]
    return index.set_names(about["names"])
