"""The workers of a queue as the crew that carries out a labelling run's batch jobs.

A batch job becomes jobs of the queue, of a few requests each. Their ids follow from the run and
the shard, so that adding them again after a crash adds nothing; what was paid for stays in the
ledger beside the queue.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import IO, TYPE_CHECKING, Any, TypeVar

import anyio
import orjson

from mistral_nb.errors import InputError, RunError, StoreError
from mistral_nb.jobs.shards import REQUESTS, answered, in_doubt
from mistral_nb.labelling.crews import BatchState
from mistral_nb.labelling.folder import adopt_file, open_requests
from mistral_nb.labelling.plan import server_of
from mistral_nb.labelling.recipe import read_line
from mistral_nb.portal import Handle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from pathlib import Path

    from mistral_nb.jobs.model import Snapshot
    from mistral_nb.jobs.queue import Queue
    from mistral_nb.labelling.work import Work

__all__ = ["QueueCrews"]

T = TypeVar("T")
REQUESTS_A_JOB = 20
BYTES_A_JOB = 1_000_000
"""A job's data and result are read and written as one."""
JOBS_AT_ONCE = 100
"""Jobs added in one go."""
LOOKED_AT = 25
"""Jobs looked at, or read, in one go."""
ATTEMPTS = 6
TIMEOUT = 600.0
"""Seconds that an attempt at a job may take."""
REPLAYS = 2
"""How often a job that failed as a whole is queued again."""
LONELY = 10.0
"""Seconds in which nothing happens after which that is said."""


class QueueCrews:
    """Sends a labelling run's batch jobs to the workers of a queue.

    Args:
        find: Returns the queue; called when it is first needed.
        named: Whether it was named by the caller, who may know it by another address.
    """

    def __init__(self, find: Callable[[], Queue], *, named: bool) -> None:
        self._find = find
        self._named = named

    @property
    def where(self) -> str:
        """Address of the queue, without a password, and its name."""
        queue = self._find()
        return f"{queue.engine.where} ({queue.name})"

    def open(self, work: Work, trouble: Callable[[str], None]) -> _QueueCrew:
        """Return what carries out a run's batch jobs.

        Args:
            work: The run.
            trouble: Told in plain words what is in the way; "" when it is over.

        Raises:
            RunError: The run's jobs are in another queue.
        """
        there = work.record.spec.get("queue")
        if not self._named and there not in {None, self.where}:
            name = work.record.name
            raise RunError(
                f"The run {name!r} goes through the queue {there}. Name it to go on: "
                f"mnb.resume({name!r}, queue=mnb.Queue(...))."
            )
        return _QueueCrew(self._find(), work, trouble)


class _QueueCrew:
    """The crew of one run: see :class:`mistral_nb.labelling.crews.Crew`.

    Args:
        queue: Where its jobs go.
        work: The run.
        trouble: Told what is in the way.
    """

    longest_pause = 1.0

    def __init__(self, queue: Queue, work: Work, trouble: Callable[[str], None]) -> None:
        self._queue = queue
        self._work = work
        self._trouble = trouble
        self._ended: dict[str, dict[str, _End]] = {}
        self._replays: Counter[str] = Counter()
        self._seen: dict[str, tuple[str, Any]] = {}
        """Status and progress of jobs that have not ended, by name."""
        self._moved = time.monotonic()

    async def upload(self, path: Path, name: str, size: int, *, maybe_there: bool) -> str:
        """Leave the file where it is: its requests go out with the jobs."""
        del name, size, maybe_there
        return path.name

    async def create_job(
        self,
        *,
        file_id: str,
        endpoint: str,
        model: str,
        metadata: dict[str, str],
        timeout_hours: int,
        maybe_created: bool,
    ) -> BatchState:
        """Add the jobs of a shard; those that are there already stay as they are."""
        del timeout_hours, maybe_created
        base = f"{metadata['run_id']}-{int(metadata['shard']):04d}"
        server = server_of(self._work.connection)
        common = {"server": server, "endpoint": endpoint, "model": model}
        count = 0
        with open_requests(self._work.folder.path / "requests" / file_id) as file:
            pieces = _pieces(file)
            while block := await self._work.do(lambda: list(islice(pieces, JOBS_AT_ONCE))):
                jobs = [
                    {
                        "name": REQUESTS,
                        "data": {**common, "lines": lines},
                        "job_id": _name(base, number),
                        "attempts": ATTEMPTS,
                        "timeout": TIMEOUT,
                    }
                    for number, lines in enumerate(block, start=count)
                ]
                await self._patiently(partial(self._queue.add_many, jobs))
                count += len(block)
        self._moved = time.monotonic()
        return BatchState(f"{base}.{count}", "QUEUED")

    async def job(self, job_id: str) -> BatchState:
        """Count what has ended; of the rest, look at the first ones only, as they go in order."""
        ended = self._ended.setdefault(job_id, {})
        names = _names(job_id)
        waiting = [name for name in names if name not in ended]
        # While nobody has begun with the first one, the others need no look.
        size = 1
        while waiting and await self._look_at(waiting[:size], ended):
            waiting, size = waiting[size:], LOOKED_AT
        self._mention_lack_of_workers()
        completed = sum(each.lines for each in ended.values())
        failed = sum(each.failed for each in ended.values())
        if len(ended) < len(names):
            return BatchState(job_id, "RUNNING" if ended else "QUEUED", completed, failed)
        status = "CANCELLED" if any(each.cancelled for each in ended.values()) else "SUCCESS"
        return BatchState(job_id, status, completed, failed, output_file=job_id)

    async def cancel(self, job_id: str) -> BatchState:
        """Cancel the jobs that no worker is at; the others are paid for, and end."""
        ended = self._ended.setdefault(job_id, {})
        waiting = [name for name in _names(job_id) if name not in ended]
        engine = self._queue.engine
        for name in reversed(waiting):  # from the end that no worker is near to
            cancelling = partial(engine.cancel, name, active=False)
            await self._patiently(partial(Handle, self._queue.portal, cancelling))
        return await self.job(job_id)

    async def download(self, file_id: str, path: Path) -> None:
        """Write what the workers answered in the form of a batch job's output file."""
        part = path.with_suffix(".part")
        names = _names(file_id)
        try:
            with part.open("wb") as file:
                for start in range(0, len(names), LOOKED_AT):
                    there = await self._snapshots(names[start : start + LOOKED_AT])
                    lines = [await self._lines(each) for each in there if each is not None]
                    await self._work.do(_write, file, chain.from_iterable(lines))
                file.flush()
                await self._work.do(os.fsync, file.fileno())
            adopt_file(part, path)
        except OSError as error:
            raise StoreError(
                f"Cannot write {path}: {error.strerror or error}. Free some space and resume the "
                "run: its answers wait in the queue."
            ) from error

    # The queue

    async def _look_at(self, names: list[str], ended: dict[str, _End]) -> bool:
        """Take note of the jobs that have ended; True if a look at the next ones is worth it."""
        begun = False
        for name, snapshot in zip(names, await self._snapshots(names), strict=True):
            begun = snapshot is None or snapshot.status != "queued"
            if snapshot is None:  # removed from the queue: its requests go again
                ended[name] = _End()
            elif await self._over(snapshot):
                ended[name] = _End.of(await self._lines(snapshot), snapshot.status)
            self._notice(name, None if name in ended else snapshot)
        return begun

    def _notice(self, name: str, snapshot: Snapshot | None) -> None:
        """Take note of whether something has happened to a job; None: it has ended."""
        now = None if snapshot is None else (snapshot.status, snapshot.progress)
        if now != self._seen.get(name, ("queued", None)):
            self._moved = time.monotonic()
        if now is None:
            self._seen.pop(name, None)
        else:
            self._seen[name] = now

    async def _over(self, snapshot: Snapshot) -> bool:
        """Return True for a job that has ended for good: failed ones are queued again first.

        Its requests in doubt stay so: they end as such, are listed, and only then sent again.
        """
        if snapshot.status not in {"failed", "uncertain"} or self._work.cancelled.is_set():
            return snapshot.ended
        self._replays[snapshot.id] += 1
        if self._replays[snapshot.id] > REPLAYS:
            return True
        replaying = partial(self._queue.engine.replay, snapshot.id, again=False)
        await self._patiently(partial(Handle, self._queue.portal, replaying))
        return False

    async def _snapshots(self, names: list[str]) -> list[Snapshot | None]:
        async def work() -> list[Snapshot | None]:
            return [await self._queue.engine.get(name) for name in names]

        return await self._patiently(lambda: Handle(self._queue.portal, work))

    async def _lines(self, snapshot: Snapshot) -> list[dict[str, Any]]:
        """Return the lines of answers of a job that has ended, of whatever end."""
        found = snapshot.result.get("lines") if isinstance(snapshot.result, dict) else None
        if snapshot.status == "completed" and isinstance(found, list):
            return [line for line in found if isinstance(line, dict)]
        paying = partial(self._queue.engine.paid, snapshot.id)
        return _rescued(
            snapshot, await self._patiently(partial(Handle, self._queue.portal, paying))
        )

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat what may be repeated, as long as the run has patience."""
        started = time.monotonic()
        while True:
            if self._queue.closed:  # a client of Redis would connect again, unasked
                raise RunError(f"The queue {self._queue.engine.where} was closed in this process.")
            try:
                return await call()
            except InputError:
                raise
            except Exception as error:  # any of the two stores' own
                where = self._queue.engine.where
                problem = f"The queue {where} does not answer: {str(error).rstrip('.')}."
                if time.monotonic() - started >= self._work.options.patience:
                    raise RunError(problem) from error
                self._trouble(f"{problem} Trying again.")
                await anyio.sleep(self.longest_pause)

    def _mention_lack_of_workers(self) -> None:
        quiet = time.monotonic() - self._moved
        # A request may take as long as this; whoever is silent for longer was lost.
        at_work = any(status == "active" for status, _ in self._seen.values())
        patience = LONELY + (self._work.connection.settings.timeout if at_work else 0.0)
        problem = ""
        if self._queue.trouble is not None and quiet > LONELY:
            problem = self._queue.trouble
        elif quiet > patience and not self._queue.working:
            problem = (
                f"No worker takes up the requests in the queue {self._queue.engine.where}. Start "
                "one here with queue.work(), or on any machine with mistral-nb worker --queue "
                "ADDRESS."
            )
        self._trouble(problem)


@dataclass(frozen=True, slots=True)
class _End:
    """How a job of the queue ended: its requests, and whether it was cancelled instead."""

    lines: int = 0
    failed: int = 0
    cancelled: bool = False

    @classmethod
    def of(cls, lines: list[dict[str, Any]], status: str) -> _End:
        failed = sum(1 for line in lines if line.get("error") is not None)
        return cls(len(lines), failed, status == "cancelled")


def _pieces(lines: Iterable[bytes]) -> Iterator[list[tuple[str, str]]]:
    """Cut a file of requests into what one job carries: (custom_id, body) of each."""
    piece: list[tuple[str, str]] = []
    size = 0
    for line in lines:
        _, name, body = read_line(line)
        piece.append((name.decode(), body.decode()))
        size += len(body)
        if len(piece) >= REQUESTS_A_JOB or size >= BYTES_A_JOB:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _name(base: str, number: int) -> str:
    return f"{base}-{number:05d}"


def _names(job_id: str) -> list[str]:
    """Return the ids of the jobs that a batch job was cut into."""
    base, _, count = job_id.rpartition(".")
    return [_name(base, number) for number in range(int(count))]


def _write(file: IO[bytes], lines: Iterable[dict[str, Any]]) -> None:
    file.writelines(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)


def _rescued(snapshot: Snapshot, paid: dict[str, bytes | None]) -> list[dict[str, Any]]:
    """Return the lines of a job that did not get to its end: what it paid for is kept.

    Args:
        snapshot: The job.
        paid: What its ledger of paid calls has.
    """
    reason = {"message": snapshot.error or "a worker ended the job without answers"}
    lines = []
    for name, _ in snapshot.data["lines"] if isinstance(snapshot.data, dict) else ():
        response = paid.get(name)
        if response is not None:
            lines.append(answered(name, orjson.loads(response)))
        elif name in paid:
            lines.append(in_doubt(name))
        elif snapshot.status != "cancelled":
            lines.append({"custom_id": name, "error": reason})
    return lines
