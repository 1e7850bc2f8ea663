"""Conversations with models and agents: tools, consent, handoffs, and a memory that is kept.

    def stock(product: str) -> int:
        '''Say how many of a product are left.'''
        return int(df.stock[product])

    agent = mnb.agents.create("Shop", instructions="Be brief.", tools=[stock])
    chat = mnb.conversation(agent=agent, approve="always", name="shop")
    turn = await chat.send("How many apples are left?")

``mnb.agents.create``, ``get``, ``list``, ``update``, ``delete``, ``versions``,
``use_version``, ``alias``, ``aliases``, ``unalias`` and ``temporary`` are those of the
default session's :class:`~mistral_nb.agents.registry.Agents`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mistral_nb.agents.consent import Consent, Decision
    from mistral_nb.agents.conversation import Conversation
    from mistral_nb.agents.entries import Entry, Turn
    from mistral_nb.agents.registry import Agent, Agents
    from mistral_nb.agents.servers import mcp_server
    from mistral_nb.agents.tools import Tool, tool
    from mistral_nb.agents.turns import TurnHandle

__all__ = [
    "Agent",
    "Agents",
    "Consent",
    "Conversation",
    "Decision",
    "Entry",
    "Tool",
    "Turn",
    "TurnHandle",
    "mcp_server",
    "tool",
]

_HOMES = {
    "Agent": "registry",
    "Agents": "registry",
    "Consent": "consent",
    "Conversation": "conversation",
    "Decision": "consent",
    "Entry": "entries",
    "Tool": "tools",
    "Turn": "entries",
    "TurnHandle": "turns",
    "mcp_server": "servers",
    "tool": "tools",
}
_CHANGES = ("create", "update", "delete", "use_version", "alias", "unalias")
_VERBS = frozenset({*_CHANGES, "get", "list", "versions", "aliases", "temporary"})


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"mistral_nb.agents.{_HOMES[name]}"), name)
    if name in _VERBS:
        # Only a person's own words lead upwards here: nothing in the package uses them.
        return getattr(import_module("mistral_nb.session").default_session().agents, name)
    raise AttributeError(f"module 'mistral_nb.agents' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_VERBS])
