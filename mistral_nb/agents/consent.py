"""Who decides whether a tool may run: a rule, a function of yours, or a person at a screen."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from mistral_nb.agents.functions import called, in_words
from mistral_nb.agents.results import clean
from mistral_nb.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mistral_nb.agents.tools import Tool
    from mistral_nb.portal import Portal

__all__ = ["Consent", "Decision", "Screens", "check_approve", "decide"]

RULES = ("ask", "always", "never")
NOBODY = (
    "Nobody could be asked for consent: no chat panel is open. "
    'Run it with a panel, or allow the tool with approve="always" or approve={...}.'
)

SERVER = "Runs on Mistral's side, with these arguments."
"""What is known of a tool that is not ours."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one request.

    Attributes:
        allowed: Whether the call may run.
        reason: Why not, in words the model is told.
        arguments: What to call it with, where a person changed it; None leaves it.

    Raises:
        InputError: A field is of another type.
    """

    allowed: bool
    reason: str = ""
    arguments: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        right = isinstance(self.allowed, bool) and isinstance(self.reason, str)
        if not right or not isinstance(self.arguments, dict | None):
            raise InputError(f"{self!r}: allowed must be a bool, reason a text, arguments a dict.")


class Consent:
    """One call that waits for a person; any thread may answer it, the first answer counts.

    Args:
        portal: The loop on which the turn waits.
        turn_id: Turn it belongs to.
        call_id: The server's id of the call.
        name: Tool or connector.
        arguments: What the model wants to call it with.
        tool: The tool; None for one that runs on Mistral's side.

    Attributes:
        id: As ``call_id``.
    """

    def __init__(
        self,
        portal: Portal,
        turn_id: str,
        call_id: str,
        name: str,
        arguments: dict[str, Any] | str,
        tool: Tool | None,
    ) -> None:
        import asyncio

        self.id = call_id
        self.turn_id = turn_id
        self.name = name
        self.arguments = arguments
        self._tool = tool
        self._portal = portal
        self._lock = threading.Lock()
        self._decision: Decision | None = None
        self._answered = asyncio.Event()

    def __repr__(self) -> str:
        state = "answered" if self.done else "waiting"
        return f"Consent({self.name}, {self.arguments}, {state})"

    @property
    def server(self) -> bool:
        """True if it runs on Mistral's side: allow or deny, nothing to edit."""
        return self._tool is None

    @property
    def description(self) -> str:
        """What the tool is for."""
        return self._tool.description if self._tool else SERVER

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON schema of the arguments."""
        return self._tool.parameters if self._tool else {}

    @property
    def done(self) -> bool:
        """True once it was answered."""
        return self._decision is not None

    def approve(self, arguments: Mapping[str, Any] | None = None) -> bool:
        """Let the call run.

        Args:
            arguments: All arguments to call it with instead; None leaves them.

        Returns:
            False if somebody answered before.

        Raises:
            InputError: They do not fit the tool; the request still waits.
        """
        changed = None
        if arguments is not None and dict(arguments) != self.arguments:
            if self._tool is None:
                raise InputError(f"{self.name} runs on Mistral's side: its arguments are fixed.")
            self._tool.bind(dict(arguments))
            changed = dict(arguments)
        return self._decide(Decision(allowed=True, arguments=changed))

    def deny(self, reason: str = "") -> bool:
        """Keep the call from running.

        Args:
            reason: Told to the model.

        Returns:
            False if somebody answered before.
        """
        return self._decide(Decision(allowed=False, reason=clean(reason)))

    def _decide(self, decision: Decision) -> bool:
        with self._lock:
            if self._decision is not None:
                return False
            self._decision = decision
        self._portal.call_soon(self._answered.set)
        return True

    async def answer(self) -> Decision:
        """Wait for the answer.

        Returns:
            What was decided.
        """
        await self._answered.wait()
        assert self._decision is not None
        return self._decision


class Screens:
    """Counts who could be asked; every panel that is really shown attaches."""

    def __init__(self) -> None:
        self._attached: set[Screen] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._attached)

    def attach(self) -> Screen:
        """Say that a person can be asked from now on."""
        screen = Screen(self)
        with self._lock:
            self._attached.add(screen)
        return screen

    def discard(self, screen: Screen) -> None:
        """Take a screen off; twice does no harm."""
        with self._lock:
            self._attached.discard(screen)


class Screen:
    """A place where a person can answer; leave it with :meth:`detach` or as a context."""

    def __init__(self, screens: Screens) -> None:
        self._screens = screens

    def detach(self) -> None:
        """Say that nobody can be asked here any more; what waits goes on waiting."""
        self._screens.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()


def check_approve(approve: Any) -> None:
    """Refuse what is no rule of consent.

    Raises:
        InputError: It is none.
    """
    rules = approve.values() if isinstance(approve, dict) else [approve]
    for rule in rules:
        if not callable(rule) and rule not in RULES:
            raise InputError(
                f"approve must be 'ask', 'always', 'never', a function of a call, or a dict of "
                f"those by tool name ('*' for the rest), not {rule!r}."
            )


async def decide(
    approve: Any, name: str, arguments: dict[str, Any] | str, override: Any = None
) -> Decision | Literal["ask"]:
    """Apply a rule to a call.

    Args:
        approve: The conversation's rule.
        name: Tool that is called.
        arguments: What with.
        override: The tool's own rule, which goes first.

    Returns:
        The decision; ``"ask"`` where a person has to make it.
    """
    rule = approve if override is None else override
    if isinstance(rule, dict):
        rule = rule.get(name, rule.get("*", "ask"))
    answer = await _asked(rule, name, arguments) if callable(rule) else rule
    if isinstance(answer, Decision):
        return answer
    if answer is True or answer == "always":
        return Decision(allowed=True)
    if answer == "ask":
        return "ask"
    if answer is False or answer in {"never", ""}:
        return Decision(allowed=False, reason="The rules forbid it.")
    return Decision(allowed=False, reason=answer)


async def _asked(
    rule: Callable[..., Any], name: str, arguments: dict[str, Any] | str
) -> bool | str | Decision:
    """Ask a function: True, False, "ask", or a text that says why not."""
    try:
        answer = await called(partial(rule, name, arguments), "approve")  # it may ask, and wait
    except Exception as error:  # a rule that fails must not let a call through
        return f"The approve function failed: {in_words(error)}"
    if getattr(answer, "shape", None) == ():  # numpy's True, as a comparison of pandas has it
        answer = answer.item()
    if isinstance(answer, bool | str | Decision):
        return answer
    kind = type(answer).__name__
    return f"The approve function returned {kind}; it must be True, False or the reason why not."
