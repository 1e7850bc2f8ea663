"""A batch job's files: where its request lines start, and how its result lines are written."""

from __future__ import annotations

import random
from array import array
from typing import TYPE_CHECKING, BinaryIO

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mistral_nb.simulator.faults import Faults

__all__ = ["RequestLines", "append_at", "deliver"]

COPY = 1 << 20


class RequestLines:
    """The lines of some files, in memory as two numbers each, read back in any order.

    Args:
        sources: JSONL files.
        seed: Settles the order of work; real results come in no order either.

    Raises:
        OSError: A file is gone.
    """

    def __init__(self, sources: Sequence[Path], seed: object) -> None:
        self._sources = sources
        self._starts = array("q")
        for number, source in enumerate(sources):
            self._index(number, source)
        self._order = array("l", range(len(self)))
        random.Random(f"{seed}:{len(self)}").shuffle(self._order)  # noqa: S311

    def __len__(self) -> int:
        return len(self._starts) // 2

    def _index(self, number: int, source: Path) -> None:
        place = 0
        with source.open("rb") as file:
            for line in file:
                if line.strip():
                    self._starts.append(number)
                    self._starts.append(place)
                place += len(line)

    def read(self, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield a stretch of the order of work.

        Args:
            begin: First place in the order.
            end: Place after the last.

        Yields:
            The line's number in the input, and the line.

        Raises:
            OSError: A file is gone.
        """
        open_files: dict[int, BinaryIO] = {}
        try:
            for position in self._order[begin:end]:
                number, start = self._starts[2 * position], self._starts[2 * position + 1]
                if number not in open_files:
                    open_files[number] = self._sources[number].open("rb")
                open_files[number].seek(start)
                yield position, open_files[number].readline()
        finally:
            for file in open_files.values():
                file.close()


def append_at(path: Path, size: int, lines: Sequence[bytes]) -> int:
    """Write lines after the first ``size`` bytes, over what a killed process left there.

    Args:
        path: File; made if it is not there.
        size: How much of it counts.
        lines: With their line breaks.

    Returns:
        How much of the file counts now, in bytes.
    """
    if not lines:
        return size
    data = b"".join(lines)
    with path.open("r+b" if path.exists() else "wb") as file:
        file.seek(size)
        file.write(data)
    return size + len(data)


def deliver(source: Path, size: int, target: Path, faults: Faults) -> tuple[int, int]:
    """Copy what counts of a working file to its final place.

    A copy, not a move: a kill at any moment leaves the working file to start from again.

    Args:
        source: Working file.
        size: How much of it counts, in bytes.
        target: Where the result goes.
        faults: Damage to do to the copy.

    Returns:
        Bytes and lines of the result.
    """
    if _damages(faults):
        with source.open("rb") as file:
            spoiled = _spoiled(file.read(size).splitlines(keepends=True), faults)
        target.write_bytes(b"".join(spoiled))
        return target.stat().st_size, len(spoiled)
    left, lines = size, 0
    with source.open("rb") as file, target.open("wb") as out:
        while left and (data := file.read(min(COPY, left))):
            out.write(data)
            left -= len(data)
            lines += data.count(b"\n")
    return size - left, lines


def _damages(faults: Faults) -> bool:
    return bool(
        faults.batch_missing
        or faults.batch_duplicates
        or faults.batch_unknown
        or faults.batch_truncated
    )


def _spoiled(lines: list[bytes], faults: Faults) -> list[bytes]:
    """Drop, repeat, rename and cut lines as the faults say."""
    dice = random.Random(f"{faults.seed}:spoil")  # noqa: S311
    for _ in range(min(faults.batch_missing, len(lines))):
        del lines[dice.randrange(len(lines))]
    if not lines:
        return lines
    for line in dice.sample(lines, min(faults.batch_duplicates, len(lines))):
        lines.insert(dice.randrange(len(lines) + 1), line)
    for number in range(faults.batch_unknown):
        stranger = orjson.loads(dice.choice(lines))
        stranger["custom_id"] = f"nobody-{number}"
        lines.insert(dice.randrange(len(lines) + 1), orjson.dumps(stranger) + b"\n")
    if faults.batch_truncated:
        lines[-1] = lines[-1][: len(lines[-1]) // 2]
    return lines
