"""The relay's streams and jobs: begun, followed, stopped when nobody listens, saved, forgotten."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import orjson

from mistral_nb.errors import InputError, MistralNbError, StoreError
from mistral_nb.events import ChatChunk, ChatComplete, ChatError, ChatStart
from mistral_nb.relay.archive import Archive
from mistral_nb.relay.channels import Channel
from mistral_nb.streaming import start_stream

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus, Record
    from mistral_nb.jobs import Job, Queue
    from mistral_nb.jobs.model import Snapshot
    from mistral_nb.records import JobRecord
    from mistral_nb.streaming import StreamHandle
    from mistral_nb.webhooks import WebhookNotifier

__all__ = ["Busy", "Desk"]

log = logging.getLogger(__name__)
SAVE_EVERY = 0.1
PRUNE_EVERY = 60.0
JOB_BYTES = 2_000_000
"""Bytes of a job's events that are kept: of its progress, the latest matters."""
ASK_AGAIN = 1.0
"""Seconds before a queue that did not answer is asked again."""
ALL = 2**62
STREAM_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")


class Busy(MistralNbError):  # noqa: N818 - reads as the sentence it is
    """The relay carries as many streams as it may."""


class Desk:
    """What the routes of the relay use; everything but the constructor runs on its loop.

    Args:
        connection: The server that is asked.
        bus: Where the events of chats are published as well.
        queue: Jobs.
        notifier: Sends callbacks; None if there is no secret to sign them with.
        file: The archive's file.
        keep: Seconds that events are kept.
        grace: Seconds after the last listener left until its stream is stopped.
        max_streams: Most streams at once.
    """

    def __init__(
        self,
        connection: Connection,
        bus: EventBus,
        queue: Queue,
        notifier: WebhookNotifier | None,
        *,
        file: Path,
        keep: float,
        grace: float,
        max_streams: int,
    ) -> None:
        self.queue = queue
        self._connection = connection
        self._bus = bus
        self._notifier = notifier
        self._archive = Archive(file, keep)
        self._keep = keep
        self._grace = grace
        self._max_streams = max_streams
        self._live: dict[str, Channel] = {}
        self._handles: dict[str, StreamHandle] = {}
        self._followed: dict[Channel, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._filing = asyncio.Lock()

    async def open(self) -> None:
        """Begin to save and to forget."""
        self._start(self._keep_house())

    async def close(self) -> None:
        """Stop every stream, and save what came."""
        for handle in self._handles.values():
            handle.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._save()
        except StoreError:
            log.exception("The relay's last events cannot be saved")
        self._archive.close()

    def chat(self, body: dict[str, Any], callback_url: str | None = None) -> Channel:
        """Ask for a reply.

        Args:
            body: ``messages``, and any option of :func:`mistral_nb.stream`.
            callback_url: Told, signed, when the reply has ended.

        Raises:
            InputError: The request cannot be sent, or callbacks cannot be signed.
            Busy: There are too many streams.
        """
        if len(self._handles) >= self._max_streams:
            raise Busy(f"The relay carries {self._max_streams} streams already. Try again later.")
        if callback_url is not None:
            self._check_callback(callback_url)
        messages = body.pop("messages")
        handle = start_stream(self._connection, self._bus, messages, **body)
        channel = Channel(handle.request_id, self._stop_unheard)
        self._live[channel.id] = channel
        self._handles[channel.id] = handle
        self._start(self._relay_chat(handle, channel, callback_url))
        return channel

    async def job(self, job: Job) -> Channel:
        """Return the events of a job, as many as this relay has heard of."""
        stream_id = f"job.{job.id}"
        now = await job.refresh()
        kept = await self.find(stream_id)
        live = self._live.get(stream_id)
        known = live or kept
        broken_off = live is None and kept is not None and kept.renewed
        if known is not None and not broken_off and (not known.ended or _tells_end(known, now)):
            return known
        # Unknown, broken off when a relay was killed, or its end was one before a replay.
        after = known.head if known is not None and not broken_off else 0
        channel = Channel(stream_id, self._leave_unheard, after, JOB_BYTES)
        channel.renewed = broken_off
        self._live[stream_id] = channel
        self._followed[channel] = self._start(self._relay_job(job, channel))
        return channel

    async def find(self, stream_id: str) -> Channel | None:
        """Return a stream by its id, live or saved; None if there is none."""
        if not STREAM_ID.fullmatch(stream_id):
            return None
        if stream_id in self._live:
            return self._live[stream_id]
        async with self._filing:
            return await anyio.to_thread.run_sync(self._archive.load, stream_id)

    def stop(self, stream_id: str) -> bool:
        """Stop a stream; False if it is not under way."""
        handle = self._handles.get(stream_id)
        if handle is not None:
            handle.stop()
        return handle is not None

    def _check_callback(self, url: str) -> None:
        from mistral_nb.webhooks.targets import check_url

        if self._notifier is None:
            raise InputError(
                "callbackUrl needs a secret to sign with: set MISTRAL_NB_WEBHOOK_SECRET "
                "where the relay runs."
            )
        check_url(url)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)
        return task

    def _stop_unheard(self, channel: Channel) -> None:
        """Stop a stream some time after its last listener has left, if none came back."""

        def look() -> None:
            if not channel.listeners and not channel.ended:
                self.stop(channel.id)

        if not channel.ended:
            asyncio.get_running_loop().call_later(self._grace, look)

    def _leave_unheard(self, channel: Channel) -> None:
        """Follow a job no longer that nobody has listened to for as long as events are kept."""

        def look() -> None:
            if not channel.listeners and not channel.ended and channel in self._followed:
                self._followed.pop(channel).cancel()
                del self._live[channel.id]

        if not channel.ended:
            asyncio.get_running_loop().call_later(max(self._keep, self._grace), look)

    async def _relay_chat(
        self, handle: StreamHandle, channel: Channel, callback_url: str | None
    ) -> None:
        try:
            with handle.events() as events:
                while not channel.ended:
                    await events.wait()
                    for record in events.drain():
                        name, data = _told(record, handle)
                        channel.tell(name, data, last=record.final)
        finally:
            del self._handles[channel.id]
        if callback_url is not None:
            await self._call_back(callback_url, channel)

    async def _call_back(self, url: str, channel: Channel) -> None:
        """Tell a callback how a reply ended."""
        assert self._notifier is not None
        last = channel.events[-1]
        event = "chat.completed" if last.name == "complete" else "chat.failed"
        data = {"requestId": channel.id, **orjson.loads(last.data)}
        try:
            await anyio.to_thread.run_sync(self._notifier.notify, url, event, data)
        except MistralNbError as error:
            log.warning("The callback of %s cannot be delivered: %s", channel.id, error)

    async def _relay_job(self, job: Job, channel: Channel) -> None:
        """Pass a job's events on to its end, through times when its queue does not answer."""
        while not channel.ended:
            try:
                async for record in job.events():
                    _tell_job(channel, job.id, record)
            except StoreError as error:
                log.warning("The job %s cannot be followed: %s", job.id, error)
                await asyncio.sleep(ASK_AGAIN)
            except MistralNbError as error:  # it was cleared away
                channel.tell("error", {"jobId": job.id, "message": str(error)}, last=True)
        self._followed.pop(channel, None)

    async def _keep_house(self) -> None:
        pruned = time.monotonic()
        while True:
            await asyncio.sleep(SAVE_EVERY)
            try:
                await self._save()
                if time.monotonic() - pruned > PRUNE_EVERY:
                    pruned = time.monotonic()
                    async with self._filing:
                        await anyio.to_thread.run_sync(self._archive.prune)
            except MistralNbError:  # a full disk must not end what people are reading
                log.exception("The relay's events cannot be saved; streams go on")

    async def _save(self) -> None:
        """Save what is new, and let go of streams that have ended and are not listened to."""
        async with self._filing:
            news = [(each, each.head) for each in self._live.values() if each.unsaved]
            batches = [
                # What is saved of an earlier stream of this id goes when its first events come.
                (each.id, each.ended, each.unsaved, ALL if each.saved is None else each.after)
                for each, _ in news
            ]
            if batches:
                await anyio.to_thread.run_sync(self._archive.save, batches)
            for channel, head in news:
                channel.saved = head
        for channel in list(self._live.values()):
            if channel.ended and not channel.listeners and not channel.unsaved:
                self._live.pop(channel.id, None)


def _tell_job(channel: Channel, job_id: str, record: JobRecord) -> None:
    """Add what happened to a job to its channel."""
    fields: dict[str, Any] = {"jobId": job_id, "at": record.at}
    for name in ("progress", "result", "error"):
        if hasattr(record, name):
            fields[name] = getattr(record, name)
    channel.tell(record.name.removeprefix("job:"), fields, last=record.final)


def _tells_end(channel: Channel, job: Snapshot) -> bool:
    """Return True if the end that a job's channel tells of is the one that the job has now."""
    last = channel.events[-1]
    at = orjson.loads(last.data).get("at") or 0.0
    return last.name == job.status and at >= (job.started_at or 0.0)


def _told(record: Record, handle: StreamHandle) -> tuple[str, dict[str, Any]]:
    """Return an event of the bus in the relay's words."""
    if isinstance(record, ChatStart):
        return "start", {
            "requestId": record.request_id,
            "model": record.model,
            "timestamp": record.timestamp,
        }
    if isinstance(record, ChatChunk):
        data: dict[str, Any] = {
            "content": record.content,
            "index": record.index,
            "tokenCount": record.index + record.count,
        }
        if record.count > 1:
            data["joined"] = record.count
        if record.kind != "text":
            data |= {"kind": record.kind, "part": record.part}
            if record.tool_name:
                data |= {"tool": record.tool_name, "toolCallId": record.tool_call_id}
        return "chunk", data
    if isinstance(record, ChatComplete):
        return "complete", {
            "requestId": record.request_id,
            "usage": _usage(record.usage),
            "finishReason": record.finish_reason,
            "model": handle.model,
            "characters": len(record.text),
        }
    assert isinstance(record, ChatError)
    return "error", {
        "requestId": record.request_id,
        "message": str(record.error),
        "type": type(record.error).__name__,
        "characters": len(record.partial.text),
    }


def _usage(usage: Any) -> dict[str, int] | None:
    if usage is None:
        return None
    return {
        "promptTokens": usage.prompt_tokens,
        "completionTokens": usage.completion_tokens,
        "totalTokens": usage.total_tokens,
        "cachedTokens": usage.cached_tokens,
    }
