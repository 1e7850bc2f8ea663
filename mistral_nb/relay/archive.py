"""Where a relay's events outlive its memory: a SQLite file, kept for an hour by default."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from mistral_nb.errors import StoreError
from mistral_nb.relay.channels import Channel
from mistral_nb.store import open_store, storage_errors, transaction

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mistral_nb.relay.channels import Event

__all__ = ["Archive", "Batch"]

Batch = tuple[str, bool, "list[Event]", int]
"""Stream id, whether it has ended, its events that are not saved yet, and the number up to which
its saved events are forgotten."""
INTERRUPTED = b'{"message":"The relay was stopped while this reply was arriving. Ask again."}'
MIGRATIONS = (
    """
    CREATE TABLE streams (id TEXT PRIMARY KEY, at REAL NOT NULL, ended INTEGER NOT NULL);
    CREATE INDEX streams_at ON streams (at);
    CREATE TABLE events (stream TEXT, number INTEGER, name TEXT NOT NULL, data BLOB NOT NULL,
                         PRIMARY KEY (stream, number)) WITHOUT ROWID
    """,
)


class Archive:
    """Saved streams of one relay. Its methods may be called on any thread, one at a time.

    Args:
        path: The file.
        keep: Seconds for which a stream is kept after its last event.

    Raises:
        StoreError: The file cannot be used.
    """

    def __init__(self, path: Path, keep: float) -> None:
        self._path = path
        self._keep = keep
        self._store = open_store(path, MIGRATIONS)
        # What may be lost by a power cut is a replay, not anything paid for.
        self._store.execute("PRAGMA synchronous=NORMAL")

    def save(self, batches: Iterable[Batch]) -> None:
        """Save events, all at once."""
        now = time.time()
        with storage_errors(self._path), transaction(self._store):
            for stream_id, ended, events, forgotten in batches:
                self._store.execute(
                    "DELETE FROM events WHERE stream = ? AND number <= ?", (stream_id, forgotten)
                )
                self._store.execute(
                    "INSERT INTO streams VALUES (?, ?, ?) ON CONFLICT (id) "
                    "DO UPDATE SET at = excluded.at, ended = excluded.ended",
                    (stream_id, now, ended),
                )
                self._store.executemany(
                    "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?)",
                    [(stream_id, event.number, event.name, event.data) for event in events],
                )

    def load(self, stream_id: str) -> Channel | None:
        """Return a saved stream, whole; one that the relay's end cut off ends with an error."""
        with storage_errors(self._path):
            row = self._store.execute(
                "SELECT ended FROM streams WHERE id = ? AND at > ?",
                (stream_id, time.time() - self._keep),
            ).fetchone()
            if row is None:
                return None
            events = self._store.execute(
                "SELECT number, name, data FROM events WHERE stream = ? ORDER BY number",
                (stream_id,),
            ).fetchall()
        channel = Channel(stream_id, after=events[0]["number"] - 1)
        for _, name, data in events:
            channel.restore(name, data)
        if not row["ended"]:
            channel.restore("error", INTERRUPTED)
            channel.renewed = True
        channel.ended = True
        return channel

    def prune(self) -> None:
        """Forget what is older than it is kept."""
        with storage_errors(self._path), transaction(self._store):
            old = "SELECT id FROM streams WHERE at <= ?"
            limit = (time.time() - self._keep,)
            self._store.execute(f"DELETE FROM events WHERE stream IN ({old})", limit)  # noqa: S608
            self._store.execute("DELETE FROM streams WHERE at <= ?", limit)

    def close(self) -> None:
        """Close the file."""
        with suppress(StoreError):
            self._store.close()
