"""Tables in files: csv, parquet and jsonl, known by their suffix."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.errors import InputError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pandas as pd

__all__ = ["check_target", "read_table", "write_table"]

SUFFIXES = (".csv", ".jsonl", ".parquet")


def read_table(path: Path) -> pd.DataFrame:
    """Read a table; cells of a csv stay the texts they are, empty ones are missing.

    Args:
        path: A .csv, .jsonl or .parquet file.

    Returns:
        The table, shape (rows, columns), rows numbered from 0 unless parquet says else.

    Raises:
        InputError: The file is not there or not what its suffix says; the message says where.
    """
    import pyarrow as pa

    read = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}[_suffix(path)]
    try:
        return read(path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason} at byte {error.start}.") from error
    except pa.ArrowException as error:
        raise InputError(f"{path} is not a parquet file: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def check_target(path: Path, source: Path | None = None) -> None:
    """Make sure, before anything is paid for, that a result can be written.

    Args:
        path: File to write later; one that is there will be replaced.
        source: The input, which must not be replaced.

    Raises:
        InputError: The suffix is unknown, or the folder is not there or not writable.
    """
    _suffix(path)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"--out {path}: the folder {folder} does not exist.")
    if path.is_dir():
        raise InputError(f"--out {path} is a folder.")
    if not os.access(folder, os.W_OK):
        raise InputError(f"--out {path}: the folder {folder} cannot be written to.")
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise InputError(f"--out {path} is the input itself; name another file.")


def write_table(df: pd.DataFrame, path: Path) -> None:
    """Write a table, as a whole or not at all.

    Args:
        df: The table; in csv and jsonl its index is left out, lists and dicts become JSON.
        path: A .csv, .jsonl or .parquet file.

    Raises:
        StoreError: The disk is full, or parquet has no form for a column.
    """
    import pyarrow as pa

    write = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}[_suffix(path)]
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        write(df, unfinished)
        unfinished.replace(path)
    except (OSError, pa.ArrowException, TypeError, ValueError) as error:
        raise StoreError(f"{path} could not be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)  # whatever ended it, an interrupt as well


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: the name must end in {', '.join(SUFFIXES[:-1])} or .parquet.")
    return suffix


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    # No guessing: "007" stays "007" and "NA" stays "NA", on the way in and on the way out.
    try:
        return pd.read_csv(
            path, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig"
        )
    except pd.errors.EmptyDataError as error:
        raise InputError(f"{path} is empty: it has no header line.") from error
    except pd.errors.ParserError as error:
        raise InputError(f"{path} is not a csv table: {str(error).strip()}.") from error


def _read_jsonl(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(_json_lines(path)))


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
            except orjson.JSONDecodeError as error:
                raise InputError(f"{path}, line {number} is not JSON: {error}.") from error
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {number} is not a JSON object.")
            yield row


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_parquet(path)


def _write_csv(df: pd.DataFrame, path: Path) -> None:
    changed = df.copy(deep=False)
    for position, kind in enumerate(df.dtypes):
        if kind.kind == "O":  # only these columns can hold lists and dicts
            changed.isetitem(position, [_json_cell(cell) for cell in df.iloc[:, position]])
    changed.to_csv(path, index=False, encoding="utf-8")


def _write_jsonl(df: pd.DataFrame, path: Path) -> None:
    names = [str(name) for name in df.columns]
    columns: Iterable[Iterable[Any]] = (df.iloc[:, n] for n in range(df.shape[1]))
    with path.open("wb") as file:
        for cells in zip(*columns, strict=True):
            row = dict(zip(names, cells, strict=True))
            file.write(orjson.dumps(row, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY))
            file.write(b"\n")


def _write_parquet(df: pd.DataFrame, path: Path) -> None:
    df.to_parquet(path)


def _json_cell(cell: Any) -> Any:
    if isinstance(cell, (list, dict, tuple)) or hasattr(cell, "tolist"):  # a vector, too
        return orjson.dumps(cell, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return cell


def _plain(cell: Any) -> Any:
    """Give orjson something it knows instead of what it does not."""
    import pandas as pd

    if pd.api.types.is_scalar(cell) and pd.isna(cell):
        return None
    if isinstance(cell, (set, frozenset)):
        return sorted(cell, key=str)
    return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)
