"""Group commits: what is about to begin and what has ended, written down together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["Journal"]

T = TypeVar("T")


class Journal(Generic[T]):
    """Gathers beginnings and endings while the last commit is written, then commits them.

    A group is as large as what came in the meantime, so a slow disk means larger groups,
    not a slower run. Use it on one event loop.

    Args:
        commit: Writes a group down: ids that begin, and records of what ended. One call at
            a time.
        on_error: Told the first error of ``commit``; nothing begins after it.

    Attributes:
        unsaved: Endings that are not committed.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[str], Sequence[T]], Awaitable[None]],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._commit = commit
        self._on_error = on_error
        self._begins: list[str] = []
        self.unsaved: list[T] = []
        self._error: Exception | None = None
        self._closing = False
        self._written = asyncio.Event()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to commit."""
        self._task = asyncio.create_task(self._run())

    async def begin(self, name: str) -> None:
        """Return once it is written down that ``name`` begins.

        Raises:
            Exception: What ``commit`` raised.
        """
        if self._error is None:
            self._begins.append(name)
            written = self._written
            self._wake.set()
            await written.wait()
        if self._error is not None:
            raise self._error

    def finish(self, record: T) -> None:
        """Note an ending; it is committed soon."""
        self.unsaved.append(record)
        self._wake.set()

    async def close(self) -> None:
        """Commit what is left; after an error, try once more. Nothing may begin any more."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        await self._write([])

    async def _run(self) -> None:
        while self._error is None and not self._closing:
            await self._wake.wait()
            self._wake.clear()
            begins, self._begins = self._begins, []
            written, self._written = self._written, asyncio.Event()
            await self._write(begins)
            written.set()
        self._written.set()  # whoever came during a commit that failed

    async def _write(self, begins: list[str]) -> None:
        count = len(self.unsaved)
        if not begins and not count:
            return
        try:
            await self._commit(begins, self.unsaved[:count])
        except Exception as error:  # whatever it is, it ends the run, and is told there
            if self._error is None:
                self._error = error
                self._on_error(error)
        else:
            del self.unsaved[:count]
