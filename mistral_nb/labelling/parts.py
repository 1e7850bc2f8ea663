"""Data sets in files: finding their parts, and reading each as Arrow record batches.

Memory stays that of one batch, whatever the size of a file: parquet is read through a small
buffer, csv and JSON lines block by block.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import pyarrow as pa

from mistral_nb.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Part", "find_parts", "to_frame"]

SUFFIXES = (".parquet", ".csv", ".jsonl")
BATCH_ROWS, BATCH_BYTES = 10_000, 16_000_000
"""A batch has at most so many rows, and about so many bytes."""
BLOCK = 8 << 20
"""Bytes of text read at a time: no line of a csv or jsonl file may be longer."""
BUFFER = 1 << 20
_ANY = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"

# Whole numbers and truth values with gaps stay what they are: in plain pandas, a gap would
# turn a batch's 3 into 3.0, and its prompts into others than those of the next batch.
_NULLABLE = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}


@dataclass(frozen=True)
class Part:
    """A file of a data set, as it was when it was found.

    Attributes:
        name: Its path inside the data set's folder, with slashes.
        path: Where it is.
        bytes: Its size.
        changed: When it was last written, in nanoseconds since the epoch.
    """

    name: str
    path: Path
    bytes: int
    changed: int

    @classmethod
    def at(cls, path: Path, name: str) -> Part:
        """Look at a file.

        Raises:
            InputError: It is not there.
        """
        try:
            found = path.stat()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
        return cls(name, path, found.st_size, found.st_mtime_ns)

    def schema(self) -> pa.Schema:
        """Read the names and types of the columns.

        Raises:
            InputError: The file is not what its suffix says.
        """
        with _told(self):
            return _KINDS[self.path.suffix.lower()].schema(self)

    def rows(self) -> int | None:
        """Return how many rows it has, where the file says so itself (parquet)."""
        with _told(self):
            is_parquet = self.path.suffix.lower() == ".parquet"
            return int(_parquet(self).metadata.num_rows) if is_parquet else None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Read the rows, in order.

        Yields:
            Batches of bounded size.

        Raises:
            InputError: The file cannot be read to its end.
        """
        with _told(self):
            for batch in _KINDS[self.path.suffix.lower()].batches(self):
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    yield batch.slice(start, BATCH_ROWS)


def find_parts(source: Path) -> list[Part]:
    """Find the files of a data set.

    Args:
        source: A file, or a folder with files of one kind, in any depth; those whose name
            (or folder's name) begins with a dot or an underscore are left out.

    Returns:
        The parts, sorted by name.

    Raises:
        InputError: There are none, or they are of several kinds.
    """
    if not source.exists():
        raise InputError(f"{source} is not there.")
    if not source.is_dir():
        if source.suffix.lower() not in SUFFIXES:
            raise InputError(f"{source}: the name must end in {_ANY}.")
        return [Part.at(source, source.name)]
    found: dict[str, Part] = {}
    for path in source.rglob("*"):
        name = path.relative_to(source)
        hidden = any(each.startswith((".", "_")) for each in name.parts)
        if not hidden and path.suffix.lower() in SUFFIXES and path.is_file():
            found[name.as_posix()] = Part.at(path, name.as_posix())
    kinds = sorted({part.path.suffix.lower() for part in found.values()})
    if not kinds:
        raise InputError(f"{source} holds no {_ANY} file.")
    if len(kinds) > 1:
        raise InputError(f"{source} holds {' and '.join(kinds)} files: label one kind at a time.")
    return [found[name] for name in sorted(found)]


def to_frame(batch: pa.RecordBatch) -> pd.DataFrame:
    """Turn a batch into a table whose dtypes do not depend on which cells are empty."""
    made: pd.DataFrame = pa.Table.from_batches([batch]).to_pandas(
        types_mapper=_NULLABLE.get, ignore_metadata=True
    )
    return made


class _told:  # noqa: N801 - reads as a word of the language
    """Say of a reader's errors which file they are about."""

    def __init__(self, part: Part) -> None:
        self._path = part.path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, UnicodeDecodeError):
            raise InputError(f"{self._path} is not UTF-8: {error.reason}.") from error
        if isinstance(error, (pa.ArrowException, OSError)):
            reason = str(error).split("\n", maxsplit=1)[0].rstrip(".")
            raise InputError(f"{self._path} cannot be read: {reason}.") from error


class _Kind(NamedTuple):
    """How a kind of file is read."""

    schema: Callable[[Part], pa.Schema]
    batches: Callable[[Part], Iterator[pa.RecordBatch]]


def _parquet(part: Part) -> pa.parquet.ParquetFile:
    import pyarrow.parquet as pq

    return pq.ParquetFile(part.path, buffer_size=BUFFER, pre_buffer=False)


def _parquet_schema(part: Part) -> pa.Schema:
    return _parquet(part).schema_arrow


def _parquet_batches(part: Part) -> Iterator[pa.RecordBatch]:
    with _parquet(part) as file:
        about = file.metadata
        groups = [about.row_group(n).total_byte_size for n in range(about.num_row_groups)]
        width = max(1, sum(groups) // max(1, about.num_rows))
        rows = max(50, min(BATCH_ROWS, BATCH_BYTES // width))
        yield from file.iter_batches(batch_size=rows, use_threads=False)


def _header(part: Part) -> list[str]:
    with part.path.open(encoding="utf-8-sig", newline="") as file:
        names = next(csv.reader(file), [])
    if not names:
        raise InputError(f"{part.path} is empty: it has no header line.")
    return names


def _csv_schema(part: Part) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in _header(part)])


def _csv_batches(part: Part) -> Iterator[pa.RecordBatch]:
    from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, open_csv

    # No guessing: "007" stays "007" and "NA" stays "NA"; only an empty cell is missing.
    texts = ConvertOptions(
        column_types=dict.fromkeys(_header(part), pa.string()),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
        null_values=[""],
    )
    parsed = ParseOptions(newlines_in_values=True)
    with open_csv(
        part.path, ReadOptions(block_size=BLOCK, use_threads=False), parsed, texts
    ) as reader:
        yield from reader


def _jsonl_schema(part: Part) -> pa.Schema:
    """Take the fields and types of the first block; texts that look like times stay texts."""
    from pyarrow.json import ReadOptions, open_json

    with open_json(part.path, ReadOptions(block_size=BLOCK, use_threads=False)) as reader:
        return pa.schema([field.with_type(_plain(field.type)) for field in reader.schema])


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind) or pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    return kind


def _jsonl_batches(part: Part) -> Iterator[pa.RecordBatch]:
    from pyarrow.json import ParseOptions, ReadOptions, open_json

    # A field that first appears later is refused, not left out: a prompt may ask for it.
    strict = ParseOptions(
        explicit_schema=_jsonl_schema(part),
        newlines_in_values=False,
        unexpected_field_behavior="error",
    )
    with open_json(part.path, ReadOptions(block_size=BLOCK, use_threads=False), strict) as reader:
        yield from reader


_KINDS = {
    ".parquet": _Kind(_parquet_schema, _parquet_batches),
    ".csv": _Kind(_csv_schema, _csv_batches),
    ".jsonl": _Kind(_jsonl_schema, _jsonl_batches),
}
