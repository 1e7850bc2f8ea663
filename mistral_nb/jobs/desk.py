"""One SQLite file, one thread that writes to it, and commits that many callers share.

What is handed in while a commit is under way goes into the next one together, so that
thousands of small changes a second cost hundreds of commits. Every change is on disk when
its caller hears of it.
"""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mistral_nb.errors import StoreError
from mistral_nb.store import open_store, storage_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["Desk"]

log = logging.getLogger(__name__)
T = TypeVar("T")
LOOK_EVERY = 0.05
"""Seconds between two looks for what other processes wrote."""
MOST_AT_ONCE = 1000
"""Changes in one commit."""
_Work = tuple["Callable[[sqlite3.Connection], Any]", "Future[Any]"]


class Desk:
    """The writer of one file; shared by all who use that file in this process.

    Args:
        path: The SQLite file.
        migrations: Its schema, as :func:`mistral_nb.store.open_store` takes it.
    """

    _open: dict[tuple[int, Path], Desk] = {}  # noqa: RUF012 - one of each file in a process
    _registry = threading.Lock()

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        self.path = path
        self._users = 0
        self._closed = False
        self._door = threading.Lock()
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._listeners: list[Callable[[sqlite3.Connection], None]] = []
        self._duties: list[_Duty] = []
        self._connection = open_store(path, migrations)
        self._version = 0
        self._thread = threading.Thread(target=self._run, name=f"desk {path.name}", daemon=True)
        self._thread.start()

    @classmethod
    def of(cls, path: Path, migrations: Sequence[str]) -> Desk:
        """Return the process's desk of a file; give it back with :meth:`release`."""
        key = (os.getpid(), path)
        with cls._registry:
            desk = cls._open.get(key)
            if desk is None:
                desk = cls._open[key] = cls(path, migrations)
            desk._users += 1
            return desk

    def release(self) -> None:
        """Give the desk back; the last one to do so closes the file."""
        with self._registry:
            self._users -= 1
            if self._users:
                return
            self._open.pop((os.getpid(), self.path), None)
        with self._door:
            self._closed = True
            self._work.put(None)
        self._thread.join()

    def do(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Have a change made, in a transaction shared with others; from any thread.

        Args:
            work: Makes the change; all of it is undone if it raises.

        Returns:
            What ``work`` returned, once it is on disk.
        """
        future: Future[T] = Future()
        with self._door:  # what came after the end would wait for ever
            is_open = not self._closed and self._thread.is_alive()
            if is_open:
                self._work.put((work, cast("Future[Any]", future)))
        if not is_open:
            told = f"{self.path} is closed. Open its queue again with mnb.Queue(...)."
            future.set_exception(StoreError(told))
        return future

    def listen(self, listener: Callable[[sqlite3.Connection], None]) -> None:
        """Call ``listener`` on the desk's thread after commits, ours or another process's."""
        self._listeners.append(listener)
        self.do(lambda _: None)  # wakes the thread, which begins to look

    def unlisten(self, listener: Callable[[sqlite3.Connection], None]) -> None:
        """Stop calling a listener."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def every(self, seconds: float, work: Callable[[sqlite3.Connection], None]) -> _Duty:
        """Have ``work`` done again and again, in a transaction, whatever the loops do."""
        duty = _Duty(seconds, work)
        self._duties.append(duty)
        self.do(lambda _: None)
        return duty

    def dismiss(self, duty: _Duty) -> None:
        """End what :meth:`every` began."""
        if duty in self._duties:
            self._duties.remove(duty)

    # On the desk's thread

    def _run(self) -> None:
        try:
            while (batch := self._gather()) is not None:
                due = [duty for duty in self._duties if duty.due()]
                before = self._connection.total_changes
                if batch or due:
                    self._commit(batch, due)
                self._look(wrote=self._connection.total_changes != before)
        finally:
            self._connection.close()

    def _gather(self) -> list[_Work] | None:
        """Wait for work, at most until it is time to look around; None at the end."""
        idle = not self._listeners and not self._duties
        batch: list[_Work] = []
        try:
            item = self._work.get(timeout=None if idle else LOOK_EVERY)
            while True:
                if item is None:
                    if not batch:
                        return None
                    self._work.put(None)
                    return batch
                batch.append(item)
                if len(batch) >= MOST_AT_ONCE:
                    return batch
                item = self._work.get_nowait()
        except queue.Empty:
            return batch

    def _commit(self, batch: list[_Work], due: Sequence[_Duty]) -> None:
        done: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            with storage_errors(self.path):
                self._connection.execute("BEGIN IMMEDIATE")
                for duty in due:
                    self._one(duty.work)
                for work, future in batch:
                    if future.set_running_or_notify_cancel():
                        done.append((future, *self._one(work)))
                self._connection.execute("COMMIT")
        except Exception as error:  # every caller is told; the thread lives on
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for future, value, fault in done:
            if fault is not None:
                future.set_exception(fault)
            else:
                future.set_result(value)

    def _one(self, work: Callable[[sqlite3.Connection], Any]) -> tuple[Any, BaseException | None]:
        """Make one change; if it fails, only it is undone."""
        self._connection.execute("SAVEPOINT one")
        try:
            value = work(self._connection)
        except sqlite3.Error:
            raise  # the file itself: nothing of this commit can be trusted
        except Exception as error:
            self._connection.execute("ROLLBACK TO one")
            self._connection.execute("RELEASE one")
            return None, error
        self._connection.execute("RELEASE one")
        return value, None

    def _look(self, *, wrote: bool) -> None:
        """Tell the listeners if something was written, here or by another process."""
        if not self._listeners:
            return
        try:
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:  # told to whoever writes next
            return
        if wrote or version != self._version:
            self._version = version
            for listener in tuple(self._listeners):
                try:
                    listener(self._connection)
                except Exception:  # a listener's trouble must not end the desk
                    log.exception("A listener of %s failed", self.path)


class _Duty:
    """Work that is due again and again."""

    def __init__(self, seconds: float, work: Callable[[sqlite3.Connection], None]) -> None:
        self.work = work
        self._seconds = seconds
        self._next = time.monotonic() + seconds

    def due(self) -> bool:
        """Return True once each time its seconds have passed."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True
