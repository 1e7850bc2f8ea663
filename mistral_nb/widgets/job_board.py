"""The job board: a queue's counts, its jobs with buttons, its pace; the kernel's half.

The browser's half is `static/job_board.js`. Each message holds all there is to show, a few
kilobytes, and is sent only when something changed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from mistral_nb import portal as portals
from mistral_nb.errors import InputError, MistralNbError
from mistral_nb.labelling.reports import Line, Part, Table, bundle, count
from mistral_nb.widgets.outlet import Outlet

if TYPE_CHECKING:
    from mistral_nb.jobs import Queue, Snapshot, Status
    from mistral_nb.records import Record

__all__ = ["JobBoard", "job_board"]

INTERVAL = 0.4
"""Seconds between two messages at least."""
LOOK_EVERY = 5.0
"""Seconds after which it looks even if nothing was heard."""
READY_LIMIT = 10.0
"""Seconds a front end has to mount the board before static content takes its place."""
STATIC_EVERY = 5.0
"""Seconds between two updates of static content, where no widget can be shown."""
CALM = 3.0
"""Seconds without a job on its way, and with none to deal with, after which it settles."""
PACE_SECONDS = 60
"""Seconds that the curve of the pace shows."""
NONE = "-"
"""Stands in a cell of the summary that has nothing to say."""
ERROR_LIMIT = 400
"""Characters of an error that are sent."""
GROUPS: tuple[tuple[tuple[Status, ...], int], ...] = (
    (("active",), 15),
    (("uncertain", "failed"), 15),
    (("delayed", "queued"), 10),
    (("completed", "cancelled"), 10),
)
"""What is listed, in this order, and how many of each at most."""

log = logging.getLogger(__name__)


def job_board(queue: Queue) -> JobBoard:
    """Show a queue below the cell: how many jobs are where, what each does, and its buttons.

    It follows workers anywhere, and turns into a static summary once nothing is on its way and
    nothing is left to deal with, or at the press of its Settle button.

    Args:
        queue: The queue.

    Returns:
        The board; outside a notebook ``print(board)`` shows the queue as text.

    Raises:
        InputError: It is no queue.
    """
    if not hasattr(queue, "counts"):
        raise InputError(f"job_board shows a queue, mnb.Queue(), not {type(queue).__name__}.")
    board = JobBoard(queue)
    if portals.in_kernel():
        board.display()
    return board


class JobBoard:
    """A queue on screen; made by :func:`job_board`.

    Args:
        queue: The queue.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._portal = queue.portal
        self._counts: dict[Status, int] = {}
        self._jobs: list[Snapshot] = []
        self._ends: deque[float] = deque(maxlen=100_000)
        self._number = 0
        self._problem: list[Any] = []
        self._changed = asyncio.Event()
        self._settled = False
        self._published = float("-inf")
        self._outlet: Outlet | None = None
        self._following: asyncio.Task[None] | None = None
        self._calm_since: float | None = None
        self._portal.call(self._look)

    def __repr__(self) -> str:
        return f"JobBoard({self._queue.name!r}: {self._summary()})"

    def __str__(self) -> str:
        return self._static()["text/plain"]

    def display(self) -> None:
        """Display the board below the running cell, unless that cell shows it already."""
        if self._outlet is None:
            lost = f"The queue {self._queue.name} was shown here. See queue.jobs()."
            self._outlet = Outlet(self._on_message, "job_board", self._static, lost)
            self._portal.call_soon(self._begin)
        self._outlet.display()

    def _ipython_display_(self) -> None:
        self.display()

    def settle(self) -> None:
        """Replace the live board by a static summary that stays in the notebook file."""
        self._portal.call(self._settle)

    def _summary(self) -> str:
        return ", ".join(f"{number:,} {each}" for each, number in self._counts.items() if number)

    def _static(self) -> dict[str, str]:
        said = self._summary() or "no jobs"
        parts: list[Part] = [Line(f"Queue {self._queue.name}: {said}", strong=True)]
        if self._jobs:
            rows = [
                (
                    job.id,
                    job.name,
                    job.status,
                    f"{job.attempts_made} of {job.attempts}",
                    _seconds(job),
                    job.error if job.status != "completed" and job.error else NONE,
                )
                for job in self._jobs
            ]
            total = sum(self._counts.values())
            title = f"{len(rows)} of {count(total, 'job')}" if total > len(rows) else "Jobs"
            names = ["job", "handler", "status", "attempts", "time", "error"]
            parts.append(Table(title, names, rows))
        return bundle(parts)

    # On the portal's loop

    def _begin(self) -> None:
        self._following = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        """Look at the queue whenever something was heard, and send what there is to show."""
        heard = self._queue.bus.on("job:*", self._on_record, policy="drop_oldest")
        started = time.monotonic()
        try:
            await self._queue.watched()
            while not self._settled:
                await self._look()
                self._send()
                if self._is_calm():
                    await self._settle()
                    return
                if time.monotonic() - started > READY_LIMIT and self._outlet is not None:
                    self._outlet.give_up()
                await asyncio.sleep(INTERVAL)
                try:
                    async with asyncio.timeout(CALM if self._calm_since else LOOK_EVERY):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                self._changed.clear()
        except Exception:  # the jobs are unharmed, whatever the screen stumbles over
            log.exception("The job board stopped; the jobs go on")
        finally:
            self._queue.bus.off(heard)

    async def _on_record(self, record: Record) -> None:
        if record.name == "job:completed":
            self._ends.append(time.time())
        self._changed.set()

    async def _look(self) -> None:
        counts, jobs = await self._queue.engine.counts(), []
        for statuses, most in GROUPS:
            if any(counts[each] for each in statuses):
                newest = "queued" not in statuses
                jobs += await self._queue.engine.listing(statuses, most, newest=newest)
        # At once: two looks may be under way, and what is sent is one of them.
        self._counts, self._jobs = counts, jobs

    def _is_calm(self) -> bool:
        """Return True once nothing has been on its way, or left to deal with, for a while."""
        open_ones: tuple[Status, ...] = ("queued", "delayed", "active", "failed", "uncertain")
        if not self._counts["completed"] or any(self._counts[each] for each in open_ones):
            self._calm_since = None
            return False
        self._calm_since = self._calm_since or time.monotonic()
        return time.monotonic() - self._calm_since >= CALM

    async def _settle(self) -> None:
        if not self._settled:
            self._settled = True
            self._changed.set()
            await self._look()
            self._send()
            if self._outlet is not None:
                self._outlet.settle()

    def _send(self) -> None:
        if self._outlet is None:
            return
        now = time.monotonic()
        if not self._outlet.live and now >= self._published + STATIC_EVERY:
            self._published = now
            self._outlet.publish(self._static())
        self._number += 1
        self._outlet.send(
            {
                "n": self._number,
                "q": self._queue.name,
                "y": time.time(),
                "c": self._counts,
                "j": [_row(job) for job in self._jobs],
                "t": self._pace(),
                "k": self._problem,
                "z": self._settled,
            }
        )

    def _pace(self) -> list[int]:
        """Return how many jobs were completed in each of the last seconds."""
        now = time.time()
        while self._ends and self._ends[0] < now - PACE_SECONDS:
            self._ends.popleft()
        pace = [0] * PACE_SECONDS
        for at in self._ends:
            pace[max(0, PACE_SECONDS - 1 - int(now - at))] += 1
        return pace

    # On whatever thread ipykernel has for it: it only schedules work

    def _on_message(self, message: dict[str, Any]) -> None:
        self._portal.spawn(self._act, message)

    async def _act(self, message: dict[str, Any]) -> None:
        action, job_id, problem = message.get("a"), str(message.get("i", "")), ""
        engine = self._queue.engine
        try:
            if action == "ready" and self._outlet is not None:
                self._outlet.pages.add(message.get("p"))
                if not self._settled:
                    self._outlet.take_up()
            elif action == "cancel" and not await engine.cancel(job_id):
                problem = f"The job {job_id} had already ended."
            elif action == "replay" and not await engine.replay(job_id):
                problem = f"The job {job_id} is not one that can be replayed any more."
            elif action == "replay all":
                for job in await engine.listing(["failed"], 1000, newest=False):
                    await engine.replay(job.id)
            elif action == "settle":
                await self._settle()
        except MistralNbError as error:
            problem = str(error)
        self._problem = [message.get("p"), message.get("k"), problem]
        await self._look()
        self._send()


def _row(job: Snapshot) -> list[Any]:
    """Return what the browser shows of a job."""
    error = "" if job.status == "completed" else (job.error or "")[:ERROR_LIMIT]
    began = job.started_at if job.status != "queued" else None
    due = job.due_at if job.status == "delayed" else None
    progress = "" if job.progress is None else str(job.progress)[:80]
    done = [job.attempts_made, job.attempts, job.stalls]
    return [job.id, job.name, job.status, *done, error, progress, began, job.ended_at, due]


def _seconds(job: Snapshot) -> str:
    if job.started_at is None or job.ended_at is None:
        return NONE
    return f"{max(0.0, job.ended_at - job.started_at):.1f} s"
