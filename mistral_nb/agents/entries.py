"""What a conversation consists of: frozen entries, and turns made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import orjson

from mistral_nb.replies import Reply, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mistral_nb.usage import Usage

__all__ = [
    "Citation",
    "Entry",
    "File",
    "Handoff",
    "Media",
    "State",
    "ToolUse",
    "Turn",
    "image_type",
    "results_of",
]

State = Literal["arriving", "waiting", "running", "done", "failed", "denied", "stopped"]
"""Of an entry; `waiting` is for a person's consent."""

Status = Literal["queued", "running", "done", "stopped", "failed"]

_IMAGE_SIGNS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)


@dataclass(frozen=True, slots=True)
class Media:
    """A picture that a tool of yours returned.

    Attributes:
        mime: e.g. ``"image/png"``.
        data: Its bytes.
        alt: A line that stands for it in text.
    """

    mime: str
    data: bytes = field(repr=False)
    alt: str = ""


@dataclass(frozen=True, slots=True)
class Citation:
    """A source that an answer names; every field is the server's own, unchecked text."""

    tool: str
    title: str
    url: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A file that a connector made; ``conversation.download(file)`` fetches it.

    Attributes:
        tool: Connector that made it.
        file_id: Its id in the Files API.
        name: Its name, as the server says.
        type: Extension or MIME type, as the server says.
    """

    tool: str
    file_id: str
    name: str = ""
    type: str = ""


@dataclass(frozen=True, slots=True)
class Handoff:
    """One agent gave the conversation to another; names as the server says."""

    previous: str
    next: str


@dataclass(frozen=True)
class Entry:
    """One item of a conversation. All of its text is from outside: escape it to show it.

    Attributes:
        type: As the API calls it, e.g. ``"message.output"``; events that are not known yet
            are kept under their own name.
        id: The server's id, or one of ours that begins with ``local-``.
        data: The entry as the API writes it.
        state: How far it is.
        seconds: How long it took, where it is work.
        media: Pictures that a tool returned.
    """

    type: str
    id: str
    data: Mapping[str, Any]
    state: State = "done"
    seconds: float = 0.0
    media: tuple[Media, ...] = ()

    def __repr__(self) -> str:
        what = self.name or " ".join(self.text.split())
        short = what if len(what) <= 50 else f"{what[:47]}..."  # noqa: PLR2004 - one line
        return f"Entry({self.type}, {short!r}, {self.state})"

    def chunks(self, kind: str) -> Iterator[Mapping[str, Any]]:
        """Yield the parts of its content of one kind, e.g. ``"tool_file"``.

        Args:
            kind: The ``type`` of the parts.
        """
        content = self.data.get("content")
        if isinstance(content, list):
            for chunk in content:
                if isinstance(chunk, dict) and chunk.get("type") == kind:
                    yield chunk

    @cached_property
    def text(self) -> str:
        """A message's words, or a result's."""
        content = self.data.get("content")
        if isinstance(content, str):
            return content
        if content is None:
            return str(self.data.get("result") or "")
        return "".join(str(chunk.get("text") or "") for chunk in self.chunks("text"))

    @cached_property
    def thinking(self) -> str:
        """What a reasoning model thought before its words."""
        return "".join(thought(chunk.get("thinking")) for chunk in self.chunks("thinking"))

    @property
    def name(self) -> str:
        """Name of the tool or connector; empty for what is none."""
        return str(self.data.get("name") or "")

    @property
    def call_id(self) -> str:
        """Id of the call: what a call and its result share."""
        return str(self.data.get("tool_call_id") or "")

    @property
    def arguments(self) -> dict[str, Any] | str:
        """Arguments of a call, parsed; the bare text if it is no JSON object."""
        return parsed(self.data.get("arguments"))

    @property
    def citations(self) -> tuple[Citation, ...]:
        """Sources that the message names."""
        return tuple(
            Citation(
                str(chunk.get("tool") or ""),
                str(chunk.get("title") or ""),
                _text_or_none(chunk.get("url")),
                _text_or_none(chunk.get("description")),
            )
            for chunk in self.chunks("tool_reference")
        )

    @property
    def files(self) -> tuple[File, ...]:
        """Files that the message carries."""
        return tuple(
            File(
                str(chunk.get("tool") or ""),
                str(chunk.get("file_id") or ""),
                str(chunk.get("file_name") or ""),
                str(chunk.get("file_type") or ""),
            )
            for chunk in self.chunks("tool_file")
        )

    @property
    def images(self) -> tuple[str, ...]:
        """Addresses of the message's images, ``data:`` ones among them."""
        found = (chunk.get("image_url") for chunk in self.chunks("image_url"))
        urls = (each.get("url") if isinstance(each, dict) else each for each in found)
        return tuple(str(url) for url in urls if url)


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call of one of your tools, with its result.

    Attributes:
        call: The ``function.call`` entry.
        result: The ``function.result`` entry; None while there is none.
    """

    call: Entry
    result: Entry | None = None

    @property
    def name(self) -> str:
        """Name of the tool."""
        return self.call.name

    @property
    def arguments(self) -> dict[str, Any] | str:
        """What it was called with."""
        return self.call.arguments

    @property
    def state(self) -> State:
        """How far it is."""
        return self.call.state

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return self.call.seconds

    @property
    def text(self) -> str:
        """What the model was told."""
        return self.result.text if self.result else ""


@dataclass(frozen=True)
class Turn:
    """A message, and everything up to the answer to it.

    Attributes:
        id: Ours, ``turn-...``.
        conversation: Name of the conversation.
        parent: Id of the turn before it; None at a beginning.
        entries: The message first.
        status: ``queued``, ``running``, ``done``, ``stopped`` or ``failed``.
        finish_reason: ``stop``, ``stopped`` or ``max_rounds``; None if it failed or goes on.
        error: What went wrong, in words.
        usage: Tokens of all its rounds.
        model: Model or agent that was asked.
        started: When, in seconds since the epoch.
        seconds: From sending to its end.
    """

    id: str
    conversation: str
    parent: str | None = None
    entries: tuple[Entry, ...] = ()
    status: Status = "running"
    finish_reason: str | None = None
    error: str = ""
    usage: Usage | None = None
    model: str = ""
    started: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return the answer's text."""
        return self.text

    def __repr__(self) -> str:
        start = " ".join(self.text[:200].split())
        text = start if len(start) <= 60 else f"{start[:57]}..."  # noqa: PLR2004 - one line
        calls = [u.name if u.state == "done" else f"{u.name}: {u.state}" for u in self.tool_calls]
        tools = f", tool_calls={calls}" if calls else ""
        return f"Turn({text!r}{tools}, {self.status})"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """Show the answer as Markdown made safe, and what went wrong; plain text elsewhere."""
        from mistral_nb.markdown import prose, render

        html = render(self.text, math="tex")
        if self.ending:
            html += f"<p><em>{prose(self.ending)}</em></p>"
        return {"text/html": html, "text/plain": self.text or repr(self)}

    @property
    def ending(self) -> str:
        """Why it has no whole answer, in a sentence; empty if it has one, or goes on."""
        if self.finish_reason == "max_rounds":
            return "The model still called tools after the most rounds it may take (max_rounds)."
        return self.error or ("Stopped." if self.status == "stopped" else "")

    def _messages(self) -> Iterator[Entry]:
        return (entry for entry in self.entries if entry.type == "message.output")

    @property
    def question(self) -> str:
        """The words of the message it answers."""
        return next((e.text for e in self.entries if e.type == "message.input"), "")

    @cached_property
    def text(self) -> str:
        """The answer; where it came in several messages, a paragraph each."""
        return "\n\n".join(entry.text for entry in self._messages() if entry.text)

    @property
    def thinking(self) -> str:
        """What was thought before it."""
        return "\n\n".join(entry.thinking for entry in self._messages() if entry.thinking)

    @property
    def tool_calls(self) -> tuple[ToolUse, ...]:
        """Calls in order, each with its result."""
        results = results_of(self.entries)
        calls = ((n, e) for n, e in enumerate(self.entries) if e.type == "function.call")
        return tuple(ToolUse(call, results.get(place)) for place, call in calls)

    @property
    def handoffs(self) -> tuple[Handoff, ...]:
        """Who handed over to whom, in order."""
        return tuple(
            Handoff(
                str(entry.data.get("previous_agent_name") or ""),
                str(entry.data.get("next_agent_name") or ""),
            )
            for entry in self.entries
            if entry.type == "agent.handoff"
        )

    @property
    def citations(self) -> tuple[Citation, ...]:
        """Sources that the answer names."""
        return tuple(each for entry in self._messages() for each in entry.citations)

    @property
    def files(self) -> tuple[File, ...]:
        """Files that came with the answer."""
        return tuple(each for entry in self._messages() for each in entry.files)

    def as_reply(self) -> Reply:
        """Return it in the form of a plain chat's reply."""
        calls = (use.call for use in self.tool_calls)
        return Reply(
            text=self.text,
            thinking=self.thinking,
            tool_calls=tuple(
                ToolCall(c.call_id, c.name, str(c.data.get("arguments") or "")) for c in calls
            ),
            finish_reason=self.finish_reason,
            usage=self.usage,
            model=self.model,
            id=self.id,
            seconds=self.seconds,
        )


def results_of(entries: Sequence[Entry]) -> dict[int, Entry]:
    """Return the result of each call that has one, by the place of the call.

    A call's id is its own only until its result: a later response may use it again.
    """
    found: dict[int, Entry] = {}
    waiting: dict[str, int] = {}
    for place, entry in enumerate(entries):
        if entry.type == "function.call":
            waiting[entry.call_id] = place
        elif entry.type == "function.result" and entry.call_id in waiting:
            found[waiting.pop(entry.call_id)] = entry
    return found


def image_type(data: bytes) -> str | None:
    """Return the MIME type of an image by how its file begins; None if it is none."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":  # sounds begin with RIFF as well
        return "image/webp"
    return next((mime for sign, mime in _IMAGE_SIGNS if data.startswith(sign)), None)


def thought(thinking: object) -> str:
    """Return the words in a thinking chunk, whatever its form."""
    if isinstance(thinking, str):
        return thinking
    parts: Sequence[Any] = thinking if isinstance(thinking, list) else ()
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))


def parsed(arguments: object) -> dict[str, Any] | str:
    """Return a call's arguments as an object; as text if they are none."""
    if isinstance(arguments, dict):
        return arguments
    text = str(arguments or "")
    try:
        found = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return text
    return found if isinstance(found, dict) else text


def _text_or_none(value: object) -> str | None:
    return str(value) if value else None
