"""All runs of a home folder: the table of them, and forgetting one."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pandas as pd

from mistral_nb.errors import RunError, StoreError
from mistral_nb.labelling.folder import RunFolder
from mistral_nb.labelling.ledger import Ledger
from mistral_nb.labelling.totals import spent, usage_of

if TYPE_CHECKING:
    from pathlib import Path

    from mistral_nb.settings import Settings

__all__ = ["forget", "list_runs", "no_such_run", "reviews_file"]

_COLUMNS = {
    "name": "string",
    "status": "string",
    "mode": "string",
    "model": "string",
    "rows": "Int64",
    "done": "Int64",
    "failed": "Int64",
    "tokens": "Int64",
    "cost": "Float64",
    "server": "string",
    "created": "datetime64[us, UTC]",
    "updated": "datetime64[us, UTC]",
}


def list_runs(settings: Settings) -> pd.DataFrame:
    """Return all labelling runs of a home folder, the latest first.

    Args:
        settings: Names the folder.

    Returns:
        One row a run: name, status (``running`` if a process follows it, ``detached`` if
        none does, ``done``, ``cancelled``, ``unreadable``), mode, model, rows, done, failed,
        tokens, cost (US dollars by list price; missing if unknown), server, created, updated.
    """
    rows = [_row(folder) for folder in RunFolder.all(settings.home)]
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    for name in ("created", "updated"):
        table[name] = pd.to_datetime(table[name], unit="s", utc=True)
    return table.astype(_COLUMNS).sort_values("created", ascending=False, ignore_index=True)


def forget(settings: Settings, name: str) -> None:
    """Delete everything kept about a run: its requests, answers, table and ledger.

    Args:
        settings: Names the folder.
        name: The run's name.

    Raises:
        RunError: There is no such run, a process follows it, or its batch jobs still run.
    """
    folder = RunFolder.of(settings.home, name)
    if not folder.exists:
        raise RunError(no_such_run(folder, name))
    folder.lock(name)
    try:
        with closing(Ledger(folder.ledger)) as ledger:
            jobs = [s for s in ledger.shards() if s.state in {"creating", "submitted"}]
        if jobs:
            raise RunError(
                f"{len(jobs)} batch job(s) of {name!r} may still run, and be billed. Finish it "
                f"with mnb.resume({name!r}), or cancel it with mnb.resume({name!r}).cancel()."
            )
        folder.remove()
    finally:
        folder.unlock()


def reviews_file(settings: Settings, name: str) -> Path:
    """Return the file that keeps the decisions of a run's reviews."""
    path: Path = RunFolder.of(settings.home, name).path / "reviews.sqlite3"
    return path


def no_such_run(folder: RunFolder, name: str) -> str:
    """Say that a run is not there, and which are.

    Args:
        folder: Where it would be.
        name: Its name.

    Returns:
        A message.
    """
    runs = folder.path.parent
    known = []
    for each in RunFolder.all(runs.parent)[:20]:
        with suppress(StoreError), closing(Ledger(each.ledger)) as ledger:
            known.append(repr(ledger.run().name))
    there = f"There are: {', '.join(known)}." if known else "There are none."
    return (
        f"There is no run named {name!r} in {runs}. {there} "
        "A run that ended before its first request was sent leaves nothing: start it again."
    )


def _row(folder: RunFolder) -> dict[str, object]:
    try:
        with closing(Ledger(folder.ledger)) as ledger:
            record, usage = ledger.run(), usage_of(ledger)
            dollars = spent(ledger, record.model)
    except StoreError:
        return {"name": folder.path.name, "status": "unreadable"}
    status = record.status
    if status not in {"done", "cancelled"}:
        status = "running" if folder.followed() else "detached"
    return {
        "name": record.name,
        "status": status,
        "mode": record.mode,
        "model": record.model,
        "rows": record.rows,
        "done": record.counts.get("done"),
        "failed": record.counts.get("failed"),
        "tokens": usage.total_tokens,
        "cost": dollars,
        "server": record.server,
        "created": record.created,
        "updated": record.updated,
    }
