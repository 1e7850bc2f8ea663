"""Carrying a job out: its handler, its time limit, and how the attempt ended."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.errors import (
    AuthenticationError,
    InputError,
    InvalidRequestError,
    MistralNbError,
    NotFoundError,
    SettingsError,
)
from mistral_nb.jobs.context import (
    LONGEST_WAIT,
    GiveUp,
    Held,
    InDoubt,
    JobContext,
    Lost,
    RetryLater,
)
from mistral_nb.jobs.model import LONGEST_ERROR, Outcome, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus
    from mistral_nb.jobs.engine import Paid
    from mistral_nb.jobs.model import Claim, OnUncertain, Status

    Handler = Callable[..., Any]

__all__ = ["JobRunner", "find_handler", "handler", "registering"]

log = logging.getLogger(__name__)
LONGEST_BACKOFF = 3600.0
JITTER = 0.25
"""Each wait is stretched or shortened by up to this share, so that crowds disperse."""
UNWINDING = 5.0
"""Seconds that a handler whose time is up has for its own ending."""
MOST_DOUBLINGS = 40
"""More of them than any wait has; 2.0 to the power of 1,024 is no number."""
_HOPELESS = (
    InputError,
    SettingsError,
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
)
"""What another attempt cannot change."""


_everywhere: dict[str, Handler] = {}


def handler(name: str) -> Callable[[Handler], Handler]:
    """Register a handler for jobs of this name in every queue of the process.

    Args:
        name: Of the jobs that it is for.

    Returns:
        A decorator for ``function(data)`` or ``function(data, context)``.

    Raises:
        InputError: There is no name, or what is decorated is no function.
    """
    return registering(_everywhere, name)


def registering(handlers: dict[str, Handler], name: str) -> Callable[[Handler], Handler]:
    """Return a decorator that adds a function to some handlers.

    Args:
        handlers: Where it is added.
        name: Of the jobs that it is for.

    Raises:
        InputError: There is no name, or what is decorated is no function.
    """
    if not isinstance(name, str) or not name.strip():
        raise InputError("Name the jobs that the handler is for: @queue.handler('measure').")

    def register(function: Handler) -> Handler:
        if not callable(function):
            raise InputError(f"The handler of {name!r} must be a function, not {function!r}.")
        handlers[name] = function
        return function

    return register


def find_handler(own: Mapping[str, Handler], name: str) -> Handler | None:
    """Return the handler of a name: a queue's own, one for every queue, or a built-in one."""
    from mistral_nb.jobs.handlers import BUILT_IN

    return own.get(name) or _everywhere.get(name) or BUILT_IN.get(name)


class JobRunner:
    """Carries claims out with the handlers of a queue; one for each worker, on its loop.

    Args:
        find: Returns the handler of a name, or None.
        connection: For handlers that ask the server.
        bus: Where handlers may publish.
        on_uncertain: ``"ask"``: a doubtful paid call ends the job; ``"retry"``: it is made again.

    Attributes:
        on_refusal: Called with the server's words when it turns this worker away: its jobs are
            handed back, and it should take no more.
    """

    on_refusal: Callable[[str], object] = staticmethod(lambda _: None)

    def __init__(
        self,
        find: Callable[[str], Handler | None],
        connection: Connection,
        bus: EventBus,
        on_uncertain: OnUncertain,
    ) -> None:
        self._find = find
        self._connection = connection
        self._bus = bus
        self._on_uncertain = on_uncertain
        self._running: dict[str, tuple[asyncio.Task[Any], JobContext]] = {}
        self._reasons: dict[str, Status] = {}

    @property
    def running(self) -> list[str]:
        """Ids of the jobs under way."""
        return list(self._running)

    def stop(self, job_id: str, reason: Status) -> bool:
        """End a job that is under way: ``cancelled``, or ``queued`` to hand it back.

        Returns:
            False if it is not under way here.
        """
        if job_id not in self._running:
            return False
        if job_id not in self._reasons:
            self._reasons[job_id] = reason
            self._running[job_id][0].cancel()
        return True

    async def __call__(self, claim: Claim, paid: Paid) -> Outcome:
        """Carry out one attempt.

        Nothing leaves here as an exception, a cancellation least of all: what an engine
        built on tasks makes of that is its own death.
        """
        outcome = await self._attempt(claim, paid)
        if log.isEnabledFor(logging.INFO):
            why = f": {outcome.error}" if outcome.error else ""
            log.info("%s (%s) %s%s", claim.spec.id, claim.spec.name, outcome.status, why)
        return outcome

    async def _attempt(self, claim: Claim, paid: Paid) -> Outcome:
        function = self._find(claim.spec.name)
        if function is None:
            told = (
                f"No handler here is named {claim.spec.name!r}. Register one where the worker "
                f"runs, with @queue.handler({claim.spec.name!r}), and replay the job."
            )
            return Outcome("failed", error=told)
        context = JobContext(claim, paid, self._connection, self._bus, self._on_uncertain)
        task = asyncio.ensure_future(_call(function, claim, context))
        self._running[claim.spec.id] = (task, context)
        try:
            await asyncio.wait((task,), timeout=claim.spec.timeout)
            timed_out = not task.done()
            if timed_out:
                task.cancel()
                context.end()
                await asyncio.wait((task,), timeout=UNWINDING)
            await context.settle()
        finally:
            context.end()
            # A job that was lost and came back here has one entry, whoever ends first.
            self._running.pop(claim.spec.id, None)
            reason = self._reasons.pop(claim.spec.id, None)
        return self._outcome(claim, context, task, reason, timed_out=timed_out)

    def _outcome(
        self,
        claim: Claim,
        context: JobContext,
        task: asyncio.Task[Any],
        reason: Status | None,
        *,
        timed_out: bool,
    ) -> Outcome:
        if not task.done():
            late = f"It took longer than its {claim.spec.timeout:g} s, and would not be cancelled."
            return self._after(claim, context, TimeoutError(late))
        error = None if task.cancelled() else task.exception()
        if not task.cancelled() and error is None:
            try:
                return Outcome("completed", encode(task.result(), "a handler's result"))
            except InputError as wrong:
                return Outcome("failed", error=str(wrong))
        if task.cancelled() and reason is not None:
            if reason == "queued":
                return Outcome("queued")
            return Outcome(reason, error="It was cancelled while it was under way.")
        if timed_out:
            error = TimeoutError(f"It took longer than its {claim.spec.timeout:g} s.")
        elif error is None:
            error = RuntimeError("The handler was cancelled from inside.")
        return self._after(claim, context, error)

    def _after(self, claim: Claim, context: JobContext, error: BaseException) -> Outcome:
        """Decide what follows a failure: an end, or another attempt after a wait."""
        told = self._told(error)
        if isinstance(error, Lost):
            return Outcome("queued")  # which is not written: the token is an old one
        if isinstance(error, Held):  # no attempt is lost, and its new start counts anew
            return Outcome("queued", delay=error.seconds)
        if context.refusal is not None:
            told = self._told(context.refusal)
            self.on_refusal(told)
            return Outcome("queued", error=told)
        if context.doubts and self._on_uncertain == "ask":
            keys = ", ".join(sorted(context.doubts)[:5])
            return Outcome(
                "uncertain",
                error=f"A paid call ({keys}) may have been carried out without an answer here: "
                f"{told}. It is not repeated unasked; replay the job to repeat it.",
            )
        if isinstance(error, (*_HOPELESS, GiveUp)) or claim.attempt >= claim.spec.attempts:
            return Outcome("failed", error=told)
        return Outcome("delayed", error=told, delay=_backoff(claim, error))

    def _told(self, error: BaseException) -> str:
        """Return an error's words, short and without the key."""
        try:
            words = str(error)
        except Exception:  # a handler may raise what it likes
            words = "without words"
        plain = isinstance(error, MistralNbError | GiveUp | RetryLater | InDoubt | TimeoutError)
        text = words if plain and words else f"{type(error).__name__}: {words}"
        text = self._connection.without_key(text)[:LONGEST_ERROR]
        # File names may hold halves of characters, which neither SQLite nor Redis can write.
        return text.encode("utf-8", "replace").decode()


def _backoff(claim: Claim, error: BaseException) -> float:
    """Return the seconds until the next attempt: doubling, with jitter, or as was asked."""
    if isinstance(error, RetryLater):
        return error.seconds
    doublings = min(claim.attempt - 1, MOST_DOUBLINGS)
    wait = min(LONGEST_BACKOFF, claim.spec.backoff * 2.0**doublings)
    wait *= random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, hides nothing
    asked = getattr(error, "retry_after", None)
    if not isinstance(asked, int | float):  # others' exceptions hold texts and more by that name
        return wait
    return max(wait, min(asked, LONGEST_WAIT))


async def _call(function: Handler, claim: Claim, context: JobContext) -> Any:
    """Call a handler: a coroutine function here, a plain one in a thread."""
    arguments = (orjson.loads(claim.spec.data), context)[: _arguments(function)]
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    return await asyncio.get_running_loop().run_in_executor(None, partial(function, *arguments))


def _arguments(function: Handler) -> int:
    """Return how many of (data, context) a handler takes."""
    try:
        return _known[function]
    except KeyError:
        pass
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    kinds = [each.kind for each in inspect.signature(function).parameters.values()]
    number = sum(1 for kind in kinds if kind in positional)
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        number = 2
    _known[function] = min(2, number)
    return _known[function]


_known: dict[Any, int] = {}
