"""A worker's time on a BullMQ queue: its traps gone round, exact limits, the ledger in Redis."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.jobs.bull_wire import marked, options_of, spec_of
from mistral_nb.jobs.engine import MOST_STALLS, SUSPECT
from mistral_nb.jobs.model import Claim, Outcome, callback_for

if TYPE_CHECKING:
    from mistral_nb.jobs.bull import BullEngine
    from mistral_nb.jobs.engine import Runner, Shift

__all__ = ["BullWork"]

log = logging.getLogger(__name__)
LOOK_EVERY = 1.0
"""Seconds between two looks for cancelled jobs, and at the worker itself."""
SUSPECT_WAIT = 0.5
"""Seconds before a worker is offered a second suspect again, while it has one in hand."""
ENDS = {"completed", "failed", "unknown"}
PAID_KEPT_FOR = 30 * 24 * 3600

BEGIN = """
local held = redis.call('PTTL', KEYS[3])
if held > 0 then return {'wait', tostring(held)} end
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return {'lost', ''} end
local was = redis.call('HGET', KEYS[1], ARGV[1])
if was and string.sub(was, 1, 1) == '=' then return {'done', string.sub(was, 2)} end
if was and ARGV[3] == '0' then return {'open', ''} end
redis.call('HSET', KEYS[1], ARGV[1], '?')
redis.call('EXPIRE', KEYS[1], ARGV[4])
return {'new', ''}
"""
"""Write an intent down, if the job is still in these hands (its lock holds our token)."""
START = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
if redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[1]) then
  redis.call('ZADD', KEYS[1], now, ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 0
end
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return math.ceil(oldest[2] + ARGV[2] - now) + 1
"""
"""Take one of the starts that any window of time has; BullMQ's own limiter allows twice as
many across the border between two of its windows."""


class BullWork:
    """Works on a queue until the shift is closed; it is its own ledger of paid calls.

    Args:
        engine: The queue.
        shift: How many at once, how fast, and when it ends.
        run: Carries jobs out.
    """

    def __init__(self, engine: BullEngine, shift: Shift, run: Runner) -> None:
        self._engine = engine
        self._client = client = engine.client(single=True)
        self._shift = shift
        self._run = run
        self._begin = client.register_script(BEGIN)
        self._start = client.register_script(START)
        self._loop = asyncio.get_running_loop()
        self._telling: set[asyncio.Task[None]] = set()
        self._worker: Any = None
        self._suspect: str | None = None

    async def go(self) -> None:
        """Have BullMQ's worker run, and look after it."""
        from bullmq import Worker
        from bullmq.redis_connection import RedisConnection

        worker = self._worker = Worker(self._engine.name, self._process, self._options())
        # Waiting for jobs blocks a connection; by itself BullMQ would take the one client twice.
        worker.backend.blocking_connection = RedisConnection(self._engine.client(single=True))
        worker.on("error", self._on_error)
        worker.on("failed", self._on_failed)
        running = asyncio.create_task(worker.run())
        self._engine.on_cancel.append(self._cancelled)
        try:
            while not self._shift.closing:
                if running.done():  # it ends silently; whoever keeps us at work starts another
                    raise RuntimeError("BullMQ's worker ended by itself.")
                await self._look()
                await self._shift.rest(LOOK_EVERY)
        finally:
            self._engine.on_cancel.remove(self._cancelled)
            await self._end(worker, running)
            await self._client.aclose()

    async def _end(self, worker: Any, running: asyncio.Task[None]) -> None:
        """Wait for the jobs in hand; hand back those that were fetched too late to begin.

        BullMQ's own end leaves such a job in nobody's hands until its lock has run out, and
        stops renewing the locks of those under way.
        """
        worker.closing = True
        if worker.waiting:
            worker.waiting.cancel()
        renewing = asyncio.create_task(self._renew(worker))
        with contextlib.suppress(Exception):
            await running
        fetched = worker.processing
        if fetched:
            await asyncio.wait(fetched)
        for task in fetched:
            job = None if task.cancelled() or task.exception() else task.result()
            if job is not None and not job.finishedOn:
                with contextlib.suppress(Exception):  # its lock will run out
                    await job.moveToDelayed(round(time.time() * 1000), job.token)
        if self._telling:
            await asyncio.wait(self._telling)
        renewing.cancel()
        await worker.close()

    async def _renew(self, worker: Any) -> None:
        while True:
            await asyncio.sleep(self._engine.lease / 3)
            await worker.extendLocks()

    def _options(self) -> dict[str, Any]:
        lease = round(self._engine.lease * 1000)
        options = {
            "connection": self._client,
            "autorun": False,
            "concurrency": self._shift.concurrency,
            "lockDuration": lease,
            "stalledInterval": max(100, lease // 2),
            "maxStalledCount": MOST_STALLS,  # one crash more than the default must not fail a job
            "drainDelay": 1,  # the limiter sleeps this long
            "runRetryDelay": 500,
        }
        if self._shift.limit is not None:
            seconds = self._shift.limit.seconds
            options["limiter"] = {
                "max": self._shift.limit.starts,
                "duration": round(seconds * 1000),
            }
        return options

    async def _process(self, job: Any, token: str) -> Any:
        """Carry out one attempt, and tell BullMQ in its own way how it ended."""
        suspect = job.stalledCounter >= SUSPECT
        if suspect and self._suspect is not None:
            return await self._hand_back(job, token, SUSPECT_WAIT)
        if suspect:
            self._suspect = job.id
        try:
            if not await self._may_start():
                return await self._hand_back(job, token)
            claim = Claim(spec_of(job), job.attemptsMade + 1, token, job)
            outcome = await self._run(claim, self)
        finally:
            if suspect:
                self._suspect = None
        self._shift.done += 1
        if outcome.status == "queued":
            return await self._hand_back(job, token, outcome.delay)
        if outcome.status == "delayed":
            # BullMQ works out the wait of its own types; ours has jitter and Retry-After.
            wait = max(1, round(outcome.delay * 1000))
            job.opts["backoff"] = {"type": "fixed", "delay": wait}
            raise RuntimeError(outcome.error)
        await self._tell_callback(claim, outcome)
        if outcome.status == "completed":
            return None if outcome.result is None else orjson.loads(outcome.result)
        from bullmq import UnrecoverableError

        raise UnrecoverableError(marked(outcome.status, outcome.error))

    async def _may_start(self) -> bool:
        """Wait until the limit lets a job start; False if the shift ends first."""
        limit = self._shift.limit
        while limit is not None:
            wait = await self._start(
                keys=[self._engine.key("mnb:starts")],
                args=[limit.starts, round(limit.seconds * 1000), uuid.uuid4().hex],
            )
            if not wait:
                break
            if self._shift.closing:
                return False
            await asyncio.sleep(int(wait) / 1000)
        return True

    async def _hand_back(self, job: Any, token: str, wait: float = 0.0) -> None:
        from bullmq import DelayedError

        await job.moveToDelayed(round((time.time() + wait) * 1000), token)
        raise DelayedError

    async def _tell_callback(self, claim: Claim, outcome: Outcome) -> None:
        from bullmq import Job

        told = callback_for(claim.spec, outcome, self._engine.status_base())
        if told is not None:
            job = Job(self._worker, told.name, orjson.loads(told.data), options_of(told))
            await self._worker.backend.addJob(job)

    def _on_failed(self, job: Any, error: Exception) -> None:
        """Tell the callback of a job that BullMQ itself gave up: it lost its worker too often."""
        if job.deferredFailure:
            claim = Claim(spec_of(job), job.attemptsMade, "")
            outcome = Outcome("failed", error=str(error))
            task = self._loop.create_task(self._tell_callback(claim, outcome))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    def _on_error(self, error: Exception, *_: object) -> None:
        log.debug("BullMQ: %s", error)

    async def _look(self) -> None:
        """End the jobs that somebody cancelled, wherever he is."""
        from redis.exceptions import RedisError

        key = self._engine.key("mnb:cancel")
        with contextlib.suppress(RedisError, OSError):  # the next look will do
            for job_id in await self._client.smembers(key):
                mine = self._run.stop(job_id, "cancelled")
                # One that has ended meanwhile must not be cancelled when it is replayed.
                if mine or await self._worker.backend.getState(job_id) in ENDS:
                    await self._client.srem(key, job_id)

    def _cancelled(self, _: str) -> None:
        with contextlib.suppress(RuntimeError):  # a loop that has ended has no jobs
            self._loop.call_soon_threadsafe(self._shift.wake)

    # The ledger of paid calls

    async def begin(self, claim: Claim, key: str, *, again: bool) -> tuple[str, bytes | None]:
        """Write an intent down."""
        lock = self._engine.key(f"{claim.spec.id}:lock")
        keys = [self._engine.paid_key(claim.spec.id), lock, self._engine.key("mnb:hold")]
        state, value = await self._begin(
            keys=keys, args=[key, claim.token, int(again), PAID_KEPT_FOR]
        )
        return state, value.encode() if state in {"done", "wait"} else None

    async def end(self, claim: Claim, key: str, response: bytes | None) -> None:
        """Write a response down."""
        if response is None:
            await self._client.hdel(self._engine.paid_key(claim.spec.id), key)
        else:
            await self._client.hset(self._engine.paid_key(claim.spec.id), key, b"=" + response)

    async def progress(self, claim: Claim, body: bytes) -> None:
        """Write down how far a handler is."""
        await claim.ref.updateProgress(orjson.loads(body))

    async def hold(self, seconds: float) -> None:
        """Let no paid call of the queue begin for so long."""
        key, wait = self._engine.key("mnb:hold"), round(seconds * 1000)
        if await self._client.pttl(key) < wait:
            await self._client.set(key, "1", px=wait)
