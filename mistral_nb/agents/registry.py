"""Agents on the server: made, listed, changed, versioned and deleted by short named calls."""

from __future__ import annotations

import builtins
import inspect
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from mistral_nb.agents.tools import ToolSet
from mistral_nb.errors import NotFoundError
from mistral_nb.explaining import explain
from mistral_nb.markdown import prose
from mistral_nb.streaming import check_options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    import pandas as pd

    from mistral_nb.client import Connection

__all__ = ["Agent", "AgentList", "Agents"]

SHORT = 300
"""Characters of the instructions that an agent's card shows."""


@dataclass(frozen=True)
class Agent:
    """An agent as the server has it.

    Attributes:
        id: The server's id.
        name: Its name.
        model: Model that answers.
        version: Current version, from 0.
        description: What it is for: other agents decide by it whom to hand over to.
        instructions: Its system prompt.
        handoffs: Ids of agents it may hand over to.
        data: All that the server said.
        functions: Your tools that it was made with; a conversation with it runs them.
    """

    id: str
    name: str
    model: str
    version: int = 0
    description: str = ""
    instructions: str = ""
    handoffs: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    functions: tuple[Any, ...] = field(default=(), repr=False, compare=False)

    @property
    def tool_names(self) -> tuple[str, ...]:
        """Names of its functions and connectors."""
        return tuple(_tool_name(each) for each in self.data.get("tools") or ())

    def _repr_html_(self) -> str:
        """Show it as a card."""
        text = self.instructions
        short = text if len(text) <= SHORT else f"{text[:SHORT]}…"
        rows = {
            "id": self.id,
            "model": self.model,
            "version": str(self.version),
            "for": self.description,
            "instructions": short,
            "tools": ", ".join(self.tool_names),
            "hands over to": ", ".join(self.handoffs),
        }
        cells = "".join(
            f"<tr><th style='text-align:left'>{name}</th>"
            f"<td style='text-align:left'>{prose(value)}</td></tr>"
            for name, value in rows.items()
            if value
        )
        return f"<table><caption>{prose(self.name)}</caption><tbody>{cells}</tbody></table>"


class AgentList(builtins.list[Agent]):
    """Agents, shown as a table."""

    def to_frame(self) -> pd.DataFrame:
        """Return one row an agent, by id: name, model, version, tools, description."""
        import pandas as pd

        rows = [
            (a.id, a.name, a.model, a.version, ", ".join(a.tool_names), a.description) for a in self
        ]
        columns = ["id", "name", "model", "version", "tools", "description"]
        return pd.DataFrame(rows, columns=columns).set_index("id")

    def _repr_html_(self) -> str:
        heads = ("name", "id", "model", "version", "tools", "for")
        lines = [
            (a.name, a.id, a.model, str(a.version), ", ".join(a.tool_names), a.description)
            for a in self
        ]
        head = "".join(f"<th style='text-align:left'>{each}</th>" for each in heads)
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{prose(c)}</td>" for c in line) + "</tr>"
            for line in lines
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class Agents:
    """Named calls on the server's agents; as a context, it deletes those it made.

    Args:
        connection: The server.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._made: builtins.list[str] = []

    def __repr__(self) -> str:
        return f"Agents({self._connection.base_url}, {len(self._made)} made here)"

    def create(
        self,
        name: str,
        *,
        model: str | None = None,
        instructions: str | None = None,
        description: str | None = None,
        tools: Iterable[Any] = (),
        handoffs: Iterable[Agent | str] = (),
        **options: Any,
    ) -> Agent:
        """Make an agent.

        Args:
            name: Its name.
            model: Model that answers; else the session's.
            instructions: Its system prompt.
            description: What it is for; other agents choose by it.
            tools: Your functions, names of connectors, or the API's own objects.
            handoffs: Agents it may hand over to.
            **options: ``completion_args``, ``metadata``, ``version_message``, ``guardrails``.

        Returns:
            The agent.

        Raises:
            InputError: A tool cannot be one, or an option is unknown.
            ApiError: The server refused.
        """
        check_options(options, _known("create_async"), "an agent")
        made = ToolSet(tools)
        request = {
            "name": name,
            "model": model or self._connection.settings.model,
            "instructions": instructions,
            "description": description,
            "tools": made.as_wire(),
            "handoffs": _ids(handoffs) or None,
            **options,
        }
        found = self._call(lambda sdk: sdk.create_async(**_given(request)))
        agent = _agent(found, made.own.values())
        self._made.append(agent.id)
        return agent

    def get(self, agent: Agent | str, version: int | str | None = None) -> Agent:
        """Return an agent, as it is or in one of its versions.

        Args:
            agent: Itself or its id.
            version: A number or an alias.

        Raises:
            NotFoundError: There is no such agent or version.
        """
        request = _given({"agent_id": _id(agent), "agent_version": version})
        return _agent(self._call(lambda sdk: sdk.get_async(**request)), _functions(agent))

    def list(self, **filters: Any) -> AgentList:
        """Return the agents, latest first.

        Args:
            **filters: ``name``, ``search``, ``sources``, ``metadata``.

        Raises:
            InputError: There is no such filter.
        """
        check_options(filters, _known("list_pages_async"), "a list of agents")

        async def all_pages(sdk: Any) -> builtins.list[Any]:
            found: builtins.list[Any] = []
            page = await sdk.list_pages_async(**{"page_size": 100, **filters})
            while page is not None:
                found += page.result.data
                page = await page.next()
            return found

        return AgentList(_agent(each) for each in self._call(all_pages))

    def update(
        self,
        agent: Agent | str,
        *,
        tools: Iterable[Any] | None = None,
        handoffs: Iterable[Agent | str] | None = None,
        **changes: Any,
    ) -> Agent:
        """Change an agent; the server keeps the earlier version.

        Args:
            agent: Itself or its id.
            tools: All of its tools from now on.
            handoffs: All agents it may hand over to from now on.
            **changes: ``name``, ``model``, ``instructions``, ``description``, ...

        Returns:
            The agent in its new version.

        Raises:
            InputError: A tool cannot be one, or an option is unknown.
            ApiError: The server refused.
        """
        check_options(changes, _known("update_async"), "an agent")
        made = None if tools is None else ToolSet(tools)
        request = {"agent_id": _id(agent), **changes}
        if made is not None:
            request["tools"] = made.as_wire()
        if handoffs is not None:
            request["handoffs"] = _ids(handoffs)
        found = self._call(lambda sdk: sdk.update_async(**request))
        return _agent(found, _functions(agent) if made is None else made.own.values())

    def delete(self, agent: Agent | str) -> None:
        """Delete an agent.

        Args:
            agent: The agent or its id.

        Raises:
            NotFoundError: It is not there.
        """
        self._call(lambda sdk: sdk.delete_async(agent_id=_id(agent)))
        self._made = [each for each in self._made if each != _id(agent)]

    def versions(self, agent: Agent | str) -> AgentList:
        """Return all versions of an agent, the newest first.

        Args:
            agent: The agent or its id.
        """
        found = self._call(lambda sdk: sdk.list_versions_async(agent_id=_id(agent), page_size=100))
        return AgentList(_agent(each, _functions(agent)) for each in found)

    def use_version(self, agent: Agent | str, version: int) -> Agent:
        """Make an earlier version of an agent the current one.

        Args:
            agent: The agent or its id.
            version: Its number.

        Returns:
            The agent as it is now.
        """
        request = {"agent_id": _id(agent), "version": version}
        return _agent(
            self._call(lambda sdk: sdk.update_version_async(**request)), _functions(agent)
        )

    def alias(self, agent: Agent | str, name: str, version: int | None = None) -> None:
        """Give a version a name, or move the name there.

        Args:
            agent: Itself or its id.
            name: Small letters, digits, ``-`` and ``_``.
            version: The version; else the agent's current one.
        """
        if version is None:
            version = (agent if isinstance(agent, Agent) else self.get(agent)).version
        request = {"agent_id": _id(agent), "alias": name, "version": version}
        self._call(lambda sdk: sdk.create_version_alias_async(**request))

    def aliases(self, agent: Agent | str) -> dict[str, int]:
        """Return the names of an agent's versions.

        Args:
            agent: The agent or its id.

        Returns:
            Name -> number of the version.
        """
        found = self._call(lambda sdk: sdk.list_version_aliases_async(agent_id=_id(agent)))
        return {each.alias: each.version for each in found}

    def unalias(self, agent: Agent | str, name: str) -> None:
        """Take a version's name away.

        Args:
            agent: The agent or its id.
            name: The name.
        """
        request = {"agent_id": _id(agent), "alias": name}
        self._call(lambda sdk: sdk.delete_version_alias_async(**request))

    def temporary(self) -> Agents:
        """Return a context whose agents are deleted at its end."""
        return Agents(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._made[::-1]:
            try:
                self.delete(name)
            except NotFoundError:  # deleted by someone else
                self._made.remove(name)

    def _call(self, call: Callable[[Any], Awaitable[Any]]) -> Any:
        """Call the SDK on the loop, its errors put into our words."""

        async def work() -> Any:
            try:
                return await call(self._connection.sdk.beta.agents)
            except Exception as error:
                raise explain(error, self._connection) from error

        return self._connection.portal.call(work)


@cache
def _known(call: str) -> frozenset[str]:
    """Return the options of one of the SDK's calls."""
    from mistralai.client.beta_agents import BetaAgents

    return frozenset(inspect.signature(getattr(BetaAgents, call)).parameters) - {"self"}


def _agent(found: Any, functions: Iterable[Any] = ()) -> Agent:
    data = found.model_dump(mode="json", by_alias=True)
    return Agent(
        id=data["id"],
        name=data["name"],
        model=data["model"],
        version=data["version"],
        description=data.get("description") or "",
        instructions=data.get("instructions") or "",
        handoffs=tuple(data.get("handoffs") or ()),
        data=data,
        functions=tuple(functions),
    )


def _tool_name(tool: Mapping[str, Any]) -> str:
    function = tool.get("function") or {}
    return str(function.get("name") or tool.get("connector_id") or tool.get("type"))


def _functions(agent: Agent | str) -> Sequence[Any]:
    return agent.functions if isinstance(agent, Agent) else ()


def _id(agent: Any) -> str:
    return str(getattr(agent, "id", agent))


def _ids(agents: Iterable[Agent | str]) -> builtins.list[str]:
    return [_id(each) for each in agents]


def _given(request: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if value is not None}
