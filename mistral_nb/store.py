"""Opening SQLite files: WAL, schema versions, and errors that say what to do."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mistral_nb.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["open_store", "storage_errors", "transaction"]

BUSY_SECONDS = 10.0


def open_store(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open (or create) a SQLite file and bring its schema up to date.

    The connection may be used from several threads if the caller serialises them; it is in
    autocommit mode, so use :func:`transaction` for more than one statement.

    Args:
        path: File to open; its folder is created.
        migrations: SQL scripts; the file's ``user_version`` counts those already applied.
            Scripts are only ever added at the end.

    Returns:
        An open connection with rows addressable by name.

    Raises:
        StoreError: The file cannot be opened, is not ours, or is from a newer version.
    """
    with storage_errors(path):
        try:
            # For its owner alone: prompts and replies are nobody else's.
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"Cannot create the folder {path.parent}: {error.strerror or error}. "
                "Set MISTRAL_NB_HOME to a folder that can be written."
            ) from error
        connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            _migrate(connection, path, migrations)
        except BaseException:
            connection.close()
            raise
        return connection


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    with transaction(connection):  # two processes may open a new file at the same moment
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > len(migrations):
            raise StoreError(
                f"{path} was written by a newer version of mistral_nb "
                f"(schema {version}, this one knows {len(migrations)}). Upgrade mistral_nb."
            )
        for script in migrations[version:]:
            for statement in script.split(";"):
                if statement.strip():
                    connection.execute(statement)
        connection.execute(f"PRAGMA user_version={len(migrations)}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit everything in the block at once, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk makes SQLite roll back by itself
            connection.execute("ROLLBACK")
        raise


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into a StoreError that names the file and the way out."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}. {_advice(str(error))}") from error


def _advice(text: str) -> str:
    for sign, advice in (
        ("locked", "Another process is writing to it: wait for it, or stop it."),
        ("full", "The disk is full: free some space and run the same call again."),
        ("disk I/O", "The disk is full or failing: free some space and run the same call again."),
        ("readonly", "It cannot be written: check its rights or set MISTRAL_NB_HOME."),
        ("unable to open", "Check the folder's rights or set MISTRAL_NB_HOME."),
        ("not a database", "The file is damaged or not ours: move it away."),
        ("malformed", "The file is damaged: move it away, or restore it from a copy."),
    ):
        if sign in text:
            return advice
    return "Nothing was lost that had been saved before."
