"""Opening conversations: new ones, those of this kernel, and those that the file has."""

from __future__ import annotations

import inspect
import threading
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.agents.conversation import Conversation
from mistral_nb.agents.history import History
from mistral_nb.agents.registry import Agent
from mistral_nb.agents.remote import Setup
from mistral_nb.agents.results import clean
from mistral_nb.agents.rules import Rules
from mistral_nb.agents.tools import ToolSet, listed
from mistral_nb.errors import InputError
from mistral_nb.streaming import check_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus
    from mistral_nb.widgets.chat_panel import ChatPanel

__all__ = ["Conversations"]

_NAMED = inspect.Parameter.KEYWORD_ONLY
SHORT = 80
"""Characters of the first message in the list of conversations."""


class Conversations:
    """The conversations of a session; each name is open once.

    Args:
        connection: The server.
        bus: Where turns publish their events.
        show: Opens a panel on a conversation.
    """

    def __init__(
        self,
        connection: Connection,
        bus: EventBus,
        show: Callable[[Conversation], ChatPanel] | None = None,
    ) -> None:
        self._connection = connection
        self._show = show
        self._bus = bus
        self._lock = threading.Lock()
        self._opened: History | None = None
        self._live: dict[str, Conversation] = {}

    @property
    def _history(self) -> History:
        if self._opened is None:
            self._opened = History(self._connection.settings.home / "conversations.sqlite")
        return self._opened

    def open(
        self,
        model: str | None = None,
        *,
        agent: Agent | str | None = None,
        agent_version: int | str | None = None,
        instructions: str | None = None,
        tools: Iterable[Any] | None = None,
        name: str | None = None,
        approve: Any = None,
        max_rounds: int | None = None,
        tool_timeout: float | None = None,
        **args: Any,
    ) -> Conversation:
        """Begin a conversation, or take one up by its name: see Session.conversation."""
        with self._lock:
            name = _checked_name(name) if name is not None else self._free_name()
            live = self._live.get(name)
            kept = None if live else self._history.load(name)
            before = live.setup if live else Setup.from_json(kept.setup) if kept else None
            functions = list(agent.functions) if isinstance(agent, Agent) else []
            asked_for = [] if tools is None else listed(tools)
            own = None if tools is None and not functions else ToolSet([*functions, *asked_for])
            setup = self._setup(before, model, agent, agent_version, instructions, own, args)
            asked = {
                "tools": own,
                "approve": approve,
                "max_rounds": max_rounds,
                "tool_timeout": tool_timeout,
            }
            given = {key: value for key, value in asked.items() if value is not None}
            rules = replace(live.rules if live else Rules(), **given)
            if live is not None:
                live.configure(setup, rules)
                return live
            given_to = (self._connection, self._bus, self._history)
            made = Conversation(*given_to, name, setup, rules, kept, self._show)
            self._live[name] = made
            return made

    def _setup(
        self,
        before: Setup | None,
        model: str | None,
        agent: Agent | str | None,
        agent_version: int | str | None,
        instructions: str | None,
        tools: ToolSet | None,
        args: dict[str, Any],
    ) -> Setup:
        """Return the setup asked for; what is not said stays as it was."""
        if model is not None and agent is not None:
            raise InputError("Pass model= or agent=, not both: an agent has its own model.")
        setup = before or Setup(model=self._connection.settings.model)
        if model is not None:
            setup = replace(setup, model=model, agent=None, agent_version=None)
        if agent is not None:
            name = agent.id if isinstance(agent, Agent) else str(getattr(agent, "id", agent))
            version = agent_version
            setup = replace(setup, model=None, agent=name, agent_version=version, tools=())
        if instructions is not None:
            if not isinstance(instructions, str):
                raise InputError(f"instructions must be a text, not {instructions!r}.")
            setup = replace(setup, instructions=clean(instructions))
        if args:
            setup = replace(setup, args=check_options(args, _known_args(), "a conversation"))
        if tools is None:
            return setup
        if setup.agent is None:
            return replace(setup, tools=tuple(tools.as_wire()))
        if isinstance(agent, Agent):
            _check_known(agent, tools)
        return setup  # an agent's tools are declared with the agent, and run here

    def _free_name(self) -> str:
        taken = self._history.names() | set(self._live)
        number = 1
        while f"chat-{number}" in taken:
            number += 1
        return f"chat-{number}"

    def listing(self) -> pd.DataFrame:
        """Return all conversations of the home folder, the latest first.

        Returns:
            One row each, by name: who, turns, updated, first message.
        """
        import pandas as pd

        rows = []
        for row in self._history.listing():
            setup = Setup.from_json(orjson.loads(row["setup"]))
            first = _words(orjson.loads(row["first"]).get("content")) if row["first"] else ""
            updated = pd.Timestamp(row["updated"], unit="s", tz="UTC").floor("s")
            rows.append((row["name"], setup.who, row["turns"], updated, first[:SHORT]))
        columns = ["name", "who", "turns", "updated", "first message"]
        return pd.DataFrame(rows, columns=columns).set_index("name")


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InputError(f"A conversation's name must be a line of text, not {name!r}.")
    return name.strip()


@cache
def _known_args() -> frozenset[str]:
    """Return the options of a request; those of a conversation as well, as the nearest words."""
    from mistralai.client.models import CompletionArgs

    own = inspect.signature(Conversations.open).parameters.values()
    return frozenset({*CompletionArgs.model_fields, *(p.name for p in own if p.kind is _NAMED)})


def _check_known(agent: Agent, tools: ToolSet) -> None:
    """Refuse functions that an agent was not told of: it would never call them."""
    strange = sorted(tools.own.keys() - set(agent.tool_names))
    if strange or tools.connectors:
        what = ", ".join(strange) or ", ".join(str(each["type"]) for each in tools.connectors)
        raise InputError(
            f"The agent {agent.name} does not know {what}: tools belong to an agent. "
            "Declare them with mnb.agents.update(agent, tools=[...])."
        )


def _words(content: Any) -> str:
    if isinstance(content, list):
        content = " ".join(str(chunk.get("text") or "") for chunk in content)
    return " ".join(str(content or "").split())
