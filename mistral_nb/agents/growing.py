"""A turn while it arrives: the stream's events become entries, nothing of them is dropped."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from mistral_nb.agents.entries import Entry, Media, State, thought
from mistral_nb.replies import Piece
from mistral_nb.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["GrowingTurn", "RefusedError"]

COMMON = frozenset({"type", "created_at", "output_index", "content_index", "content", "arguments"})
"""Fields of an event that are no fields of its entry, or that grow."""


class RefusedError(Exception):
    """The server ended the response with an error; ``message`` and ``code`` are its own."""

    def __init__(self, message: str, code: object) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class _Part:
    """One entry that may still grow."""

    __slots__ = (
        "_arguments",
        "_content",
        "_frozen",
        "_text",
        "_text_kind",
        "_version",
        "began",
        "data",
        "id",
        "media",
        "seconds",
        "state",
        "type",
    )

    def __init__(self, kind: str, name: str, data: dict[str, Any], state: State) -> None:
        self.type = kind
        self.id = name
        self.data = data
        self.state: State = state
        self.seconds = 0.0
        self.media: tuple[Media, ...] = ()
        self.began = time.perf_counter()
        self._arguments: list[str] = []
        self._content: list[dict[str, Any]] = []
        self._text: list[str] = []
        self._text_kind = "text"
        self._version = 0
        self._frozen: tuple[int, Entry] | None = None

    def write(self, kind: str, text: str) -> None:
        """Add words; those of one kind that follow each other are one chunk."""
        if kind != self._text_kind:
            self._close_text()
            self._text_kind = kind
        self._text.append(text)
        self._version += 1

    def place(self, chunk: dict[str, Any]) -> None:
        """Add a chunk that is no words."""
        self._close_text()
        self._content.append(chunk)
        self._version += 1

    def argue(self, piece: str) -> None:
        """Add a piece of a call's arguments."""
        self._arguments.append(piece)
        self._version += 1

    def set(self, state: State | None = None, **data: Any) -> None:
        """Set the state and further fields."""
        self.state = state or self.state
        self.data.update(data)
        self._version += 1

    def _close_text(self) -> None:
        if self._text:
            self._content.append(_words(self._text_kind, "".join(self._text)))
            self._text.clear()

    def entry(self) -> Entry:
        """Return it as it is now; any thread may ask, and what it misses makes a new version."""
        version, frozen = self._version, self._frozen
        if frozen is not None and frozen[0] == version:
            return frozen[1]
        data = dict(self.data)
        if self._arguments:
            data["arguments"] = "".join(self._arguments)
        if self.type == "message.output":
            data["content"] = self._whole()
        made = Entry(self.type, self.id, data, self.state, self.seconds, self.media)
        self._frozen = version, made
        return made

    def _whole(self) -> str | list[dict[str, Any]]:
        """Return the content: bare text where it is nothing else."""
        words = "".join(self._text)
        if not self._content and self._text_kind == "text":
            return words
        return [*self._content, *([_words(self._text_kind, words)] if words else [])]


class GrowingTurn:
    """Grows the entries of one turn from the events of its rounds. No I/O; one thread writes.

    Shapes: the API's description of ``ConversationEvents``, with fields missing or unknown
    as real servers have them.

    Attributes:
        remote: The server's id of the conversation, once it said so.
        complete: True once the round's ``conversation.response.done`` came.
        usage: Tokens of all rounds so far; None before the first count.
    """

    def __init__(self) -> None:
        self.remote = ""
        self.complete = False
        self.usage: Usage | None = None
        self.events = 0
        self._parts: list[_Part] = []
        self._by_key: dict[str, int] = {}
        self._round = 0

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries so far."""
        return tuple(part.entry() for part in self._parts)

    def entry(self, part: int) -> Entry:
        """Return one entry by its place."""
        return self._parts[part].entry()

    def __len__(self) -> int:
        return len(self._parts)

    def begin_round(self) -> None:
        """Expect one more response."""
        self.complete = False
        self._round = len(self._parts)
        self._by_key.clear()  # some models begin to count their calls anew in each response

    def round_calls(self) -> list[int]:
        """Return the places of the function calls of the last response."""
        places = range(self._round, len(self._parts))
        return [place for place in places if self._parts[place].type == "function.call"]

    def put(
        self,
        kind: str,
        data: dict[str, Any],
        state: State = "done",
        media: tuple[Media, ...] = (),
        seconds: float = 0.0,
    ) -> int:
        """Add an entry of ours: a message, a result.

        Returns:
            Its place.
        """
        part = _Part(kind, f"local-{uuid.uuid4().hex[:12]}", data, state)
        part.media, part.seconds = media, seconds
        self._parts.append(part)
        return len(self._parts) - 1

    def set(self, place: int, state: State, seconds: float | None = None, **data: Any) -> Entry:
        """Change an entry's state.

        Returns:
            The entry as it is now.
        """
        part = self._parts[place]
        if seconds is not None:
            part.seconds = seconds
        part.set(state, **data)
        return part.entry()

    def settle(self, state: State) -> list[int]:
        """End whatever still goes on, in one state.

        Returns:
            The places of what was ended.
        """
        open_parts = [n for n, p in enumerate(self._parts) if p.state in {"arriving", "running"}]
        open_parts += [n for n, p in enumerate(self._parts) if p.state == "waiting"]
        for place in open_parts:
            self._parts[place].set(state)
        return sorted(open_parts)

    def take(self, event: Mapping[str, Any]) -> Iterator[Piece | int]:
        """Take one event.

        Yields:
            Pieces of text or arguments, and places of entries that began or changed.

        Raises:
            RefusedError: The server says that the response failed.
        """
        self.events += 1
        kind = str(event.get("type") or "")
        handler = _HANDLERS.get(kind)
        try:
            if handler is not None:
                yield from handler(self, event)
                return
        except (AttributeError, KeyError, TypeError, ValueError):
            pass  # of an unknown shape: kept as it came, like an unknown event
        yield self.put(kind or "unknown", {"raw": dict(event)})

    def _started(self, event: Mapping[str, Any]) -> Iterator[Piece | int]:
        self.remote = str(event.get("conversation_id") or self.remote)
        yield from ()

    def _done(self, event: Mapping[str, Any]) -> Iterator[Piece | int]:
        self.complete = True
        if isinstance(usage := event.get("usage"), dict):
            self.usage = Usage.total([self.usage, Usage.from_wire(usage)])
        yield from self._finish_arriving()

    def _error(self, event: Mapping[str, Any]) -> Iterator[Piece | int]:
        raise RefusedError(str(event.get("message") or "no reason given"), event.get("code"))

    def _message(self, event: Mapping[str, Any]) -> Iterator[Piece | int]:
        place, new = self._place(event, "message.output", {"role": "assistant"})
        if new:
            yield place
        content = event.get("content")
        for chunk in content if isinstance(content, list) else [content]:
            yield from self._content(place, chunk)

    def _content(self, place: int, chunk: object) -> Iterator[Piece | int]:
        part = self._parts[place]
        kind = chunk.get("type") if isinstance(chunk, dict) else None
        if isinstance(chunk, str) or kind == "text":
            text = chunk if isinstance(chunk, str) else str(_get(chunk, "text") or "")
            if text:
                part.write("text", text)
                yield Piece("text", text, place)
        elif kind == "thinking":
            text = thought(_get(chunk, "thinking"))
            part.write("thinking", text)
            yield Piece("thinking", text, place)
        elif isinstance(chunk, dict):
            part.place(chunk)
            yield place

    def _call(self, event: Mapping[str, Any]) -> Iterator[Piece | int]:
        place, new = self._place(event, "function.call", {"arguments": ""})
        part = self._parts[place]
        call_id = part.data["tool_call_id"] = part.data.get("tool_call_id") or part.id
        if status := event.get("confirmation_status"):
            part.set(confirmation_status=status)
        if new:
            yield place
        if piece := _piece(event):
            part.argue(piece)
            yield Piece("tool", piece, place, part.data.get("name", ""), call_id)

    def _execution_started(self, event: Mapping[str, Any]) -> Iterator[Piece | int]:
        place, _ = self._place(event, "tool.execution", {"arguments": ""}, "running")
        if piece := _piece(event):
            self._parts[place].argue(piece)
        yield place

    def _execution_delta(self, event: Mapping[str, Any]) -> Iterator[Piece | int]:
        place, new = self._place(event, "tool.execution", {"arguments": ""}, "running")
        if new:
            yield place
        if piece := _piece(event):
            part = self._parts[place]
            part.argue(piece)
            yield Piece("tool", piece, place, part.data.get("name", ""))

    def _execution_done(self, event: Mapping[str, Any]) -> Iterator[Piece | int]:
        place, _ = self._place(event, "tool.execution", {"arguments": ""}, "running")
        yield self._ended(place, info=event.get("info") or {})

    def _handoff_started(self, event: Mapping[str, Any]) -> Iterator[Piece | int]:
        yield self._place(event, "agent.handoff", {}, "running")[0]

    def _handoff_done(self, event: Mapping[str, Any]) -> Iterator[Piece | int]:
        place, _ = self._place(event, "agent.handoff", {}, "running")
        yield self._ended(place, **_fields(event))

    def _ended(self, place: int, **data: Any) -> int:
        part = self._parts[place]
        part.seconds = time.perf_counter() - part.began
        part.set("done", **data)
        return place

    def _place(
        self, event: Mapping[str, Any], kind: str, data: dict[str, Any], state: State = "arriving"
    ) -> tuple[int, bool]:
        """Find the entry an event belongs to, or begin one."""
        name = str(event.get("id") or "")
        key = f"{kind}:{event.get('tool_call_id') or name}"
        known = self._by_key.get(key)
        if known is not None:
            if not self._parts[known].data.get("name") and event.get("name"):
                self._parts[known].set(name=event["name"])
            return known, False
        part = _Part(kind, name or f"local-{len(self._parts)}", {**data, **_fields(event)}, state)
        self._parts.append(part)
        self._by_key[key] = len(self._parts) - 1
        return len(self._parts) - 1, True

    def _finish_arriving(self) -> Iterator[int]:
        """End the messages of this round; calls are ended by whoever runs them."""
        for place in range(self._round, len(self._parts)):
            part = self._parts[place]
            if part.state == "arriving" and part.type != "function.call":
                part.set("done")
                yield place


_HANDLERS: dict[str, Callable[[GrowingTurn, Mapping[str, Any]], Iterator[Piece | int]]] = {
    "conversation.response.started": GrowingTurn._started,  # noqa: SLF001 - a table of its own
    "conversation.response.done": GrowingTurn._done,  # noqa: SLF001
    "conversation.response.error": GrowingTurn._error,  # noqa: SLF001
    "message.output.delta": GrowingTurn._message,  # noqa: SLF001
    "function.call.delta": GrowingTurn._call,  # noqa: SLF001
    "tool.execution.started": GrowingTurn._execution_started,  # noqa: SLF001
    "tool.execution.delta": GrowingTurn._execution_delta,  # noqa: SLF001
    "tool.execution.done": GrowingTurn._execution_done,  # noqa: SLF001
    "agent.handoff.started": GrowingTurn._handoff_started,  # noqa: SLF001
    "agent.handoff.done": GrowingTurn._handoff_done,  # noqa: SLF001
}


def _fields(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in COMMON}


def _get(chunk: object, name: str) -> object:
    return chunk.get(name) if isinstance(chunk, dict) else None


def _piece(event: Mapping[str, Any]) -> str:
    """Return a piece of arguments; some servers send an object where the text is due."""
    found = event.get("arguments")
    if isinstance(found, dict):
        import orjson

        return orjson.dumps(found).decode()
    return str(found or "")


def _words(kind: str, text: str) -> dict[str, Any]:
    if kind == "thinking":
        return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}
    return {"type": "text", "text": text}
