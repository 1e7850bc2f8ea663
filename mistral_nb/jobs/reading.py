"""The embedded engine's reads: jobs as they are, their counts, and what happened to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.jobs.model import STATUSES, Note, Snapshot

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from mistral_nb.jobs.model import Status

__all__ = ["counts", "events_after", "get", "last_event", "listing"]

_COLUMNS = (
    "id, name, data, attempts, backoff, timeout, priority, callback_url, status, due, made, "
    "stalls, progress, result, error, added, started, ended"
)


def get(db: sqlite3.Connection, job_id: str) -> Snapshot | None:
    """Return a job as it is now."""
    sql = f"SELECT {_COLUMNS} FROM job WHERE id = ?"  # noqa: S608 - our own words
    row = db.execute(sql, (job_id,)).fetchone()
    return None if row is None else _snapshot(row)


def listing(
    db: sqlite3.Connection, statuses: Sequence[Status], limit: int, newest: bool
) -> list[Snapshot]:
    """Return jobs in these states, in the order they were added."""
    marks = ", ".join("?" * len(statuses))
    order = "DESC" if newest else "ASC"
    sql = f"SELECT {_COLUMNS} FROM job WHERE status IN ({marks}) ORDER BY seq {order} LIMIT ?"  # noqa: S608
    return [_snapshot(row) for row in db.execute(sql, (*statuses, limit))]


def counts(db: sqlite3.Connection) -> dict[Status, int]:
    """Return how many jobs there are in each state."""
    found: dict[Status, int] = dict.fromkeys(STATUSES, 0)
    for status in ("queued", "delayed", "active"):
        # One by one, so that each counts in its own small index.
        sql = f"SELECT count(*) FROM job WHERE status = '{status}'"  # noqa: S608 - our own words
        found[status] = db.execute(sql).fetchone()[0]
    ended = "SELECT status, count(*) FROM job WHERE ended IS NOT NULL GROUP BY status"
    found.update(dict(db.execute(ended).fetchall()))
    return found


def events_after(db: sqlite3.Connection, seq: int) -> tuple[list[Note], int]:
    """Return what happened after an event, and the last event's number."""
    rows = db.execute(
        "SELECT seq, job, kind, body, at FROM event WHERE seq > ? ORDER BY seq", (seq,)
    ).fetchall()
    return [Note(*row[1:]) for row in rows], rows[-1][0] if rows else seq


def last_event(db: sqlite3.Connection) -> int:
    """Return the number of the latest event."""
    return int(db.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()[0])


def _snapshot(row: Any) -> Snapshot:
    def value(name: str) -> Any:
        return None if row[name] is None else orjson.loads(row[name])

    return Snapshot(
        id=row["id"],
        name=row["name"],
        status=row["status"],
        data=value("data"),
        attempts_made=row["made"],
        attempts=row["attempts"],
        stalls=row["stalls"],
        priority=row["priority"],
        progress=value("progress"),
        result=value("result"),
        error=row["error"],
        callback_url=row["callback_url"],
        added_at=row["added"],
        due_at=row["due"],
        started_at=row["started"],
        ended_at=row["ended"],
    )
