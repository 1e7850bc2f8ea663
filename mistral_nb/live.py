"""Handles on work that arrives piece by piece: its events, its text, a clean stop, one end."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, TypeVar

import anyio

from mistral_nb.errors import MistralNbError
from mistral_nb.portal import Handle, in_kernel, interrupts
from mistral_nb.records import ChatChunk
from mistral_nb.replies import current_cell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus, EventStream
    from mistral_nb.records import Record
    from mistral_nb.usage import Usage

__all__ = ["LiveHandle"]

T = TypeVar("T")
log = logging.getLogger(__name__)
FINISH_LIMIT = 2.0
"""Seconds that a view may take to show the end before the result is given."""


class LiveHandle(Handle[T]):
    """Work with events: one start, pieces, and exactly one end.

    Args:
        connection: The server that it asks, on whose loop it runs.
        bus: Where its events are published.
        request_id: Names it in every one of them.
        shown_in: Execution count of the cell below which a view is about to show it.

    Attributes:
        request_id: As given.
        bus: As given.
        shown_in: Execution count of the cell that shows it live.
    """

    pattern: ClassVar[str]
    """Which events are its own, as for :meth:`EventBus.on`."""

    def __init__(
        self, connection: Connection, bus: EventBus, request_id: str, shown_in: object = None
    ) -> None:
        self.request_id = request_id
        self.bus = bus
        self.shown_in = shown_in
        self._started = time.time()
        self._clock = time.perf_counter()
        self._seconds = 0.0
        self._end: Record | None = None
        self._scope: anyio.CancelScope | None = None
        self._stopped = False
        self._finishing: list[Callable[[], Awaitable[object]]] = []
        self._connection = connection
        super().__init__(connection.portal, self._work)

    @property
    @abstractmethod
    def text(self) -> str:
        """Answer so far."""

    @property
    @abstractmethod
    def model(self) -> str:
        """Model or agent that answers."""

    @property
    @abstractmethod
    def usage(self) -> Usage | None:
        """Token counts, as far as the server has sent them."""

    @abstractmethod
    def _start_record(self) -> Record:
        """Return the record of its start."""

    @abstractmethod
    def _history(self) -> list[Record]:
        """Return records that tell what has come since the start."""

    @abstractmethod
    async def _receive(self) -> None:
        """Do the work; what it raises becomes the error."""

    @abstractmethod
    def _completed(self, *, stopped: bool) -> tuple[T, Record]:
        """Return the result and the record of a good end."""

    @abstractmethod
    def _failed(self, error: Exception) -> Record:
        """Return the record of a bad end."""

    def _ipython_display_(self) -> None:
        """Say nothing at the end of a cell that shows it live already."""
        if self.shown_in is None or self.shown_in != current_cell():
            print(repr(self))

    @property
    def seconds(self) -> float:
        """Seconds since the request, until now or until its end."""
        return self._seconds or time.perf_counter() - self._clock

    def stop(self) -> None:
        """End it now and keep what has come; callable from any thread, also twice."""
        self._stopped = True
        self._portal.call_soon(self._cancel)

    def _cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    def _interrupted(self) -> bool:
        self.stop()
        return in_kernel()

    def events(self) -> EventStream:
        """Return its events from the start on, however late one asks.

        What has come already is told in few records. The iterator ends with the work.
        """
        if self._portal.on_own_thread():
            return self._events()

        async def on_loop() -> EventStream:
            return self._events()

        return self._portal.call(on_loop)

    def _events(self) -> EventStream:
        """Snapshot and subscribe in one step of the loop, so that nothing is missed."""
        history = [self._start_record(), *self._history()]
        if self._end is not None:
            history.append(self._end)
        return self.bus.primed_stream(tuple(history), self.pattern, request_id=self.request_id)

    def finish_with(self, work: Callable[[], Awaitable[object]]) -> None:
        """Have ``work`` awaited after the last event, before anyone who waits gets the result.

        A view settles in it: programs that run notebooks hear nothing after a cell's end.

        Args:
            work: Coroutine function; it has two seconds.
        """
        self._finishing.append(work)

    def __iter__(self) -> Iterator[str]:
        """Yield pieces of the answer as they arrive; raise its error at the end."""
        self._portal.refuse_own_thread()
        events, read = self.events(), self._reader()
        try:
            for event in events:
                if text := read(event):
                    yield text
            self._future.result()
        except KeyboardInterrupt:
            if not self._interrupted():
                raise
        finally:
            events.close()

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield pieces of the answer as they arrive; raise its error at the end."""
        read = self._reader()
        with interrupts.offered_to(self), self.events() as events:
            async for event in events:
                if text := read(event):
                    yield text
        await self

    def _reader(self) -> Callable[[Record], str]:
        """Return what reads the next piece of the answer out of each event."""
        return _answer_text

    async def _work(self) -> T:
        await self.bus.publish(self._start_record())
        try:
            with anyio.CancelScope() as self._scope:
                if self._stopped:  # before it began
                    self._scope.cancel()
                await self._receive()
            result, self._end = self._completed(stopped=self._scope.cancelled_caught)
        except Exception as error:
            self._end = self._failed(error)
            if isinstance(error, MistralNbError):
                error.shown_in = self.shown_in
            raise
        finally:
            self._seconds = self.seconds
            if self._end is None:  # the loop is closing
                self._end = self._failed(MistralNbError("The kernel ended before the answer did."))
            if self.usage is not None:
                self._connection.tally.add(self.model, self.usage)
            self.bus.publish_nowait(self._end)
            for work in self._finishing:
                with anyio.move_on_after(FINISH_LIMIT, shield=True):
                    await self._carried_out(work)
        return result

    async def _carried_out(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except Exception:  # what has been paid for is given, whatever a view stumbles over
            log.exception("What was to be done after %s failed", self.request_id)


def _answer_text(event: Record) -> str:
    return event.content if isinstance(event, ChatChunk) and event.kind == "text" else ""
