"""Which messages a chat may have, in which order: what the API refuses before a model reads it."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

from mistral_nb.simulator.validation import ApiProblem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Messages = Sequence[Mapping[str, Any]]

__all__ = ["check_messages", "check_tool_calls"]

_CALL_ID = re.compile(r"[a-zA-Z0-9]{9}")
NO_ID = "null"
"""What the API's own description has in place of an id that was not given."""


def check_messages(messages: Messages) -> None:
    """Refuse a chat that nobody has begun, or in which it is nobody's turn to be answered.

    Args:
        messages: Of a chat request.

    Raises:
        ApiProblem: 400, in the API's words.
    """
    if not messages:
        _refuse("Conversation must have at least one message")
    last = messages[-1]
    if last["role"] == "system" or (last["role"] == "assistant" and not last.get("prefix")):
        _refuse(
            "Expected last role User or Tool (or Assistant with prefix True) for serving but got "
            + last["role"]
        )


def check_tool_calls(messages: Messages) -> None:
    """Refuse tool calls without their results, results without a call, and ids of another form.

    Args:
        messages: Of a chat request.

    Raises:
        ApiProblem: 400, in the API's words.
    """
    for before, message in pairwise(messages):
        if message["role"] == "tool" and before["role"] not in {"assistant", "tool"}:
            _refuse(f"Unexpected role 'tool' after role '{before['role']}'")
    waiting = 0
    for message in messages:
        if message["role"] == "tool":
            waiting -= 1
        elif message["role"] == "assistant":
            if waiting:
                break
            waiting = len(message.get("tool_calls") or ())
            for call in message.get("tool_calls") or ():
                _check_id(str(call.get("id", NO_ID)))
    if waiting:
        _refuse("Not the same number of function calls and responses")


def _check_id(name: str) -> None:
    if name != NO_ID and not _CALL_ID.fullmatch(name):
        raise ApiProblem.of(
            400,
            f"Tool call id was {name} but must be a-z, A-Z, 0-9, with a length of 9.",
            "invalid_function_call",
            "3280",
        )


def _refuse(reason: str) -> NoReturn:
    raise ApiProblem.of(400, reason, "invalid_request_message_order", "3230")
