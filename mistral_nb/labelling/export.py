"""A run as a file: the labelled table, and beside it what the ledger knows of each row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mistral_nb.errors import InputError, RunError
from mistral_nb.labelling.natives import as_pandas
from mistral_nb.labelling.plan import restore
from mistral_nb.labelling.recipe import custom_id
from mistral_nb.labelling.sources import FrameSource, KeptFrame, kept_source
from mistral_nb.tables import write_table

if TYPE_CHECKING:
    import os

    from mistral_nb.labelling.folder import RunFolder
    from mistral_nb.labelling.ledger import Ledger
    from mistral_nb.labelling.sources import Target

__all__ = ["export"]

_COLUMNS = {
    "custom_id": "string",
    "raw": "string",
    "status": "Int64",
    "attempts": "Int64",
    "prompt_tokens": "Int64",
    "completion_tokens": "Int64",
    "cached_tokens": "Int64",
}
_ROWS = """
    SELECT r.row, COALESCE(r.twin, r.row), o.digest, a.text, a.status,
           b.attempts, b.prompt, b.completion, b.cached
    FROM request r
    LEFT JOIN request o ON o.row = COALESCE(r.twin, r.row)
    LEFT JOIN attempt a ON a.row = o.row AND a.number = o.attempts
    LEFT JOIN (
        SELECT row, COUNT(*) AS attempts, SUM(prompt_tokens) AS prompt,
               SUM(completion_tokens) AS completion, SUM(cached_tokens) AS cached
        FROM attempt WHERE number > 0 GROUP BY row
    ) b ON b.row = r.row
    ORDER BY r.row
"""


def export(
    ledger: Ledger,
    folder: RunFolder,
    target: Target | None,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> Path:
    """Write a run to a file, as a whole or not at all.

    Args:
        ledger: The run's ledger.
        folder: The run's files.
        target: Its table, if it is at hand; else the kept one is read.
        path: A .jsonl, .csv or .parquet file.
        overwrite: Replace a file that is there.

    Returns:
        The file.

    Raises:
        InputError: The name has another ending, or the file is there already.
        StoreError: The file cannot be written.
        RunError: The run's result is in files of its own, or its table was not kept.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InputError(f"{path} is there already. Replace it with overwrite=True.")
    record = ledger.run()
    target = target or kept_source(folder, record.name)
    if not isinstance(target, (FrameSource, KeptFrame)):
        raise RunError(
            f"The result of {record.name!r} is in files of its own, which its result names: only "
            "a table in memory is exported."
        )
    schema, names, _ = restore(record)
    table = as_pandas(target.merged(ledger, schema, names))
    known = _known(ledger).set_axis(table.index)
    for position, name in enumerate(_COLUMNS):
        place = 0 if position == 0 else table.shape[1]
        table.insert(place, _free(name, table), known[name])
    write_table(table, path)
    return path


def _known(ledger: Ledger) -> pd.DataFrame:
    """Return what the ledger knows of each row, one row each and in order."""
    with ledger.reading() as db:
        rows = [
            (None if digest is None else custom_id(asked, digest), *rest)
            for _, asked, digest, *rest in db.execute(_ROWS)
        ]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)


def _free(name: str, table: pd.DataFrame) -> Any:
    """Return a name that the table has no column of."""
    while name in table.columns:
        name = f"_{name}"
    return name
