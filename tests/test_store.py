"""SQLite files: schema versions, transactions, and errors that say what to do."""

from __future__ import annotations

import os
import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest

from mistral_nb.errors import StoreError
from mistral_nb.labelling.folder import RunFolder
from mistral_nb.store import open_store, storage_errors, transaction

if TYPE_CHECKING:
    from pathlib import Path

ONE = "CREATE TABLE a (x INTEGER)"
TWO = "CREATE TABLE b (y TEXT); CREATE INDEX by_y ON b (y)"


def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    """A file keeps its rows while later scripts are added to it."""
    path = tmp_path / "deep" / "ledger.sqlite3"
    first = open_store(path, [ONE])
    first.execute("INSERT INTO a VALUES (1)")
    first.close()
    second = open_store(path, [ONE, TWO])
    assert second.execute("SELECT x FROM a").fetchone()["x"] == 1
    assert second.execute("SELECT count(*) FROM b").fetchone()[0] == 0
    second.close()


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a person's folders apart by itself")
def test_a_new_home_is_its_owners_alone(tmp_path: Path) -> None:
    """Whoever writes first, the history or a run, others cannot read prompts and replies."""
    for number, use in enumerate(
        (lambda home: open_store(home / "x", [ONE]).close(), RunFolder.fresh)
    ):
        home = tmp_path / f"home-{number}"
        use(home)
        assert home.stat().st_mode & 0o077 == 0


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """An older package refuses a newer file instead of writing into it."""
    open_store(tmp_path / "x", [ONE, TWO]).close()
    with pytest.raises(StoreError, match="newer version"):
        open_store(tmp_path / "x", [ONE])


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    """Either the whole block is committed or nothing of it."""
    store = open_store(tmp_path / "x", [ONE])
    with pytest.raises(ZeroDivisionError), transaction(store):
        store.execute("INSERT INTO a VALUES (1)")
        raise ZeroDivisionError
    with transaction(store):
        store.execute("INSERT INTO a VALUES (2)")
    assert [row["x"] for row in store.execute("SELECT x FROM a")] == [2]
    store.close()


def test_a_commit_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    """Where the last step of a transaction fails, nothing of it stays, and the next one works."""
    later = "CREATE TABLE b (x REFERENCES a (x) DEFERRABLE INITIALLY DEFERRED)"
    store = open_store(tmp_path / "x", ["CREATE TABLE a (x INTEGER PRIMARY KEY)", later])
    with pytest.raises(sqlite3.IntegrityError), transaction(store):
        store.execute("INSERT INTO b VALUES (1)")
    with transaction(store):
        store.execute("INSERT INTO a VALUES (2)")
    assert store.execute("SELECT count(*) FROM b").fetchone()[0] == 0
    store.close()


def test_many_openers_at_once_make_one_schema(tmp_path: Path) -> None:
    """Threads that create the same new file do not trip over each other."""
    errors: list[Exception] = []

    def opening() -> None:
        try:
            open_store(tmp_path / "x", [ONE, TWO]).close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=opening) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """The message names the file and what to do with it."""
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"this is not SQLite" * 100)
    with pytest.raises(StoreError, match=r"ledger\.sqlite3.*move it away"):
        open_store(path, [ONE])


def test_a_folder_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    """Where the home folder cannot be, the message names MISTRAL_NB_HOME."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="MISTRAL_NB_HOME"):
        open_store(tmp_path / "file" / "home" / "x", [ONE])


def test_a_locked_file_is_explained(tmp_path: Path) -> None:
    """SQLite's 'database is locked' becomes a sentence with a way out."""
    path = tmp_path / "x"
    one, other = open_store(path, [ONE]), open_store(path, [ONE])
    other.execute("PRAGMA busy_timeout=10")
    with (
        transaction(one),
        pytest.raises(StoreError, match="Another process"),
        storage_errors(path),
        transaction(other),
    ):
        pass
    one.close()
    other.close()


def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    """A full disk is told as such, and the rows saved before are still there."""
    path = tmp_path / "x"
    store = open_store(path, [ONE])
    store.execute("INSERT INTO a VALUES (1)")
    pages = store.execute("PRAGMA page_count").fetchone()[0]
    store.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreError, match="disk is full"), storage_errors(path), transaction(store):
        store.executemany("INSERT INTO a VALUES (?)", [(n,) for n in range(100_000)])
    assert store.execute("SELECT count(*) FROM a").fetchone()[0] == 1
    store.close()


def test_sqlite_errors_keep_their_cause(tmp_path: Path) -> None:
    """The original exception stays attached for whoever debugs."""
    with pytest.raises(StoreError) as caught, storage_errors(tmp_path / "x"):
        raise sqlite3.OperationalError("unable to open database file")
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
