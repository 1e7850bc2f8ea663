"""The rules of a conversation's turns: tools, consent, and how much of either."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mistral_nb.agents.consent import check_approve
from mistral_nb.agents.tools import ToolSet, check_seconds
from mistral_nb.errors import InputError

__all__ = ["Rules"]


@dataclass(frozen=True)
class Rules:
    """How turns are carried out here.

    Attributes:
        tools: Your tools, and connectors.
        approve: Who consents to calls: ask, always, never, a function, or a dict by tool.
        max_rounds: Most requests for one turn.
        tool_timeout: Seconds a tool may take; infinity for no limit.

    Raises:
        InputError: A value cannot be used.
    """

    tools: ToolSet = field(default_factory=ToolSet)
    approve: Any = "ask"
    max_rounds: int = 10
    tool_timeout: float = 60.0

    def __post_init__(self) -> None:
        check_approve(self.approve)
        if not isinstance(self.max_rounds, int) or self.max_rounds < 1:
            raise InputError(f"max_rounds must be a whole number from 1, not {self.max_rounds!r}.")
        check_seconds("tool_timeout", self.tool_timeout)
