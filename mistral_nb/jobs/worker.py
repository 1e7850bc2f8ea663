"""A worker: jobs carried out in a thread and a loop of their own, until it is stopped."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import socket
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from mistral_nb.jobs.engine import Shift
from mistral_nb.portal import Portal

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from mistral_nb.jobs.engine import Engine
    from mistral_nb.jobs.model import Limit
    from mistral_nb.jobs.running import JobRunner

__all__ = ["Worker"]

log = logging.getLogger(__name__)
RESTART_AFTER = 1.0
"""Seconds before an engine that failed is set to work again."""
EXIT_GRACE = 1.0
"""Seconds that jobs get when the interpreter ends without the worker having been stopped."""


class Worker:
    """Carries out a queue's jobs in the background; made by ``queue.work()``.

    It has a thread and an event loop of its own, so a cell that blocks does not stall it.
    As a context manager it is stopped at the end of the block.

    Args:
        engine: Where the jobs are.
        runner: Makes what carries them out, on the worker's loop.
        concurrency: Most jobs at once.
        limit: Most starts in a time, over all workers of the queue.
        grace: Seconds that jobs under way get when it is stopped; then they are handed back.

    Attributes:
        name: Host, process and a random part: unlike any other worker's.
        trouble: Why it stopped by itself, in plain words: the server refuses its key. None if
            it did not.
    """

    def __init__(
        self,
        engine: Engine,
        runner: Callable[[], JobRunner],
        concurrency: int,
        limit: Limit | None,
        grace: float,
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.concurrency = concurrency
        self.trouble: str | None = None
        self._engine = engine
        self._limit = limit
        self._grace = grace
        self._lock = threading.Lock()
        self._stopped = False
        self._portal = Portal("mistral-nb worker")
        self._shift, self._runner = self._portal.call(self._prepare, runner)
        self._work: Future[None] = self._portal.spawn(self._keep_working)
        self._ended = threading.Event()
        self._work.add_done_callback(lambda _: self._ended.set())
        atexit.register(self.stop, EXIT_GRACE)

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"Worker({self._engine.where}, {state}, {self.done} jobs done)"

    @property
    def running(self) -> bool:
        """True until it is stopped."""
        return not self._work.done()

    @property
    def done(self) -> int:
        """Attempts that have ended here."""
        return self._shift.done

    @property
    def active(self) -> list[str]:
        """Ids of the jobs under way here."""
        return self._runner.running

    def stop(self, grace: float | None = None) -> None:
        """Take no more jobs, let those under way end, hand back the rest, and end.

        Args:
            grace: Seconds that jobs under way get; None takes what ``work()`` was told.
        """
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            self._portal.call_soon(self._shift.close)
            if not self._ended.wait(self._grace if grace is None else grace):
                self._portal.call_soon(self._hand_back)
                self._ended.wait(EXIT_GRACE + (self._grace if grace is None else grace))
            self._portal.close()
            atexit.unregister(self.stop)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the worker has ended.

        Args:
            timeout: Longest wait in seconds; None waits until the end.

        Returns:
            True if it has ended.
        """
        return self._ended.wait(timeout)

    def when_ended(self, call: Callable[[], object]) -> None:
        """Have something called, on any thread, once the worker has ended.

        Args:
            call: What to call; at once if it has ended already.
        """
        self._work.add_done_callback(lambda _: call())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # On the worker's loop

    async def _prepare(self, runner: Callable[[], JobRunner]) -> tuple[Shift, JobRunner]:
        threads = ThreadPoolExecutor(self.concurrency, "mistral-nb job")
        asyncio.get_running_loop().set_default_executor(threads)
        working = runner()
        working.on_refusal = self._give_up
        return Shift(self.concurrency, self._limit, self.name), working

    async def _keep_working(self) -> None:
        """Work until the shift is closed; an engine that fails is set to work again."""
        while True:
            try:
                await self._engine.work(self._shift, self._runner)
            except Exception:  # a lost server, a bug: the queue must not stand still
                log.exception("The worker of %s failed; it goes on", self._engine.where)
            if self._shift.closing:
                return
            await asyncio.sleep(RESTART_AFTER)

    def _give_up(self, reason: str) -> None:
        """Take no more jobs: with this key, each would fail that another worker could do."""
        if self.trouble is None:
            self.trouble = (
                f"The worker of {self._engine.where} stopped, for the server refuses its key. "
                f"{reason} Its jobs are back in the queue: start a worker with another key."
            )
            log.error(self.trouble)
            self._shift.close()

    def _hand_back(self) -> None:
        for job_id in self._runner.running:
            self._runner.stop(job_id, "queued")
