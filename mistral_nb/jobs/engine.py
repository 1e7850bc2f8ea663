"""What the two engines have in common: the operations that a queue needs of a store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mistral_nb.jobs.model import Claim, Limit, Note, Outcome, Snapshot, Spec, Status

__all__ = ["MOST_STALLS", "SUSPECT", "Engine", "Paid", "Runner", "Shift", "poisoned"]

MOST_STALLS = 5
"""How often a job may lose its worker: once more, and it has failed."""
SUSPECT = 2
"""A job that lost its worker so often runs beside no other such job: one may be the killer."""


def poisoned(times: int) -> str:
    """Return why a job has failed whose worker was lost so often."""
    return f"Its worker was lost {times} times: it may be what kills them."


class Paid(Protocol):
    """The ledger of paid calls, kept beside the queue; called on the worker's loop."""

    async def begin(self, claim: Claim, key: str, *, again: bool) -> tuple[str, bytes | None]:
        """Write an intent down: see :func:`mistral_nb.jobs.paid.begin`."""

    async def end(self, claim: Claim, key: str, response: bytes | None) -> None:
        """Write a response down, or None if the call was surely not carried out."""

    async def progress(self, claim: Claim, body: bytes) -> None:
        """Write down how far a handler is."""

    async def hold(self, seconds: float) -> None:
        """Let no job of the queue start for so long."""


class Runner(Protocol):
    """Carries jobs out; the engines know no handlers."""

    async def __call__(self, claim: Claim, paid: Paid) -> Outcome:
        """Carry out one attempt; never raises."""

    def stop(self, job_id: str, reason: Status) -> bool:
        """End a job that is under way: ``cancelled``, or ``queued`` to hand it back."""


class Shift:
    """One worker's time at work, on its own loop: how many at once, how fast, and its end.

    Args:
        concurrency: Most jobs at once.
        limit: Most starts in a time, over all workers of the queue.
        name: Of the worker.
    """

    def __init__(self, concurrency: int, limit: Limit | None, name: str) -> None:
        self.concurrency = concurrency
        self.limit = limit
        self.name = name
        self.closing = False
        self.done = 0
        self._wake = asyncio.Event()

    def close(self) -> None:
        """Take no more jobs; the work ends when those in hand have."""
        self.closing = True
        self.wake()

    def wake(self) -> None:
        """Have the engine look at once."""
        self._wake.set()

    async def rest(self, seconds: float | None) -> None:
        """Sleep until woken, or until it is time."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()


class Engine(Protocol):
    """Where a queue keeps its jobs. Its coroutines run on the toolkit's loop, but ``work``
    on the loop of its worker.
    """

    where: str
    """Address without a password, for people."""

    async def add(self, specs: Sequence[Spec]) -> None:
        """Add jobs; those whose id exists are left as they are."""

    async def get(self, job_id: str) -> Snapshot | None:
        """Return a job as it is now."""

    async def listing(
        self, statuses: Sequence[Status], limit: int, *, newest: bool
    ) -> list[Snapshot]:
        """Return jobs in these states."""

    async def counts(self) -> dict[Status, int]:
        """Return how many jobs there are in each state."""

    async def cancel(self, job_id: str, *, active: bool = True) -> bool:
        """Cancel a job; False if it has ended or is unknown.

        Args:
            job_id: The job.
            active: False spares a job that a worker is at.
        """

    async def replay(self, job_id: str, *, again: bool = True) -> bool:
        """Queue a job again that ended without success.

        Args:
            job_id: The job.
            again: Whether its paid calls in doubt are made again; False leaves them in doubt.
        """

    async def paid(self, job_id: str) -> dict[str, bytes | None]:
        """Return the responses of a job's paid calls by their keys; None: in doubt."""

    async def watch(self, hear: Callable[[list[Note]], object]) -> Callable[[], Awaitable[None]]:
        """Call ``hear`` with all that happens from now on, from any thread.

        Returns:
            What to await to end it.
        """

    async def work(self, shift: Shift, run: Runner) -> None:
        """Take jobs and have them carried out until the shift is closed."""

    async def close(self) -> None:
        """Let go of files and connections."""
