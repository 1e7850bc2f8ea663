"""The embedded engine's SQL: every change to the job file is one function of a connection.

Each runs in a transaction of the desk. A job in a worker's hands has a lease (until when it is
believed to live) and a token that grows with every take: whoever comes back with an old token
finds that the job is no longer his.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.jobs.engine import poisoned
from mistral_nb.jobs.model import (
    ENDED,
    Claim,
    Outcome,
    Spec,
    callback_for,
)
from mistral_nb.jobs.paid import held

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from mistral_nb.jobs.model import Limit, Status

__all__ = ["MIGRATIONS", "Take"]

MIGRATIONS = [
    """
    CREATE TABLE job (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        data BLOB NOT NULL,
        attempts INTEGER NOT NULL,
        backoff REAL NOT NULL,
        timeout REAL NOT NULL,
        priority INTEGER NOT NULL,
        callback_url TEXT,
        status TEXT NOT NULL,
        due REAL,
        made INTEGER NOT NULL DEFAULT 0,
        stalls INTEGER NOT NULL DEFAULT 0,
        token INTEGER NOT NULL DEFAULT 0,
        lease REAL,
        worker TEXT,
        cancel INTEGER NOT NULL DEFAULT 0,
        progress BLOB,
        result BLOB,
        error TEXT,
        added REAL NOT NULL,
        started REAL,
        ended REAL
    );
    CREATE INDEX job_ready ON job(priority, seq) WHERE status = 'queued';
    CREATE INDEX job_suspect ON job(priority, seq) WHERE status = 'queued' AND stalls >= 2;
    CREATE INDEX job_due ON job(due) WHERE status = 'delayed';
    CREATE INDEX job_leased ON job(lease) WHERE status = 'active';
    CREATE INDEX job_ended ON job(status, ended) WHERE ended IS NOT NULL;
    CREATE TABLE event (seq INTEGER PRIMARY KEY, job TEXT, kind TEXT, body BLOB, at REAL);
    CREATE TABLE start (at REAL);
    CREATE INDEX start_at ON start(at);
    CREATE TABLE hold (until REAL);
    INSERT INTO hold VALUES (0);
    CREATE TABLE paid (
        job TEXT NOT NULL,
        key TEXT NOT NULL,
        at REAL NOT NULL,
        response BLOB,
        PRIMARY KEY (job, key)
    ) WITHOUT ROWID
    """
]
EVENTS_KEPT = 20_000
EVENTS_KEPT_FOR = 600.0
"""Seconds; whoever listens has read them within one, and they may hold a job's whole result."""
CANCELLED = "It was cancelled while it was under way."


@dataclass(frozen=True, slots=True)
class Take:
    """What a worker asks for.

    Attributes:
        worker: Its name.
        want: Most jobs.
        lease: Seconds that it is believed to live without a sign.
        stalls: How often a job may lose its worker before it has failed.
        limit: Most starts in a time, over all workers.
    """

    worker: str
    want: int
    lease: float
    stalls: int
    limit: Limit | None


def add(db: sqlite3.Connection, specs: Iterable[Spec], now: float | None = None) -> None:
    """Add jobs; those whose id exists are left as they are."""
    now = time.time() if now is None else now
    events = []
    for spec in specs:
        status = "delayed" if spec.delay > 0 else "queued"
        added = db.execute(
            "INSERT INTO job (id, name, data, attempts, backoff, timeout, priority, "
            "callback_url, status, due, added) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO NOTHING",
            (
                spec.id,
                spec.name,
                spec.data,
                spec.attempts,
                spec.backoff,
                spec.timeout,
                spec.priority,
                spec.callback_url,
                status,
                now + spec.delay if spec.delay > 0 else None,
                now,
            ),
        )
        if added.rowcount:
            events.append((spec.id, status, None, now))
    _note(db, events)


def take(db: sqlite3.Connection, ask: Take) -> tuple[list[Claim], float | None]:
    """Give a worker jobs that may start now.

    Returns:
        The jobs, and the seconds until it is worth asking again although nothing changes
        (None: there is no such time).
    """
    now = time.time()
    # Who asks is alive: its leases are old only if the machine slept or the clock jumped.
    db.execute(
        "UPDATE job SET lease = ? WHERE status = 'active' AND lease < ? AND worker = ?",
        (now + ask.lease, now, ask.worker),
    )
    _recover(db, now, ask.stalls)
    _promote(db, now)
    room, wait = _room(db, now, ask)
    rows: list[Any] = []
    if room > 0:
        rows = db.execute(
            "UPDATE job SET status = 'active', token = token + 1, lease = ?, worker = ?, "
            "started = ?, cancel = 0 WHERE seq IN (SELECT seq FROM job WHERE status = 'queued' "
            "AND (stalls < 2 OR seq = ?) ORDER BY priority, seq LIMIT ?) RETURNING *",
            (now + ask.lease, ask.worker, now, _suspect(db, ask.worker), room),
        ).fetchall()
        rows.sort(key=lambda row: (row["priority"], row["seq"]))
    if ask.limit is not None and rows:
        db.executemany("INSERT INTO start VALUES (?)", [(now,)] * len(rows))
    _note(db, [(row["id"], "active", None, now) for row in rows])
    claims = [Claim(_spec(row), row["made"] + 1, row["token"], row["seq"]) for row in rows]
    if len(rows) < room or wait is None:
        wait = _next_time(db, now, wait)
    return claims, wait


def _suspect(db: sqlite3.Connection, worker: str) -> int | None:
    """Return the one job that a worker may take of those that lost their workers twice.

    One at a time: else a job that kills its workers would take its neighbours along, until
    they all have failed.
    """
    row = db.execute(  # stalls >= 2, not a parameter: only so is the small index used
        "SELECT seq FROM job WHERE status = 'queued' AND stalls >= 2 AND NOT EXISTS "
        "(SELECT 1 FROM job held WHERE held.status = 'active' AND held.worker = ? "
        "AND held.stalls >= 2) ORDER BY priority, seq LIMIT 1",
        (worker,),
    ).fetchone()
    return None if row is None else int(row[0])


def _recover(db: sqlite3.Connection, now: float, most: int) -> None:
    """Take jobs back whose worker gave no sign of life; one too often is poison."""
    sql = "SELECT * FROM job WHERE status = 'active' AND lease < ?"
    for row in db.execute(sql, (now,)).fetchall():
        db.execute("UPDATE job SET stalls = stalls + 1 WHERE seq = ?", (row["seq"],))
        if row["cancel"]:  # its worker was lost before it saw that
            _end(db, row, "cancelled", None, CANCELLED, now)
            continue
        if row["stalls"] >= most:
            _end(db, row, "failed", None, poisoned(row["stalls"] + 1), now)
            continue
        db.execute(
            "UPDATE job SET status = 'queued', lease = NULL, worker = NULL, token = token + 1 "
            "WHERE seq = ?",
            (row["seq"],),
        )
        _note(db, [(row["id"], "stalled", None, now), (row["id"], "queued", None, now)])


def _promote(db: sqlite3.Connection, now: float) -> None:
    rows = db.execute(
        "UPDATE job SET status = 'queued', due = NULL WHERE status = 'delayed' AND due <= ? "
        "RETURNING id",
        (now,),
    ).fetchall()
    _note(db, [(job_id, "queued", None, now) for (job_id,) in rows])


def _room(db: sqlite3.Connection, now: float, ask: Take) -> tuple[int, float | None]:
    """Return how many jobs may start now, and the seconds until more may."""
    if (pause := held(db) - now) > 0:
        return 0, pause
    if ask.limit is None:
        return ask.want, None
    since = now - ask.limit.seconds
    db.execute("DELETE FROM start WHERE at <= ?", (now - max(60.0, 2 * ask.limit.seconds),))
    used = db.execute("SELECT count(*), min(at) FROM start WHERE at > ?", (since,)).fetchone()
    left = max(0, ask.limit.starts - used[0])
    wait = used[1] + ask.limit.seconds - now if left < ask.want and used[0] else None
    return min(ask.want, left), wait


def _next_time(db: sqlite3.Connection, now: float, wait: float | None) -> float | None:
    """Return the seconds until a delayed job is due or a lease runs out."""
    times = db.execute(
        "SELECT (SELECT min(due) FROM job WHERE status = 'delayed'), "
        "(SELECT min(lease) FROM job WHERE status = 'active')"
    ).fetchone()
    waits = [each - now for each in times if each is not None]
    return max(0.001, min([*waits, *([] if wait is None else [wait])])) if waits else wait


def finish(db: sqlite3.Connection, claim: Claim, outcome: Outcome, status_base: str) -> bool:
    """Write down how an attempt ended.

    Returns:
        False if the job is no longer in these hands: then nothing is written.
    """
    now = time.time()
    row = db.execute(
        "SELECT * FROM job WHERE seq = ? AND token = ? AND status = 'active'",
        (claim.ref, claim.token),
    ).fetchone()
    if row is None:
        return False
    if outcome.status in ENDED:
        _end(db, row, outcome.status, outcome.result, outcome.error, now, status_base)
        return True
    if row["cancel"]:
        _end(db, row, "cancelled", None, CANCELLED, now, status_base)
        return True
    failed = outcome.status == "delayed"
    status = "delayed" if outcome.delay > 0 else "queued"
    db.execute(
        "UPDATE job SET status = ?, due = ?, made = made + ?, error = coalesce(?, error), "
        "lease = NULL, worker = NULL, token = token + 1 WHERE seq = ?",
        (
            status,
            now + outcome.delay if outcome.delay > 0 else None,
            1 if failed else 0,
            outcome.error,
            row["seq"],
        ),
    )
    body = orjson.dumps(outcome.error) if failed else None
    _note(db, [(row["id"], status, body, now)])
    return True


def _end(
    db: sqlite3.Connection,
    row: Any,
    status: Status,
    result: bytes | None,
    error: str | None,
    now: float,
    status_base: str = "",
) -> None:
    """Give a job its end, and its ``callback_url`` a job of its own, in the same breath."""
    db.execute(
        "UPDATE job SET status = ?, made = made + ?, result = ?, error = ?, ended = ?, due = NULL, "
        "lease = NULL, token = token + 1 WHERE seq = ?",
        (status, 1 if row["status"] == "active" else 0, result, error, now, row["seq"]),
    )
    body = result if status == "completed" else orjson.dumps(error)
    _note(db, [(row["id"], status, body, now)])
    if row["callback_url"] is not None:
        told = callback_for(_spec(row), Outcome(status, result, error), status_base)
        add(db, [told] if told is not None else [], now)


def beat(db: sqlite3.Connection, worker: str, lease: float) -> list[tuple[str, int]]:
    """Prolong a worker's leases.

    Returns:
        Ids and tokens of those of its jobs that somebody cancelled.
    """
    db.execute(
        "UPDATE job SET lease = ? WHERE status = 'active' AND worker = ?",
        (time.time() + lease, worker),
    )
    rows = db.execute(
        "SELECT id, token FROM job WHERE status = 'active' AND worker = ? AND cancel", (worker,)
    )
    return [(job_id, token) for job_id, token in rows]


def cancel(db: sqlite3.Connection, job_id: str, *, active: bool) -> bool:
    """Cancel a job; one that is under way is at most marked, for its worker to end it."""
    row = db.execute("SELECT * FROM job WHERE id = ?", (job_id,)).fetchone()
    if row is None or row["status"] in ENDED:
        return False
    if row["status"] == "active" and not active:
        return False
    if row["status"] == "active":
        db.execute("UPDATE job SET cancel = 1 WHERE id = ?", (job_id,))
    else:
        _end(db, row, "cancelled", None, "It was cancelled before it began.", time.time())
    return True


def replay(db: sqlite3.Connection, job_id: str, *, again: bool) -> bool:
    """Queue a job that ended without success again, as if it were new.

    Answers that were paid for are kept and used again; with ``again``, doubts are taken as
    settled.
    """
    row = db.execute(
        "UPDATE job SET status = 'queued', made = 0, stalls = 0, cancel = 0, error = NULL, "
        "result = NULL, progress = NULL, ended = NULL, due = NULL "
        "WHERE id = ? AND status IN ('failed', 'cancelled', 'uncertain') RETURNING id",
        (job_id,),
    ).fetchone()
    if row is None:
        return False
    if again:
        db.execute("DELETE FROM paid WHERE job = ? AND response IS NULL", (job_id,))
    _note(db, [(job_id, "queued", None, time.time())])
    return True


def progress(db: sqlite3.Connection, claim: Claim, body: bytes) -> None:
    """Write down how far a handler is, if the job is still in its hands."""
    changed = db.execute(
        "UPDATE job SET progress = ? WHERE seq = ? AND token = ? AND status = 'active'",
        (body, claim.ref, claim.token),
    )
    if changed.rowcount:
        _note(db, [(claim.spec.id, "progress", body, time.time())])


def forget(db: sqlite3.Connection, before: float) -> None:
    """Delete jobs that ended before a time, and old events."""
    db.execute("DELETE FROM paid WHERE job IN (SELECT id FROM job WHERE ended < ?)", (before,))
    db.execute("DELETE FROM job WHERE ended < ?", (before,))
    # Never the latest: its number would be given again, and who has read it would miss the next.
    db.execute(
        "DELETE FROM event WHERE seq < (SELECT max(seq) FROM event) "
        "AND (at < ? OR seq <= (SELECT max(seq) FROM event) - ?)",
        (time.time() - EVENTS_KEPT_FOR, EVENTS_KEPT),
    )


def _note(db: sqlite3.Connection, events: Sequence[tuple[str, str, bytes | None, float]]) -> None:
    if events:
        db.executemany("INSERT INTO event (job, kind, body, at) VALUES (?, ?, ?, ?)", events)


def _spec(row: Any) -> Spec:
    return Spec(
        id=row["id"],
        name=row["name"],
        data=row["data"],
        attempts=row["attempts"],
        backoff=row["backoff"],
        timeout=row["timeout"],
        priority=row["priority"],
        callback_url=row["callback_url"],
    )
