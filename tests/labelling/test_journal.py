"""Group commits: nothing begins unwritten, nothing that ended is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mistral_nb.labelling.journal import Journal


class Disk:
    """Keeps what is committed; can be slow, and can fail."""

    def __init__(self) -> None:
        self.groups: list[tuple[list[str], list[str]]] = []
        self.failures = 0
        self.writing = 0

    async def commit(self, begins: Any, ends: Any) -> None:
        self.writing += 1
        assert self.writing == 1, "one commit at a time"
        await asyncio.sleep(0.005)
        self.writing -= 1
        if self.failures:
            self.failures -= 1
            raise OSError("disk full")
        self.groups.append((list(begins), list(ends)))

    @property
    def begins(self) -> list[str]:
        return [name for group, _ in self.groups for name in group]

    @property
    def ends(self) -> list[str]:
        return [name for _, group in self.groups for name in group]


def test_nothing_begins_before_it_is_written() -> None:
    """begin() returns once its name is committed; names and ends share a group."""

    async def work() -> None:
        disk = Disk()
        journal: Journal[str] = Journal(disk.commit, on_error=print)
        journal.start()

        async def one(name: str) -> None:
            await journal.begin(name)
            assert name in disk.begins
            journal.finish(name.upper())

        for start in range(0, 60, 20):
            await asyncio.gather(*(one(f"n{number}") for number in range(start, start + 20)))
        await journal.close()
        assert disk.begins == [f"n{number}" for number in range(60)]
        assert disk.ends == [f"N{number}" for number in range(60)]
        assert len(disk.groups) < 10
        assert journal.unsaved == []

    asyncio.run(work())


def test_a_close_commits_what_is_left() -> None:
    """Endings noted just before the close are written."""

    async def work() -> None:
        disk = Disk()
        journal: Journal[str] = Journal(disk.commit, on_error=print)
        journal.start()
        journal.finish("a")
        await asyncio.sleep(0.002)  # its commit is under way
        journal.finish("b")
        await journal.close()
        assert disk.ends == ["a", "b"]

    asyncio.run(work())


def test_after_an_error_nothing_begins_and_the_ends_are_tried_once_more() -> None:
    """The error reaches everyone who waits; what had ended is written at the close."""

    async def work() -> None:
        disk, told = Disk(), []
        journal: Journal[str] = Journal(disk.commit, on_error=told.append)
        journal.start()
        disk.failures = 1
        journal.finish("paid")
        early = asyncio.create_task(journal.begin("early"))
        await asyncio.sleep(0.002)
        late = asyncio.create_task(journal.begin("late"))
        for waiter in (early, late):
            with pytest.raises(OSError, match="disk full"):
                await waiter
        with pytest.raises(OSError, match="disk full"):
            await journal.begin("later still")
        assert [str(error) for error in told] == ["disk full"]
        assert journal.unsaved == ["paid"]
        await journal.close()
        assert disk.groups == [([], ["paid"])]
        assert journal.unsaved == []

    asyncio.run(work())


def test_what_cannot_be_written_at_all_is_kept() -> None:
    """A disk that stays full leaves every ending in ``unsaved``; the first error is told."""

    async def work() -> None:
        disk, told = Disk(), []
        journal: Journal[str] = Journal(disk.commit, on_error=told.append)
        journal.start()
        disk.failures = 99
        journal.finish("a")
        await asyncio.sleep(0.02)
        journal.finish("b")
        await journal.close()
        assert journal.unsaved == ["a", "b"]
        assert len(told) == 1

    asyncio.run(work())


def test_a_cancelled_beginning_harms_nobody() -> None:
    """Giving up the wait for a commit leaves it to the others."""

    async def work() -> None:
        disk = Disk()
        journal: Journal[str] = Journal(disk.commit, on_error=print)
        journal.start()
        gone = asyncio.create_task(journal.begin("gone"))
        other = asyncio.create_task(journal.begin("other"))
        await asyncio.sleep(0.002)
        gone.cancel()
        await other
        await journal.close()
        assert disk.begins == ["gone", "other"]

    asyncio.run(work())
