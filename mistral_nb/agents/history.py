"""Conversations in SQLite: every entry is written as it arrives, and nothing waits for it."""

from __future__ import annotations

import base64
import queue
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from mistral_nb.agents.branches import Node
from mistral_nb.agents.entries import Entry, Media, Turn
from mistral_nb.agents.results import clean
from mistral_nb.store import open_store, storage_errors, transaction
from mistral_nb.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["History", "Kept"]

MIGRATIONS = (
    """
    CREATE TABLE conversations (
        number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, setup TEXT NOT NULL,
        head TEXT, created REAL NOT NULL, updated REAL NOT NULL
    );
    CREATE TABLE turns (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
        conversation TEXT NOT NULL REFERENCES conversations (name) ON DELETE CASCADE,
        parent TEXT, remote TEXT NOT NULL, settled INTEGER NOT NULL, setup TEXT NOT NULL,
        status TEXT NOT NULL, finish_reason TEXT, error TEXT NOT NULL, usage TEXT,
        model TEXT NOT NULL, started REAL NOT NULL, seconds REAL NOT NULL
    );
    CREATE INDEX turns_by_conversation ON turns (conversation);
    CREATE TABLE entries (
        turn TEXT NOT NULL REFERENCES turns (id) ON DELETE CASCADE, part INTEGER NOT NULL,
        id TEXT NOT NULL, type TEXT NOT NULL, state TEXT NOT NULL, seconds REAL NOT NULL,
        data TEXT NOT NULL, media TEXT NOT NULL, PRIMARY KEY (turn, part)
    ) WITHOUT ROWID
    """,
)
KILLED = "The kernel ended before this turn did."


class Kept(NamedTuple):
    """A conversation as the file has it.

    Attributes:
        setup: What it is started with.
        head: Id of the turn at the end of the branch that was shown last.
        nodes: Its turns in order.
    """

    setup: dict[str, Any]
    head: str | None
    nodes: list[Node]


class History:
    """The file of all conversations of a home folder; usable from any thread.

    Writes are handed to a thread of its own, in order and several to a commit, so that the
    loop never waits for the disk. :meth:`flush` waits until they are safe.

    Args:
        path: The SQLite file.

    Raises:
        StoreError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = open_store(path, MIGRATIONS)
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[str, tuple[Any, ...]] | threading.Event] = (
            queue.SimpleQueue()
        )
        self._error: sqlite3.Error | None = None
        threading.Thread(target=self._write, name="conversations", daemon=True).start()

    # -- writing ------------------------------------------------------------------------

    def keep(self, name: str, setup: dict[str, Any], head: str | None) -> None:
        """Write down a conversation's setup and the end of its shown branch."""
        now = time.time()
        self._put(
            "INSERT INTO conversations (name, setup, head, created, updated) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
            "setup = excluded.setup, head = excluded.head, updated = excluded.updated",
            (name, orjson.dumps(setup).decode(), head, now, now),
        )

    def keep_turn(self, node: Node, turn: Turn) -> None:
        """Write down a turn, without its entries."""
        usage = orjson.dumps(turn.usage).decode() if turn.usage is not None else None
        self._put(
            "INSERT INTO turns (id, conversation, parent, remote, settled, setup, status, "
            "finish_reason, error, usage, model, started, seconds) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "remote = excluded.remote, settled = excluded.settled, status = excluded.status, "
            "finish_reason = excluded.finish_reason, error = excluded.error, "
            "usage = excluded.usage, seconds = excluded.seconds",
            (
                turn.id,
                turn.conversation,
                turn.parent,
                node.remote,
                node.settled,
                node.setup,
                turn.status,
                turn.finish_reason,
                turn.error,
                usage,
                turn.model,
                turn.started,
                turn.seconds,
            ),
        )

    def keep_entry(self, turn_id: str, part: int, entry: Entry) -> None:
        """Write down an entry as it is now."""
        media = [
            {"mime": each.mime, "alt": each.alt, "data": base64.b64encode(each.data).decode()}
            for each in entry.media
        ]
        self._put(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (turn, part) DO UPDATE SET id = excluded.id, type = excluded.type, "
            "state = excluded.state, seconds = excluded.seconds, data = excluded.data, "
            "media = excluded.media",
            (
                turn_id,
                part,
                entry.id,
                entry.type,
                entry.state,
                entry.seconds,
                orjson.dumps(entry.data, option=orjson.OPT_NON_STR_KEYS).decode(),
                orjson.dumps(media).decode(),
            ),
        )

    def delete(self, name: str) -> None:
        """Forget a conversation and all of its turns."""
        self._put("DELETE FROM conversations WHERE name = ?", (name,))
        self.flush()

    def flush(self) -> None:
        """Wait until everything handed over so far is in the file.

        Raises:
            StoreError: It could not be written.
        """
        done = threading.Event()
        self._queue.put(done)
        done.wait()
        error, self._error = self._error, None
        if error is not None:
            with storage_errors(self._path):
                raise error

    def _put(self, sql: str, values: tuple[Any, ...]) -> None:
        # A server's error may hold what no file can; it must not end the thread that writes.
        kept = (clean(value) if isinstance(value, str) else value for value in values)
        self._queue.put((sql, tuple(kept)))

    def _execute(self, rows: list[tuple[str, tuple[Any, ...]]]) -> None:
        for sql, values in rows:
            with suppress(sqlite3.IntegrityError):  # its conversation was deleted meanwhile
                self._db.execute(sql, values)

    def _write(self) -> None:
        rows: list[tuple[str, tuple[Any, ...]]] = []
        while True:
            group = [self._queue.get()]
            while not self._queue.empty():
                group.append(self._queue.get())
            rows += [item for item in group if not isinstance(item, threading.Event)]
            try:
                if rows:
                    with self._lock, transaction(self._db):
                        self._execute(rows)
                rows = []
            except sqlite3.Error as error:  # told by the next flush, and tried again then
                self._error = error
            for item in group:
                if isinstance(item, threading.Event):
                    item.set()

    # -- reading ------------------------------------------------------------------------

    def load(self, name: str) -> Kept | None:
        """Read a conversation; None if there is none of that name."""
        with self._reading() as db:
            row = db.execute("SELECT * FROM conversations WHERE name = ?", (name,)).fetchone()
            if row is None:
                return None
            turns = db.execute(
                "SELECT * FROM turns WHERE conversation = ? ORDER BY number", (name,)
            ).fetchall()
            entries = db.execute(
                "SELECT entries.* FROM entries JOIN turns ON entries.turn = turns.id "
                "WHERE conversation = ? ORDER BY part",
                (name,),
            ).fetchall()
        by_turn: dict[str, list[Entry]] = {}
        for entry in entries:
            by_turn.setdefault(entry["turn"], []).append(_entry(entry))
        nodes = [_node(turn, tuple(by_turn.get(turn["id"], ()))) for turn in turns]
        return Kept(orjson.loads(row["setup"]), row["head"], nodes)

    def count(self, name: str) -> int:
        """Return how many turns of a conversation are in the file, other kernels' among them."""
        with storage_errors(self._path), self._lock:
            sql = "SELECT COUNT(*) FROM turns WHERE conversation = ?"
            return int(self._db.execute(sql, (name,)).fetchone()[0])

    def listing(self) -> list[dict[str, Any]]:
        """Return one row a conversation, the latest first."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT name, setup, created, updated, "
                "(SELECT COUNT(*) FROM turns WHERE conversation = name) AS turns, "
                "(SELECT data FROM entries JOIN turns ON entries.turn = turns.id "
                " WHERE conversation = name AND part = 0 ORDER BY number LIMIT 1) AS first "
                "FROM conversations ORDER BY updated DESC, number DESC"
            ).fetchall()
        return [dict(row) for row in rows]

    def names(self) -> set[str]:
        """Return the names of all conversations."""
        with self._reading() as db:
            return {row["name"] for row in db.execute("SELECT name FROM conversations")}

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        self.flush()
        with storage_errors(self._path), self._lock:
            yield self._db


def _entry(row: sqlite3.Row) -> Entry:
    media = tuple(
        Media(each["mime"], base64.b64decode(each["data"]), each["alt"])
        for each in orjson.loads(row["media"])
    )
    data = orjson.loads(row["data"])
    return Entry(row["type"], row["id"], data, row["state"], row["seconds"], media)


def _node(row: sqlite3.Row, entries: tuple[Entry, ...]) -> Node:
    status, error = row["status"], row["error"]
    if status in {"queued", "running"}:
        status, error = "stopped", KILLED
        entries = tuple(_stopped(entry) for entry in entries)
    usage = Usage(**orjson.loads(row["usage"])) if row["usage"] else None
    turn = Turn(
        row["id"],
        row["conversation"],
        row["parent"],
        entries,
        status,
        row["finish_reason"],
        error,
        usage,
        row["model"],
        row["started"],
        row["seconds"],
    )
    return Node(turn, row["remote"], bool(row["settled"]), row["setup"])


def _stopped(entry: Entry) -> Entry:
    if entry.state in {"arriving", "waiting", "running"}:
        return Entry(entry.type, entry.id, entry.data, "stopped", entry.seconds, entry.media)
    return entry
