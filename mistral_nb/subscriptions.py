"""A listener's side of the event bus: its subscription, and its events as an iterator."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from mistral_nb.errors import InputError
from mistral_nb.portal import wait_interruptibly

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from mistral_nb.buffers import Buffer
    from mistral_nb.records import Record

__all__ = ["EventStream", "Subscription"]

log = logging.getLogger(__name__)


class Subscription:
    """One listener's place on the bus: what it hears, and how far behind it is.

    Args:
        pattern: Which events it hears.
        request_id: Only those of this request; None for all.
        buffer: Holds what it has not taken yet.
        listener: What is called; None for an iterator.

    Raises:
        InputError: The pattern is no text, or the listener no function.
    """

    def __init__(
        self,
        pattern: str,
        request_id: str | None,
        buffer: Buffer,
        listener: Callable[..., object] | None = None,
    ) -> None:
        if not isinstance(pattern, str):
            raise InputError(f"pattern must be a text such as 'chat:*', not {pattern!r}.")
        if listener is not None and not callable(listener):
            raise InputError(f"listener must be a function of one record, not {listener!r}.")
        self.pattern = pattern
        self.request_id = request_id
        self.buffer = buffer
        self.listener = listener
        self.error: BaseException | None = None
        self.served: EventStream | None = None
        self._reported = False

    def __repr__(self) -> str:
        return f"Subscription({self.pattern!r}, {self.waiting} waiting, {self.dropped} dropped)"

    @property
    def waiting(self) -> int:
        """Number of records in its buffer."""
        return len(self.buffer)

    @property
    def dropped(self) -> int:
        """Number of records forgotten under ``drop_oldest``."""
        return self.buffer.dropped

    @property
    def idle(self) -> bool:
        """True if the listener has dealt with all that it was sent."""
        return self.buffer.closed or (self.served is not None and self.served.idle)

    def hears(self, record: Record) -> bool:
        """Return True if the record is meant for this listener.

        Args:
            record: What happened.
        """
        return self.request_id is None or self.request_id == record.request_id

    def report(self, problem: str, error: BaseException | None = None) -> None:
        """Log what is wrong with this listener, once.

        Args:
            problem: In words.
            error: What it raised, if it did.
        """
        self.error = error
        if not self._reported:
            self._reported = True
            name = getattr(self.listener, "__qualname__", repr(self.listener))
            log.warning("Listener %s on %r %s", name, self.pattern, problem, exc_info=error)


class EventStream:
    """Events as an iterator: ``async for`` on any loop, or a plain ``for`` in any thread.

    It sees everything published since it was made. With a ``request_id`` it ends after
    that request's last event; otherwise it goes on until closed.

    Args:
        subscription: Its place on the bus.
        leave: Gives that place up; called by :meth:`close`.
    """

    def __init__(self, subscription: Subscription, leave: Callable[[Subscription], None]) -> None:
        self._subscription = subscription
        self._leave = leave
        self._ended = False
        self._resting = False

    def __repr__(self) -> str:
        state = "closed" if self._over else f"{self.waiting} waiting, {self.dropped} dropped"
        return f"EventStream({self._subscription.pattern!r}, {state})"

    @property
    def waiting(self) -> int:
        """Number of records that wait to be taken."""
        return self._subscription.waiting

    @property
    def dropped(self) -> int:
        """Number of records forgotten under ``drop_oldest``."""
        return self._subscription.dropped

    @property
    def idle(self) -> bool:
        """True while its reader waits for more, having dealt with all there was."""
        return self._ended or (self._resting and not self.waiting)

    def close(self) -> None:
        """Stop listening."""
        self._ended = True
        self._leave(self._subscription)

    def drain(self) -> list[Record]:
        """Return what waits, without waiting for more: records, oldest first."""
        batch = self._subscription.buffer.drain()
        if any(self._is_last(record) for record in batch):
            self.close()
        return batch

    @property
    def _over(self) -> bool:
        return self._ended or self._subscription.buffer.closed

    def _is_last(self, record: Record) -> bool:
        return record.final and self._subscription.request_id == record.request_id

    def _take(self) -> Record | None:
        record = self._subscription.buffer.take()
        if record is not None and self._is_last(record):
            self.close()
        return record

    def __aiter__(self) -> AsyncIterator[Record]:
        return self

    async def __anext__(self) -> Record:
        while (record := self._take()) is None:
            if self._over:
                raise StopAsyncIteration
            await self.wait()
        return record

    async def wait(self) -> None:
        """Return as soon as something waits or the stream has ended."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # a wait was cancelled, and its loop is closed since
                loop.call_soon_threadsafe(ready.set)

        self._subscription.buffer.when_item(wake)
        self._resting = True
        try:
            await ready.wait()
        finally:
            self._resting = False

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        while (record := self._take()) is None:
            if self._over:
                raise StopIteration
            ready = threading.Event()
            self._subscription.buffer.when_item(ready.set)
            self._resting = True
            wait_interruptibly(ready.wait)
            self._resting = False
        return record

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
