"""Laws of the desk: changes share commits, fail alone, and are heard of across processes."""

from __future__ import annotations

import sqlite3
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from mistral_nb import store
from mistral_nb.errors import StoreError
from mistral_nb.jobs.desk import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA = ["CREATE TABLE note (n INTEGER UNIQUE)"]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk.of(tmp_path / "notes.sqlite", SCHEMA)
    yield desk
    desk.release()


def note(db: sqlite3.Connection, number: int) -> int:
    db.execute("INSERT INTO note VALUES (?)", (number,))
    return number


def notes(db: sqlite3.Connection) -> list[int]:
    return [n for (n,) in db.execute("SELECT n FROM note ORDER BY n")]


def test_a_change_that_fails_undoes_only_itself(desk: Desk) -> None:
    """In a commit shared by many, one that raises leaves nothing and harms nobody."""

    def half(db: sqlite3.Connection) -> None:
        note(db, 100)
        raise ValueError("in the middle")

    first = [desk.do(partial(note, number=n)) for n in range(50)]
    bad = desk.do(half)
    rest = [desk.do(partial(note, number=n)) for n in range(50, 90)]
    assert [future.result(10) for future in first + rest] == list(range(90))
    with pytest.raises(ValueError, match="in the middle"):
        bad.result(10)
    assert desk.do(notes).result(10) == list(range(90))


def test_no_change_is_forgotten_at_the_end(tmp_path: Path) -> None:
    """A change given while the desk closes is made or refused; nobody waits for it for ever."""
    desk = Desk.of(tmp_path / "ending.sqlite", SCHEMA)
    go_on = threading.Event()
    changes = [desk.do(lambda _: go_on.wait(10))]
    closing = threading.Thread(target=desk.release)
    closing.start()
    while not (changes[-1].done() and changes[-1].exception()):
        changes.append(desk.do(lambda _: True))
    go_on.set()
    closing.join(10)
    assert all(change.result(10) for change in changes[:-1])
    assert isinstance(changes[-1].exception(), StoreError)


def test_a_locked_file_is_told_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who writes while another process holds the file hears so; later changes work again."""
    monkeypatch.setattr(store, "BUSY_SECONDS", 0.05)
    desk = Desk.of(tmp_path / "locked.sqlite", SCHEMA)
    other = sqlite3.connect(tmp_path / "locked.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="Another process is writing"):
        desk.do(partial(note, number=1)).result(10)
    other.execute("COMMIT")
    other.close()
    assert desk.do(partial(note, number=1)).result(10) == 1
    desk.release()


def test_one_desk_for_a_file(tmp_path: Path) -> None:
    """All users of a file in a process share one desk; the last one closes it."""
    path = tmp_path / "shared.sqlite"
    one, two = Desk.of(path, SCHEMA), Desk.of(path, SCHEMA)
    assert one is two
    one.release()
    assert two.do(partial(note, number=1)).result(10) == 1
    two.release()
    with pytest.raises(StoreError, match="is closed"):
        two.do(notes).result(10)
    three = Desk.of(path, SCHEMA)
    assert three.do(notes).result(10) == [1]
    three.release()


def test_listeners_hear_of_other_processes(desk: Desk) -> None:
    """A listener is called after writes of others, and one that fails harms nobody."""
    heard = threading.Event()

    def listener(db: sqlite3.Connection) -> None:
        if notes(db) == [7]:
            heard.set()
            raise RuntimeError("a listener's bug")

    desk.listen(listener)
    other = sqlite3.connect(desk.path, isolation_level=None)
    other.execute("INSERT INTO note VALUES (7)")
    other.close()
    assert heard.wait(10)
    assert desk.do(notes).result(10) == [7]
    desk.unlisten(listener)


def test_duties_are_done_again_and_again(desk: Desk) -> None:
    """A duty comes round by itself until it is dismissed."""
    rounds = threading.Semaphore(0)
    duty = desk.every(0.01, lambda _: rounds.release())
    for _ in range(3):
        assert rounds.acquire(timeout=10)
    desk.dismiss(duty)
