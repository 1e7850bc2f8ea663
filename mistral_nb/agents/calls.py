"""The calls of one response: consent, then running them side by side, then their results."""

from __future__ import annotations

import asyncio
import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mistral_nb.agents.consent import NOBODY, Consent, Decision, decide
from mistral_nb.agents.functions import in_thread, in_words
from mistral_nb.agents.results import ToolResult, as_result, clean, cut
from mistral_nb.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mistral_nb.agents.entries import Entry, Media, State
    from mistral_nb.agents.tools import Tool
    from mistral_nb.portal import Portal

__all__ = ["Answers", "Desk", "answer_calls"]

ERROR_LIMIT = 4000
"""Characters of a tool's error that the model is told."""


class Desk(Protocol):
    """What running calls needs of a turn and its conversation."""

    request_id: str

    @property
    def portal(self) -> Portal:
        """The loop."""

    @property
    def own_tools(self) -> Mapping[str, Tool]:
        """Tools by name."""

    @property
    def approve(self) -> Any:
        """The rule of consent."""

    @property
    def tool_timeout(self) -> float:
        """Seconds a tool may take."""

    def no_tool(self, name: str) -> str:
        """Say that there is no such tool here, and why."""

    def entry(self, place: int) -> Entry:
        """Return an entry by its place."""

    def mark(self, place: int, state: State, seconds: float | None = None, **data: Any) -> None:
        """Set an entry's state, and tell of it."""

    def add_result(self, data: dict[str, Any], state: State, media: tuple[Media, ...]) -> None:
        """Add a result's entry, and tell of it."""

    def can_ask(self) -> bool:
        """Return True if a person is at a screen."""

    def wait_for(self, consent: Consent) -> None:
        """Put a request where a screen finds it."""


class Answers(NamedTuple):
    """What goes back to the server.

    Attributes:
        results: ``function.result`` entries, in the order of the calls.
        confirmations: Answers to calls that run on the server's side.
    """

    results: list[dict[str, Any]]
    confirmations: list[dict[str, Any]]


class _Outcome(NamedTuple):
    state: State
    result: ToolResult
    seconds: float = 0.0


async def answer_calls(desk: Desk, places: Sequence[int]) -> Answers:
    """Deal with all calls of one response at once.

    Args:
        desk: The turn.
        places: Places of the call entries.

    Returns:
        Results and confirmations. Nothing that a tool does raises here: its errors are
        results, told to the model.
    """
    pending = [place for place in places if _status(desk, place) == "pending"]
    ours = [place for place in places if not _status(desk, place)]
    for place in set(places) - set(pending) - set(ours):
        desk.mark(place, "denied" if _status(desk, place) == "denied" else "done")
    async with asyncio.TaskGroup() as group:
        outcomes = [group.create_task(_own(desk, place)) for place in ours]
        decisions = [group.create_task(_server(desk, place)) for place in pending]
    return Answers([task.result() for task in outcomes], [task.result() for task in decisions])


def _status(desk: Desk, place: int) -> str:
    """Return a call's ``confirmation_status``: such calls run on the server, never here."""
    return str(desk.entry(place).data.get("confirmation_status") or "")


async def _server(desk: Desk, place: int) -> dict[str, Any]:
    """Let a person, or the rule, answer for a call that runs on the server."""
    entry = desk.entry(place)
    decision = await _decision(desk, place, entry, None)
    status = "allowed" if decision.allowed else "denied"
    state: State = "done" if decision.allowed else "denied"
    desk.mark(place, state, confirmation_status=status, reason=decision.reason or None)
    answer = "allow" if decision.allowed else "deny"
    return {"tool_call_id": entry.call_id, "confirmation": answer}


async def _own(desk: Desk, place: int) -> dict[str, Any]:
    """Check, ask for, and run a call of one of our tools; return its result's entry."""
    entry = desk.entry(place)
    outcome = await _carried_out(desk, place, entry)
    desk.mark(place, outcome.state, outcome.seconds)
    data = {"tool_call_id": entry.call_id, "result": outcome.result.text}
    desk.add_result(data, outcome.state, outcome.result.media)
    return {"type": "function.result", **data}


async def _carried_out(desk: Desk, place: int, entry: Entry) -> _Outcome:
    tool = desk.own_tools.get(entry.name)
    if tool is None:
        return _failed(f"Error: {desk.no_tool(entry.name)}")
    try:
        values = tool.bind(entry.arguments)
    except InputError as error:
        return _failed(f"Error: {error}")
    decision = await _decision(desk, place, entry, tool)
    if not decision.allowed:
        why = f" {decision.reason}" if decision.reason else ""
        return _Outcome("denied", ToolResult(clean(f"Denied: this call was not run.{why}")))
    note = ""
    if decision.arguments is not None:
        try:
            values = tool.bind(decision.arguments)
        except InputError as error:  # of a rule; a person's were checked on the screen
            return _failed(f"Error: the rule changed the arguments. {error}")
        desk.mark(place, "running", changed_arguments=decision.arguments)
        note = f"[The user changed the arguments to {as_result(decision.arguments).text}]\n"
    desk.mark(place, "running")
    outcome = await _run(tool, values, tool.timeout or desk.tool_timeout)
    return outcome._replace(result=outcome.result._replace(text=note + outcome.result.text))


async def _decision(desk: Desk, place: int, entry: Entry, tool: Tool | None) -> Decision:
    override = tool.approve if tool else None
    decision = await decide(desk.approve, entry.name, entry.arguments, override)
    if decision != "ask":
        return decision
    if not desk.can_ask():
        return Decision(allowed=False, reason=NOBODY)
    call = (desk.request_id, entry.call_id, entry.name, entry.arguments)
    consent = Consent(desk.portal, *call, tool)
    desk.wait_for(consent)
    desk.mark(place, "waiting")
    return await consent.answer()


async def _run(tool: Tool, values: Mapping[str, Any], limit: float) -> _Outcome:
    """Run a tool as a task of its own: however it ends, the turn goes on."""
    began = time.perf_counter()
    task = asyncio.ensure_future(_told(tool, values))
    try:
        await asyncio.wait({task}, timeout=None if math.isinf(limit) else limit)
    finally:
        late = not task.done()
        task.cancel()
    seconds = time.perf_counter() - began
    if late:
        return _failed(
            f"Error: {tool.name} did not finish within {limit:g} s; it was left alone.", seconds
        )
    if task.cancelled():
        return _failed(f"Error: {tool.name} was cancelled from within.", seconds)
    error = task.exception()
    if error is not None:
        text = cut(clean(f"Error in {tool.name}: {in_words(error)}"), ERROR_LIMIT)
        return _failed(text, seconds)
    return _Outcome("done", task.result(), seconds)


async def _told(tool: Tool, values: Mapping[str, Any]) -> ToolResult:
    """Call a tool and put what it returns into words, beside the loop: a table may be large."""
    value = await tool.call(values)
    try:
        return await in_thread(partial(as_result, value), f"result of {tool.name}")
    except Exception as trouble:  # a result whose own str() fails
        raise RuntimeError(f"its result cannot be told: {in_words(trouble)}") from trouble


def _failed(text: str, seconds: float = 0.0) -> _Outcome:
    return _Outcome("failed", ToolResult(clean(text)), seconds)
