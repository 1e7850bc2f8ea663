"""Records of what happens, and the bus that carries them to whoever listens.

| event           | record        | when                                             |
|-----------------|---------------|--------------------------------------------------|
| `chat:start`    | ChatStart     | a stream was asked for                           |
| `chat:chunk`    | ChatChunk     | a piece of text, thinking or a tool call arrived |
| `chat:complete` | ChatComplete  | the reply is whole, or was stopped on purpose    |
| `chat:error`    | ChatError     | the reply failed; what had come is in `partial`  |
| `run:start`     | RunStart      | a labelling run began or was taken up again      |
| `run:progress`  | RunProgress   | its counts changed                               |
| `run:complete`  | RunComplete   | every row has its end                            |
| `run:error`     | RunError      | the run cannot go on                             |
| `job:queued`    | JobQueued     | a background job waits for a worker              |
| `job:delayed`   | JobDelayed    | it waits for its time, or out its backoff        |
| `job:active`    | JobActive     | a worker began an attempt                        |
| `job:progress`  | JobProgress   | its handler told how far it is                   |
| `job:stalled`   | JobStalled    | its worker is gone; another one will take it     |
| `job:completed` | JobCompleted  | it is done                                       |
| `job:failed`    | JobFailed     | it is given up; it can be replayed               |
| `job:cancelled` | JobCancelled  | it was cancelled                                 |
| `job:uncertain` | JobUncertain  | a paid call of it may have been carried out      |
| `turn:start`    | TurnStart     | a message was sent in a conversation             |
| `turn:chunk`    | TurnChunk     | a piece of an entry of its turn arrived          |
| `turn:entry`    | TurnEntry     | an entry began, changed its state, or is whole   |
| `turn:complete` | TurnComplete  | the turn has its answer, or was stopped          |
| `turn:error`    | TurnError     | the turn failed; what had come is in `turn`      |
| `conversation:changed` | ConversationChanged | other turns are shown now           |

Every request has one start and exactly one end (complete or error); a replayed job has one
end more. Producers know no listener; each listener has a bounded buffer of its own, so a
slow one harms nobody: behind a full one, a job that is tried again and again keeps its start,
its newest state and its ends. The records themselves are in `records.py`.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from mistral_nb.buffers import Buffer, Policy
from mistral_nb.records import (
    ChatChunk,
    ChatComplete,
    ChatError,
    ChatStart,
    Record,
    RunComplete,
    RunError,
    RunProgress,
    RunStart,
)
from mistral_nb.subscriptions import EventStream, Subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.portal import Portal

__all__ = [
    "ChatChunk",
    "ChatComplete",
    "ChatError",
    "ChatStart",
    "EventBus",
    "EventStream",
    "Policy",
    "Record",
    "RunComplete",
    "RunError",
    "RunProgress",
    "RunStart",
    "Subscription",
]

BLOCK_LIMIT = 30.0
"""Seconds a producer waits for a `block` listener before it is treated as `coalesce`."""


class EventBus:
    """Carries records from producers on the portal's loop to listeners anywhere.

    Args:
        portal: The loop that producers publish on and asynchronous listeners run on.
    """

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._lock = threading.RLock()  # a forgotten stream leaves in the middle of anything
        self._subscriptions: list[Subscription] = []
        self._by_name: dict[str, tuple[Subscription, ...]] = {}

    def __repr__(self) -> str:
        return f"EventBus({len(self._subscriptions)} listening)"

    def on(
        self,
        pattern: str,
        listener: Callable[..., object],
        *,
        policy: Policy = "coalesce",
        maxsize: int = 1000,
        request_id: str | None = None,
    ) -> Subscription:
        """Call ``listener(record)`` for every matching event, in order.

        A plain function runs in a thread of its own, a coroutine function on the portal's
        loop. What it raises is logged once and harms nobody else.

        Args:
            pattern: Event name, or a shell-style pattern such as ``"chat:*"``.
            listener: Function or coroutine function of one record.
            policy: What to do when ``maxsize`` records wait for it.
            maxsize: Records kept waiting at most (chunks are joined beyond that).
            request_id: Hear only this request.

        Returns:
            The subscription, for :meth:`off` and for its counts.

        Raises:
            InputError: Unknown policy, a size below 1, or a listener that is no function.
        """
        return self._listen(pattern, listener, policy, maxsize, request_id, limit=None)

    def once(self, pattern: str, listener: Callable[..., object]) -> Subscription:
        """Like :meth:`on`, for the first matching event only.

        Args:
            pattern: Which events, as for :meth:`on`.
            listener: Called with the first of them.

        Returns:
            The subscription, for :meth:`off`.
        """
        return self._listen(pattern, listener, "coalesce", 1000, None, limit=1)

    def off(self, listener: Subscription | Callable[..., object]) -> None:
        """Stop calling a listener, given as its subscription or as the function itself.

        Args:
            listener: Its subscription, or the function itself.
        """
        with self._lock:
            leaving = [each for each in self._subscriptions if listener in (each, each.listener)]
            self._subscriptions = [each for each in self._subscriptions if each not in leaving]
            self._by_name.clear()
        for each in leaving:
            each.buffer.close()

    def stream(
        self,
        pattern: str = "*",
        *,
        policy: Policy = "coalesce",
        maxsize: int = 1000,
        request_id: str | None = None,
    ) -> EventStream:
        """Return matching events as an iterator (``async for`` or ``for``).

        Args:
            pattern: Event name, or a shell-style pattern such as ``"chat:*"``.
            policy: What to do when ``maxsize`` records wait.
            maxsize: Records kept waiting at most.
            request_id: Hear only this request, and end with it.

        Returns:
            An EventStream that hears everything from now on.
        """
        return self.primed_stream((), pattern, policy, maxsize, request_id)

    def primed_stream(
        self,
        history: tuple[Record, ...],
        pattern: str = "*",
        policy: Policy = "coalesce",
        maxsize: int = 1000,
        request_id: str | None = None,
    ) -> EventStream:
        """Like :meth:`stream`, beginning with records of what happened before.

        Args:
            history: Records to begin with, oldest first.
            pattern: As for :meth:`stream`.
            policy: As for :meth:`stream`.
            maxsize: As for :meth:`stream`.
            request_id: As for :meth:`stream`.

        Returns:
            The events; iterate it.
        """
        subscription = Subscription(pattern, request_id, Buffer(policy, maxsize))
        for record in history:
            subscription.buffer.put(record)
        self._add(subscription)
        return EventStream(subscription, self.off)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until every listener has dealt with all that was published so far.

        Listeners run beside your code, so right after a reply they may still be at it.

        Args:
            timeout: Longest wait in seconds.

        Returns:
            True if they are done, False if one of them still is not.
        """
        self._portal.refuse_own_thread()
        deadline = time.monotonic() + timeout
        with self._lock:
            busy = [each for each in self._subscriptions if each.listener is not None]
        while busy := [each for each in busy if not each.idle]:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.002)
        return True

    def publish_nowait(self, record: Record) -> list[Subscription]:
        """Hand a record to every listener without waiting; call it on the portal's loop.

        Args:
            record: What happened.

        Returns:
            The ``block`` listeners that are full now; :meth:`publish` waits for them.
        """
        full = []
        for subscription in self._listeners(record.name):
            if subscription.hears(record):
                subscription.buffer.put(record)
                if subscription.buffer.policy == "block" and subscription.buffer.full():
                    full.append(subscription)
        return full

    async def publish(self, record: Record) -> None:
        """Hand a record to every listener; wait while a ``block`` listener is full.

        Args:
            record: What happened.
        """
        for subscription in self.publish_nowait(record):
            await self._wait_for_room(subscription)

    async def _wait_for_room(self, subscription: Subscription) -> None:
        room = asyncio.Event()
        subscription.buffer.when_room(lambda: self._portal.call_soon(room.set))
        try:
            await asyncio.wait_for(room.wait(), BLOCK_LIMIT)
        except TimeoutError:
            subscription.buffer.policy = "coalesce"
            subscription.report(
                f"took nothing for {BLOCK_LIMIT:g} s; chunks are joined for it from now on"
            )

    def _listeners(self, name: str) -> tuple[Subscription, ...]:
        found = self._by_name.get(name)
        if found is None:
            with self._lock:
                found = tuple(s for s in self._subscriptions if fnmatchcase(name, s.pattern))
                self._by_name[name] = found
        return found

    def _add(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.append(subscription)
            self._by_name.clear()

    def _listen(
        self,
        pattern: str,
        listener: Callable[..., object],
        policy: Policy,
        maxsize: int,
        request_id: str | None,
        limit: int | None,
    ) -> Subscription:
        subscription = Subscription(pattern, request_id, Buffer(policy, maxsize), listener)
        self._add(subscription)
        subscription.served = EventStream(subscription, self.off)
        if _is_async(listener):
            self._portal.spawn(self._serve_async, subscription, limit)
        else:
            threading.Thread(
                target=self._serve, args=(subscription, limit), daemon=True, name=f"on {pattern}"
            ).start()
        return subscription

    def _serve(self, subscription: Subscription, limit: int | None) -> None:
        """Call a plain listener, in its own thread, until it is taken off."""
        assert subscription.listener is not None
        assert subscription.served is not None
        with subscription.served as stream:
            for calls, record in enumerate(stream, start=1):
                try:
                    subscription.listener(record)
                except Exception as error:  # a listener must not end the stream it listens to
                    subscription.report("raised", error)
                if calls == limit:
                    break

    async def _serve_async(self, subscription: Subscription, limit: int | None) -> None:
        """Await an asynchronous listener, on the portal's loop, until it is taken off."""
        assert subscription.listener is not None
        assert subscription.served is not None
        calls = 0
        with subscription.served as stream:
            async for record in stream:
                calls += 1
                try:
                    awaitable: Any = subscription.listener(record)
                    await awaitable
                except Exception as error:
                    subscription.report("raised", error)
                if calls == limit:
                    break


def _is_async(listener: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(
        getattr(listener, "__call__", None)  # noqa: B004 - an object with an async __call__
    )
