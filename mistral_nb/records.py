"""The records that the event bus carries: small, frozen, one class an event."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ChatChunk",
    "ChatComplete",
    "ChatError",
    "ChatStart",
    "ConversationChanged",
    "JobActive",
    "JobCancelled",
    "JobCompleted",
    "JobDelayed",
    "JobFailed",
    "JobProgress",
    "JobQueued",
    "JobRecord",
    "JobStalled",
    "JobUncertain",
    "Record",
    "RunComplete",
    "RunError",
    "RunProgress",
    "RunStart",
    "TurnChunk",
    "TurnComplete",
    "TurnEntry",
    "TurnError",
    "TurnStart",
]


@dataclass(frozen=True, slots=True)
class Record:
    """Base of all events; ``name`` is what patterns match.

    Attributes:
        name: Name of the event, the same for all of a class.
        request_id: Which stream, run, job or conversation it belongs to.
    """

    name: ClassVar[str] = ""
    final: ClassVar[bool] = False
    """True for the one record that ends a request or run."""

    request_id: str


@dataclass(frozen=True, slots=True)
class ChatStart(Record):
    """A stream was asked for.

    Attributes:
        model: Model that is asked.
        timestamp: When, in seconds since the epoch.
    """

    name: ClassVar[str] = "chat:start"

    model: str
    timestamp: float


@dataclass(frozen=True, slots=True)
class ChatChunk(Record):
    """One piece of a reply, or several joined for a slow listener.

    Attributes:
        content: Text; for a tool call, a piece of its JSON arguments; for references,
            their ids joined by commas.
        index: Number of the (first) piece within its reply, from 0.
        kind: What the content is.
        part: Which tool call a ``tool`` piece belongs to, from 0.
        tool_name: Name of the tool, on its first piece.
        tool_call_id: Id of the call, on its first piece.
        count: How many pieces were joined into this record.
    """

    name: ClassVar[str] = "chat:chunk"

    content: str
    index: int
    kind: Literal["text", "thinking", "tool", "reference"] = "text"
    part: int = 0
    tool_name: str = ""
    tool_call_id: str = ""
    count: int = 1

    def __str__(self) -> str:
        """Return the content, so that ``print(chunk, end="")`` does what one expects."""
        return self.content


@dataclass(frozen=True, slots=True)
class ChatComplete(Record):
    """A reply is whole, or was stopped on purpose (``finish_reason="stopped"``).

    Attributes:
        text: The answer.
        usage: Token counts, or None where the server sent none.
        finish_reason: As the server says, or ``"stopped"``.
        reply: All of it, as a Reply.
    """

    name: ClassVar[str] = "chat:complete"
    final: ClassVar[bool] = True

    text: str
    usage: Any
    finish_reason: str
    reply: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChatError(Record):
    """A reply failed.

    Attributes:
        error: What the one who waits for it gets raised.
        partial: What had arrived, as a Reply.
    """

    name: ClassVar[str] = "chat:error"
    final: ClassVar[bool] = True

    error: Exception
    partial: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class RunStart(Record):
    """A labelling run began or was taken up again (``request_id`` is the run's name).

    Attributes:
        counts: Status -> number of rows; ``total`` is all of them.
        message: What goes on, in words.
    """

    name: ClassVar[str] = "run:start"

    counts: Mapping[str, int]
    message: str = ""


@dataclass(frozen=True, slots=True)
class RunProgress(Record):
    """A run's counts of rows by status changed.

    Attributes:
        counts: Status -> number of rows; ``total`` is all of them.
        message: What goes on, in words.
    """

    name: ClassVar[str] = "run:progress"

    counts: Mapping[str, int]
    message: str = ""


@dataclass(frozen=True, slots=True)
class RunComplete(Record):
    """Every row of a run has its end.

    Attributes:
        counts: Status -> number of rows; ``total`` is all of them.
        message: How it ended, in words.
    """

    name: ClassVar[str] = "run:complete"
    final: ClassVar[bool] = True

    counts: Mapping[str, int]
    message: str = ""


@dataclass(frozen=True, slots=True)
class RunError(Record):
    """A run cannot go on; what was paid for is in the ledger.

    Attributes:
        error: What the one who waits for it gets raised.
        counts: Status -> number of rows; ``total`` is all of them.
    """

    name: ClassVar[str] = "run:error"
    final: ClassVar[bool] = True

    error: Exception
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class JobRecord(Record):
    """Base of what happens to a background job (``request_id`` is the job's id).

    Attributes:
        queue: Name of its queue.
        at: When, in seconds since the epoch.
    """

    queue: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class JobQueued(JobRecord):
    """A job waits for a worker: it was added, replayed, or its delay is over."""

    name: ClassVar[str] = "job:queued"


@dataclass(frozen=True, slots=True)
class JobDelayed(JobRecord):
    """A job waits for its time.

    Attributes:
        error: What failed, if it waits to be tried again.
    """

    name: ClassVar[str] = "job:delayed"

    error: str | None = None


@dataclass(frozen=True, slots=True)
class JobActive(JobRecord):
    """A worker began an attempt at a job."""

    name: ClassVar[str] = "job:active"


@dataclass(frozen=True, slots=True)
class JobProgress(JobRecord):
    """A handler told how far it is.

    Attributes:
        progress: Whatever it told.
    """

    name: ClassVar[str] = "job:progress"

    progress: Any = None


@dataclass(frozen=True, slots=True)
class JobStalled(JobRecord):
    """A job's worker is gone; the job waits for another one."""

    name: ClassVar[str] = "job:stalled"


@dataclass(frozen=True, slots=True)
class JobCompleted(JobRecord):
    """A job is done.

    Attributes:
        result: What its handler returned.
    """

    name: ClassVar[str] = "job:completed"
    final: ClassVar[bool] = True

    result: Any = None


@dataclass(frozen=True, slots=True)
class JobFailed(JobRecord):
    """A job is given up; it can be replayed.

    Attributes:
        error: What failed at last, in words.
    """

    name: ClassVar[str] = "job:failed"
    final: ClassVar[bool] = True

    error: str | None = None


@dataclass(frozen=True, slots=True)
class JobCancelled(JobRecord):
    """A job was cancelled.

    Attributes:
        error: Why, in words.
    """

    name: ClassVar[str] = "job:cancelled"
    final: ClassVar[bool] = True

    error: str | None = None


@dataclass(frozen=True, slots=True)
class JobUncertain(JobRecord):
    """A paid call of a job may have been carried out; nobody repeats it unasked.

    Attributes:
        error: What is in doubt, in words.
    """

    name: ClassVar[str] = "job:uncertain"
    final: ClassVar[bool] = True

    error: str | None = None


@dataclass(frozen=True, slots=True)
class TurnStart(Record):
    """A message was sent in a conversation.

    Attributes:
        conversation: Name of the conversation.
        parent: Id of the turn it follows; None at a beginning.
        timestamp: When, in seconds since the epoch.
    """

    name: ClassVar[str] = "turn:start"

    conversation: str
    timestamp: float
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class TurnChunk(ChatChunk):
    """A piece of a message or of a call's arguments; ``part`` is its entry's place in the turn."""

    name: ClassVar[str] = "turn:chunk"


@dataclass(frozen=True, slots=True)
class TurnEntry(Record):
    """An entry of a turn began, changed its state, or is whole.

    Attributes:
        part: The entry's place in the turn, from 0.
        entry: The entry as it is now, in place of what was known of that part.
    """

    name: ClassVar[str] = "turn:entry"

    part: int
    entry: Any


@dataclass(frozen=True, slots=True)
class TurnComplete(Record):
    """A turn has its answer, or was stopped on purpose (``finish_reason="stopped"``).

    Attributes:
        text: The answer.
        usage: Token counts of all its requests, or None.
        finish_reason: As the server says, or ``"stopped"``.
        turn: All of it, as a Turn.
    """

    name: ClassVar[str] = "turn:complete"
    final: ClassVar[bool] = True

    text: str
    usage: Any
    finish_reason: str
    turn: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class TurnError(Record):
    """A turn failed.

    Attributes:
        error: What the one who waits for it gets raised.
        turn: What had come, as a Turn.
    """

    name: ClassVar[str] = "turn:error"
    final: ClassVar[bool] = True

    error: Exception
    turn: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class ConversationChanged(Record):
    """A conversation's turns are others now (``request_id`` is ``conversation-<name>``).

    Attributes:
        reason: ``sent``, ``switched``, ``cleared``, ``settings``, ``deleted``, or ``recovered``:
            the server had lost it, and got it back from the history.
    """

    name: ClassVar[str] = "conversation:changed"

    reason: str
