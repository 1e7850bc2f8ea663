"""One turn of a conversation: rounds of asking and of running tools, until there is an answer."""

from __future__ import annotations

import asyncio
import time
import uuid
import warnings
from typing import TYPE_CHECKING, Any, Literal

from mistral_nb.agents import remote
from mistral_nb.agents.branches import Node
from mistral_nb.agents.calls import answer_calls
from mistral_nb.agents.entries import Entry, Turn
from mistral_nb.agents.growing import GrowingTurn, RefusedError
from mistral_nb.errors import (
    ApiError,
    NotFoundError,
    StoreError,
    StreamCut,
    StreamError,
    StreamRefused,
)
from mistral_nb.live import LiveHandle
from mistral_nb.records import Record, TurnChunk, TurnComplete, TurnEntry, TurnError, TurnStart

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mistral_nb.agents.consent import Consent
    from mistral_nb.agents.conversation import Conversation
    from mistral_nb.agents.entries import Media, State, Status
    from mistral_nb.agents.tools import Tool
    from mistral_nb.portal import Portal
    from mistral_nb.replies import Piece
    from mistral_nb.usage import Usage

__all__ = ["TurnHandle"]

SAVE_SECONDS = 1.0
"""An answer that grows is written to the history this often."""

Content = str | list[dict[str, Any]]


class TurnHandle(LiveHandle[Turn]):
    """A turn that goes on: await it, iterate its text, stop it, answer what it asks.

    Args:
        conversation: Where it belongs.
        content: The message: text, or content chunks.
        parent: Turn that it follows; ``...`` for the end of the shown branch, once it begins.

    Attributes:
        conversation: As given.
    """

    pattern = "turn:*"

    def __init__(self, conversation: Conversation, content: Content, parent: Any = ...) -> None:
        self.conversation = conversation
        self._content = content
        self._parent = conversation.head if parent is ... else parent
        self._parent_is_head = parent is ...
        self._grown = GrowingTurn()
        self._grown.put("message.input", {"role": "user", "content": content})
        self._status: Status = "queued"
        self._finish_reason = "stop"
        self._error = ""
        self._asks: list[Consent] = []
        self._saved = 0.0
        self._node: Node | None = None
        name = f"turn-{uuid.uuid4().hex[:12]}"
        super().__init__(conversation.connection, conversation.bus, name)
        self.finish_with(self.save)  # who has the result may close the kernel

    def __repr__(self) -> str:
        return f"TurnHandle({self.conversation.name}, {self.state}, {len(self.text)} characters)"

    @property
    def turn(self) -> Turn:
        """The turn as it is now."""
        return Turn(
            id=self.request_id,
            conversation=self.conversation.name,
            parent=self._parent,
            entries=self._grown.entries,
            status=self._status,
            finish_reason=self._finish_reason if self._status in {"done", "stopped"} else None,
            error=self._error,
            usage=self._grown.usage,
            model=self.model,
            started=self._started,
            seconds=self.seconds,
        )

    @property
    def text(self) -> str:
        """Answer so far."""
        return self.turn.text

    @property
    def model(self) -> str:
        """Model or agent that is asked."""
        return self.conversation.setup.who

    @property
    def usage(self) -> Usage | None:
        """Tokens of all rounds that ended; None before the first."""
        return self._grown.usage

    @property
    def state(self) -> Literal["queued", "running", "waiting", "done", "stopped", "failed"]:
        """How far it is; ``waiting`` is for a person's consent."""
        return "waiting" if self._status == "running" and self.pending else self._status

    @property
    def over(self) -> bool:
        """True once it has its end, even if that is not told everywhere yet."""
        return self._end is not None

    @property
    def pending(self) -> tuple[Consent, ...]:
        """Calls that wait for an answer: ``.approve(...)`` or ``.deny(...)`` them."""
        if self._end is not None:
            return ()
        return tuple(each for each in self._asks if not each.done)

    # -- what running calls needs (calls.Desk) -------------------------------------------

    @property
    def portal(self) -> Portal:
        """The loop it runs on."""
        return self._portal

    @property
    def own_tools(self) -> Mapping[str, Tool]:
        """The conversation's tools by name."""
        return self.conversation.tools

    @property
    def approve(self) -> Any:
        """The conversation's rule of consent."""
        return self.conversation.approve

    @property
    def tool_timeout(self) -> float:
        """Seconds a tool may take."""
        return self.conversation.rules.tool_timeout

    def no_tool(self, name: str) -> str:
        """Say that there is no such tool here; of one that the model was told of, what to do.

        Args:
            name: What the model called.

        Returns:
            A sentence.
        """
        chat = self.conversation
        told = (tool.get("function") or {} for tool in chat.setup.tools)
        if name in {function.get("name") for function in told}:
            return (
                f"the tool {name!r} was passed in another kernel, and is not here. The user can "
                f"pass it again: mnb.conversation(name={chat.name!r}, tools=[...])."
            )
        known = ", ".join(sorted(chat.tools)) or "none"
        return f"there is no tool {name!r} here. Tools: {known}."

    def entry(self, place: int) -> Entry:
        """Return an entry by its place.

        Args:
            place: Its number in the turn, from 0.
        """
        return self._grown.entry(place)

    def mark(self, place: int, state: State, seconds: float | None = None, **data: Any) -> None:
        """Set an entry's state, and tell of it."""
        self._grown.set(place, state, seconds, **data)
        self._tell(place)

    def add_result(self, data: dict[str, Any], state: State, media: tuple[Media, ...]) -> None:
        """Add a result's entry, and tell of it."""
        self._tell(self._grown.put("function.result", data, state, media))

    def can_ask(self) -> bool:
        """Return True if a person is at a screen."""
        return len(self.conversation.screens) > 0

    def wait_for(self, consent: Consent) -> None:
        """Put a request where a screen finds it."""
        self._asks.append(consent)

    # -- events --------------------------------------------------------------------------

    def _start_record(self) -> TurnStart:
        name = self.conversation.name
        return TurnStart(self.request_id, name, self._started, self._parent)

    def _history(self) -> list[Record]:
        entries = enumerate(self._grown.entries)
        return [TurnEntry(self.request_id, part, entry) for part, entry in entries]

    def _reader(self) -> Callable[[Record], str]:
        return _Reader().read

    def _tell(self, place: int) -> None:
        entry = self._grown.entry(place)
        self.bus.publish_nowait(TurnEntry(self.request_id, place, entry))
        self.conversation.history.keep_entry(self.request_id, place, entry)

    async def _tell_piece(self, piece: Piece) -> None:
        kind, content, part, name, call = piece
        index = self._grown.events
        record = TurnChunk(self.request_id, content, index, kind, part, name, call)
        await self.bus.publish(record)
        now = time.monotonic()
        if now - self._saved > SAVE_SECONDS:
            self._saved = now
            entry = self._grown.entry(part)
            self.conversation.history.keep_entry(self.request_id, part, entry)

    # -- the work ------------------------------------------------------------------------

    async def _receive(self) -> None:
        async with self.conversation.lock:  # turns of one conversation go one after another
            ask = self._begin()
            await self.save()  # before it is paid for
            await self._converse(ask)

    def _begin(self) -> remote.Ask:
        """Take the turn's place in the tree and choose how to ask."""
        conversation = self.conversation
        if self._parent_is_head:
            self._parent = conversation.head
        self._status = "running"
        self._node = Node(self.turn, setup=conversation.setup.key, handle=self)
        ask = conversation.first_ask(self._parent, self.entry(0))
        conversation.begun(self, self._node)
        self._tell(0)
        return ask

    async def _converse(self, ask: remote.Ask) -> None:
        most = self.conversation.rules.max_rounds
        for number in range(1, most + 1):
            await self._ask(ask)
            calls = self._grown.round_calls()
            if not calls:
                return
            if number == most:
                break
            await self.save()  # before a tool does what cannot be undone
            answers = await answer_calls(self, calls)
            if not answers.results and not answers.confirmations:
                return
            ask = remote.append(self._grown.remote, *answers)
        self._finish_reason = "max_rounds"

    async def _ask(self, ask: remote.Ask) -> None:
        """Send one request; where the server has lost its memory, send it ours instead."""
        try:
            await self._listen(ask)
        except ApiError as error:
            if not remote.is_lost(ask, error):
                raise self._explained(ask, error) from error
            again = self.conversation.start_over(self._parent, self._grown.entries)
            try:
                await self._listen(again)
            except NotFoundError as missing:
                raise self._explained(again, missing) from missing

    async def _listen(self, ask: remote.Ask) -> None:
        self._grown.begin_round()
        try:
            async for event in remote.stream(self.conversation.connection, ask):
                for change in self._grown.take(event):
                    if isinstance(change, int):
                        self._tell(change)
                    else:
                        await self._tell_piece(change)
        except RefusedError as error:
            code = f" (code {error.code})" if error.code is not None else ""
            message = self.conversation.connection.without_key(error.message)
            raise StreamRefused(
                f"The server broke off the answer: {message}{code}. "
                "What had come is kept; chat.regenerate() asks again."
            ) from error
        if not self._grown.complete:
            raise StreamCut(
                f"The answer ended without its end after {self._grown.events} events: it is cut. "
                "What had come is kept; chat.regenerate() asks again."
            )

    def _explained(self, ask: remote.Ask, error: ApiError) -> ApiError:
        agent = self.conversation.setup.agent
        if agent is None or ask.kind != "start" or not isinstance(error, NotFoundError):
            return error
        return NotFoundError(
            f"The agent {agent} is not there (any more). The conversation is kept: go on with "
            f"mnb.conversation(name={self.conversation.name!r}, model=...), or another agent.",
            status_code=error.status_code,
            code=error.code,
        )

    def _completed(self, *, stopped: bool) -> tuple[Turn, Record]:
        if stopped:
            self._finish_reason = "stopped"
        self._close("stopped" if stopped else "done", settled=not stopped)
        turn = self.turn
        record = TurnComplete(self.request_id, turn.text, turn.usage, self._finish_reason, turn)
        return turn, record

    def _failed(self, error: Exception) -> Record:
        self._error = str(error)
        self._close("failed", settled=False)
        turn = self.turn
        if isinstance(error, StreamError):
            error.partial = turn.as_reply()
        return TurnError(self.request_id, error, turn)

    def _close(self, status: Status, *, settled: bool) -> None:
        """Set the end; whatever was still going on has ended with it."""
        self._status = status
        for place in self._grown.settle("failed" if status == "failed" else "stopped"):
            self._tell(place)
        self._seconds = self.seconds
        if self._node is not None:
            self._node.remote = self._grown.remote
            self._node.settled = settled and self._grown.complete and self._finish_reason == "stop"
            self._node.last = self.turn
            self.conversation.history.keep_turn(self._node, self.turn)

    async def save(self) -> None:
        """Wait until what there is of the turn is in the file."""
        try:
            await asyncio.to_thread(self.conversation.history.flush)
        except StoreError as error:
            warnings.warn(f"The turn is not saved yet. {error}", stacklevel=2)


class _Reader:
    """Reads a turn's text out of its events, as chunks or whole entries bring it."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def read(self, event: Record) -> str:
        """Return what an event adds; messages of one turn are a paragraph apart."""
        if isinstance(event, TurnChunk) and event.kind == "text":
            part, text = event.part, event.content
        elif isinstance(event, TurnEntry) and event.entry.type == "message.output":
            part = event.part
            text = event.entry.text[self._seen.get(part, 0) :]
        else:
            return ""
        if not text:
            return ""
        gap = "\n\n" if self._seen and part not in self._seen else ""
        self._seen[part] = self._seen.get(part, 0) + len(text)
        return gap + text
