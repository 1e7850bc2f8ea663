"""A queue of background jobs: add them, work on them, wait for them, take care of failures."""

from __future__ import annotations

import asyncio
import math
import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from mistral_nb.errors import InputError, StoreError
from mistral_nb.jobs.engines import open_engine
from mistral_nb.jobs.job import Job
from mistral_nb.jobs.model import ENDED, STATUSES, Limit, Snapshot, make_spec
from mistral_nb.jobs.running import JobRunner, find_handler, registering
from mistral_nb.jobs.worker import Worker
from mistral_nb.portal import Handle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus
    from mistral_nb.jobs.model import Note, OnUncertain, Spec, Status
    from mistral_nb.jobs.running import Handler
    from mistral_nb.portal import Portal

__all__ = ["Queue"]

T = TypeVar("T")
LEASE = 30.0


class Queue:
    """Background jobs, in a file of the toolkit's home or in Redis (BullMQ).

    Its verbs give handles: ``await queue.add(...)``, or ``queue.add(...).result()`` in a cell,
    or ignore what they return.

    Args:
        url: None for a file in the toolkit's home; ``"sqlite:///path/to/file"`` for another
            one; ``"redis://host:6379/0"`` for Redis, in BullMQ's format (extra ``redis``).
        name: Name of the queue; letters, digits, ``_``, ``.`` and ``-``.
        connection: The server that handlers ask.
        bus: Where events of jobs are published.
        lease: Seconds without a sign of life after which a worker is believed to be gone.

    Attributes:
        name: Its name.
        status_base: What the ``statusUrl`` of a job begins with: the address of a relay.

    Raises:
        InputError: The address or the name cannot be used.
    """

    def __init__(
        self,
        url: str | None = None,
        name: str = "jobs",
        *,
        connection: Connection,
        bus: EventBus,
        lease: float = LEASE,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
            raise InputError(f"name must be letters, digits, _ . or -, not {name!r}.")
        self.name = name
        self.status_base = ""
        self.connection = connection
        self.bus = bus
        self.portal: Portal = connection.portal
        self.engine = open_engine(
            url, name, connection.settings.home / "queues", lease, lambda: self.status_base
        )
        self._handlers: dict[str, Handler] = {}
        self._workers: list[Worker] = []
        self._ends: dict[str, list[asyncio.Event]] = {}
        self._unwatch: Callable[[], Awaitable[None]] | None = None
        self._watching = asyncio.Lock()
        self._closed = False
        self.portal.on_close(self._close)

    def __repr__(self) -> str:
        return f"Queue({self.engine.where}, name={self.name!r})"

    # Adding and looking

    def add(
        self,
        name: str,
        data: Any = None,
        job_id: str | None = None,
        attempts: int = 3,
        backoff: float = 1.0,
        timeout: float = 120.0,
        delay: float = 0.0,
        priority: int = 0,
        callback_url: str | None = None,
    ) -> Handle[Job]:
        """Add a job.

        Args:
            name: Names its handler: chat, complete, embed, label, or one of your own.
            data: Any JSON; what the handler is given.
            job_id: Your own id: adding the same id again gives the job that is there.
            attempts: Most attempts, the first included.
            backoff: Seconds before the first repeat; doubles with each, with some jitter.
            timeout: Most seconds an attempt may take.
            delay: Seconds before the first attempt.
            priority: 0 goes first, then 1, 2, 3, ...
            callback_url: Told, by a signed webhook, when the job has ended.

        Returns:
            A handle of the job.

        Raises:
            InputError: An argument cannot be used; nothing was added.
        """
        spec = make_spec(
            name, data, job_id, attempts, backoff, timeout, delay, priority, callback_url
        )

        async def work() -> Job:
            job = (await self._add([spec]))[0]
            if job_id is not None:  # it may be an old one
                await job.refresh()
            return job

        return Handle(self.portal, work)

    def add_many(self, jobs: Iterable[Mapping[str, Any]]) -> Handle[list[Job]]:
        """Add many jobs at once, each a dict of :meth:`add`'s arguments.

        Args:
            jobs: Dicts of arguments.

        Returns:
            A handle on the jobs, in order.

        Raises:
            InputError: One of them cannot be a job; none is added.
        """
        try:
            specs = [make_spec(**job) for job in jobs]
        except TypeError as error:
            reason = re.sub(r"[\w.]*make_spec", "add", str(error))
            raise InputError(f"Each job must be a dict of add()'s arguments: {reason}.") from None

        async def work() -> list[Job]:
            return await self._add(specs)

        return Handle(self.portal, work)

    def get(self, job_id: str) -> Handle[Job | None]:
        """Find a job by its id.

        Args:
            job_id: The job's id.

        Returns:
            A handle on the job, or on None if the queue does not know it.
        """

        async def work() -> Job | None:
            found = await self.engine.get(job_id)
            return None if found is None else Job(self, found)

        return Handle(self.portal, work)

    def jobs(
        self,
        status: Status | Sequence[Status] | None = None,
        limit: int = 100,
        *,
        newest: bool = True,
    ) -> Handle[list[Snapshot]]:
        """List jobs.

        Args:
            status: One status or several; None for all. ``"failed"`` is the dead-letter list.
            limit: Most jobs.
            newest: The latest ones first; else the oldest.

        Returns:
            A handle on how each was when it was read.

        Raises:
            InputError: There is no such status, or ``limit`` is no number of jobs.
        """
        wanted = [status] if isinstance(status, str) else list(status or STATUSES)
        if unknown := [each for each in wanted if each not in STATUSES]:
            raise InputError(f"No status is {unknown[0]!r}: there are {', '.join(STATUSES)}.")

        if not isinstance(limit, int) or limit < 1:
            raise InputError(f"limit must be a whole number from 1, not {limit!r}.")

        async def work() -> list[Snapshot]:
            return await self.engine.listing(wanted, limit, newest=newest)

        return Handle(self.portal, work)

    def counts(self) -> Handle[dict[Status, int]]:
        """Count the jobs by status.

        Returns:
            A handle on status -> number of jobs.
        """
        return Handle(self.portal, self.engine.counts)

    def cancel(self, job_id: str) -> Handle[bool]:
        """Cancel a job.

        Args:
            job_id: The job's id.

        Returns:
            A handle whose result is False if there was nothing left to cancel.
        """

        async def work() -> bool:
            return await self.engine.cancel(job_id)

        return Handle(self.portal, work)

    def replay(self, job_id: str) -> Handle[bool]:
        """Queue a job again that failed, was cancelled, or ended in doubt.

        Its attempts begin anew. Answers that were paid for are used again; a call in doubt
        is made again, for that is what replaying it means.

        Args:
            job_id: The job's id.

        Returns:
            A handle whose result is False if the job was in none of these states.
        """

        async def work() -> bool:
            await self.watched()
            return await self.engine.replay(job_id)

        return Handle(self.portal, work)

    def watch(self) -> Handle[None]:
        """Hear on the bus of all that happens to jobs; adding one or waiting for one begins it.

        Returns:
            A handle that is done once it hears.
        """
        return Handle(self.portal, self.watched)

    # Working

    def handler(self, name: str) -> Callable[[Handler], Handler]:
        """Register a handler of this queue: ``@queue.handler("name")``.

        Args:
            name: Of the jobs that it is for.

        Returns:
            A decorator for ``function(data)`` or ``function(data, context)``; a plain
            function runs in a thread. What it returns must be JSON.

        Raises:
            InputError: There is no name, or what is decorated is no function.
        """
        return registering(self._handlers, name)

    def work(
        self,
        concurrency: int = 5,
        limiter: tuple[int, float] | None = None,
        *,
        on_uncertain: OnUncertain = "ask",
        grace: float = 10.0,
    ) -> Worker:
        """Start to carry out jobs in the background: in a thread and a loop of their own.

        A queue object has one worker: called again (a cell run twice), it ends the first one
        in peace and starts another.

        Args:
            concurrency: Most jobs at once.
            limiter: (starts, seconds): at most so many starts in any such time, over all
                workers of the queue that were given it.
            on_uncertain: What to do with a paid call that was under way in a crash: ``"ask"``
                lists the job as uncertain, ``"retry"`` makes the call again.
            grace: Seconds that jobs under way get when the worker is stopped.

        Returns:
            The worker; ``stop()`` it, or use it in a ``with`` block.

        Raises:
            InputError: An argument cannot be used.
            StoreError: The queue was closed.
        """
        if self.closed:
            raise StoreError("This queue is closed. Open it again with mnb.Queue(...).")
        if not isinstance(concurrency, int) or concurrency < 1:
            raise InputError(f"concurrency must be a whole number from 1, not {concurrency!r}.")
        if on_uncertain not in {"ask", "retry"}:
            raise InputError(f"on_uncertain must be 'ask' or 'retry', not {on_uncertain!r}.")
        if not isinstance(grace, int | float) or not 0 <= grace < math.inf:
            raise InputError(f"grace must be a number of seconds from 0, not {grace!r}.")
        limit = None if limiter is None else Limit.of(limiter)

        def runner() -> JobRunner:
            return JobRunner(
                lambda name: find_handler(self._handlers, name),
                self.connection,
                self.bus,
                on_uncertain,
            )

        for earlier in self._workers:
            threading.Thread(target=earlier.stop, daemon=True).start()
        worker = Worker(self.engine, runner, concurrency, limit, grace)
        self._workers = [each for each in self._workers if each.running] + [worker]
        return worker

    @property
    def closed(self) -> bool:
        """True once it has let go of its file or connections."""
        return self._closed

    @property
    def working(self) -> bool:
        """True while a worker of this process carries out its jobs."""
        return any(worker.running for worker in self._workers)

    @property
    def trouble(self) -> str | None:
        """Why this object's worker stopped by itself, while no other works; None if it did not."""
        return None if self.working else next((w.trouble for w in self._workers if w.trouble), None)

    def close(self) -> None:
        """Stop this queue's workers and let go of its file or connections."""
        for worker in self._workers:
            worker.stop()
        self._workers.clear()
        self.portal.call(self._close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # On the portal

    async def _add(self, specs: list[Spec]) -> list[Job]:
        await self.watched()
        await self.engine.add(specs)
        jobs = []
        for spec in specs:
            status: Literal["delayed", "queued"] = "delayed" if spec.delay else "queued"
            jobs.append(Job(self, Snapshot(spec.id, spec.name, status, attempts=spec.attempts)))
        return jobs

    async def watched(self) -> None:
        """See to it that what happens to jobs, anywhere, is heard of on the bus."""
        async with self._watching:
            if self._unwatch is None:
                self._unwatch = await self.engine.watch(self._hear)

    def _hear(self, notes: list[Note]) -> None:
        self.portal.call_soon(self._publish, notes)

    def _publish(self, notes: list[Note]) -> None:
        for note in notes:
            record = note.record(self.name)
            if record is not None:
                self.bus.publish_nowait(record)
            if note.kind in ENDED:
                for waiter in self._ends.get(note.job_id, ()):
                    waiter.set()

    @contextmanager
    def end_of(self, job_id: str) -> Iterator[asyncio.Event]:
        """Hold an event that is set when a job ends, on the portal.

        Args:
            job_id: The job's id.

        Yields:
            The event.
        """
        event = asyncio.Event()
        self._ends.setdefault(job_id, []).append(event)
        try:
            yield event
        finally:
            self._ends[job_id].remove(event)
            if not self._ends[job_id]:
                del self._ends[job_id]

    async def _close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._unwatch is not None:
                await self._unwatch()
            await self.engine.close()
