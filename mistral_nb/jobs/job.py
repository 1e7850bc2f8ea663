"""The handle of a job: its status and result, its events, and the way to cancel it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from mistral_nb.errors import JobError, MistralNbError
from mistral_nb.jobs.model import note_of, status_url
from mistral_nb.portal import Handle

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from mistral_nb.events import EventStream
    from mistral_nb.jobs.model import Snapshot, Status
    from mistral_nb.jobs.queue import Queue
    from mistral_nb.records import JobRecord

__all__ = ["Job", "JobEvents"]

CHECK_EVERY = 5.0
"""Seconds after which a waiter looks at the job itself: events may be lost with a server."""


class Job:
    """A job in a queue; ``await`` it or call ``.result()`` for what its handler returns.

    ``dict(job)`` is ``{"jobId": ..., "status": ..., "statusUrl": ...}``.

    Args:
        queue: Where it is.
        snapshot: The job as it was last seen.
    """

    def __init__(self, queue: Queue, snapshot: Snapshot) -> None:
        self._queue = queue
        self._seen = snapshot

    def __repr__(self) -> str:
        return f"Job({self.id!r}, {self.name!r}, {self._seen.status})"

    @property
    def id(self) -> str:
        """Its id."""
        return self._seen.id

    @property
    def name(self) -> str:
        """Name of its handler."""
        return self._seen.name

    @property
    def status(self) -> Status:
        """Where it is now. Asks the queue; inside coroutines use ``await job.refresh()``."""
        return self.refresh().result().status

    @property
    def status_url(self) -> str:
        """Address where its status can be read."""
        return status_url(self._queue.status_base, self.id)

    def keys(self) -> list[str]:
        """Return the keys of ``dict(job)``."""
        return ["jobId", "status", "statusUrl"]

    def __getitem__(self, key: str) -> str:
        """Return a field of ``dict(job)``; the status is the one last seen."""
        fields = {"jobId": self.id, "status": self._seen.status, "statusUrl": self.status_url}
        return fields[key]

    def refresh(self) -> Handle[Snapshot]:
        """Ask how it is: ``await job.refresh()``, or ``.result()`` on it.

        Returns:
            A handle on how it is now.
        """
        return Handle(self._queue.portal, self._refresh)

    def cancel(self) -> Handle[bool]:
        """Cancel it.

        Returns:
            A handle whose result is False if there was nothing left to cancel.
        """
        return self._queue.cancel(self.id)

    def replay(self) -> Handle[bool]:
        """Queue it again after it failed, was cancelled, or ended in doubt.

        Returns:
            A handle whose result is False if it was in none of these states.
        """
        return self._queue.replay(self.id)

    def events(self) -> JobEvents:
        """Return its events: its present state first, then all that happens, to its end.

        Use it with ``async for``, or with a plain ``for`` in any thread.
        """
        return JobEvents(self._queue, self)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for what its handler returns.

        Args:
            timeout: Longest wait in seconds; None waits until the end.

        Returns:
            That value, as JSON carries it.

        Raises:
            JobError: It failed, was cancelled, or ended in doubt: see ``status`` on it; or it
                waits, and the worker here has stopped, for the server refuses its key.
            WaitTimeout: The time is up; the job goes on.
        """
        waiting = Handle(self._queue.portal, self._wait)
        try:
            return waiting.result(timeout)
        except BaseException:
            waiting.stop()
            raise

    def __await__(self) -> Generator[Any, None, Any]:
        waiting = Handle(self._queue.portal, self._wait)
        try:
            return (yield from waiting.__await__())
        except BaseException:
            waiting.stop()
            raise

    async def _refresh(self) -> Snapshot:
        found = await self._queue.engine.get(self.id)
        if found is None:
            raise MistralNbError(
                f"The queue no longer knows the job {self.id!r}: it was cleared away. "
                "queue.jobs() lists those there are."
            )
        self._seen = found
        return found

    async def _wait(self) -> Any:
        """Wait for its end, on the portal."""
        await self._queue.watched()
        with self._queue.end_of(self.id) as ended:
            while not (await self._refresh()).ended:
                try:
                    async with asyncio.timeout(CHECK_EVERY):
                        await ended.wait()
                except TimeoutError:
                    self._check_that_somebody_works()
        if self._seen.status == "completed":
            return self._seen.result
        raise JobError(
            f"The job {self.id!r} {_ENDS[self._seen.status]}: {self._seen.error}",
            job_id=self.id,
            status=self._seen.status,
        )

    def _check_that_somebody_works(self) -> None:
        """Raise where the worker here has stopped by itself and no other took the job up."""
        waits = self._seen.status in {"queued", "delayed"}
        if waits and (trouble := self._queue.trouble) is not None:
            raise JobError(
                f"The job {self.id!r} waits in the queue. {trouble}",
                job_id=self.id,
                status=self._seen.status,
            )


_ENDS = {"failed": "failed", "cancelled": "was cancelled", "uncertain": "is uncertain"}


class JobEvents:
    """A job's records, from its present state to its end.

    Args:
        queue: Where the job is.
        job: The job.
    """

    def __init__(self, queue: Queue, job: Job) -> None:
        self._queue = queue
        self._job = job
        self._stream: EventStream | None = None
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobRecord:
        waiting = Handle(self._queue.portal, self._next)
        try:
            record = await waiting
        except BaseException:  # cancelled: on the portal, too, nobody must wait on
            waiting.stop()
            raise
        if record is None:
            raise StopAsyncIteration
        return record

    def __iter__(self) -> Iterator[JobRecord]:
        return self

    def __next__(self) -> JobRecord:
        waiting = Handle(self._queue.portal, self._next)
        try:
            record = waiting.result()
        except BaseException:
            waiting.stop()
            raise
        if record is None:
            raise StopIteration
        return record

    async def _next(self) -> JobRecord | None:
        """Return the next record, on the portal; None after the last one."""
        if self._over:
            return None
        if self._stream is None:
            await self._queue.watched()
            return await self._begin()
        while True:
            try:
                async with asyncio.timeout(CHECK_EVERY):
                    record: Any = await anext(self._stream, None)
            except TimeoutError:
                record = await self._now(only_end=True)
                if record is not None:
                    return record  # type: ignore[no-any-return]
                continue
            self._over = record is None or record.final
            if record is not None and record.final:
                status = (await self._job.refresh()).status
                if record.name != f"job:{status}":  # an old end: it was replayed since
                    return await self._begin()
            return record  # type: ignore[no-any-return]

    async def _begin(self) -> JobRecord | None:
        self._stream = self._queue.bus.stream("job:*", request_id=self._job.id)
        return await self._now()

    async def _now(self, *, only_end: bool = False) -> JobRecord | None:
        snapshot = await self._job.refresh()
        if only_end and not snapshot.ended:
            return None
        self._over = snapshot.ended
        return note_of(snapshot).record(self._queue.name)
