"""A run's folder: where its files are, and the lock that keeps a second process out.

```
runs/<name>-<hash>/
    ledger.sqlite3        what was asked, sent, answered and paid
    input.arrow           the table, for a process that does not have it; or
    input.json            where the rows are, if these are files or a Dask DataFrame
    requests/0000.jsonl   the requests of each shard, written before anything is sent
    answers/0000-*.jsonl  each shard's output and error file, as the server gave them
    lock                  held while a process follows the run
```
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import sys
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Self

import orjson

from mistral_nb.errors import InputError, RunError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RunFolder", "adopt_file", "open_requests", "sync_folder"]

UNFINISHED = ".new-"
"""How the names begin of folders in which a run is built, or deleted."""
STALE = 24 * 3600.0
"""Seconds after which such a folder, left behind by a kill, is cleared away."""


class RunFolder:
    """The files of one run.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None

    @classmethod
    def of(cls, home: Path, name: str) -> RunFolder:
        """Return where the run called ``name`` is or would be.

        Raises:
            InputError: The name is empty, too long or not printable.
        """
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise InputError(f"name must be a printable text, not {name!r}.")
        if len(name) > 100:  # noqa: PLR2004 - the server's limit on metadata is not far above
            raise InputError(f"name is {len(name)} characters long; at most 100 are possible.")
        # Two names may differ only in what a file system cannot hold: the hash tells them apart.
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
        mark = hashlib.sha256(name.encode()).hexdigest()[:8]
        return cls(home / "runs" / f"{slug or 'run'}-{mark}")

    @classmethod
    def fresh(cls, home: Path) -> RunFolder:
        """Make an empty folder to build a run in; clear away those a kill left behind."""
        runs = home / "runs"
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)  # prompts are nobody else's
            for old in runs.glob(f"{UNFINISHED}*"):
                _clear_away(cls(old))
            made = cls(runs / f"{UNFINISHED}{secrets.token_hex(8)}")
            for part in ("requests", "answers"):
                (made.path / part).mkdir(parents=True)
        except OSError as error:
            raise StoreError(
                f"Cannot create a folder in {runs}: {error.strerror or error}. "
                "Set MISTRAL_NB_HOME to a folder that can be written."
            ) from error
        return made

    @classmethod
    def all(cls, home: Path) -> list[RunFolder]:
        """Return the folders of all runs."""
        found = sorted((home / "runs").glob("[!.]*/ledger.sqlite3"))
        return [cls(path.parent) for path in found]

    @property
    def exists(self) -> bool:
        """True if a run was written here."""
        return self.ledger.exists()

    @property
    def ledger(self) -> Path:
        """The SQLite file."""
        return self.path / "ledger.sqlite3"

    @property
    def input(self) -> Path:
        """The kept table."""
        return self.path / "input.arrow"

    @property
    def manifest(self) -> Path:
        """What is known of rows that are not kept here: files, or a Dask DataFrame."""
        return self.path / "input.json"

    def requests(self, shard: int) -> Path:
        """The request lines of a shard."""
        return self.path / "requests" / f"{shard:04d}.jsonl"

    def answers(self, shard: int, part: str) -> Path:
        """A shard's downloaded file; ``part`` is ``"output"`` or ``"error"``."""
        return self.path / "answers" / f"{shard:04d}-{part}.jsonl"

    def keep_manifest(self, about: dict[str, object]) -> None:
        """Write what is known of the rows, whole or not at all."""
        unfinished = self.manifest.with_suffix(".unfinished")
        try:
            with unfinished.open("wb") as file:
                file.write(orjson.dumps(about))
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self.manifest)
        except OSError as error:
            raise self._unwritable(error) from error

    def adopt(self, built: RunFolder) -> bool:
        """Move a built run here, all at once.

        Returns:
            False if a run is here already (another process was faster).
        """
        if os.name == "nt":  # moves no folder with an open file in it
            built.unlock()
        sync_folder(built.path)
        try:
            built.path.rename(self.path)
        except OSError:
            if self.exists:
                return False
            raise
        finally:
            built.unlock()  # only now: nobody may take it for one that was left behind
        sync_folder(self.path.parent)
        return True

    def remove(self) -> None:
        """Delete the folder and all that is in it; a kill amid this leaves no half of a run."""
        self.unlock()
        doomed = self.path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
        try:
            self.path.rename(doomed)
        except OSError:  # on Windows while a file in it is open; or it is not there
            doomed = self.path
        shutil.rmtree(doomed, ignore_errors=True)

    def lock(self, name: str) -> Self:
        """Claim the run for this process, until it unlocks or ends.

        The lock is the operating system's, so a killed process leaves none behind.

        Raises:
            RunError: Another process, or another handle of this one, follows the run.
        """
        try:
            file = (self.path / "lock").open("a+b", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from error
        for _ in range(3):  # followed() of another process holds it for an instant
            if claimed := _claim(file):
                break
            time.sleep(0.02)
        if not claimed:
            file.seek(0)
            holder = file.read()
            file.close()
            raise RunError(_followed_by(name, holder))
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        try:
            file.truncate(0)
            file.write(orjson.dumps(about))
        except OSError as error:
            file.close()
            raise self._unwritable(error) from error
        self._lock = file
        return self

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            f"Cannot write in {self.path}: {error.strerror or error}. "
            "Make room and check the folder's rights, or set MISTRAL_NB_HOME."
        )

    def followed(self) -> bool:
        """Return True if some process holds the lock."""
        try:
            with (self.path / "lock").open("a+b") as file:
                return not _claim(file)
        except OSError:
            return False

    def unlock(self) -> None:
        """Let other processes follow the run."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _clear_away(folder: RunFolder) -> None:
    """Delete a folder that is old and in which no process builds a run any more."""
    with suppress(FileNotFoundError):  # it became a run, or another process was faster
        # By the clock alone, a machine that slept would take a live one for old.
        if time.time() - folder.path.stat().st_mtime > STALE and not folder.followed():
            folder.remove()


def _followed_by(name: str, data: bytes) -> str:
    """Say who follows a run, as its lock has it, and what can be done."""
    holder = ""
    try:
        about = orjson.loads(data)
        if (about["pid"], about["host"]) == (os.getpid(), socket.gethostname()):
            return (
                f"The run {name!r} is being followed in this process. Wait for its result(), or "
                "stop() or cancel() its handle first."
            )
        since = time.strftime("%H:%M:%S", time.localtime(about["since"]))
        holder = f" (process {int(about['pid'])} on {about['host']}, since {since})"
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        pass  # it is just being written
    return (
        f"Another process already follows the run {name!r}{holder}. Wait for it, or end that "
        f"process and go on with mnb.resume({name!r}): what it was answered is kept."
    )


def open_requests(path: Path) -> IO[bytes]:
    """Open a file of a run's requests.

    Args:
        path: As :meth:`RunFolder.requests` has it.

    Raises:
        StoreError: It is not there any more, or cannot be read.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise StoreError(
            f"Cannot read the requests in {path}: {error.strerror or error}. Put the run's "
            "folder back as it was, or label again with fresh=True, which is paid for again."
        ) from error


def adopt_file(part: Path, path: Path) -> None:
    """Give a file that is whole and synced its name, so that it outlives a power cut.

    Raises:
        OSError: The disk is full or cannot be written.
    """
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make names in a folder outlive a power cut, where the system can."""
    if sys.platform != "win32":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


if sys.platform == "win32":
    import msvcrt

    def _claim(file: IO[bytes]) -> bool:
        try:
            file.seek(1 << 30)  # far behind the text, which others may then still read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _claim(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
