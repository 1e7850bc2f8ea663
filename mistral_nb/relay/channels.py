"""A stream's events as the relay keeps them: numbered, shared by listeners, saved for later.

A listener holds nothing but the number of the last event it was sent, so a slow one costs no
memory: what it missed meanwhile is joined when it comes back for more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

__all__ = ["Channel", "Event", "follow"]

HEARTBEAT = 15.0
"""Seconds of silence after which a comment shows that the line is alive."""
RETRY = b"retry: 1000\n\n"
"""Milliseconds after which a browser comes back when the line broke; its own choice is longer."""
BEHIND = 64
"""Events a listener may be behind before neighbouring chunks are joined for it."""
LARGEST_JOINT = 256
"""Most events joined into one."""
EVENT_WEIGHT = 200
"""Bytes that an event takes besides its data."""
ENDS = frozenset({"complete", "error"})


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream.

    Attributes:
        number: From 1 (or after an earlier stream's), without gaps.
        name: ``start``, ``chunk``, ``complete``, ``error``, or what a job tells.
        data: JSON, encoded.
        frame: The event as it goes over the wire.
    """

    number: int
    name: str
    data: bytes
    frame: bytes


class Channel:
    """The events of one stream, on the relay's loop.

    Args:
        stream_id: Its id, part of every event's id.
        on_idle: Called when the last listener has left, and when the stream has ended.
        after: Number of the last event of an earlier stream of this id, whose place it takes.
        most: Bytes it may hold; beyond that the oldest events are forgotten. None: no limit.

    Attributes:
        after: Number of the last event before those it holds.
        saved: Number of the last event that is in the archive; None before the first.
        renewed: True if the relay was killed under way: what it had told last, but not saved,
            is lost, so listeners may come with numbers that are not known here.
    """

    def __init__(
        self,
        stream_id: str,
        on_idle: Callable[[Channel], None] | None = None,
        after: int = 0,
        most: int | None = None,
    ) -> None:
        self.id = stream_id
        self.after = after
        self.events: list[Event] = []
        self.saved: int | None = None
        self.renewed = False
        self.ended = False
        self.listeners = 0
        self._on_idle = on_idle
        self._most = most
        self._bytes = 0
        self._news = asyncio.Event()

    @property
    def head(self) -> int:
        """Number of its last event."""
        return self.after + len(self.events)

    def tell(self, name: str, data: dict[str, Any], *, last: bool = False) -> None:
        """Add an event; ``last`` ends the stream."""
        self.restore(name, orjson.dumps(data), last=last)

    def restore(self, name: str, data: bytes, *, last: bool = False) -> None:
        """Add an event whose data is JSON already."""
        number = self.head + 1
        self.events.append(Event(number, name, data, _frame(self.id, number, name, data)))
        self._bytes += _weight(self.events[-1])
        if self._most is not None and self._bytes > self._most:
            self._forget_oldest(self._most // 2)
        self.ended = last
        self._news.set()
        self._news = asyncio.Event()
        if last:
            self._idle()

    def _forget_oldest(self, most: int) -> None:
        """Hold no more bytes than this, but the latest event in any case."""
        gone = 0
        while self._bytes > most and gone < len(self.events) - 1:
            self._bytes -= _weight(self.events[gone])
            gone += 1
        del self.events[:gone]
        self.after += gone

    @property
    def unsaved(self) -> list[Event]:
        """Its events that are not in the archive yet."""
        return self.events[max(0, (self.saved or 0) - self.after) :]

    async def beyond(self, number: int) -> Sequence[Event]:
        """Wait until there is an event after this number, or the stream has ended."""
        while self.head <= number and not self.ended:
            await self._news.wait()
        begin = max(0, number - self.after)
        return self.events[begin : begin + 4 * LARGEST_JOINT]

    def position(self, number: int) -> int:
        """Return where a listener goes on whose last event had this number."""
        if number > self.head and not self.ended:
            return self.after if self.renewed else self.head
        return max(number, self.after)

    def knows_all(self, number: int) -> bool:
        """Return True if a listener at this position has heard the end."""
        return self.ended and number == self.head and not self.renewed

    def join(self) -> None:
        """Count a listener in."""
        self.listeners += 1

    def leave(self) -> None:
        """Count a listener out."""
        self.listeners -= 1
        if not self.listeners:
            self._idle()

    def _idle(self) -> None:
        if self._on_idle is not None:
            self._on_idle(self)


def _weight(event: Event) -> int:
    return len(event.data) + len(event.frame) + EVENT_WEIGHT


async def follow(channel: Channel, number: int) -> AsyncIterator[bytes]:
    """Yield a stream's events after ``number`` as bytes for the wire, to its end.

    Args:
        channel: The stream.
        number: The listener's position: the number of its last event, or 0.
    """
    channel.join()
    head = channel.head
    try:
        yield RETRY
        if channel.ended and number >= head:  # its last events were lost with the relay's life
            last = channel.events[-1]
            yield _frame(channel.id, number + 1, last.name, last.data)
            return
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    events = await channel.beyond(number)
            except TimeoutError:
                yield KEEPALIVE_COMMENT
                continue
            if not events:
                return
            # What was there at its coming is replayed as it was; what it is too slow for is joined.
            joinable = len(events) > BEHIND and events[0].number > head
            number = events[-1].number
            yield _joined(channel.id, events) if joinable else b"".join(e.frame for e in events)
    finally:
        channel.leave()


def _frame(stream_id: str, number: int, name: str, data: bytes) -> bytes:
    return format_sse_event(data_str=data.decode(), event=name, id=f"{stream_id}:{number}")


def _joined(stream_id: str, events: Sequence[Event]) -> bytes:
    """Join neighbouring chunks of text; the id is that of the last one joined."""
    frames = []
    batch: list[Event] = []

    def close() -> None:
        if len(batch) == 1:
            frames.append(batch[0].frame)
        elif batch:
            pieces = [orjson.loads(event.data) for event in batch]
            data = {
                **pieces[-1],
                "content": "".join(piece["content"] for piece in pieces),
                "index": pieces[0]["index"],
                "joined": sum(piece.get("joined", 1) for piece in pieces),
            }
            last = batch[-1]
            frames.append(_frame(stream_id, last.number, last.name, orjson.dumps(data)))
        batch.clear()

    for event in events:
        if event.name != "chunk" or len(batch) >= LARGEST_JOINT or b'"kind"' in event.data:
            close()
        batch.append(event)
        if event.name != "chunk" or b'"kind"' in event.data:
            close()
    close()
    return b"".join(frames)
