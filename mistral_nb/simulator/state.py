"""What outlives the simulator's process: files, jobs, conversations, and what was paid."""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.simulator.encoding import encoded
from mistral_nb.store import open_store, transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["STATUSES", "TERMINAL", "State"]

SWEEP_SECONDS = 3600

STATUSES = (
    "QUEUED",
    "RUNNING",
    "SUCCESS",
    "FAILED",
    "TIMEOUT_EXCEEDED",
    "CANCELLATION_REQUESTED",
    "CANCELLED",
)
TERMINAL = frozenset({"SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"})

MIGRATIONS = (
    """
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
    CREATE TABLE paid (
        kind TEXT NOT NULL, digest BLOB NOT NULL, times INTEGER NOT NULL,
        PRIMARY KEY (kind, digest)
    ) WITHOUT ROWID;
    CREATE TABLE files (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, filename TEXT NOT NULL,
        purpose TEXT NOT NULL, sample_type TEXT NOT NULL, source TEXT NOT NULL,
        bytes INTEGER NOT NULL, num_lines INTEGER, mimetype TEXT, signature TEXT,
        created_at INTEGER NOT NULL, expires_at INTEGER, visibility TEXT
    );
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, endpoint TEXT NOT NULL,
        model TEXT, agent_id TEXT, metadata TEXT, input_files TEXT NOT NULL,
        status TEXT NOT NULL, created_at REAL NOT NULL, started_at REAL, completed_at REAL,
        timeout_hours INTEGER NOT NULL, total INTEGER NOT NULL DEFAULT 0,
        succeeded INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
        done INTEGER NOT NULL DEFAULT 0, output_bytes INTEGER NOT NULL DEFAULT 0,
        error_bytes INTEGER NOT NULL DEFAULT 0, output_file TEXT, error_file TEXT,
        errors TEXT NOT NULL DEFAULT '[]', owner TEXT, lease_until REAL NOT NULL DEFAULT 0
    );
    CREATE INDEX jobs_by_status ON jobs (status)
    """,
    """
    CREATE TABLE documents (
        number INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL UNIQUE,
        parent TEXT NOT NULL, data TEXT NOT NULL
    );
    CREATE INDEX documents_by_parent ON documents (parent, kind)
    """,
)


class State:
    """Files, jobs and counters under one folder; usable from several threads and processes.

    Args:
        home: Folder; holds ``state.sqlite``, ``files/`` and ``jobs/``.
        seed: Makes ids repeatable.

    Raises:
        StoreError: The folder cannot be used.
    """

    def __init__(self, home: Path, seed: int = 0) -> None:
        self.home = home
        self.seed = seed
        self.lock = threading.RLock()
        self.db: sqlite3.Connection = open_store(home / "state.sqlite", MIGRATIONS)
        # Made-up work may be lost with the power; it must only survive a killed process.
        self.db.execute("PRAGMA synchronous=OFF")
        for name in ("files", "jobs"):
            (home / name).mkdir(exist_ok=True)
        self._counts: Counter[str] = Counter()
        self._paid: Counter[tuple[str, bytes]] = Counter()

    def close(self) -> None:
        """Write what is pending and close the file."""
        with self.lock:
            self.flush()
            self.db.close()

    # -- counts -------------------------------------------------------------------------

    def count(self, name: str, by: int = 1) -> None:
        """Add to a lasting counter; written with the next flush."""
        with self.lock:
            self._counts[name] += by

    def pay(self, kind: str, content: bytes) -> None:
        """Note that some content was worked on, and so paid for; written with the next flush."""
        digest = hashlib.blake2b(content, digest_size=12).digest()
        with self.lock:
            self._paid[kind, digest] += 1

    def flush(self) -> None:
        """Write the pending counts."""
        with self.lock:
            if not self._counts and not self._paid:
                return
            with transaction(self.db):
                self.write_counts()

    def write_counts(self) -> None:
        """Write the pending counts inside the caller's transaction."""
        self.db.executemany(
            "INSERT INTO counters VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            list(self._counts.items()),
        )
        self.db.executemany(
            "INSERT INTO paid VALUES (?, ?, ?) "
            "ON CONFLICT (kind, digest) DO UPDATE SET times = times + excluded.times",
            [(kind, digest, times) for (kind, digest), times in self._paid.items()],
        )
        self._counts.clear()
        self._paid.clear()

    def counts(self) -> dict[str, int]:
        """Return every lasting counter."""
        with self.lock:
            self.flush()
            found = {row["name"]: row["value"] for row in self.db.execute("SELECT * FROM counters")}
            for row in self.db.execute(
                "SELECT kind, SUM(times) AS times, COUNT(*) AS kinds FROM paid GROUP BY kind"
            ):
                found[f"{row['kind']}_paid"] = row["times"]
                found[f"{row['kind']}_repeated"] = row["times"] - row["kinds"]
            return found

    def new_id(self, kind: str, *parts: object) -> str:
        """Return the next UUID of a kind: the same for the same seed, order and content."""
        with self.lock, transaction(self.db):
            number = self.db.execute(
                "INSERT INTO counters VALUES (?, 1) "
                "ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
                (f"ids_{kind}",),
            ).fetchone()[0]
        name = f"{self.seed}:{kind}:{number}:{parts!r}"
        digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
        return str(uuid.UUID(bytes=digest, version=4))

    # -- files --------------------------------------------------------------------------

    def file_path(self, file_id: str) -> Path:
        """Return where a file's content lies; ids are always our own, never a client's text."""
        return self.home / "files" / str(uuid.UUID(file_id))

    def add_file(self, **columns: Any) -> None:
        """Insert a file whose content is in place."""
        columns = {"created_at": int(time.time()), "visibility": "workspace", **columns}
        self._insert("files", **columns)

    def file(self, file_id: str) -> sqlite3.Row | None:
        """Return a file's row, or None."""
        return self._one("SELECT * FROM files WHERE id = ?", (file_id,))

    def files(self) -> list[sqlite3.Row]:
        """Return every file, newest first."""
        return self._all("SELECT * FROM files ORDER BY number DESC")

    def delete_file(self, file_id: str) -> None:
        """Forget a file and remove its content."""
        with self.lock:
            self.db.execute("DELETE FROM files WHERE id = ?", (file_id,))
        self.file_path(file_id).unlink(missing_ok=True)

    # -- jobs ---------------------------------------------------------------------------

    def part_path(self, job_id: str, part: str) -> Path:
        """Return a job's working file: ``input``, ``output`` or ``error``."""
        return self.home / "jobs" / f"{uuid.UUID(job_id)}.{part}.jsonl"

    def add_job(self, job_id: str, **columns: Any) -> None:
        """Insert a queued job."""
        for name in ("metadata", "input_files"):
            columns[name] = encoded(columns[name]).decode()
        self._insert("jobs", id=job_id, status="QUEUED", created_at=time.time(), **columns)

    def job(self, job_id: str) -> sqlite3.Row | None:
        """Return a job's row, or None."""
        return self._one("SELECT * FROM jobs WHERE id = ?", (job_id,))

    def jobs(self) -> list[sqlite3.Row]:
        """Return every job, oldest first."""
        return self._all("SELECT * FROM jobs ORDER BY number")

    def open_jobs(self) -> list[sqlite3.Row]:
        """Return the jobs that have not ended, oldest first."""
        marks = ",".join("?" * len(TERMINAL))
        return self._all(
            f"SELECT * FROM jobs WHERE status NOT IN ({marks}) ORDER BY number",  # noqa: S608
            tuple(TERMINAL),
        )

    def begin_job(self, job_id: str, total: int) -> None:
        """Turn a queued job into a running one, unless it was cancelled meanwhile."""
        with self.lock:
            self.db.execute(
                "UPDATE jobs SET status = 'RUNNING', started_at = ?, total = ? "
                "WHERE id = ? AND status = 'QUEUED'",
                (time.time(), total, job_id),
            )

    def end_job(
        self,
        job: sqlite3.Row,
        owner: str,
        status: str,
        files: dict[str, dict[str, Any] | None],
        errors: list[dict[str, Any]],
    ) -> None:
        """End a job and insert its result files, both or neither.

        Args:
            job: The job as it was when its files were written.
            owner: Who ends it; nothing happens if the lease was lost.
            status: Terminal status.
            files: Columns of the ``output`` and ``error`` file, None for no such file.
            errors: What the job says went wrong.
        """
        ids = {part: columns and columns["id"] for part, columns in files.items()}
        with self.lock, transaction(self.db):
            if not self.owns(job["id"], owner, job["done"]):
                return
            for columns in files.values():
                if columns:
                    self.add_file(**columns)
            self.db.execute(
                "UPDATE jobs SET status = ?, completed_at = ?, output_file = ?, error_file = ?, "
                "errors = ?, owner = NULL WHERE id = ?",
                (
                    status,
                    time.time(),
                    ids["output"],
                    ids["error"],
                    encoded(errors).decode(),
                    job["id"],
                ),
            )
        self._remove_parts(job["id"])

    def owns(self, job_id: str, owner: str, done: int) -> bool:
        """Return whether a job is still ours and where we left it; ask in a transaction."""
        row = self._one("SELECT owner, done FROM jobs WHERE id = ?", (job_id,))
        return row is not None and row["owner"] == owner and row["done"] == done

    def sweep(self) -> None:
        """Remove working files that a killed process left behind."""
        for path in (self.home / "jobs").iterdir():
            job = self.job(path.name.split(".")[0])
            try:
                old = time.time() - path.stat().st_mtime > SWEEP_SECONDS
            except FileNotFoundError:  # another process ended its job
                continue
            if old and (job is None or job["status"] in TERMINAL):
                path.unlink(missing_ok=True)

    def _remove_parts(self, job_id: str) -> None:
        for part in ("input", "output", "error"):
            self.part_path(job_id, part).unlink(missing_ok=True)

    def delete_job(self, job_id: str) -> None:
        """Forget a job; its output files stay, as files."""
        with self.lock:
            self.db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        self._remove_parts(job_id)

    def request_cancel(self, job_id: str) -> None:
        """Ask for a job to be cancelled; no effect on one that has ended."""
        marks = ",".join("?" * len(TERMINAL))
        with self.lock:
            self.db.execute(
                f"UPDATE jobs SET status = 'CANCELLATION_REQUESTED' "  # noqa: S608
                f"WHERE id = ? AND status NOT IN ({marks})",
                (job_id, *TERMINAL),
            )

    def claim(self, job_id: str, owner: str, seconds: float) -> bool:
        """Take or renew the lease on a job.

        Args:
            job_id: The job.
            owner: Who works on it.
            seconds: For how long.

        Returns:
            False if somebody else holds it, or the job is gone.
        """
        now = time.time()
        with self.lock:
            taken = self.db.execute(
                "UPDATE jobs SET owner = ?, lease_until = ? "
                "WHERE id = ? AND (owner IS NULL OR owner = ? OR lease_until < ?)",
                (owner, now + seconds, job_id, owner, now),
            )
            return taken.rowcount == 1

    def release(self, owner: str) -> None:
        """Give back every lease, so that another process need not wait."""
        with self.lock:
            self.db.execute("UPDATE jobs SET owner = NULL WHERE owner = ?", (owner,))

    # -- documents: agents, conversations and their entries -----------------------------

    def put(self, kind: str, name: str, data: dict[str, Any], parent: str = "") -> None:
        """Keep a JSON object under an id, in place of an older one."""
        with self.lock:
            self.db.execute(
                "INSERT INTO documents (kind, id, parent, data) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET data = excluded.data",
                (kind, name, parent, encoded(data).decode()),
            )

    def document(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return the JSON object with an id, or None."""
        row = self._one("SELECT data FROM documents WHERE kind = ? AND id = ?", (kind, name))
        return None if row is None else orjson.loads(row["data"])

    def documents(self, kind: str, parent: str = "") -> list[dict[str, Any]]:
        """Return all JSON objects of a kind under one parent, oldest first."""
        rows = self._all(
            "SELECT data FROM documents WHERE kind = ? AND parent = ? ORDER BY number",
            (kind, parent),
        )
        return [orjson.loads(row["data"]) for row in rows]

    def discard(self, name: str) -> None:
        """Forget a JSON object and all that has it as parent."""
        with self.lock:
            self.db.execute("DELETE FROM documents WHERE id = ? OR parent = ?", (name, name))

    # -- SQL ----------------------------------------------------------------------------

    def _insert(self, table: str, **columns: Any) -> None:
        names = ", ".join(columns)
        marks = ", ".join("?" * len(columns))
        with self.lock:
            self.db.execute(
                f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608 - our own names
                tuple(columns.values()),
            )

    def _one(self, sql: str, values: Sequence[Any]) -> sqlite3.Row | None:
        with self.lock:
            row: sqlite3.Row | None = self.db.execute(sql, values).fetchone()
            return row

    def _all(self, sql: str, values: Iterable[Any] = ()) -> list[sqlite3.Row]:
        with self.lock:
            return self.db.execute(sql, tuple(values)).fetchall()
