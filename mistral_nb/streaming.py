"""Chat streams: one request becomes events on the bus and, at its end, a `Reply`."""

from __future__ import annotations

import difflib
import inspect
import uuid
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import orjson

from mistral_nb.errors import (
    InputError,
    StreamCut,
    StreamError,
    StreamMalformed,
    StreamRefused,
    StreamStalled,
)
from mistral_nb.events import ChatChunk, ChatComplete, ChatError, ChatStart, Record
from mistral_nb.explaining import explain, reason_in
from mistral_nb.live import LiveHandle
from mistral_nb.replies import (
    Reply,
    ReplyBuilder,
    ToolCall,
    Usage,
    WrongShapeError,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus

__all__ = ["Reply", "StreamHandle", "ToolCall", "Usage", "check_options", "start_stream"]

CLOSE_LIMIT = 1.0
"""Seconds that closing a response may take when a stream is stopped."""


def start_stream(
    connection: Connection,
    bus: EventBus,
    messages: str | Sequence[Any],
    *,
    model: str | None = None,
    system: str | None = None,
    request_id: str | None = None,
    shown_in: object = None,
    **options: Any,
) -> StreamHandle:
    """Ask for a reply and begin to receive it at once, in the background.

    Args:
        connection: The server to ask.
        bus: Where the stream's events are published.
        messages: A prompt, or messages (dicts, models of the SDK, earlier replies).
        model: Model to ask; else the connection's default.
        system: System prompt, put before the messages.
        request_id: Names the request in its events; else it gets a name of its own.
        shown_in: Execution count of the cell below which a view is about to show it.
        **options: Options of `chat.stream` in the SDK: temperature, max_tokens, tools,
            response_format (or a pydantic model in its place), random_seed, ...

    Returns:
        A handle to await, iterate, stop or ignore.

    Raises:
        InputError: The prompt is empty, or an option is unknown.
    """
    if (options.get("n") or 1) != 1:
        raise InputError("n must be 1: a stream shows one reply. Start several streams instead.")
    request = {
        "model": model or connection.settings.model,
        "messages": _messages(messages, system),
        **check_options(options, _known_options(), "a chat stream"),
    }
    return StreamHandle(connection, bus, request, request_id, shown_in)


class StreamHandle(LiveHandle[Reply]):
    """A reply that is arriving: await it, iterate it, stop it, or read ``text`` so far.

    Args:
        connection: The server to ask.
        bus: Where events are published.
        request: Arguments of the SDK's `chat.stream_async`.
        request_id: Names the request; else it gets a name of its own.
        shown_in: Execution count of the cell below which a view is about to show it.

    Attributes:
        request_id: Our id of the request, in every one of its events.
        bus: Where its events are published.
    """

    pattern = "chat:*"

    def __init__(
        self,
        connection: Connection,
        bus: EventBus,
        request: dict[str, Any],
        request_id: str | None = None,
        shown_in: object = None,
    ) -> None:
        self._request = request
        self._builder = ReplyBuilder(request["model"])
        name = request_id or f"chat-{uuid.uuid4().hex[:12]}"
        super().__init__(connection, bus, name, shown_in)

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "done" if self.done() else "streaming"
        return f"StreamHandle({self.model}, {state}, {len(self.text)} characters)"

    @property
    def model(self) -> str:
        """Model asked for, or the one that the server says it is."""
        return self._builder.model

    @property
    def text(self) -> str:
        """Answer so far."""
        return self._builder.text

    @property
    def thinking(self) -> str:
        """Thinking so far."""
        return self._builder.thinking

    @property
    def usage(self) -> Usage | None:
        """Token counts, once the server has sent them."""
        return self._builder.usage

    def retry(self) -> StreamHandle:
        """Send the same request again.

        Returns:
            A new handle with an id of its own.
        """
        return StreamHandle(self._connection, self.bus, self._request)

    def _start_record(self) -> ChatStart:
        return ChatStart(self.request_id, self._request["model"], self._started)

    def _history(self) -> list[Record]:
        return [
            ChatChunk(self.request_id, piece.content, 0, *_chunk_fields(piece))
            for piece in self._builder.pieces()
        ]

    def _completed(self, *, stopped: bool) -> tuple[Reply, Record]:
        finish = "stopped" if stopped else self._builder.finish_reason
        reply = self._reply(finish)
        record = ChatComplete(self.request_id, reply.text, reply.usage, str(finish), reply)
        return reply, record

    def _failed(self, error: Exception) -> Record:
        return ChatError(self.request_id, error, self._reply(None))

    async def _receive(self) -> None:
        """Send the request and take in the stream to its proper end."""
        try:
            stream = await self._connection.sdk.chat.stream_async(**self._request)
        except Exception as error:
            raise self._explained(error) from error
        # Read here, not by the SDK: it builds a pydantic class anew for every chunk, ten
        # times the CPU of all of this.
        response = stream.response
        try:
            async for event in httpx2.EventSource(response):
                if event.data == "[DONE]":
                    break
                await self._take(event.data)
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise self._broken(error) from error
        finally:
            with anyio.move_on_after(CLOSE_LIMIT, shield=True):
                await response.aclose()
        if self._builder.finish_reason is None:
            raise StreamCut(
                f"The reply ended without a finish reason after {self._builder.chunks} chunks: "
                "it is cut. Its text so far is in error.partial; ask again with handle.retry().",
                partial=self._reply(None),
            )

    async def _take(self, data: str) -> None:
        try:
            chunk: Any = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise self._malformed(f"not JSON ({error})", data) from error
        if not isinstance(chunk, dict):
            raise self._malformed("not an object", data)
        if "error" in chunk or str(chunk.get("object", "")).lower() == "error":
            raise self._refused(chunk)
        index = self._builder.chunks
        try:
            pieces = self._builder.add(chunk)
        except WrongShapeError as error:
            raise self._malformed(str(error), data) from error
        for piece in pieces:
            await self.bus.publish(
                ChatChunk(self.request_id, piece.content, index, *_chunk_fields(piece))
            )

    def _reply(self, finish_reason: str | None) -> Reply:
        return self._builder.build(self.seconds, finish_reason, self.shown_in)

    def _explained(self, error: Exception) -> Exception:
        """Explain why no stream began."""
        if isinstance(error, httpx2.ReadTimeout):
            return self._broken(error)
        return explain(error, self._connection)

    def _broken(self, error: Exception) -> StreamError:
        if isinstance(error, httpx2.TimeoutException):
            return StreamStalled(
                f"Nothing arrived for {self._connection.settings.timeout:g} s (setting: timeout). "
                "The text so far is in error.partial; ask again with handle.retry().",
                partial=self._reply(None),
            )
        return StreamCut(
            f"The connection broke after {self._builder.chunks} chunks: "
            f"{error or type(error).__name__}. "
            "The text so far is in error.partial; ask again with handle.retry().",
            partial=self._reply(None),
        )

    def _malformed(self, why: str, data: str) -> StreamMalformed:
        return StreamMalformed(
            f"Chunk {self._builder.chunks} of the reply is {why}: {data[:80]!r}. "
            "The text so far is in error.partial; ask again with handle.retry().",
            partial=self._reply(None),
        )

    def _refused(self, chunk: dict[str, Any]) -> StreamRefused:
        status = chunk.get("raw_status_code") or 500
        body = self._connection.without_key(orjson.dumps(chunk).decode())
        return StreamRefused(
            f"The server broke off the reply ({status}): {reason_in(body)}. "
            "The text so far is in error.partial; ask again with handle.retry().",
            partial=self._reply(None),
        )


def _chunk_fields(piece: Any) -> tuple[Any, ...]:
    return piece.kind, piece.part, piece.tool_name, piece.tool_call_id


def _messages(messages: str | Sequence[Any], system: str | None) -> list[Any]:
    if isinstance(messages, str):
        if not messages.strip():
            raise InputError("The prompt is empty: pass some text or a list of messages.")
        messages = [{"role": "user", "content": messages}]
    listed = list(messages) if isinstance(messages, Iterable) else []
    if isinstance(messages, Mapping | Reply) or not listed:
        raise InputError(
            "messages must be a prompt or a list of messages like "
            '[{"role": "user", "content": "..."}], and not empty.'
        )
    listed = [each.as_message() if isinstance(each, Reply) else each for each in listed]
    for place, each in enumerate(listed):
        if not (isinstance(each, Mapping) and "role" in each) and not hasattr(each, "role"):
            raise InputError(
                f"messages[{place}] must have a role and a content, as in "
                f'{{"role": "user", "content": "..."}}, and is {str(each)[:80]!r}.'
                + (" For many prompts at once: mnb.process_batch." if isinstance(each, str) else "")
            )
    return [{"role": "system", "content": system}, *listed] if system else listed


@cache
def _known_options() -> frozenset[str]:
    from mistralai.client.chat import Chat

    ours = {"self", "model", "messages", "stream"}
    return frozenset(inspect.signature(Chat.stream_async).parameters) - ours


def check_options(options: dict[str, Any], known: Collection[str], what: str) -> dict[str, Any]:
    """Refuse options that a call does not have; turn a pydantic model into its format.

    Args:
        options: As a person gave them.
        known: Names of those that it has.
        what: The call, in words.

    Returns:
        The options, ready to be sent.

    Raises:
        InputError: One is unknown; the message names the nearest.
    """
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise InputError(f"{name} is no option of {what}.{hint}")
    asked = options.get("response_format")
    if not inspect.isclass(asked):
        return options
    from mistralai.extra import response_format_from_pydantic_model
    from pydantic import BaseModel

    if not issubclass(asked, BaseModel):
        raise InputError(
            f"response_format must be a pydantic model or the API's own form, not {asked.__name__}."
        )
    return {**options, "response_format": response_format_from_pydantic_model(asked)}
