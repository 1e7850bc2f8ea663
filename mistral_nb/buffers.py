"""The bounded buffer between the event bus and one listener, and its three policies."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from mistral_nb.errors import InputError
from mistral_nb.records import ChatChunk, JobProgress, Record, RunProgress

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Buffer", "Policy"]

Policy = Literal["block", "coalesce", "drop_oldest"]
"""What a full buffer does: make the producer wait, join neighbouring chunks, or forget."""


class _Joined:
    """Chunks joined while their listener is behind; memory is that of the text."""

    __slots__ = ("_blocks", "_count", "_first", "_parts")
    PARTS = 256

    def __init__(self, first: ChatChunk) -> None:
        self._first = first
        self._blocks: list[str] = []
        self._parts = [first.content]
        self._count = first.count

    def goes_on(self, chunk: ChatChunk) -> bool:
        """Return True if a chunk is more of the same kind and the same part."""
        return self._first.kind == chunk.kind and self._first.part == chunk.part

    def add(self, chunk: ChatChunk) -> None:
        self._parts.append(chunk.content)
        self._count += chunk.count
        if len(self._parts) == self.PARTS:  # a million short strings would be 60 MB
            self._blocks.append("".join(self._parts))
            self._parts.clear()

    def record(self) -> ChatChunk:
        content = "".join((*self._blocks, *self._parts))
        return replace(self._first, content=content, count=self._count)


class Buffer:
    """The bounded queue between the bus and one listener; every method is thread-safe."""

    def __init__(self, policy: Policy, maxsize: int) -> None:
        if policy not in {"block", "coalesce", "drop_oldest"}:
            raise InputError(
                f"policy must be 'block', 'coalesce' or 'drop_oldest', not {policy!r}."
            )
        if maxsize < 1:
            raise InputError(f"maxsize must be at least 1, not {maxsize}.")
        self.policy: Policy = policy
        self.maxsize = maxsize
        self.dropped = 0
        self.closed = False
        self._lock = threading.Lock()
        self._items: deque[Record | _Joined] = deque()
        self._latest: dict[tuple[object, ...], _Joined] = {}
        self._on_item: Callable[[], object] | None = None
        self._on_room: list[Callable[[], object]] = []

    def __len__(self) -> int:
        return len(self._items)

    def full(self) -> bool:
        """Return True when one more record would be over the bound."""
        return len(self._items) >= self.maxsize

    def put(self, record: Record) -> None:
        """Add a record; a full buffer makes room as its policy says."""
        with self._lock:
            if self.closed:
                return
            if self.full() and self.policy == "drop_oldest":
                self._drop_oldest()
            if not (self.full() and self.policy == "coalesce" and self._join(record)):
                self._items.append(record)
                if isinstance(record, ChatChunk):  # what follows it may not overtake it
                    self._latest.pop(_place(record), None)
            wake, self._on_item = self._on_item, None
        if wake is not None:
            wake()

    def _drop_oldest(self) -> None:
        """Forget the oldest chunk or progress; starts and ends are never dropped."""
        for position, item in enumerate(self._items):
            if isinstance(item, ChatChunk | JobProgress | RunProgress):
                del self._items[position]
                self.dropped += 1
                return

    def _join(self, record: Record) -> bool:
        """Join a chunk to the one it follows, or replace older progress; False if neither."""
        if isinstance(record, JobProgress | RunProgress):
            for position in range(len(self._items) - 1, -1, -1):
                item = self._items[position]
                if type(item) is type(record) and item.request_id == record.request_id:
                    self._items[position] = record
                    return True
            return False
        if not isinstance(record, ChatChunk) or record.kind == "reference":
            return False
        place = _place(record)
        joined = self._latest.get(place)
        if joined is None or not joined.goes_on(record):
            joined = _Joined(record)
            self._latest[place] = joined
            self._items.append(joined)
        else:
            joined.add(record)
        return True

    def take(self) -> Record | None:
        """Take the oldest record; None if there is none."""
        with self._lock:
            if not self._items:
                return None
            item = self._items.popleft()
            if isinstance(item, _Joined):
                self._latest = {k: each for k, each in self._latest.items() if each is not item}
            wake, self._on_room = self._on_room, []
        for call in wake:
            call()
        return item.record() if isinstance(item, _Joined) else item

    def drain(self) -> list[Record]:
        """Take everything that waits, oldest first."""
        with self._lock:
            items = list(self._items)
            self._items.clear()
            self._latest.clear()
            wake, self._on_room = self._on_room, []
        for call in wake:
            call()
        return [item.record() if isinstance(item, _Joined) else item for item in items]

    def close(self) -> None:
        """Wake both sides for the last time; later records are ignored."""
        with self._lock:
            self.closed = True
            calls = [*self._on_room, *([self._on_item] if self._on_item else [])]
            self._on_room, self._on_item = [], None
        for call in calls:
            call()

    def when_item(self, call: Callable[[], object]) -> None:
        """Call once as soon as something waits (now, if it does already)."""
        with self._lock:
            if not self._items and not self.closed:
                self._on_item = call
                return
        call()

    def when_room(self, call: Callable[[], object]) -> None:
        """Call once as soon as the buffer is not full (now, if it is not)."""
        with self._lock:
            if self.full() and not self.closed:
                self._on_room.append(call)
                return
        call()


def _place(chunk: ChatChunk) -> tuple[object, ...]:
    """Return what a chunk follows.

    Pieces of one tool call follow each other whatever else arrives in between; text and
    thinking must keep their order among themselves.
    """
    return (chunk.request_id, chunk.part if chunk.kind == "tool" else "prose")
