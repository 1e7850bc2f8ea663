"""What a chat returns: the frozen `Reply`, and the builder that grows one from chunks."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from mistral_nb.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Reply", "ReplyBuilder", "ToolCall", "Usage", "WrongShapeError", "whole_reply"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for.

    Attributes:
        id: The server's id of the call; the result is sent back under it.
        name: Name of the tool.
        arguments: JSON text, exactly as it came (it may not even be JSON).
    """

    id: str
    name: str
    arguments: str

    def parsed(self) -> Any:
        """Return the arguments as Python values.

        Raises:
            ValueError: The model wrote something that is not JSON.
        """
        return orjson.loads(self.arguments or "{}")


@dataclass(frozen=True, repr=False)
class Reply:
    """One answer of a model.

    Attributes:
        text: The answer, usually Markdown.
        thinking: What a reasoning model thought before it, or "".
        tool_calls: Calls that the model asks for.
        references: Ids of the sources that the answer cites, in order of appearance.
        finish_reason: ``"stop"``, ``"length"``, ``"tool_calls"``, ... as the server says;
            ``"stopped"`` if you stopped it; None if it was cut (see ``error.partial``).
        usage: Token counts, or None where the server sent none.
        model: Model that answered.
        id: The server's id of the reply.
        seconds: From request to end.
        shown_in: Execution count of the cell that shows it live, or None.
    """

    text: str
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    references: tuple[str, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str = ""
    id: str = ""
    seconds: float = 0.0
    shown_in: object = field(default=None, compare=False)
    """Execution count of the cell that already shows this reply live."""

    def __str__(self) -> str:
        """Return the answer's text."""
        return self.text

    def __repr__(self) -> str:
        start = " ".join(self.text[:200].split())
        text = start if len(self.text) <= 60 else f"{start[:57]}..."  # noqa: PLR2004 - one line
        calls = f", tool_calls={[call.name for call in self.tool_calls]}" if self.tool_calls else ""
        tokens = f", tokens={self.usage.total_tokens}" if self.usage else ""
        return f"Reply({text!r}{calls}, finish_reason={self.finish_reason!r}{tokens})"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """Show the answer; only a line where the same cell already shows it live."""
        if self.shown_in is not None and self.shown_in == current_cell():
            return {"text/plain": repr(self)}
        from mistral_nb.markdown import is_harmless, render

        data = {"text/html": render(self.text, math="tex"), "text/plain": self.text}
        # JupyterLab would run what a model hides in Markdown; most of it hides nothing.
        return {**data, "text/markdown": self.text} if is_harmless(self.text) else data

    def as_message(self) -> dict[str, Any]:
        """Return the reply as an assistant message, to go on with the conversation."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in self.tool_calls
            ]
        return message


def current_cell() -> int | None:
    """Return the execution count of the running cell; None outside a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "execution_count", None)


class Piece(NamedTuple):
    """One piece of a chunk, in the terms of :class:`~mistral_nb.records.ChatChunk`."""

    kind: Literal["text", "thinking", "tool", "reference"]
    content: str
    part: int = 0
    tool_name: str = ""
    tool_call_id: str = ""


class WrongShapeError(Exception):
    """A chunk is not of the shape the API describes; the message says where."""


class _GrowingCall:
    """A tool call while its arguments arrive."""

    __slots__ = ("arguments", "id", "index", "name")

    def __init__(self, index: int | None) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


class ReplyBuilder:
    """Grows a reply from the chunks of a stream, in every shape servers send.

    Shapes: `wire/recorded`, the API's description of `CompletionChunk`, and what the SDK's
    models accept: content as str, list or null, thinking, references, tool calls whole or
    in pieces, empty `choices`, unknown fields.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.id = ""
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.chunks = 0
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._references: list[str] = []
        self._cited: list[tuple[int, str]] = []  # pieces of text before, ids
        self._calls: list[_GrowingCall] = []

    @property
    def text(self) -> str:
        """Answer so far."""
        return "".join(self._text)

    @property
    def thinking(self) -> str:
        """Thinking so far."""
        return "".join(self._thinking)

    def pieces(self) -> Iterator[Piece]:
        """Yield all that has come so far, joined: what a late listener must be told."""
        if self._thinking:
            yield Piece("thinking", self.thinking)
        told = 0
        for before, ids in self._cited:
            if before > told:
                yield Piece("text", "".join(self._text[told:before]))
            told = before
            yield Piece("reference", ids)
        if len(self._text) > told:
            yield Piece("text", "".join(self._text[told:]))
        for part, call in enumerate(self._calls):
            yield Piece("tool", "".join(call.arguments), part, call.name, call.id)

    def build(self, seconds: float, finish_reason: str | None, shown_in: object) -> Reply:
        """Freeze what has come into a Reply.

        Args:
            seconds: From request to end.
            finish_reason: As :class:`Reply` has it.
            shown_in: Likewise.
        """
        calls = (ToolCall(c.id, c.name, "".join(c.arguments)) for c in self._calls)
        return Reply(
            text=self.text,
            thinking=self.thinking,
            tool_calls=tuple(calls),
            references=tuple(self._references),
            finish_reason=finish_reason,
            usage=self.usage,
            model=self.model,
            id=self.id,
            seconds=seconds,
            shown_in=shown_in,
        )

    def add(self, chunk: dict[str, Any]) -> list[Piece]:
        """Take one decoded chunk.

        Returns:
            The pieces in it, often one, often none.

        Raises:
            WrongShapeError: It is not a completion chunk.
        """
        try:
            return list(self._add(chunk))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise WrongShapeError(f"{type(error).__name__}: {error}") from error

    def _add(self, chunk: dict[str, Any]) -> Iterator[Piece]:
        self.chunks += 1
        self.id = chunk.get("id") or self.id
        self.model = chunk.get("model") or self.model
        if usage := chunk.get("usage"):
            self.usage = Usage.from_wire(usage)
        for choice in chunk["choices"] or ():
            if choice.get("index", 0) != 0:  # one reply a stream; n > 1 is refused before
                continue
            delta = choice["delta"]
            yield from self._add_content(delta.get("content"))
            for call in delta.get("tool_calls") or ():
                yield self._add_call(call)
            self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def _add_content(self, content: str | list[dict[str, Any]] | None) -> Iterator[Piece]:
        if not content:
            return
        if isinstance(content, str):
            self._text.append(content)
            yield Piece("text", content)
            return
        for part in content:
            kind = part.get("type")
            if kind == "text":
                yield from self._add_content(part["text"])
            elif kind == "thinking":
                thought = _thought(part["thinking"])
                self._thinking.append(thought)
                yield Piece("thinking", thought)
            elif kind == "reference":
                ids = [str(each) for each in part["reference_ids"]]
                self._references.extend(ids)
                self._cited.append((len(self._text), ",".join(ids)))
                yield Piece("reference", ",".join(ids))
            # Other kinds (image_url, file, audio, ones to come) carry no text to show.

    def _add_call(self, data: dict[str, Any]) -> Piece:
        """Add a whole call, or a piece of one: same index or id, the name only at first."""
        function = data["function"]
        name, call_id = function.get("name") or "", data.get("id") or ""
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):  # the API allows an object as well
            arguments = orjson.dumps(arguments).decode()
        part = self._part_of(data.get("index"), call_id, name)
        call = self._calls[part]
        call.id = call.id or call_id
        call.name = call.name or name
        call.arguments.append(arguments)
        return Piece("tool", arguments, part, name, call_id)

    def _part_of(self, index: int | None, call_id: str, name: str) -> int:
        """Find the call a piece belongs to; a new id or name begins a new call."""
        parts = range(len(self._calls) - 1, -1, -1)
        if call_id and call_id != "null":
            same = [part for part in parts if self._calls[part].id == call_id]
        elif name:
            same = []
        else:  # a nameless piece continues the call of its index, else the last one
            same = [part for part in parts if self._calls[part].index == index] or list(parts)
        if same:
            return same[0]
        self._calls.append(_GrowingCall(index))
        return len(self._calls) - 1


def _thought(thinking: str | list[dict[str, Any]]) -> str:
    if isinstance(thinking, str):
        return thinking
    return "".join(part.get("text") or "" for part in thinking)


def whole_reply(body: dict[str, Any], seconds: float) -> Reply:
    """Read a reply that came in one piece as the one chunk of a stream.

    Args:
        body: The JSON of a chat completion.
        seconds: How long it took.

    Raises:
        WrongShapeError: It is no chat completion.
    """
    builder = ReplyBuilder("")
    try:
        choices = [{**choice, "delta": choice["message"]} for choice in body["choices"][:1]]
    except (KeyError, TypeError) as error:
        raise WrongShapeError(f"{type(error).__name__}: {error}") from error
    if not choices:
        raise WrongShapeError("no choices")
    builder.add({**body, "choices": choices})
    return builder.build(seconds, builder.finish_reason, None)
