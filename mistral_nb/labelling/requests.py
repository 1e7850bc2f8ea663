"""From a table to request files: row by row, so that memory stays flat.

Identical requests are written once: a later row with the same content points to the first
(`twin`). Rows whose request was answered in an earlier run take that answer over.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from mistral_nb.errors import InputError, StoreError
from mistral_nb.labelling.bounds import check_whole
from mistral_nb.labelling.folder import open_requests
from mistral_nb.labelling.ledger import Shard
from mistral_nb.labelling.pieces import in_pieces, row_pieces
from mistral_nb.labelling.prompts import Unsent
from mistral_nb.labelling.recipe import DIGEST_SIZE, custom_id, read_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pandas as pd

    from mistral_nb.labelling.folder import RunFolder
    from mistral_nb.labelling.ledger import Answer, Ledger
    from mistral_nb.labelling.prompts import Prompt
    from mistral_nb.labelling.recipe import Recipe

__all__ = [
    "Limits",
    "Request",
    "ShardWriter",
    "content_digest",
    "make_requests",
    "rewrite",
    "write_requests",
]


@dataclass(frozen=True)
class Limits:
    """How large a shard may be: the API takes 100,000 requests and 512 MB a file.

    Attributes:
        lines: Most requests.
        bytes: Most bytes.
    """

    lines: int = 100_000
    bytes: int = 500_000_000

    def __post_init__(self) -> None:
        check_whole("shard_lines", self.lines)
        check_whole("shard_bytes", self.bytes)


@dataclass(frozen=True, slots=True)
class Request:
    """One row's request: its body and content hash, or why it cannot be sent."""

    row: int
    body: bytes = b""
    digest: bytes | None = None
    error: str | None = None


def make_requests(
    df: pd.DataFrame, prompt: Prompt, recipe: Recipe, first: int = 0
) -> Iterator[Request]:
    """Yield each row's request, in order.

    Args:
        df: The table, shape (rows, columns).
        prompt: Makes each row's text or messages.
        recipe: Makes bodies of them.
        first: Number of the table's first row, where it is a piece of a larger one.

    Yields:
        One Request a row.

    Raises:
        InputError: The prompt fails on a row; the message names it.
    """
    for start, piece in row_pieces(df):
        at = first + start
        for row, made in enumerate(prompt.fill(piece, at), start=at):
            if isinstance(made, Unsent):
                yield Request(row, error=made.reason)
                continue
            if isinstance(made, str) and not made.strip():
                yield Request(row, error="the prompt is empty")
                continue
            try:
                body = recipe.body(made)
            except TypeError as error:
                if isinstance(made, str):  # orjson's word for half of a surrogate pair
                    yield Request(row, error=f"the text cannot be sent as UTF-8 ({error})")
                    continue
                raise InputError(
                    f"Row {row}: the prompt function's messages are not JSON: {error}. "
                    "Nothing was sent."
                ) from error
            yield Request(row, body, recipe.digest(body))


def content_digest(requests: Iterable[Request]) -> str:
    """Return one hash over all rows' requests: the same means the same run."""
    whole = _Content()
    for request in requests:
        whole.add(request)
    return whole.hexdigest()


class _Content:
    """The hash over all rows."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=DIGEST_SIZE)
        self.hexdigest = self._hash.hexdigest

    def add(self, request: Request) -> None:
        self._hash.update(request.digest or bytes(DIGEST_SIZE))


@dataclass
class _Written:
    """A shard being written."""

    file: IO[bytes]
    id: int
    lines: int = 0
    bytes: int = 0
    hash: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=DIGEST_SIZE))


class ShardWriter:
    """Writes request lines to shard files, each within the limits and on disk when done.

    Args:
        folder: Where the files go.
        limits: How large a shard may be.
        first: Number of the first shard.
        round_: How often these requests were sent before.
    """

    def __init__(
        self, folder: RunFolder, limits: Limits, *, first: int = 0, round_: int = 0
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._next = first
        self._round = round_
        self._open: _Written | None = None
        self.shards: list[Shard] = []

    def write(self, row: int, digest: bytes, body: bytes) -> int:
        """Write one request.

        Returns:
            The number of its shard.

        Raises:
            InputError: The request alone is larger than a shard may be.
            StoreError: The disk is full.
        """
        name = custom_id(row, digest).encode()
        return self.write_line(row, name, b'{"custom_id":"%b","body":%b}\n' % (name, body))

    def write_line(self, row: int, name: bytes, line: bytes) -> int:
        """Write one finished line; see :meth:`write`."""
        if len(line) > self._limits.bytes:
            raise InputError(
                f"Row {row}: its request has {len(line):,} bytes, more than a batch file may "
                f"have ({self._limits.bytes:,}). Shorten its text. Nothing was sent."
            )
        shard = self._open
        if shard is not None and (
            shard.lines >= self._limits.lines or shard.bytes + len(line) > self._limits.bytes
        ):
            self._finish(shard)
            shard = None
        try:
            if shard is None:
                path = self._folder.requests(self._next)
                shard = self._open = _Written(path.open("wb", buffering=1 << 20), self._next)
                self._next += 1
            shard.file.write(line)
        except OSError as error:
            raise _disk(self._folder, error) from error
        shard.lines += 1
        shard.bytes += len(line)
        shard.hash.update(name)
        return shard.id

    def close(self) -> list[Shard]:
        """Finish the last shard.

        Returns:
            All shards, for the ledger.
        """
        if self._open is not None:
            self._finish(self._open)
        return self.shards

    def discard(self) -> None:
        """Close the file at hand after a failure; nobody will read it."""
        if self._open is not None:
            with suppress(OSError):
                self._open.file.close()
            self._open = None

    def _finish(self, shard: _Written) -> None:
        try:
            shard.file.flush()
            os.fsync(shard.file.fileno())
            shard.file.close()
        except OSError as error:
            raise _disk(self._folder, error) from error
        sha = shard.hash.hexdigest()
        self.shards.append(Shard(shard.id, self._round, shard.lines, shard.bytes, sha))
        self._open = None


def rewrite(folder: RunFolder, ledger: Ledger, limits: Limits, rows: Mapping[int, int]) -> None:
    """Copy request lines to new shards, so that they are sent once more.

    Args:
        folder: The run's files.
        ledger: The run's ledger.
        limits: How large a shard may be.
        rows: Row -> the shard that its request is in.
    """
    shards = ledger.shards()
    round_ = max(shard.round for shard in shards) + 1
    writer = ShardWriter(folder, limits, first=len(shards), round_=round_)
    moved = []
    for old in sorted(set(rows.values())):
        with open_requests(folder.requests(old)) as file:
            for line in file:
                row, name, _ = read_line(line)
                if rows.get(row) == old:
                    moved.append((writer.write_line(row, name, line), row))
    ledger.add_shards(writer.close(), moved)


def write_requests(
    requests: Iterable[Request],
    ledger: Ledger,
    writer: ShardWriter,
    reuse: Callable[[Sequence[bytes]], dict[bytes, tuple[str, Answer]]] | None = None,
) -> str:
    """Write every request that has to be sent to its shard, and every row to the ledger.

    Args:
        requests: One a row, in order.
        ledger: The run's ledger, still without requests.
        writer: Writes the shard files.
        reuse: Finds answers of earlier runs: content hash -> (run's name, answer).

    Returns:
        The content hash of the whole run.
    """
    try:
        return _write_all(requests, ledger, writer, reuse)
    except BaseException:
        writer.discard()
        raise


def _write_all(
    requests: Iterable[Request],
    ledger: Ledger,
    writer: ShardWriter,
    reuse: Callable[[Sequence[bytes]], dict[bytes, tuple[str, Answer]]] | None,
) -> str:
    whole = _Content()
    seen = _Seen(ledger)
    for piece in in_pieces(requests):
        records: list[tuple[Any, ...]] = []
        taken: dict[str, list[tuple[int, Answer]]] = {}
        twins = seen.twins(piece)
        known = reuse([r.digest for r in piece if r.digest]) if reuse else {}
        for request in piece:
            whole.add(request)
            row, digest = request.row, request.digest
            if digest is None:
                records.append((row, None, None, None, request.error))
            elif row in twins:
                records.append((row, digest, twins[row], None, None))
            elif digest in known:
                source, answer = known[digest]
                taken.setdefault(source, []).append((row, answer))
                records.append((row, digest, None, None, None))
            else:
                shard = writer.write(row, digest, request.body)
                records.append((row, digest, None, shard, None))
        ledger.add_requests(records)
        for source, answers in taken.items():
            ledger.add_reused(answers, source)
    ledger.add_shards(writer.close())
    return whole.hexdigest()


class _Seen:
    """Which contents came before, in 16 bytes a row: a dict of them all would not stay small.

    Old content hashes are kept as sorted 64-bit numbers; a hit among them is made certain by
    the full hash in the ledger.
    """

    RECENT = 50_000

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._recent: dict[bytes, int] = {}
        self._keys = np.empty(0, dtype=np.uint64)
        self._rows = np.empty(0, dtype=np.int64)

    def twins(self, piece: list[Request]) -> dict[int, int]:
        """Return row -> earlier row with the same content, and remember the others."""
        found: dict[int, int] = {}
        sent = [request for request in piece if request.digest is not None]
        older = self._older(sent)
        for request in sent:
            assert request.digest is not None
            twin = self._recent.get(request.digest, older.get(request.row))
            if twin is None:
                self._recent[request.digest] = request.row
            else:
                found[request.row] = twin
        if len(self._recent) > self.RECENT:
            self._settle()
        return found

    def _older(self, sent: list[Request]) -> dict[int, int]:
        if not len(self._keys) or not sent:
            return {}
        keys = _numbers([request.digest or b"" for request in sent])
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found = {}
        for number in np.flatnonzero(self._keys[places] == keys):
            twin = int(self._rows[places[number]])
            if self._ledger.digest(twin) == sent[number].digest:
                found[sent[number].row] = twin
        return found

    def _settle(self) -> None:
        keys = np.concatenate([self._keys, _numbers(list(self._recent))])
        rows = np.concatenate([self._rows, np.fromiter(self._recent.values(), dtype=np.int64)])
        order = np.argsort(keys, kind="stable")
        self._keys, self._rows = keys[order], rows[order]
        self._recent.clear()


def _numbers(digests: list[bytes]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    return np.frombuffer(b"".join(each[:8] for each in digests), dtype=np.uint64)


def _disk(folder: RunFolder, error: OSError) -> StoreError:
    return StoreError(
        f"Cannot write in {folder.path}: {error.strerror or error}. "
        "Free some space, or set MISTRAL_NB_HOME to another disk. Nothing of this was sent."
    )
