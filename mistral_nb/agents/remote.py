"""The server's side of a conversation: requests that start it or go on, and their events."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

import anyio
import httpx2
import orjson

from mistral_nb.agents.entries import results_of
from mistral_nb.errors import (
    InvalidRequestError,
    NotFoundError,
    StreamCut,
    StreamMalformed,
    StreamStalled,
)
from mistral_nb.explaining import explain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from mistral_nb.agents.entries import Entry
    from mistral_nb.client import Connection

__all__ = [
    "Ask",
    "Setup",
    "append",
    "as_inputs",
    "download",
    "forget",
    "is_lost",
    "restart",
    "start",
    "stream",
]

CLOSE_LIMIT = 1.0
"""Seconds that closing a response may take when a turn is stopped."""
RESULTS_MISSING = "3001"
"""The server's code for a conversation that waits for results it never got."""
NOT_RUN = "Not run: the turn ended before."
_HANDOFF = ("previous_agent_id", "previous_agent_name", "next_agent_id", "next_agent_name")
INPUT_FIELDS: dict[str, tuple[str, ...]] = {
    "message.input": ("role", "content"),
    "message.output": ("role", "content"),
    "function.call": ("tool_call_id", "name", "arguments"),
    "function.result": ("tool_call_id", "result"),
    "tool.execution": ("name", "arguments", "info"),
    "agent.handoff": _HANDOFF,
}
"""Types of entry that the API takes back as input, with the fields that it knows there."""
MAY_LACK = frozenset({"info", "arguments", "result"})
"""Fields of those that may be empty."""
INPUT_CHUNKS = frozenset(
    {"text", "thinking", "image_url", "document_url", "tool_file", "tool_reference"}
)
"""Kinds of content that it takes back."""


@dataclass(frozen=True)
class Setup:
    """What a conversation is started with.

    Attributes:
        model: Model to ask, unless it is an agent.
        agent: Id of the agent to ask.
        agent_version: Number or alias of its version.
        instructions: System prompt of a model.
        tools: As the API takes them; an agent has its own, and functions come on top.
        args: ``completion_args``: temperature, max_tokens, ...
    """

    model: str | None = None
    agent: str | None = None
    agent_version: int | str | None = None
    instructions: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    args: dict[str, Any] = field(default_factory=dict)

    @property
    def who(self) -> str:
        """Model or agent, as it shows."""
        return self.model or self.agent or ""

    def as_json(self) -> dict[str, Any]:
        """Return it for a file."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Setup:
        """Read what :meth:`as_json` wrote."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        return cls(**{**known, "tools": tuple(known.get("tools") or ())})

    @property
    def key(self) -> str:
        """A short name for exactly this setup."""
        data = orjson.dumps(self.as_json(), option=orjson.OPT_SORT_KEYS)
        return blake2b(data, digest_size=8).hexdigest()


@dataclass(frozen=True)
class Ask:
    """One request.

    Attributes:
        kind: What it does.
        path: Where it goes.
        body: Its JSON.
    """

    kind: Literal["start", "append", "restart"]
    path: str
    body: dict[str, Any]


def start(setup: Setup, inputs: Sequence[Mapping[str, Any]]) -> Ask:
    """Begin a conversation on the server with entries of any kind."""
    body: dict[str, Any] = {"inputs": list(inputs), "stream": True, "store": True}
    if setup.agent is not None:
        body["agent_id"] = setup.agent
        if setup.agent_version is not None:
            body["agent_version"] = setup.agent_version
    else:
        body["model"] = setup.model
    if setup.instructions is not None:
        body["instructions"] = setup.instructions
    if setup.tools:
        body["tools"] = list(setup.tools)
    if setup.args:
        body["completion_args"] = setup.args
    return Ask("start", "/v1/conversations", body)


def append(
    remote: str,
    inputs: Sequence[Mapping[str, Any]],
    confirmations: Sequence[Mapping[str, Any]] = (),
) -> Ask:
    """Go on with a conversation."""
    body: dict[str, Any] = {"inputs": list(inputs), "stream": True, "store": True}
    if confirmations:
        body["tool_confirmations"] = list(confirmations)
    return Ask("append", f"/v1/conversations/{remote}", body)


def restart(remote: str, entry_id: str, inputs: Sequence[Mapping[str, Any]]) -> Ask:
    """Go on from an entry in the middle, as a new conversation."""
    body = {"inputs": list(inputs), "from_entry_id": entry_id, "stream": True, "store": True}
    return Ask("restart", f"/v1/conversations/{remote}/restart", body)


def is_lost(ask: Ask, error: Exception) -> bool:
    """Return True if the server cannot go on, but could start again with the whole history."""
    if ask.kind == "start":
        return False
    if isinstance(error, NotFoundError):
        return True
    if not isinstance(error, InvalidRequestError):
        return False
    return ask.kind == "restart" or error.code == RESULTS_MISSING


def as_inputs(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Return entries as the inputs of a conversation that begins with them.

    What the server could not take is left out (events it has no entry for, calls that ran
    on its own side), and calls without a result get one that says so.
    """
    kept = [entry for entry in entries if _is_whole(entry)]
    answered = results_of(kept)
    inputs: list[dict[str, Any]] = []
    missing: list[dict[str, Any]] = []
    for place, entry in enumerate(kept):
        call = entry.type == "function.call"
        if call and place not in answered:
            if isinstance(entry.arguments, str):  # it was cut in the middle
                continue
            result = {"tool_call_id": entry.call_id, "result": NOT_RUN}
            missing.append({"type": "function.result", **result})
        elif not call:
            inputs += missing
            missing = []
        data = _as_input(entry)
        if data is not None:
            inputs.append(data)
    return inputs + missing


def _as_input(entry: Entry) -> dict[str, Any] | None:
    """Return an entry as the API takes it back, in another conversation; None if it cannot."""
    fields = INPUT_FIELDS.get(entry.type, ())
    kept = {name: entry.data[name] for name in fields if entry.data.get(name) is not None}
    if isinstance(content := kept.get("content"), list):
        kept["content"] = [chunk for chunk in content if chunk.get("type") in INPUT_CHUNKS]
    if not fields or not all(kept.get(name) for name in fields if name not in MAY_LACK):
        return None
    return {"type": entry.type, **kept}


def _is_whole(entry: Entry) -> bool:
    if entry.type == "function.call":
        return not entry.data.get("confirmation_status")
    if entry.type in {"tool.execution", "agent.handoff"}:
        return entry.state == "done"
    return True


async def stream(connection: Connection, ask: Ask) -> AsyncIterator[dict[str, Any]]:
    """Send a request and yield its events as they came, decoded.

    Raises:
        ApiError: The server refused.
        StreamError: It broke off, fell silent, or sent what is no event.
        ServerUnreachable: No server answered.
    """
    body = orjson.dumps(ask.body)
    try:
        response = await connection.open_stream(ask.path, body)
    except Exception as error:
        if isinstance(error, httpx2.ReadTimeout):
            raise _broken(connection, error) from error
        raise explain(error, connection) from error
    try:
        async for event in httpx2.EventSource(response):
            # Real streams of conversations have no [DONE]; gateways in between may add one.
            if event.data == "[DONE]":
                break
            if event.data:
                yield _decoded(event.data, event.event)
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        raise _broken(connection, error) from error
    finally:
        with anyio.move_on_after(CLOSE_LIMIT, shield=True):
            await response.aclose()


def _decoded(data: str, name: str) -> dict[str, Any]:
    try:
        event: Any = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise StreamMalformed(
            f"An event of the answer is not JSON ({error}): {data[:80]!r}. "
            "What came before is kept; chat.regenerate() asks again."
        ) from error
    found: dict[str, Any] = event if isinstance(event, dict) else {"value": event}
    found.setdefault("type", name)
    return found


def _broken(connection: Connection, error: Exception) -> Exception:
    kept = "What had come is kept; chat.regenerate() asks again."
    if isinstance(error, httpx2.TimeoutException):
        seconds = f"{connection.settings.timeout:g} s"
        return StreamStalled(f"Nothing arrived for {seconds} (setting: timeout). {kept}")
    return StreamCut(f"The connection broke: {error or type(error).__name__}. {kept}")


async def download(connection: Connection, file_id: str) -> bytes:
    """Fetch a file that a connector made.

    Raises:
        NotFoundError: The server has it no more.
        MistralNbError: It could not be fetched.
    """
    try:
        response = await connection.sdk.files.download_async(file_id=file_id)
        return await response.aread()
    except Exception as error:
        raise explain(error, connection) from error


async def forget(connection: Connection, names: Iterable[str]) -> None:
    """Have the server delete conversations, unless it lost them before.

    Raises:
        MistralNbError: It did not delete one.
    """
    for name in names:
        try:
            await connection.sdk.beta.conversations.delete_async(conversation_id=name)
        except Exception as error:
            trouble = explain(error, connection)
            if not isinstance(trouble, NotFoundError):
                raise trouble from error
