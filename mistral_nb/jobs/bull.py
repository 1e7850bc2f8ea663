"""The Redis engine: jobs in BullMQ's format, through its official Python port.

Node's BullMQ adds to and works on the same queues. Beside BullMQ's own keys there are a few
of ours, below ``<queue>:mnb:``, for what it does not keep: cancelled jobs, the ledger of paid
calls, and exact limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from mistral_nb.errors import MissingPackage, SettingsError, StoreError
from mistral_nb.jobs.bull_wire import (
    KEPT_FOR,
    KINDS,
    bull_states,
    marked,
    note_of,
    options_of,
    snapshot_of,
)
from mistral_nb.jobs.model import STATUSES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from mistral_nb.jobs.engine import Runner, Shift
    from mistral_nb.jobs.model import Note, Snapshot, Spec, Status

__all__ = ["BullEngine"]

ADD_AT_ONCE = 500
READ_AT_ONCE = 1000
"""Failed jobs that are looked at to tell the cancelled and the uncertain from them."""
RECONNECT_AFTER = 0.2


class BullEngine:
    """Jobs of one BullMQ queue.

    Args:
        url: ``redis://[:password@]host:port/db``.
        name: The queue's name, as Node has it.
        lease: Seconds without a sign of life after which a worker is believed to be gone.
        status_base: Returns the address that status URLs begin with.

    Raises:
        MissingPackage: The extra ``redis`` is not installed.
        SettingsError: The address is malformed.
    """

    def __init__(self, url: str, name: str, lease: float, status_base: Callable[[], str]) -> None:
        try:
            import bullmq  # noqa: F401
        except ImportError as error:
            raise MissingPackage("A queue in Redis", "bullmq", "redis") from error
        self.where = _without_password(url)
        self.client = partial(_client, url)
        self.name = name
        self.lease = lease
        self.status_base = status_base
        self._bull: Any = None
        self.on_cancel: list[Callable[[str], None]] = []

    def key(self, name: str) -> str:
        """Return the name of a key of this queue."""
        return f"bull:{self.name}:{name}"

    def paid_key(self, job_id: str) -> str:
        """Return the name of the key with a job's paid calls."""
        return self.key(f"mnb:paid:{job_id}")

    @property
    def _queue(self) -> Any:
        if self._bull is None:
            from bullmq import Queue

            self._bull = Queue(self.name, {"connection": self.client()})
        return self._bull

    @asynccontextmanager
    async def _errors(self) -> AsyncIterator[Any]:
        """Give BullMQ's queue; say in plain words what Redis says."""
        from redis.exceptions import RedisError

        try:
            yield self._queue
        except (RedisError, OSError) as error:
            said = str(error).partition(" script: ")[0].rstrip(".")  # whose line is BullMQ's own
            raise StoreError(
                f"Redis at {self.where} cannot be used: {said}. {_advice(error)}"
            ) from error

    async def add(self, specs: Sequence[Spec]) -> None:
        """Add jobs; those whose id exists are left as they are."""
        async with self._errors() as queue:
            if len(specs) == 1:
                await queue.add(specs[0].name, orjson.loads(specs[0].data), options_of(specs[0]))
                return
            for first in range(0, len(specs), ADD_AT_ONCE):
                part = specs[first : first + ADD_AT_ONCE]
                await queue.addBulk(
                    [
                        {
                            "name": each.name,
                            "data": orjson.loads(each.data),
                            "opts": options_of(each),
                        }
                        for each in part
                    ]
                )

    async def get(self, job_id: str) -> Snapshot | None:
        """Return a job as it is now."""
        async with self._errors() as queue:
            state = await queue.getJobState(job_id)
            raw = await queue.client.hgetall(self.key(job_id))
            if raw:
                return snapshot_of(job_id, raw, KINDS.get(state, "queued"))
            gone = await queue.client.hget(self.key("mnb:cancelled"), job_id)
            return None if gone is None else snapshot_of(job_id, orjson.loads(gone), "cancelled")

    async def listing(
        self, statuses: Sequence[Status], limit: int, *, newest: bool
    ) -> list[Snapshot]:
        """Return jobs in these states, in the order they were added."""
        found: list[Snapshot] = []
        async with self._errors() as queue:
            for kind in bull_states(statuses):
                found += await self._in(kind, limit)
            if "cancelled" in statuses:
                gone = await queue.client.hgetall(self.key("mnb:cancelled"))
                found += [snapshot_of(n, orjson.loads(raw), "cancelled") for n, raw in gone.items()]
        found = [each for each in found if each.status in statuses]
        if not newest:  # those of one millisecond come with the latest first
            found.reverse()
        found.sort(key=lambda each: each.added_at or 0.0, reverse=newest)
        return found[:limit]

    async def _in(self, kind: str, limit: int) -> list[Snapshot]:
        """Read the latest jobs in one of BullMQ's states."""
        most = max(limit, READ_AT_ONCE)
        jobs = await self._queue.backend.scripts.getJobs([kind], 0, most - 1)
        return [
            snapshot_of(job_id, dict(zip(fields[::2], fields[1::2], strict=True)), KINDS[kind])
            for part in jobs
            for job_id, fields in part
        ]

    async def counts(self) -> dict[Status, int]:
        """Return how many jobs there are in each state."""
        counts: dict[Status, int] = dict.fromkeys(STATUSES, 0)
        async with self._errors() as queue:
            for kind, number in (await queue.getJobCounts()).items():
                counts[KINDS[kind]] += number
            counts["cancelled"] = await queue.client.hlen(self.key("mnb:cancelled"))
            for each in await self._in("failed", READ_AT_ONCE) if counts["failed"] else ():
                counts["failed"] -= 1
                counts[each.status] += 1
        return counts

    async def cancel(self, job_id: str, *, active: bool = True) -> bool:
        """Cancel a job; one under way ends within a second or so, wherever its worker is."""
        async with self._errors() as queue:
            state = await queue.getJobState(job_id)
            if KINDS.get(state, "failed") in {"completed", "failed"}:
                return False
            raw = await queue.client.hgetall(self.key(job_id))
            if state != "active" and await queue.remove(job_id):
                raw["failedReason"] = marked("cancelled", "It was cancelled before it began.")
                raw["finishedOn"] = str(round(time.time() * 1000))
                pipe = queue.client.pipeline(transaction=True)
                pipe.hset(self.key("mnb:cancelled"), job_id, orjson.dumps(raw))
                pipe.zadd(self.key("mnb:cancelled-at"), {job_id: time.time()})
                fields = {"event": "failed", "jobId": job_id, "failedReason": raw["failedReason"]}
                pipe.xadd(self.key("events"), fields)
                await pipe.execute()
                await self._forget_cancelled(time.time() - KEPT_FOR)
                return True
            if not active:
                return False
            await queue.client.sadd(self.key("mnb:cancel"), job_id)
        for tell in tuple(self.on_cancel):
            tell(job_id)
        return True

    async def _forget_cancelled(self, before: float) -> None:
        """Forget jobs that were cancelled before a time, as BullMQ does those that ended."""
        client, when = self._queue.client, self.key("mnb:cancelled-at")
        if old := await client.zrangebyscore(when, "-inf", before, start=0, num=READ_AT_ONCE):
            await client.hdel(self.key("mnb:cancelled"), *old)
            await client.zrem(when, *old)

    async def replay(self, job_id: str, *, again: bool = True) -> bool:
        """Queue a job again that ended without success."""
        from bullmq import Job

        async with self._errors() as queue:
            gone = await queue.client.hget(self.key("mnb:cancelled"), job_id)
            if gone is not None:
                raw = orjson.loads(gone)
                await queue.add(raw["name"], orjson.loads(raw["data"]), orjson.loads(raw["opts"]))
                await queue.client.hdel(self.key("mnb:cancelled"), job_id)
                await queue.client.zrem(self.key("mnb:cancelled-at"), job_id)
                return True
            if await queue.getJobState(job_id) != "failed":
                return False
            kept = await self.paid(job_id) if again else {}
            if doubts := [key for key, response in kept.items() if response is None]:
                await queue.client.hdel(self.paid_key(job_id), *doubts)
            await queue.client.hdel(self.key(job_id), "stc", "defa")
            job = await Job.fromId(queue, job_id)
            if job is None:
                return False
            await job.retry("failed", {"resetAttemptsMade": True, "resetAttemptsStarted": True})
            return True

    async def paid(self, job_id: str) -> dict[str, bytes | None]:
        """Return the responses of a job's paid calls."""
        async with self._errors() as queue:
            kept = await queue.client.hgetall(self.paid_key(job_id))
            return {
                key: value[1:].encode() if value.startswith("=") else None
                for key, value in kept.items()
            }

    async def watch(self, hear: Callable[[list[Note]], object]) -> Callable[[], Awaitable[None]]:
        """Call ``hear`` with all that happens from now on: BullMQ's stream of events."""
        client = self.client()
        async with self._errors():
            last = await client.xrevrange(self.key("events"), count=1)
        following = asyncio.create_task(self._follow(client, last[0][0] if last else "0-0", hear))

        async def stop() -> None:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
            await client.aclose()

        return stop

    async def _follow(self, client: Any, last: str, hear: Callable[[list[Note]], object]) -> None:
        from redis.exceptions import RedisError

        while True:
            try:
                read = await client.xread({self.key("events"): last}, READ_AT_ONCE, block=5000)
            except (RedisError, OSError):  # it will be back; what happens meanwhile is kept
                await asyncio.sleep(RECONNECT_AFTER)
                continue
            entries = read[0][1] if read else []
            notes = [note for entry in entries if (note := note_of(*entry)) is not None]
            last = entries[-1][0] if entries else last
            if notes:
                hear(notes)

    async def work(self, shift: Shift, run: Runner) -> None:
        """Take jobs and have them carried out until the shift is closed."""
        from mistral_nb.jobs.bull_work import BullWork

        await BullWork(self, shift, run).go()

    async def close(self) -> None:
        """Let go of the connections."""
        if self._bull is not None:
            await self._bull.close()


def _without_password(url: str) -> str:
    try:
        parts = urlsplit(url)
        where = f"{parts.scheme}://{parts.hostname or ''}:{parts.port or 6379}{parts.path}"
    except ValueError:
        where = "@"
    if "@" in where:  # in its path, a sign in the password ended the host too early
        # Neither the address nor Python's words for what is wrong: both may hold a password.
        raise SettingsError(
            "The queue's address cannot be read. It must look like redis://host:6379/0 or "
            "redis://:PASSWORD@host:6379/0; signs such as @ and / in the password are written "
            "%40 and %2F."
        )
    return where


def _advice(error: Exception) -> str:
    """Return what to do about an error of Redis."""
    from redis.exceptions import AuthenticationError, OutOfMemoryError, ResponseError

    text = str(error)
    if isinstance(error, AuthenticationError) or text.startswith(("NOAUTH", "WRONGPASS")):
        return "Give its password in the address: redis://:PASSWORD@host:6379/0."
    if isinstance(error, OutOfMemoryError) or "OOM" in text:
        return "Its memory is full: give it more (maxmemory), or clear old data away."
    if isinstance(error, ResponseError):
        return "The queue's jobs are as they were."
    return "Is it running?"


def _client(url: str, *, single: bool = False) -> Any:
    """Return a client that waits some seconds for a server that is being started again.

    Args:
        url: The server.
        single: It has one connection, which its callers take in turns: less CPU a command.
    """
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import ExponentialBackoff
    from redis.exceptions import BusyLoadingError, ConnectionError, TimeoutError  # noqa: A004

    options: dict[str, Any] = {
        "decode_responses": True,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.02), 30),
        "retry_on_error": [BusyLoadingError, ConnectionError, TimeoutError],
        # The client gives up on an answer after 5 s, and then waits anew, for ever: BullMQ and
        # we wait for jobs and for events as long as that and longer.
        "socket_timeout": None,
        "socket_keepalive": True,
    }
    if single:
        return Redis.from_url(url, single_connection_client=True, **options)
    # Who finds all connections in use waits for one.
    pool = BlockingConnectionPool.from_url(url, max_connections=10, timeout=None, **options)
    return Redis.from_pool(pool)
