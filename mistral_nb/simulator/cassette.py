"""Recordings on disk: one exchange a line, written as they end, read one after the other."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import ValidationError

from mistral_nb.errors import InputError, StoreError
from mistral_nb.simulator.exchanges import Exchange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Cassette", "Place", "read_cassette"]

BEGIN = b'{"request":'
"""How the lines begin that a recorder writes."""
AT_ONCE = 1 << 20
"""Bytes written in one go, so that most lines are."""


class Cassette:
    """A recording that grows: each exchange is in the file as soon as it is over.

    Args:
        path: The file; one that is there is gone on with.

    Attributes:
        path: The file.
        count: Exchanges written by this one.

    Raises:
        InputError: The file holds something else.
        StoreError: It cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix == ".json":
            raise InputError(f"A recording has one exchange a line: name it {path.stem}.jsonl.")
        self.path = path
        self.count = 0
        self._lock = threading.Lock()
        end = _end_of(path) if path.exists() else 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            # Unbuffered: what a full disk refused must not be written later.
            self._file = os.fdopen(os.open(path, flags, 0o600), "ab", buffering=0)
            self._file.truncate(end)  # half a line, from a recorder that was killed
        except OSError as error:
            raise StoreError(
                f"The recording {path} cannot be written: {error.strerror or error}. "
                "Choose another file."
            ) from error

    def write(self, line: Iterable[bytes]) -> None:
        """Add an exchange.

        Args:
            line: Its JSON, in pieces.

        Raises:
            OSError: It could not be written; the file is as it was before.
        """
        with self._lock:
            before = self._file.seek(0, os.SEEK_END)
            try:
                held = bytearray()
                for piece in line:
                    held += piece
                    if len(held) >= AT_ONCE:
                        self._put(held)
                        held.clear()
                self._put(held + b"\n")
            except BaseException:
                with suppress(OSError):
                    self._file.truncate(before)
                raise
            self.count += 1

    def _put(self, data: bytes | bytearray) -> None:
        written = 0
        while written < len(data):
            written += self._file.write(data[written:])

    def close(self) -> None:
        """Close the file."""
        with self._lock, suppress(OSError):
            self._file.close()


def _end_of(path: Path) -> int:
    """Return where a recording ends that is to go on."""
    end = 0
    for place, _ in read_cassette(path, empty=True):
        end = place.start + place.size
    with path.open("rb") as file:
        file.seek(max(0, end - 1))
        last = file.read(1)
    if end and last != b"\n":
        raise InputError(f"The last line of {path} has no end: add one, or choose another file.")
    return end


@dataclass(frozen=True, slots=True)
class Place:
    """Where an exchange is.

    Attributes:
        path: File.
        line: Number of its line, from 1; 0 for a file that holds this one only.
        start: Byte at which it begins.
        size: Its bytes.
    """

    path: Path
    line: int
    start: int
    size: int

    def __str__(self) -> str:
        return f"{self.path.name}, line {self.line}" if self.line else self.path.name

    def read(self) -> Exchange:
        """Return the exchange.

        Raises:
            InputError: It is none.
            OSError: The file cannot be read.
        """
        with self.path.open("rb") as file:
            file.seek(self.start)
            return self.parse(file.read(self.size))

    def parse(self, data: bytes) -> Exchange:
        """Return the exchange that these bytes hold.

        Raises:
            InputError: They hold none.
        """
        try:
            return Exchange.model_validate(_with_http(orjson.loads(data)))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "it"
            raise InputError(f"{self}: no recorded exchange; {field}: {first['msg']}.") from error
        except ValueError as error:
            raise InputError(f"{self}: no recorded exchange; {error}.") from error


def _with_http(found: Any) -> Any:
    """Complete the two bodies of one chat, kept without a word of HTTP around them."""
    if not isinstance(found, dict) or not isinstance(request := found.get("request"), dict):
        return found
    if "method" in request or "messages" not in request:
        return found
    kind = {"content-type": "application/json"}
    return {
        "request": {"method": "POST", "path": "/v1/chat/completions", "json": request},
        "response": {"status": 200, "headers": kind, "json": found.get("response")},
    }


def read_cassette(
    where: str | os.PathLike[str], *, empty: bool = False
) -> Iterator[tuple[Place, Exchange]]:
    """Read a recording, one exchange after the other.

    Args:
        where: File of exchanges, one a line (half a line at its end is passed over: whoever
            wrote it was killed); a ``.json`` file with one exchange, or with the ``request``
            and ``response`` bodies of one chat; or a folder of such files.
        empty: Allow that there is nothing in it.

    Yields:
        Each exchange, and where it is.

    Raises:
        InputError: There is no such file, or it holds something else.
    """
    top, found = Path(where), False
    try:
        for path in sorted(top.glob("*.json*")) if top.is_dir() else [top]:
            for place, data in _lines(path):
                found = True
                yield place, place.parse(data)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"The recording {top} cannot be read: {reason}.") from error
    if not found and not empty:
        raise InputError(f"The recording {top} is empty: there is nothing to replay.")


def _lines(path: Path) -> Iterator[tuple[Place, bytes]]:
    if path.suffix == ".json":
        data = path.read_bytes()
        yield Place(path, 0, 0, len(data)), data
        return
    start = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip() and not _is_half(line):
                yield Place(path, number, start, len(line)), line
            start += len(line)


def _is_half(line: bytes) -> bool:
    if line.endswith(b"\n") or not line.startswith(BEGIN[: len(line)]):
        return False
    with suppress(orjson.JSONDecodeError):
        orjson.loads(line)
        return False
    return True
