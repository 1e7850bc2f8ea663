"""The embedded engine's ledger of paid calls, and the pauses that the server asks for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

    from mistral_nb.jobs.model import Claim

__all__ = ["begin", "end", "held", "hold", "responses"]


def begin(db: sqlite3.Connection, claim: Claim, key: str, again: bool) -> tuple[str, bytes | None]:
    """Write down that a paid call is about to be made.

    Returns:
        ``("new", None)``: make it; ``("done", response)``: it was made; ``("open", None)``: it
        was begun before and nobody knows; ``("lost", None)``: the job is in other hands;
        ``("wait", milliseconds)``: the server asked for a pause.
    """
    now = time.time()
    pause = held(db) - now
    if pause > 0:
        return "wait", b"%d" % (pause * 1000 + 1)
    mine = db.execute(
        "SELECT 1 FROM job WHERE seq = ? AND token = ? AND status = 'active'",
        (claim.ref, claim.token),
    ).fetchone()
    if mine is None:
        return "lost", None
    row = db.execute(
        "SELECT response FROM paid WHERE job = ? AND key = ?", (claim.spec.id, key)
    ).fetchone()
    if row is not None and row["response"] is not None:
        return "done", row["response"]
    if row is not None and not again:
        return "open", None
    db.execute(
        "INSERT OR REPLACE INTO paid (job, key, at) VALUES (?, ?, ?)",
        (claim.spec.id, key, now),
    )
    return "new", None


def end(db: sqlite3.Connection, claim: Claim, key: str, response: bytes | None) -> None:
    """Write down a call's response; None: it was surely not carried out."""
    if response is None:
        db.execute(
            "DELETE FROM paid WHERE job = ? AND key = ? AND response IS NULL", (claim.spec.id, key)
        )
    else:
        db.execute(
            "UPDATE paid SET response = ? WHERE job = ? AND key = ?",
            (response, claim.spec.id, key),
        )


def responses(db: sqlite3.Connection, job_id: str) -> dict[str, bytes | None]:
    """Return the responses of a job's paid calls by their keys; None: in doubt."""
    return dict(map(tuple, db.execute("SELECT key, response FROM paid WHERE job = ?", (job_id,))))


def hold(db: sqlite3.Connection, seconds: float) -> None:
    """Let no job start for so long: the server asked for a pause."""
    db.execute("UPDATE hold SET until = max(until, ?)", (time.time() + seconds,))


def held(db: sqlite3.Connection) -> float:
    """Return until when no job may start, in seconds since the epoch."""
    return float(db.execute("SELECT until FROM hold").fetchone()[0])
