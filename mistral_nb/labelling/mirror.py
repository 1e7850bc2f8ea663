"""The output of a labelled data set: each part has its mirror, a parquet file with the results.

A part is written under another name, fsynced and renamed, so what is there is whole. It
carries a mark of what it was made from: after a kill, only the others are written.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mistral_nb.errors import InputError, StoreError
from mistral_nb.labelling.folder import sync_folder
from mistral_nb.labelling.merge import ERROR, Cut, result_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pandas as pd

    from mistral_nb.labelling.ledger import Ledger
    from mistral_nb.labelling.merge import Names
    from mistral_nb.labelling.parts import Part
    from mistral_nb.labelling.schemas import Column, Schema

__all__ = ["Mirror"]

GROUP_ROWS, GROUP_BYTES = 100_000, 32_000_000
"""A row group is written when it has so many rows or bytes: the memory that writing takes."""
_KEY = b"mistral_nb"
_TYPES: dict[str, pa.DataType] = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "string": pa.string(),
    "boolean": pa.bool_(),
    "object": pa.string(),  # as JSON: every batch must have the same type
}


class Mirror:
    """The folder of labelled parts.

    Args:
        out: The folder; made if it is not there.

    Raises:
        InputError: It cannot be made or written to.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"out={out} cannot be made: {error.strerror or error}.") from error
        if not os.access(out, os.W_OK):
            raise InputError(f"out={out} cannot be written to.")

    def name(self, part: Part) -> str:
        """Return the name of a part's mirror in the folder."""
        return str(PurePosixPath(part.name).with_suffix(".parquet"))

    def check(self, parts: list[Part]) -> None:
        """Refuse to replace the input, or files that no run has written.

        Raises:
            InputError: Names the file.
        """
        names: dict[str, Part] = {}
        for part in parts:
            name = self.name(part)
            if name in names:
                raise InputError(f"{part.path} and {names[name].path} would both become {name}.")
            names[name] = part
            target = self._out / name
            if target.exists() and target.samefile(part.path):
                raise InputError(f"{target} is the input itself: name another folder.")
            if target.exists() and _mark_of(target) is None:
                raise InputError(
                    f"{target} is there already and was not written by a run: "
                    "name another folder, or move it away. Nothing was sent."
                )

    def write(
        self,
        part: Part,
        ledger: Ledger | None,
        schema: Schema | None,
        names: Names,
        first: int,
        made_from: bytes,
    ) -> tuple[int, int]:
        """Write a labelled part, unless it is there.

        Args:
            part: The part.
            ledger: Has a result for every row; None if there are no rows.
            schema: Reads the replies.
            names: Names of the result columns.
            first: Number of the part's first row in the data set.
            made_from: As :meth:`made_from` has it, the same for all parts.

        Returns:
            Its rows, and how many of them have no result.

        Raises:
            StoreError: The disk is full.
        """
        target = self._out / self.name(part)
        mark = _mark(part, made_from)
        there = _mark_of(target) if target.exists() else None
        if there is not None and there["mark"] == mark:
            return int(there["rows"]), int(there["failed"])
        unfinished = target.with_name(f".{target.name}.unfinished")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                results = Cut(ledger.results(first) if ledger else ())
                counts = _write(file, part, results, schema, names, first, mark)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
            sync_folder(target.parent)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            raise StoreError(
                f"{target} could not be written: {error.strerror or error}. Nothing is lost: "
                "make room and call again; only what is missing is written."
            ) from error
        return counts

    @staticmethod
    def made_from(ledger: Ledger | None, schema: Schema | None, names: Names) -> bytes:
        """Say what all labelled parts are made from besides their own rows.

        It counts all rows of the ledger: once for all parts, of which there may be thousands.
        """
        run: tuple[Any, ...] = ()
        if ledger is not None:
            counts = ledger.counts()
            run = (ledger.run().uid, counts["done"], counts["failed"])
        return orjson.dumps((run, names.names, names.error, schema.record() if schema else None))

    def read(self, parts: Iterable[str], columns: Sequence[str]) -> pd.DataFrame:
        """Read some columns of labelled parts, one part after the other.

        Args:
            parts: Their names.
            columns: Names of columns; those that are not there are left out.

        Returns:
            The rows of all, numbered from 0.
        """
        tables = []
        for name in parts:
            with pq.ParquetFile(self._out / name) as file:
                there = [each for each in columns if each in file.schema_arrow.names]
                tables.append(file.read(there))
        made: pd.DataFrame = pa.concat_tables(tables).to_pandas(ignore_metadata=True)
        return made


def _write(
    file: IO[bytes],
    part: Part,
    results: Cut,
    schema: Schema | None,
    names: Names,
    first: int,
    mark: str,
) -> tuple[int, int]:
    """Write a part's columns with the results beside them; return rows and failures."""
    columns = [*names.columns, ERROR]
    fields = [
        pa.field(name, _type(column))
        for name, column in zip([*names.names, names.error], columns, strict=True)
    ]
    head = part.schema()
    kept = {key: each for key, each in (head.metadata or {}).items() if key != _KEY}
    whole = pa.schema([*head, *fields], kept)
    rows = failed = 0
    with pq.ParquetWriter(file, whole, compression="zstd") as writer:
        group: list[pa.RecordBatch] = []
        for batch in part.batches():
            block = results.take(batch.num_rows)
            made = result_columns([block], schema, names, first + rows)
            new = [_array(made.iloc[:, n], column) for n, column in enumerate(columns)]
            group.append(pa.RecordBatch.from_arrays([*batch.columns, *new], schema=whole))
            rows += batch.num_rows
            failed += int(made[names.error].notna().sum())
            if _is_full(group):
                writer.write_table(pa.Table.from_batches(group))
                group = []
        if group:
            writer.write_table(pa.Table.from_batches(group))
        about = {"mark": mark, "rows": rows, "failed": failed}
        writer.add_key_value_metadata({_KEY.decode(): orjson.dumps(about).decode()})
    return rows, failed


def _is_full(group: list[pa.RecordBatch]) -> bool:
    rows, size = sum(b.num_rows for b in group), sum(b.nbytes for b in group)
    return bool(rows >= GROUP_ROWS or size >= GROUP_BYTES)


def _type(column: Column) -> pa.DataType:
    if column.kind == "category":
        return pa.dictionary(pa.int32(), _categories(column).type)
    if column.kind == "vector":
        return pa.list_(pa.from_numpy_dtype(column.categories[0]))
    return _TYPES[column.kind]


def _categories(column: Column) -> pa.Array:
    try:
        return pa.array(column.categories)
    except (pa.ArrowException, TypeError):  # texts and numbers: Arrow has no type for both
        return pa.array([str(each) for each in column.categories])


def _array(cells: pd.Series[Any], column: Column) -> pa.Array:
    if column.kind == "category":
        codes = cells.cat.codes.to_numpy()
        indices = pa.array(codes, pa.int32(), mask=codes < 0)
        return pa.DictionaryArray.from_arrays(indices, _categories(column))
    if column.kind == "object":
        texts = [None if cell is None else orjson.dumps(cell).decode() for cell in cells]
        return pa.array(texts, pa.string())
    return pa.array(cells, _type(column), from_pandas=True)


def _mark(part: Part, made_from: bytes) -> str:
    """Say what a labelled part is made from: the same mark means the same content."""
    whole = orjson.dumps((part.name, part.bytes, part.changed)) + made_from
    return hashlib.blake2b(whole, digest_size=16).hexdigest()


def _mark_of(path: Path) -> dict[str, Any] | None:
    """Return what a labelled part says of itself; None if no run has written it."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
        about = orjson.loads(metadata[_KEY])
    except (OSError, pa.ArrowException, KeyError, orjson.JSONDecodeError):
        return None
    return about if isinstance(about, dict) and {"mark", "rows", "failed"} <= set(about) else None
