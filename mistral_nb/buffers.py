"""The bounded buffer between the event bus and one listener, and its three policies."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from mistral_nb.errors import InputError
from mistral_nb.records import (
    ChatChunk,
    JobActive,
    JobDelayed,
    JobProgress,
    JobQueued,
    JobRecord,
    JobStalled,
    Record,
    RunProgress,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Buffer", "Policy"]

_Place = tuple[object, ...]
Policy = Literal["block", "coalesce", "drop_oldest"]
"""What a full buffer does: make the producer wait, join neighbouring chunks, or forget."""


class _Joined:
    """Chunks joined while their listener is behind; memory is that of the text."""

    __slots__ = ("_blocks", "_count", "_first", "_parts", "place")
    PARTS = 256

    def __init__(self, first: ChatChunk, place: _Place) -> None:
        self.place = place
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


class _Passing:
    """A record that a newer one may replace or a full buffer forget: then it is None."""

    __slots__ = ("place", "record")

    def __init__(self, record: Record, place: _Place) -> None:
        self.place = place
        self.record: Record | None = record


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
        self._lock = threading.RLock()  # garbage may be collected, and this closed, inside
        self._items: deque[Record | _Joined | _Passing] = deque()
        self._latest: dict[_Place, _Joined | _Passing] = {}
        self._droppable: deque[_Passing] = deque()
        self._forgotten = 0  # items whose record is None
        self._on_item: Callable[[], object] | None = None
        self._on_room: list[Callable[[], object]] = []

    def __len__(self) -> int:
        return len(self._items) - self._forgotten

    def full(self) -> bool:
        """Return True when one more record would be over the bound."""
        return len(self._items) - self._forgotten >= self.maxsize

    def put(self, record: Record) -> None:
        """Add a record; a full buffer makes room as its policy says."""
        with self._lock:
            if self.closed:
                return
            full = self.full()
            if not (full and (self._replace(record) or self._join(record))):
                if full and self.policy == "drop_oldest":
                    self._drop_oldest()
                self._append(record)
            wake, self._on_item = self._on_item, None
        if wake is not None:
            wake()

    def _append(self, record: Record) -> None:
        if self._latest:
            self._latest.pop(_place(record), None)  # what follows it may not overtake it
        passing = _is_passing(record)
        if not passing and not (self.policy == "drop_oldest" and isinstance(record, ChatChunk)):
            self._items.append(record)
            return
        item = _Passing(record, _place(record))
        self._items.append(item)
        if passing:
            self._latest[item.place] = item
        if self.policy == "drop_oldest":
            self._droppable.append(item)

    def _replace(self, record: Record) -> bool:
        """Put news in the place of what they make old; False if there is no such thing.

        A job's states are replaced whatever the policy: nobody can make its worker wait.
        """
        older = self._latest.get(_place(record))
        if not isinstance(older, _Passing):
            return False
        if not (_is_passing(record) or isinstance(record, JobQueued | JobDelayed)):
            return False
        if self.policy == "block" and not isinstance(record, JobRecord):
            return False
        older.record = record
        self.dropped += self.policy == "drop_oldest"
        return True

    def _join(self, record: Record) -> bool:
        """Join a chunk to the one it follows; False if it cannot be."""
        if self.policy != "coalesce" or not isinstance(record, ChatChunk):
            return False
        if record.kind == "reference":
            return False
        place = _place(record)
        joined = self._latest.get(place)
        if isinstance(joined, _Joined) and joined.goes_on(record):
            joined.add(record)
        else:
            self._latest[place] = joined = _Joined(record, place)
            self._items.append(joined)
        return True

    def _drop_oldest(self) -> None:
        """Forget the oldest record that may be; starts and ends never are."""
        while self._droppable:
            item = self._droppable.popleft()
            if item.record is None:
                continue
            self._leave(item)
            item.record = None
            self.dropped += 1
            self._forgotten += 1
            if self._forgotten > self.maxsize + len(self):  # a stalled listener takes none away
                self._items = deque(
                    each
                    for each in self._items
                    if not (isinstance(each, _Passing) and each.record is None)
                )
                self._forgotten = 0
            return

    def _leave(self, item: _Joined | _Passing) -> None:
        """See to it that nothing more is put into an item."""
        if self._latest.get(item.place) is item:
            del self._latest[item.place]

    def _pop(self) -> Record | _Joined | None:
        while self._items:
            item = self._items.popleft()
            if isinstance(item, Record):
                return item
            if isinstance(item, _Joined):
                self._leave(item)
                return item
            record, item.record = item.record, None
            while self._droppable and self._droppable[0].record is None:
                self._droppable.popleft()
            if record is not None:
                self._leave(item)
                return record
            self._forgotten -= 1
        return None

    def take(self) -> Record | None:
        """Take the oldest record; None if there is none."""
        with self._lock:
            item = self._pop()
            if item is None:
                return None
            wake, self._on_room = self._on_room, []
        for call in wake:
            call()
        return _whole(item)

    def drain(self) -> list[Record]:
        """Take everything that waits, oldest first."""
        items = []
        with self._lock:
            while (item := self._pop()) is not None:
                items.append(item)
            wake, self._on_room = self._on_room, []
        for call in wake:
            call()
        return [_whole(item) for item in items]

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
            if not len(self) and not self.closed:
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


def _whole(item: Record | _Joined) -> Record:
    return item.record() if isinstance(item, _Joined) else item


def _place(record: Record) -> _Place:
    """Return what a record follows.

    Pieces of one tool call follow each other whatever else arrives in between; text and
    thinking must keep their order among themselves. So must all that happens to one job.
    """
    if not isinstance(record, ChatChunk):
        return (record.request_id, "state")
    return (record.request_id, record.part if record.kind == "tool" else "prose")


def _is_passing(record: Record) -> bool:
    """Return True for what newer records make old: neither a start nor an end."""
    if isinstance(record, JobDelayed):
        return record.error is not None  # else its wait is its beginning
    return isinstance(record, JobActive | JobProgress | JobStalled | RunProgress)
