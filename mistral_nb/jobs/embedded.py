"""The embedded engine: jobs in a SQLite file, for as many processes of a machine as you like."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from mistral_nb.errors import StoreError
from mistral_nb.jobs import paid, reading, tables
from mistral_nb.jobs.desk import Desk
from mistral_nb.jobs.engine import MOST_STALLS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from mistral_nb.jobs.engine import Runner, Shift
    from mistral_nb.jobs.model import Claim, Note, Outcome, Snapshot, Spec, Status

__all__ = ["EmbeddedEngine"]

T = TypeVar("T")
ADD_AT_ONCE = 500
"""Jobs added in one transaction: workers get their turn in between."""
KEPT_FOR = 7 * 24 * 3600.0
"""Seconds that ended jobs stay in the file."""
TIDY_EVERY = 600.0
LONGEST_BEAT = 1.0
"""Seconds between two signs of life at most; a cancel from another process is seen then."""


class EmbeddedEngine:
    """Jobs in one SQLite file.

    Args:
        path: The file; made if it is not there.
        lease: Seconds without a sign of life after which a worker is believed to be gone.
        status_base: Returns the address that status URLs begin with.
    """

    def __init__(self, path: Path, lease: float, status_base: Callable[[], str]) -> None:
        self.where = str(path)
        self._lease = lease
        self._status_base = status_base
        self._desk = Desk.of(path.resolve(), tables.MIGRATIONS)
        self._tidying = self._desk.every(TIDY_EVERY, _tidy)
        self._on_cancel: list[Callable[[str], None]] = []

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.wrap_future(self._desk.do(work))

    async def add(self, specs: Sequence[Spec]) -> None:
        """Add jobs; those whose id exists are left as they are."""
        for first in range(0, len(specs), ADD_AT_ONCE):
            part = specs[first : first + ADD_AT_ONCE]
            await self._do(partial(tables.add, specs=part))

    async def get(self, job_id: str) -> Snapshot | None:
        """Return a job as it is now."""
        return await self._do(partial(reading.get, job_id=job_id))

    async def listing(
        self, statuses: Sequence[Status], limit: int, *, newest: bool
    ) -> list[Snapshot]:
        """Return jobs in these states, in the order they were added."""
        return await self._do(
            partial(reading.listing, statuses=statuses, limit=limit, newest=newest)
        )

    async def counts(self) -> dict[Status, int]:
        """Return how many jobs there are in each state."""
        return await self._do(reading.counts)

    async def cancel(self, job_id: str, *, active: bool = True) -> bool:
        """Cancel a job; one under way ends at its worker's next sign of life at the latest."""
        done = await self._do(partial(tables.cancel, job_id=job_id, active=active))
        for tell in tuple(self._on_cancel) if done else ():
            tell(job_id)
        return done

    async def replay(self, job_id: str, *, again: bool = True) -> bool:
        """Queue a job again that ended without success."""
        return await self._do(partial(tables.replay, job_id=job_id, again=again))

    async def paid(self, job_id: str) -> dict[str, bytes | None]:
        """Return the responses of a job's paid calls."""
        return await self._do(partial(paid.responses, job_id=job_id))

    async def watch(self, hear: Callable[[list[Note]], object]) -> Callable[[], Awaitable[None]]:
        """Call ``hear`` on the desk's thread with all that happens from now on."""
        last = await self._do(reading.last_event)

        def look(db: sqlite3.Connection) -> None:
            nonlocal last
            notes, last = reading.events_after(db, last)
            if notes:
                hear(notes)

        async def stop() -> None:
            self._desk.unlisten(look)

        self._desk.listen(look)
        return stop

    async def close(self) -> None:
        """Let go of the file."""
        self._desk.dismiss(self._tidying)
        await asyncio.to_thread(self._desk.release)

    async def work(self, shift: Shift, run: Runner) -> None:
        """Take jobs and have them carried out until the shift is closed."""
        work = _Work(self._desk, shift, run, self._lease, self._status_base)
        self._on_cancel.append(work.cancelled)
        try:
            await work.go()
        finally:
            self._on_cancel.remove(work.cancelled)


class _Work:
    """A worker's work on the file; it is its own ledger of paid calls."""

    def __init__(
        self,
        desk: Desk,
        shift: Shift,
        run: Runner,
        lease: float,
        status_base: Callable[[], str],
    ) -> None:
        self._desk = desk
        self._shift = shift
        self._run = run
        self._lease = lease
        self._status_base = status_base
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[tuple[str, int | str], asyncio.Task[None]] = {}
        self._ended: list[tuple[Claim, Outcome]] = []

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.wrap_future(self._desk.do(work))

    async def go(self) -> None:
        """Exchange ended jobs for new ones, again and again, each time in one commit."""
        wake = partial(self._soon, self._shift.wake)
        beat = self._desk.every(min(LONGEST_BEAT, self._lease / 3), self._beat)

        def listener(_: sqlite3.Connection) -> None:
            wake()

        self._desk.listen(listener)
        try:
            while self._tasks or self._ended or not self._shift.closing:
                try:
                    wait = await self._exchange()
                except StoreError:  # locked or full: what ended is kept and written later
                    await asyncio.sleep(min(1.0, self._lease / 3))
                    continue
                if not self._ended:
                    await self._shift.rest(wait)
        finally:
            self._desk.unlisten(listener)
            self._desk.dismiss(beat)

    async def _exchange(self) -> float | None:
        """Write down what ended and take what may start; return when to ask again."""
        ended = tuple(self._ended)
        free = self._shift.concurrency - len(self._tasks)
        want = 0 if self._shift.closing else max(0, free)
        if not ended and not want:
            return None
        ask = tables.Take(self._shift.name, want, self._lease, MOST_STALLS, self._shift.limit)
        base = self._status_base()

        def change(db: sqlite3.Connection) -> tuple[list[Claim], float | None]:
            for claim, outcome in ended:
                tables.finish(db, claim, outcome, base)
            return tables.take(db, ask) if want else ([], None)

        claims, wait = await self._do(change)
        del self._ended[: len(ended)]
        for claim in claims:
            key = (claim.spec.id, claim.token)
            self._tasks[key] = self._loop.create_task(self._one(claim))
        return wait

    async def _one(self, claim: Claim) -> None:
        outcome = await self._run(claim, self)
        del self._tasks[claim.spec.id, claim.token]
        self._ended.append((claim, outcome))
        self._shift.done += 1
        self._shift.wake()

    def _beat(self, db: sqlite3.Connection) -> None:
        """Give a sign of life, on the desk's thread: a handler that blocks its loop is alive."""
        for job_id, _ in tables.beat(db, self._shift.name, self._lease):
            self.cancelled(job_id)

    def cancelled(self, job_id: str) -> None:
        """End a job that was cancelled, if it is in hand; from any thread."""
        self._soon(self._run.stop, job_id, "cancelled")

    def _soon(self, function: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop has ended, and with it the reason to call
            if not self._loop.is_closed():
                raise

    # The ledger of paid calls

    async def begin(self, claim: Claim, key: str, *, again: bool) -> tuple[str, bytes | None]:
        """Write an intent down."""
        return await self._do(partial(paid.begin, claim=claim, key=key, again=again))

    async def end(self, claim: Claim, key: str, response: bytes | None) -> None:
        """Write a response down."""
        await self._do(partial(paid.end, claim=claim, key=key, response=response))

    async def progress(self, claim: Claim, body: bytes) -> None:
        """Write down how far a handler is."""
        await self._do(partial(tables.progress, claim=claim, body=body))

    async def hold(self, seconds: float) -> None:
        """Let no job of the queue start for so long."""
        await self._do(partial(paid.hold, seconds=seconds))


def _tidy(db: sqlite3.Connection) -> None:
    tables.forget(db, time.time() - KEPT_FOR)
