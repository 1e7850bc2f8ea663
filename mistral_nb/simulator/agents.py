"""``/v1/agents``: agents with their versions and aliases."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from mistral_nb.simulator.agent_requests import CreateAgent, UpdateAgent
from mistral_nb.simulator.catalogue import find_model
from mistral_nb.simulator.replies import (
    JsonReply,
    query_bool,
    query_choices,
    query_int,
    query_object,
    read_body,
)
from mistral_nb.simulator.validation import ApiProblem, check, invalid_model, unprocessable

if TYPE_CHECKING:
    from starlette.requests import Request

    from mistral_nb.simulator.state import State

__all__ = ["ROUTES", "find_agent", "now", "page_of"]

SOURCES = ("api", "playground", "agent_builder_v1")
_ALIAS = re.compile(r"[a-z]([a-z0-9_-]*[a-z0-9])?")
_DEFAULTS: dict[str, Any] = {
    "instructions": None,
    "tools": [],
    "completion_args": {},
    "guardrails": None,
    "description": None,
    "handoffs": None,
    "metadata": None,
    "version_message": None,
    "deployment_chat": False,
}


_NEVER_NULL = frozenset({"model", "name", "deployment_chat"})
"""Null leaves these as they are."""


def now() -> str:
    """Return the time as the API writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def find_agent(state: State, agent_id: str, version: int | str | None = None) -> dict[str, Any]:
    """Return an agent as it is, or as it was in one of its versions.

    Args:
        state: Where agents are.
        agent_id: The agent.
        version: A number, a number in digits, or an alias; None for the current one.

    Raises:
        ApiProblem: 404; there is no such agent or version.
    """
    agent = state.document("agent", agent_id)
    if agent is None:
        raise _missing(f"Agent {agent_id} not found")
    if version is None:
        return agent
    aliases = {each["alias"]: each["version"] for each in state.documents("alias", agent_id)}
    number = aliases.get(str(version), version)
    found = state.document("version", f"{agent_id}:{number}")
    if found is None:
        raise _missing(f"Agent {agent_id} has no version {version}")
    return {**found, "versions": agent["versions"]}


def _missing(message: str) -> ApiProblem:
    return ApiProblem.of(404, message, "invalid_request_error", "3000")


def page_of(request: Request, items: list[Any], size: int, most: int | None = None) -> list[Any]:
    """Return the page of a list that the query asks for."""
    page = query_int(request, "page", 0)
    size = query_int(request, "page_size", size, 1, most)
    return items[page * size : (page + 1) * size]


async def create(request: Request) -> Response:
    """``POST /v1/agents``."""
    state = _state(request)
    wanted: CreateAgent = check(CreateAgent, await read_body(request))
    fields = _dumped(wanted)
    _check(state, fields)
    made = now()
    agent = {
        "object": "agent",
        "id": f"ag_{state.new_id('ag').replace('-', '')}",
        **_DEFAULTS,
        **fields,
        "version": 0,
        "versions": [0],
        "created_at": made,
        "updated_at": made,
        "source": "api",
    }
    _save(state, agent)
    return JsonReply(agent)


async def update(request: Request) -> Response:
    """``PATCH /v1/agents/{agent_id}``: makes a new version."""
    fields = _dumped(check(UpdateAgent, await read_body(request)))
    state, agent = _state(request), _agent(request)
    fields = {k: v for k, v in fields.items() if v is not None or k not in _NEVER_NULL}
    _check(state, fields)
    number = max(agent["versions"]) + 1
    fields |= {"version": number, "versions": [*agent["versions"], number], "updated_at": now()}
    agent = {**agent, **fields}
    _save(state, agent)
    return JsonReply(agent)


async def update_version(request: Request) -> Response:
    """``PATCH /v1/agents/{agent_id}/version``: makes an older version the current one."""
    number = _version(request)
    state, agent = _state(request), _agent(request)
    found = find_agent(state, agent["id"], number)
    found["updated_at"] = now()
    state.put("agent", agent["id"], found)
    return JsonReply(found)


async def listing(request: Request) -> Response:
    """``GET /v1/agents``."""
    return JsonReply(page_of(request, _wanted(request), 20, 1000))


async def pages(request: Request) -> Response:
    """``GET /v1/agents/pages``: the same list with a cursor."""
    size = query_int(request, "page_size", 20, 1, 1000)
    token = request.query_params.get("page_token") or "0"
    if not token.isdecimal():
        raise unprocessable(("query", "page_token"), "Invalid page token", "value_error", token)
    found, start = _wanted(request), int(token)
    following = str(start + size) if start + size < len(found) else None
    data = found[start : start + size]
    return JsonReply({"object": "list", "data": data, "next_page_token": following})


async def retrieve(request: Request) -> Response:
    """``GET /v1/agents/{agent_id}``."""
    return JsonReply(_agent(request, request.query_params.get("agent_version")))


async def delete(request: Request) -> Response:
    """``DELETE /v1/agents/{agent_id}``."""
    _state(request).discard(_agent(request)["id"])
    return Response(status_code=204)


async def versions(request: Request) -> Response:
    """``GET /v1/agents/{agent_id}/versions``: newest first."""
    found = _state(request).documents("version", _agent(request)["id"])
    return JsonReply(page_of(request, found[::-1], 20, 100))


async def one_version(request: Request) -> Response:
    """``GET /v1/agents/{agent_id}/versions/{version}``."""
    return JsonReply(_agent(request, request.path_params["version"]))


async def put_alias(request: Request) -> Response:
    """``PUT /v1/agents/{agent_id}/aliases``."""
    name, number = _alias(request), _version(request)
    state, agent = _state(request), _agent(request)
    version = find_agent(state, agent["id"], number)["version"]
    key = f"{agent['id']}@{name}"
    old = state.document("alias", key) or {"created_at": now()}
    alias = {**old, "alias": name, "version": version, "updated_at": now()}
    state.put("alias", key, alias, agent["id"])
    return JsonReply(alias)


async def aliases(request: Request) -> Response:
    """``GET /v1/agents/{agent_id}/aliases``."""
    return JsonReply(_state(request).documents("alias", _agent(request)["id"]))


async def delete_alias(request: Request) -> Response:
    """``DELETE /v1/agents/{agent_id}/aliases``."""
    name = _alias(request)
    state, key = _state(request), f"{_agent(request)['id']}@{name}"
    if state.document("alias", key) is None:
        raise _missing(f"No such alias: {name}")
    state.discard(key)
    return Response(status_code=204)


ROUTES = (
    Route("/v1/agents", create, methods=["POST"]),
    Route("/v1/agents", listing),
    Route("/v1/agents/pages", pages),
    Route("/v1/agents/{agent_id}", retrieve),
    Route("/v1/agents/{agent_id}", update, methods=["PATCH"]),
    Route("/v1/agents/{agent_id}", delete, methods=["DELETE"]),
    Route("/v1/agents/{agent_id}/version", update_version, methods=["PATCH"]),
    Route("/v1/agents/{agent_id}/versions", versions),
    Route("/v1/agents/{agent_id}/versions/{version}", one_version),
    Route("/v1/agents/{agent_id}/aliases", put_alias, methods=["PUT"]),
    Route("/v1/agents/{agent_id}/aliases", aliases),
    Route("/v1/agents/{agent_id}/aliases", delete_alias, methods=["DELETE"]),
)


def _state(request: Request) -> State:
    state: State = request.app.state.store
    return state


def _agent(request: Request, version: str | None = None) -> dict[str, Any]:
    return find_agent(_state(request), str(request.path_params["agent_id"]), version)


def _version(request: Request) -> int:
    if "version" not in request.query_params:
        raise unprocessable(("query", "version"), "Field required", "missing")
    return query_int(request, "version", 0)


def _alias(request: Request) -> str:
    name = request.query_params.get("alias")
    if name is None:
        raise unprocessable(("query", "alias"), "Field required", "missing")
    if len(name) > 64 or not _ALIAS.fullmatch(name):  # noqa: PLR2004 - the API's own limit
        message = f"String should match pattern '^{_ALIAS.pattern}$'"
        raise unprocessable(("query", "alias"), message, "string_pattern_mismatch", name)
    return name


def _wanted(request: Request) -> list[dict[str, Any]]:
    query = request.query_params
    found = _state(request).documents("agent")[::-1]
    if sources := query_choices(request, "sources", SOURCES):
        found = [agent for agent in found if agent["source"] in sources]
    if "deployment_chat" in query:
        shown = query_bool(request, "deployment_chat", False)
        found = [agent for agent in found if agent["deployment_chat"] is shown]
    if wanted := query_object(request, "metadata"):
        found = [agent for agent in found if wanted.items() <= (agent["metadata"] or {}).items()]
    if name := query.get("name"):
        found = [agent for agent in found if agent["name"] == name]
    if one := query.get("id"):
        found = [agent for agent in found if agent["id"] == one]
    if search := query.get("search", "").lower():
        found = [a for a in found if search in a["name"].lower() or search in a["id"].lower()]
    return found


def _dumped(wanted: CreateAgent | UpdateAgent) -> dict[str, Any]:
    return wanted.model_dump(mode="json", exclude_unset=True, by_alias=True)


def _check(state: State, fields: dict[str, Any]) -> None:
    """Refuse models and agents that do not exist."""
    if (model := fields.get("model")) is not None and find_model(model) is None:
        raise invalid_model(model)
    for other in fields.get("handoffs") or ():
        find_agent(state, other)


def _save(state: State, agent: dict[str, Any]) -> None:
    state.put("agent", agent["id"], agent)
    state.put("version", f"{agent['id']}:{agent['version']}", agent, agent["id"])
