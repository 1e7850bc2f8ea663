"""What is shown of a labelling run, and the numbered frames that tell a browser what changed.

The keys of a frame are listed at the top of `static/run_view.js`. A frame holds the parts of
the state that are new; a view that missed one asks for the whole, which is a frame as well.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from mistral_nb.errors import MistralNbError
from mistral_nb.labelling.batch import STILL, still

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.labelling import Run
    from mistral_nb.labelling.ledger import Shard
    from mistral_nb.labelling.progress import Details
    from mistral_nb.widgets.frames import Frame

__all__ = ["OVER", "Pace", "RunScreen", "clock"]

T = TypeVar("T")
LOOK_EVERY = 1.0
LOOK_SHARE = 30
"""The ledger is read at most every second, and for at most a thirtieth of a processor's time."""
LAST_LOOK = 1.5
"""Seconds the last look may keep a run's result waiting."""
PACE_EVERY = 1.0
"""Seconds between two figures of rate and time left, so that they can be read."""
BEAT = 5.0
"""Seconds after which a frame is sent though nothing is new: the kernel is there."""
JOBS = 12
"""Batch jobs shown at most, those first that need a look."""
OVER = frozenset({"done", "cancelled", "detached", "failed"})


class Pace:
    """How fast rows end, over a window that grows with the run.

    Batch jobs are looked at ever more seldom, so a fixed window would see nothing or a jump.
    """

    SHORTEST, LONGEST, SHARE = 20.0, 600.0, 0.3

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()
        self._begun: float | None = None

    def note(self, now: float, ended: int) -> None:
        """Note how many rows have ended at a time (monotonic, in seconds)."""
        self._begun = now if self._begun is None else self._begun
        self._marks.append((now, ended))
        window = min(self.LONGEST, max(self.SHORTEST, self.SHARE * (now - self._begun)))
        while self._marks[0][0] < now - window:
            self._marks.popleft()

    def forget(self) -> None:
        """Begin again, since a pause says nothing about the pace."""
        self._marks.clear()

    @property
    def rate(self) -> float | None:
        """Rows a second; None if that cannot be said."""
        if len(self._marks) < 2:  # noqa: PLR2004 - a beginning and an end
            return None
        (first, before), (last, now) = self._marks[0], self._marks[-1]
        return (now - before) / (last - first) if now > before and last > first else None


class RunScreen:
    """What is shown of one run.

    Args:
        run: The run.

    Attributes:
        run: The run.
        details: What its ledger said last; None before there is one.
        rate: Rows a second; None if that cannot be said.
        left: Seconds left at this rate; likewise.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.details: Details | None = None
        self.rate: float | None = None
        self.left: float | None = None
        self._begun = time.time()
        self._ended: float | None = None
        self._pace = Pace()
        self._paced = self._looked = self._beat = float("-inf")
        self._took = 0.0
        self._look: asyncio.Task[None] | None = None
        self._last: asyncio.Task[None] | None = None
        self._number = 0
        self._sent: dict[str, Any] = {}

    @property
    def seconds(self) -> float:
        """How long the run has been followed."""
        return (self._ended or time.time()) - self._begun

    def status(self) -> str:
        """Return the run's status, or what it is asked to do."""
        if self.run.cancelling:
            return "cancelling"
        return "paused" if self.run.paused else self.run.status

    def ended_rows(self) -> int:
        """Return how many rows have their result or error."""
        counts = self.run.counts
        return counts["done"] + counts["failed"]

    # Looking; on the portal's loop

    def update(self) -> None:
        """Take in how the run is doing; the ledger is read in a thread, now and then."""
        now = time.monotonic()
        self._measure(now)
        due = self._looked + max(LOOK_EVERY, LOOK_SHARE * self._took)
        if self._look is None and now >= due:
            self._look = asyncio.get_running_loop().create_task(self._read())

    async def last_update(self) -> bool:
        """Take in how it ended; False if the ledger takes long to read: come again."""
        self._ended = self._ended or time.time()
        self.left = None
        self._last = asyncio.get_running_loop().create_task(self._read_last())
        await asyncio.wait({self._last}, timeout=LAST_LOOK)
        return self._last.done()

    async def settled(self) -> None:
        """Return when the last look is over."""
        if self._last is not None:
            await asyncio.wait({self._last})

    async def _read_last(self) -> None:
        if self._look is not None:  # begun before the end
            await asyncio.wait({self._look})
        await self._read()

    async def _read(self) -> None:
        try:
            with suppress(MistralNbError):  # not written yet, or locked for a while
                self.details, self._took = await asyncio.to_thread(_timed, self.run.details)
        finally:
            self._looked = time.monotonic()
            self._look = None

    def _measure(self, now: float) -> None:
        if self.status() != "running":
            self._pace.forget()
            self.rate = self.left = None
            return
        if now < self._paced + PACE_EVERY:
            return
        self._paced = now
        counts = self.run.counts
        self._pace.note(now, self.ended_rows() - counts["reused"])
        self.rate = self._pace.rate
        open_rows = counts["running"] + counts["waiting"]
        self.left = open_rows / self.rate if self.rate else None

    # Frames

    def frame(self) -> Frame | None:
        """Return the next frame, or None if there is nothing to say."""
        state = self._state()
        news = {key: value for key, value in state.items() if value != self._sent.get(key, self)}
        now = time.monotonic()
        if not news and now < self._beat + BEAT:
            return None
        self._sent, self._beat = state, now
        self._number += 1
        return {"n": self._number, "y": time.time(), **news}

    def whole(self) -> Frame:
        """Return all there is, for a view that has nothing or missed some."""
        self._sent = self._state()
        return {"n": self._number, "w": 1, "y": time.time(), **self._sent}

    def _state(self) -> dict[str, Any]:
        run, counts, details = self.run, self.run.counts, self.details
        answered = counts["done"] - counts["reused"]
        kinds = [counts[kind] for kind in ("reused", "failed", "running", "waiting")]
        state: dict[str, Any] = {
            "i": [run.name, run.model, run.mode],
            "s": self.status(),
            "m": run.message,
            "c": [counts["total"], answered, *kinds],
            "r": None if self.rate is None else float(f"{self.rate:.3g}"),
            "l": None if self.left is None else round(self.left),
            "b": [round(self._begun, 1), self._ended and round(self._ended, 1)],
        }
        if details is not None:
            tokens = details.usage.total_tokens
            state["d"] = [_cents(details.cost), _cents(details.projected), tokens]
            state["a"] = round(details.created, 1)
            state["x"] = [
                [each.status, [[one.row, one.error, one.asked, one.reply] for one in each.examples]]
                for each in details.failures
            ]
            state["f"] = [*(each.rows for each in details.failures), details.others]
            state["j"], state["k"] = _jobs(details.jobs, over=run.status in OVER)
        return state


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what some work gives, and the processor time it took."""
    began = time.thread_time()
    return work(), time.thread_time() - began


def _stalled(shard: Shard) -> bool:
    return shard.state == "submitted" and still(shard) >= STILL


def _jobs(shards: tuple[Shard, ...], *, over: bool) -> tuple[list[list[Any]], list[int]]:
    """Return the batch jobs to show, and how many there are, have ended, are stalled."""
    slow = {shard.id for shard in shards if not over and _stalled(shard)}

    def order(shard: Shard) -> tuple[int, int]:
        # Stalled ones first, then those at work, those to come, those that ended.
        place = {"submitted": 1, "ended": 2, "done": 4}.get(shard.state, 3)
        return (0 if shard.id in slow else place, shard.id)

    rows = [
        [
            shard.id,
            shard.state,
            shard.job_status or "",
            shard.completed - shard.failed,
            shard.failed,
            shard.lines,
            shard.submitted and round(shard.submitted, 1),
            round(shard.changed, 1),
            int(shard.id in slow),
            shard.job_id or "",
            shard.message[:200],
        ]
        for shard in sorted(shards, key=order)[:JOBS]
    ]
    return rows, [len(shards), sum(shard.state == "done" for shard in shards), len(slow)]


def _cents(dollars: float | None) -> float | None:
    return None if dollars is None else round(dollars, 9)


def clock(seconds: float) -> str:
    """Write a time as m:ss or h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
