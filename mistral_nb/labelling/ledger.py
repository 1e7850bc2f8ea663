"""A run's ledger: one SQLite file with what was asked, sent, answered and paid.

| table   | one row is                                                                       |
|---------|----------------------------------------------------------------------------------|
| run     | the run: its name, what it asks, its state                                       |
| request | a row of the table: its content hash, the shard it goes in, why it was never sent |
| shard   | a file of requests and its batch job, from `written` to `done`                    |
| attempt | an answer to a request, or how it failed; tokens as billed. Number 0 was reused  |
| finding | something odd in a file of answers, or a request that may have been sent twice   |
| flight  | online: a request that was about to be sent, and has no known end                |

A request's valid answer is the attempt whose number is `request.attempts`. Rows whose
request is the same as an earlier row's point to it (`twin`) and share its answer.
Every method may be called from any thread.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.errors import StoreError
from mistral_nb.labelling.entries import Answer, Finding, RunRecord, Shard, ShardState
from mistral_nb.store import open_store, storage_errors, transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = [
    "ROWS",
    "Answer",
    "Finding",
    "Ledger",
    "RunRecord",
    "Shard",
    "ShardState",
    "add_attempts",
]

_MIGRATIONS = (
    """
    CREATE TABLE run (
        uid TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, mode TEXT NOT NULL,
        model TEXT NOT NULL, endpoint TEXT NOT NULL, server TEXT NOT NULL, rows INTEGER NOT NULL,
        spec TEXT NOT NULL, status TEXT NOT NULL, message TEXT NOT NULL DEFAULT '',
        counts TEXT NOT NULL DEFAULT '{}',
        created REAL NOT NULL, updated REAL NOT NULL
    );
    CREATE TABLE request (
        row INTEGER PRIMARY KEY, digest BLOB, twin INTEGER, shard INTEGER,
        attempts INTEGER NOT NULL DEFAULT 0, error TEXT
    );
    CREATE TABLE shard (
        id INTEGER PRIMARY KEY, round INTEGER NOT NULL, lines INTEGER NOT NULL,
        bytes INTEGER NOT NULL, sha TEXT NOT NULL, state TEXT NOT NULL, file_id TEXT,
        job_id TEXT, job_status TEXT, completed INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0, output_file TEXT, error_file TEXT,
        message TEXT NOT NULL DEFAULT '', submitted REAL, changed REAL NOT NULL
    );
    CREATE TABLE attempt (
        id INTEGER PRIMARY KEY, row INTEGER NOT NULL, number INTEGER NOT NULL, shard INTEGER,
        text TEXT, error TEXT, again INTEGER NOT NULL, status INTEGER, finish TEXT,
        prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL, source TEXT, at REAL NOT NULL
    );
    CREATE TABLE finding (shard INTEGER, kind TEXT NOT NULL, custom_id TEXT, detail TEXT NOT NULL);
    CREATE UNIQUE INDEX attempt_of ON attempt (row, number)
    """,
    "CREATE TABLE flight (row INTEGER PRIMARY KEY, at REAL NOT NULL)",
    "ALTER TABLE attempt ADD COLUMN seconds REAL",
)
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS request_shard ON request (shard)",
    "CREATE INDEX IF NOT EXISTS request_digest ON request (digest)",
)
ROWS = """
    SELECT r.row AS row, a.text AS text, COALESCE(r.error, a.error) AS error, a.status AS status,
           COALESCE(r.twin, r.row) AS answered_by, r.error IS NULL AND a.row IS NULL AS open,
           o.attempts AS attempts
    FROM request r
    LEFT JOIN request o ON o.row = COALESCE(r.twin, r.row)
    LEFT JOIN attempt a ON a.row = o.row AND a.number = o.attempts
"""
"""Selects every row with its result: row, text, error, status, answered_by, open, attempts."""
_BLOCK = 2_000


class Ledger:
    """One run's ledger.

    Args:
        path: SQLite file, created if it is not there.

    Raises:
        StoreError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._db = open_store(path, _MIGRATIONS)

    def close(self) -> None:
        """Close the file; its write-ahead log is folded in."""
        with self._lock:
            self._db.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Use the file from one thread at a time."""
        with self._lock, storage_errors(self.path):
            yield self._db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Write all of a block, or nothing."""
        with self.reading() as db, transaction(db):
            yield db

    def wait_for_disk(self, wait: bool) -> None:
        """Let every commit wait for the disk, or leave that to :meth:`sync`.

        A commit outlives any kill of the process in either case; one that did not wait
        outlives a power cut only after the next `sync`, or the next commit that waits.
        """
        with self.reading() as db:
            db.execute(f"PRAGMA synchronous={'FULL' if wait else 'NORMAL'}")

    def sync(self) -> None:
        """Make what was committed outlive a power cut; commits may go on meanwhile."""
        try:
            # SQLite holds no lock on this file, so that closing it here takes none away.
            with self.path.with_name(f"{self.path.name}-wal").open("rb+") as log:
                os.fsync(log.fileno())
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be made safe: {error.strerror or error}. Check the disk."
            ) from error

    # The run

    def write_run(self, record: RunRecord) -> None:
        """Write the run's own row, as the last step of building it."""
        values = {each.name: getattr(record, each.name) for each in fields(RunRecord)}
        values |= {name: orjson.dumps(values[name]).decode() for name in ("spec", "counts")}
        names = ", ".join(values)
        with self.writing() as db:
            for index in _INDEXES:
                db.execute(index)
            db.execute(
                f"INSERT INTO run ({names}) VALUES ({', '.join('?' * len(values))})",  # noqa: S608
                tuple(values.values()),
            )

    def run(self) -> RunRecord:
        """Return the run's own row.

        Raises:
            StoreError: There is none: the file is a left-over.
        """
        with self.reading() as db:
            found = db.execute("SELECT * FROM run").fetchone()
        if found is None:
            raise StoreError(
                f"{self.path} holds no run: its folder was left half deleted. Delete the rest."
            )
        row = dict(found)
        row |= {name: orjson.loads(row[name]) for name in ("spec", "counts")}
        return RunRecord(**row)

    def update_run(self, **values: Any) -> None:
        """Set ``status``, ``message``, ``spec`` or ``counts`` of the run."""
        coded = {
            name: orjson.dumps(each).decode() if isinstance(each, dict) else each
            for name, each in values.items()
        }
        with self.writing() as db:
            _set(db, "run", {**coded, "updated": time.time()}, "1", ())

    # Requests

    def add_requests(self, requests: Iterable[Sequence[Any]]) -> None:
        """Add rows as (row, digest, twin, shard, error)."""
        with self.writing() as db:
            db.executemany(
                "INSERT INTO request (row, digest, twin, shard, error) VALUES (?, ?, ?, ?, ?)",
                requests,
            )

    def digest(self, row: int) -> bytes | None:
        """Return the content hash of a row's request."""
        with self.reading() as db:
            found = db.execute("SELECT digest FROM request WHERE row = ?", (row,)).fetchone()
        return None if found is None else found[0]

    def first_other(self, digests: Iterable[tuple[int, bytes | None]]) -> int | None:
        """Return the first row whose content hash is not the given one."""
        with self.reading() as db:
            for row, digest in digests:
                sql = "SELECT COALESCE(digest, '') FROM request WHERE row = ?"
                found = db.execute(sql, (row,)).fetchone()
                if found is None or found[0] != (digest or ""):
                    return row
        return None

    def answered(self, digests: Sequence[bytes]) -> dict[bytes, Answer]:
        """Return the good answers to requests with these content hashes."""
        found: dict[bytes, Answer] = {}
        with self.reading() as db:
            for start in range(0, len(digests), _BLOCK):
                part = digests[start : start + _BLOCK]
                sql = (
                    "SELECT r.digest, a.text, a.status, a.finish FROM request r JOIN attempt a "  # noqa: S608
                    "ON a.row = r.row AND a.number = r.attempts WHERE a.error IS NULL "
                    f"AND r.digest IN ({', '.join('?' * len(part))})"
                )
                for digest, text, status, finish in db.execute(sql, part):
                    found[digest] = Answer(text, status=status, finish=finish)
        return found

    def add_reused(self, answers: Iterable[tuple[int, Answer]], source: str) -> None:
        """Take answers over from another run; they cost nothing."""
        with self.writing() as db:
            add_attempts(db, ((row, 0, answer) for row, answer in answers), None, source)

    def requests_of(self, shard: int) -> Iterator[tuple[int, bytes]]:
        """Yield (row, content hash) of the requests in a shard, in order."""
        sql = "SELECT row, digest FROM request WHERE shard = ? AND row > ? ORDER BY row LIMIT ?"
        last = -1
        while block := self._tuples(sql, (shard, last, _BLOCK)):
            last = block[-1][0]
            yield from block

    # Shards

    def add_shards(self, shards: Iterable[Shard], moved: Iterable[tuple[int, int]] = ()) -> None:
        """Add shards whose files are on disk; ``moved`` is (shard, row) of repeated requests."""
        with self.writing() as db:
            db.executemany(
                "INSERT INTO shard (id, round, lines, bytes, sha, state, changed) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((s.id, s.round, s.lines, s.bytes, s.sha, s.state, time.time()) for s in shards),
            )
            db.executemany("UPDATE request SET shard = ? WHERE row = ?", moved)

    def shards(self) -> list[Shard]:
        """Return all shards, in order."""
        with self.reading() as db:
            return [Shard(**dict(row)) for row in db.execute("SELECT * FROM shard ORDER BY id")]

    def update_shard(self, shard: int, **values: Any) -> Shard:
        """Set columns of a shard and return it as it is now."""
        with self.writing() as db:
            _set(db, "shard", {**values, "changed": time.time()}, "id = ?", (shard,))
            row = db.execute("SELECT * FROM shard WHERE id = ?", (shard,)).fetchone()
        return Shard(**dict(row))

    def finish_shard(
        self,
        shard: Shard,
        answers: Iterable[tuple[int, Answer]],
        findings: Iterable[Finding],
        *,
        half_price: bool = True,
    ) -> None:
        """Write a shard's answers and mark it done: all of it or nothing.

        Args:
            shard: The shard.
            answers: (row, answer) of each of its requests.
            findings: What was odd.
            half_price: Whether the Batch API answered: such attempts name their shard.
        """
        number = shard.round + 1
        rows = ((row, number, answer) for row, answer in answers)
        with self.writing() as db:
            add_attempts(db, rows, shard.id if half_price else None, None)
            db.executemany(
                "INSERT INTO finding (shard, kind, custom_id, detail) VALUES (?, ?, ?, ?)",
                ((shard.id, each.kind, each.custom_id, each.detail) for each in findings),
            )
            db.execute("UPDATE request SET attempts = ? WHERE shard = ?", (number, shard.id))
            _set(db, "shard", {"state": "done", "changed": time.time()}, "id = ?", (shard.id,))

    def to_repeat(self, limit: int) -> dict[int, int]:
        """Return rows that failed in a way worth repeating, tried at most ``limit`` times.

        Returns:
            Row -> the shard that its request is in.
        """
        with self.reading() as db:
            sql = (
                "SELECT r.row, r.shard FROM request r JOIN attempt a ON a.row = r.row AND "
                "a.number = r.attempts WHERE a.again AND r.attempts <= ? ORDER BY r.row"
            )
            return dict(map(tuple, db.execute(sql, (limit,))))

    # Results

    def results(self, first: int = 0) -> Iterator[list[tuple[int, str | None, str | None]]]:
        """Yield (row, text, error) of every row from ``first`` on in order, in blocks."""
        sql = f"SELECT row, text, error, open FROM ({ROWS}) WHERE row > ? ORDER BY row LIMIT ?"  # noqa: S608
        last = first - 1
        while block := self._tuples(sql, (last, _BLOCK)):
            last = block[-1][0]
            yield [
                (row, text, "not answered yet" if is_open else error)
                for row, text, error, is_open in block
            ]

    def _tuples(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        """Return all rows of a query as tuples, which are made quicker than named rows."""
        with self.reading() as db:
            cursor = db.cursor()
            cursor.row_factory = None
            return cursor.execute(sql, values).fetchall()

    def failures(self) -> list[sqlite3.Row]:
        """Return row, error, status, text and attempts of every row without a good result."""
        with self.reading() as db:
            columns = "row, error, status, text, attempts"
            sql = f"SELECT {columns} FROM ({ROWS}) WHERE error IS NOT NULL ORDER BY row"  # noqa: S608
            return db.execute(sql).fetchall()

    def findings(self) -> list[sqlite3.Row]:
        """Return shard, kind, custom_id and detail of everything odd."""
        with self.reading() as db:
            return db.execute("SELECT shard, kind, custom_id, detail FROM finding").fetchall()

    def count_findings(self, kind: str) -> int:
        """Return how many findings there are of a kind."""
        with self.reading() as db:
            sql = "SELECT COUNT(*) FROM finding WHERE kind = ?"
            return int(db.execute(sql, (kind,)).fetchone()[0])

    def counts(self) -> dict[str, int]:
        """Count rows: total, done, failed, reused."""
        with self.reading() as db:
            total, failed, is_open = db.execute(
                f"SELECT COUNT(*), COALESCE(SUM(error IS NOT NULL), 0), COALESCE(SUM(open), 0) "  # noqa: S608
                f"FROM ({ROWS})"
            ).fetchone()
            reused = db.execute("SELECT COUNT(*) FROM attempt WHERE number = 0").fetchone()[0]
        return {
            "total": total,
            "done": total - failed - is_open,
            "failed": failed,
            "reused": reused,
        }

    def seconds(self) -> list[float]:
        """Return how long the good answers took, in seconds, as far as that was measured."""
        with self.reading() as db:
            sql = "SELECT seconds FROM attempt WHERE seconds IS NOT NULL AND error IS NULL"
            return [seconds for (seconds,) in db.execute(sql)]

    def usage(self) -> tuple[int, int, int]:
        """Return what was paid for: prompt, completion and cached tokens."""
        with self.reading() as db:
            row = db.execute(
                "SELECT COALESCE(SUM(prompt_tokens), 0), "
                "COALESCE(SUM(completion_tokens), 0), COALESCE(SUM(cached_tokens), 0) "
                "FROM attempt WHERE number > 0"
            ).fetchone()
        return tuple(row)


def _set(
    db: sqlite3.Connection, table: str, values: dict[str, Any], where: str, which: tuple[Any, ...]
) -> None:
    names = ", ".join(f"{name} = ?" for name in values)
    db.execute(f"UPDATE {table} SET {names} WHERE {where}", (*values.values(), *which))  # noqa: S608


def add_attempts(
    db: sqlite3.Connection,
    attempts: Iterable[tuple[int, int, Answer]],
    shard: int | None,
    source: str | None,
) -> None:
    """Add (row, number, answer), within a transaction."""
    now = time.time()
    db.executemany(
        "INSERT INTO attempt (text, error, again, status, finish, prompt_tokens, "
        "completion_tokens, cached_tokens, seconds, row, number, shard, source, at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        ((*answer, row, number, shard, source, now) for row, number, answer in attempts),
    )
