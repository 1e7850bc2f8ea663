"""``/v1/conversations``: stateful conversations of models and agents, plain and streamed."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from mistral_nb.simulator import connectors
from mistral_nb.simulator.agent_requests import (
    AppendRequest,
    ForgetRequest,
    RestartRequest,
    StartRequest,
)
from mistral_nb.simulator.agents import find_agent, now, page_of
from mistral_nb.simulator.catalogue import find_model
from mistral_nb.simulator.dialogue import Actor, Round, play
from mistral_nb.simulator.replies import JsonReply, query_object, read_body
from mistral_nb.simulator.turn_stream import TurnStream, events_of
from mistral_nb.simulator.validation import ApiProblem, check, invalid_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starlette.requests import Request

    from mistral_nb.simulator.server import Core
    from mistral_nb.simulator.state import State

__all__ = ["ROUTES", "forget"]

KEPT = ("instructions", "tools", "completion_args", "guardrails", "name", "description", "metadata")

Inputs = StartRequest | AppendRequest | RestartRequest


async def start(request: Request) -> Response:
    """``POST /v1/conversations``."""
    raw = await read_body(request)
    wanted: StartRequest = check(StartRequest, raw)
    state = _state(request)
    fields = wanted.model_dump(mode="json", exclude_unset=True, by_alias=True)
    if wanted.model is not None:
        if find_model(wanted.model) is None:
            raise invalid_model(wanted.model)
        kept: dict[str, Any] = {"tools": [], "completion_args": {}, "model": wanted.model}
        kept |= {name: fields[name] for name in KEPT if fields.get(name) is not None}
    else:
        assert wanted.agent_id is not None
        find_agent(state, wanted.agent_id, wanted.agent_version)
        kept = {"agent_id": wanted.agent_id, "agent_version": wanted.agent_version}
        kept |= {name: fields[name] for name in KEPT[4:] if name in fields}
    return await _turn(request, raw, wanted, _new(state, kept), [])


async def append(request: Request) -> Response:
    """``POST /v1/conversations/{conversation_id}``."""
    raw = await read_body(request)
    wanted: AppendRequest = check(AppendRequest, raw)
    conversation = _conversation(request)
    history = _entries(_state(request), conversation["id"])
    return await _turn(request, raw, wanted, conversation, history)


async def restart(request: Request) -> Response:
    """``POST /v1/conversations/{conversation_id}/restart``: a new one with the same beginning."""
    raw = await read_body(request)
    wanted: RestartRequest = check(RestartRequest, raw)
    state, old = _state(request), _conversation(request)
    history = _entries(state, old["id"])
    places = [n for n, entry in enumerate(history) if entry["id"] == wanted.from_entry_id]
    if not places:
        raise _missing(f"Entry {wanted.from_entry_id} not found in conversation {old['id']}")
    fields = wanted.model_dump(mode="json", exclude_unset=True, by_alias=True)
    kept = {name: value for name, value in old.items() if name not in {"id", "created_at"}}
    kept |= {name: fields[name] for name in ("metadata", "agent_version") if name in fields}
    copies = [dict(entry) for entry in history[: places[0] + 1]]
    conversation = _new(state, kept)
    if wanted.store is not False:
        for copy in copies:
            copy["id"] = _entry_id(state, copy["type"])
            _keep(state, conversation["id"], copy)
    return await _turn(request, raw, wanted, conversation, copies)


async def _turn(
    request: Request,
    raw: bytes,
    wanted: Inputs,
    conversation: dict[str, Any],
    history: list[dict[str, Any]],
) -> Response:
    """Take the inputs in, let the model go on, and send what it adds."""
    core: Core = request.app.state.core
    state = core.state
    inputs = wanted.entries()
    confirmations = {
        each.tool_call_id: each.confirmation
        for each in getattr(wanted, "tool_confirmations", None) or ()
    }
    _check_order(history, inputs, confirmations)
    for entry in inputs:
        entry |= {"object": "entry", "id": _entry_id(state, entry["type"])}
        entry |= {"created_at": now(), "completed_at": now()}
    confirmed = _confirm(history, confirmations)
    actor = _actor_of(state, conversation, [*history, *inputs])
    tools = {connectors.tool_name(t): t for t in actor.tools if t["type"] != "function"}
    allowed = [
        (tools[entry["name"]], entry)
        for entry in confirmed
        if entry["confirmation_status"] == "allowed"
    ]
    args = wanted.model_dump(mode="json", exclude_unset=True, by_alias=True)
    find = partial(_agent_actor, state)
    entries = [*history, *inputs]
    done = await asyncio.to_thread(play, core, entries, actor, find, args, allowed)
    state.pay("conversation", raw)
    state.count("tokens", done.usage["total_tokens"])
    core.limiter.spend(done.usage["total_tokens"])
    headers = core.limiter.headers(done.usage["total_tokens"])
    stored = wanted.store is not False
    if stored:
        state.put("conversation", conversation["id"], {**conversation, "updated_at": now()})
        for entry in (*confirmed, *inputs):
            _keep(state, conversation["id"], entry)
    sent = _sent(state, conversation["id"], done, stored=stored)
    if wanted.stream:
        return TurnStream(
            sent, delay=core.chunk_delay, faults=core.faults, stats=core.stats, headers=headers
        )
    for _ in sent:
        pass
    body = {
        "object": "conversation.response",
        "conversation_id": conversation["id"],
        "outputs": [output.entry for output in done.outputs],
        "usage": done.usage,
    }
    return JsonReply(body, headers=headers)


def _sent(state: State, where: str, done: Round, *, stored: bool) -> Iterator[dict[str, Any]]:
    """Yield the events of a round; each entry is kept once all of it is sent."""
    yield {"type": "conversation.response.started", "conversation_id": where}
    for index, output in enumerate(done.outputs):
        output.entry["created_at"] = now()
        yield from events_of(output, index)
        output.entry["completed_at"] = now()
        if stored:
            _keep(state, where, output.entry)
    yield {"type": "conversation.response.done", "usage": done.usage}


def _check_order(
    history: Sequence[dict[str, Any]],
    inputs: Sequence[dict[str, Any]],
    confirmations: dict[str, str],
) -> None:
    """Refuse inputs while results or confirmations are missing, and those for no call at all."""
    results = {e["tool_call_id"] for e in (*history, *inputs) if e["type"] == "function.result"}
    calls = [e for e in (*history, *inputs) if e["type"] == "function.call"]
    pending = [e["tool_call_id"] for e in calls if e.get("confirmation_status") == "pending"]
    open_calls = [e["tool_call_id"] for e in calls if not e.get("confirmation_status")]
    missing = [call for call in open_calls if call not in results]
    waiting = [call for call in pending if call not in confirmations]
    if missing or waiting:
        what, ids = ("function results", missing) if missing else ("tool confirmations", waiting)
        raise _refused(
            f"Cannot append other inputs while {what} are still missing. "
            f"Provide {what} first for: {ids}"
        )
    strange = sorted((results - set(open_calls)) | (confirmations.keys() - set(pending)))
    if strange:
        raise _refused(f"No function call is waiting for: {strange}")
    if not inputs and not confirmations and not history:
        raise _refused("The conversation has no entries to go on from")


def _confirm(
    history: Sequence[dict[str, Any]], confirmations: dict[str, str]
) -> list[dict[str, Any]]:
    """Mark the calls that were allowed or denied, and return them."""
    found = []
    for entry in history:
        if entry["type"] == "function.call" and entry["tool_call_id"] in confirmations:
            answer = confirmations[entry["tool_call_id"]]
            entry["confirmation_status"] = "allowed" if answer == "allow" else "denied"
            found.append(entry)
    return found


def _actor_of(
    state: State, conversation: dict[str, Any], history: Sequence[dict[str, Any]]
) -> Actor:
    """Return who speaks next: after a handoff, the agent it went to."""
    if "agent_id" not in conversation:
        return Actor(
            conversation["model"],
            conversation.get("instructions"),
            conversation["tools"],
            conversation["completion_args"],
        )
    handoffs = [entry for entry in history if entry["type"] == "agent.handoff"]
    if handoffs:
        return _agent_actor(state, handoffs[-1]["next_agent_id"])
    return _agent_actor(state, conversation["agent_id"], conversation.get("agent_version"))


def _agent_actor(state: State, agent_id: str, version: int | str | None = None) -> Actor:
    agent = find_agent(state, agent_id, version)
    others = [state.document("agent", other) for other in agent["handoffs"] or ()]
    return Actor(
        agent["model"],
        agent["instructions"],
        agent["tools"] or [],
        agent["completion_args"] or {},
        agent,
        [other for other in others if other is not None],  # a deleted agent takes nothing over
    )


async def listing(request: Request) -> Response:
    """``GET /v1/conversations``: newest first."""
    found = _state(request).documents("conversation")[::-1]
    if wanted := query_object(request, "metadata"):
        found = [each for each in found if wanted.items() <= (each.get("metadata") or {}).items()]
    return JsonReply(page_of(request, found, 100))


async def retrieve(request: Request) -> Response:
    """``GET /v1/conversations/{conversation_id}``."""
    return JsonReply(_conversation(request))


async def delete(request: Request) -> Response:
    """``DELETE /v1/conversations/{conversation_id}``."""
    _state(request).discard(_conversation(request)["id"])
    return Response(status_code=204)


async def history(request: Request) -> Response:
    """``GET /v1/conversations/{conversation_id}/history``."""
    name = _conversation(request)["id"]
    body = {"object": "conversation.history", "conversation_id": name}
    return JsonReply({**body, "entries": _entries(_state(request), name)})


async def messages(request: Request) -> Response:
    """``GET /v1/conversations/{conversation_id}/messages``."""
    name = _conversation(request)["id"]
    found = [e for e in _entries(_state(request), name) if e["type"].startswith("message.")]
    body = {"object": "conversation.messages", "conversation_id": name}
    return JsonReply({**body, "messages": found})


async def forget(request: Request) -> Response:
    """``POST /simulator/forget``: lose one conversation, or all of them, as servers do."""
    state = _state(request)
    raw = await read_body(request)
    wanted: ForgetRequest = check(ForgetRequest, raw or b"{}")
    found = [each["id"] for each in state.documents("conversation")]
    lost = [each for each in found if wanted.conversation_id in {None, each}]
    for each in lost:
        state.discard(each)
    return JsonReply({"forgotten": lost})


ROUTES = (
    Route("/v1/conversations", start, methods=["POST"]),
    Route("/v1/conversations", listing),
    Route("/v1/conversations/{conversation_id}", append, methods=["POST"]),
    Route("/v1/conversations/{conversation_id}", retrieve),
    Route("/v1/conversations/{conversation_id}", delete, methods=["DELETE"]),
    Route("/v1/conversations/{conversation_id}/history", history),
    Route("/v1/conversations/{conversation_id}/messages", messages),
    Route("/v1/conversations/{conversation_id}/restart", restart, methods=["POST"]),
)

_PREFIXES = {
    "message.input": "msg",
    "message.output": "msg",
    "function.call": "fc",
    "function.result": "fr",
    "tool.execution": "tool_exec",
    "agent.handoff": "handoff",
}


def _state(request: Request) -> State:
    state: State = request.app.state.store
    return state


def _new(state: State, kept: dict[str, Any]) -> dict[str, Any]:
    made = now()
    name = f"conv_{state.new_id('conv').replace('-', '')}"
    times = {"created_at": made, "updated_at": made}
    return {"object": "conversation", **kept, "id": name, **times}


def _conversation(request: Request) -> dict[str, Any]:
    name = str(request.path_params["conversation_id"])
    found = _state(request).document("conversation", name)
    if found is None:
        raise _missing(f"Conversation {name} not found")
    return found


def _entry_id(state: State, kind: str) -> str:
    prefix = _PREFIXES[kind]
    return f"{prefix}_{state.new_id(prefix).replace('-', '')}"


def _keep(state: State, conversation: str, entry: dict[str, Any]) -> None:
    state.put("entry", f"{conversation}/{entry['id']}", entry, conversation)


def _entries(state: State, conversation: str) -> list[dict[str, Any]]:
    return state.documents("entry", conversation)


def _missing(message: str) -> ApiProblem:
    return ApiProblem.of(404, message, "invalid_request_error", "3000")


def _refused(message: str) -> ApiProblem:
    """Return a refusal in the very form that was seen live: capital E, a number as code."""
    body = {"object": "Error", "message": message, "type": "invalid_request_error", "code": 3001}
    return ApiProblem(400, body)
