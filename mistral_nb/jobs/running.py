"""Carrying a job out: its handler, its time limit, its context, and how the attempt ended."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.errors import (
    ApiError,
    AuthenticationError,
    InputError,
    InvalidRequestError,
    MistralNbError,
    NotFoundError,
    RateLimitError,
    ServerUnreachable,
    SettingsError,
    StreamError,
    StreamRefused,
)
from mistral_nb.jobs.model import LONGEST_ERROR, Outcome, encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus
    from mistral_nb.jobs.engine import Paid
    from mistral_nb.jobs.model import Claim, OnUncertain, Status

    Handler = Callable[..., Any]

__all__ = ["GiveUp", "InDoubt", "JobContext", "JobRunner", "RetryLater", "find_handler", "handler"]

log = logging.getLogger(__name__)
LONGEST_BACKOFF = 3600.0
JITTER = 0.25
"""Each wait is stretched or shortened by up to this share, so that crowds disperse."""
_HOPELESS = (
    InputError,
    SettingsError,
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
)
"""What another attempt cannot change."""


class RetryLater(Exception):  # noqa: N818 - says what to do
    """Raise it in a handler: the job is tried again after so many seconds.

    Args:
        seconds: How long to wait.
        reason: Why, for people.
    """

    def __init__(self, seconds: float, reason: str = "tried again later") -> None:
        super().__init__(reason)
        self.seconds = seconds


class GiveUp(Exception):  # noqa: N818
    """Raise it in a handler: the job has failed, whatever attempts are left."""


class InDoubt(Exception):  # noqa: N818
    """A paid call was under way when a worker was lost: it may have been carried out."""


class _Lost(Exception):  # noqa: N818
    """The job is in other hands by now."""


class _Held(Exception):  # noqa: N818
    """The server asked this process, or another one, for a pause."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the server asked for a pause of {seconds:.1f} s")
        self.seconds = seconds


_everywhere: dict[str, Handler] = {}


def handler(name: str) -> Callable[[Handler], Handler]:
    """Register a handler for jobs of this name in every queue of the process.

    Args:
        name: Of the jobs that it is for.

    Returns:
        A decorator for ``function(data)`` or ``function(data, context)``.
    """

    def register(function: Handler) -> Handler:
        _everywhere[name] = function
        return function

    return register


def find_handler(own: Mapping[str, Handler], name: str) -> Handler | None:
    """Return the handler of a name: a queue's own, one for every queue, or a built-in one."""
    from mistral_nb.jobs.handlers import BUILT_IN

    return own.get(name) or _everywhere.get(name) or BUILT_IN.get(name)


class JobContext:
    """What a handler knows of its job, and what it can tell.

    Args:
        claim: The job, as this worker holds it.
        paid: What was paid for in earlier attempts.
        connection: The server, for handlers that ask it.
        bus: The event bus of this process.
        on_uncertain: What becomes of a call in doubt: ``"ask"`` or ``"retry"``.

    Attributes:
        job_id: The job's id.
        name: Its name.
        attempt: Number of this attempt, from 1.
        attempts: Most attempts.
        connection: The server, for handlers that ask it.
        bus: The event bus of this process.
    """

    def __init__(
        self,
        claim: Claim,
        paid: Paid,
        connection: Connection,
        bus: EventBus,
        on_uncertain: OnUncertain,
    ) -> None:
        self.job_id = claim.spec.id
        self.name = claim.spec.name
        self.attempt = claim.attempt
        self.attempts = claim.spec.attempts
        self.connection = connection
        self.bus = bus
        self.doubts: set[str] = set()
        """Paid calls that may have been carried out without an answer."""
        self._claim = claim
        self._paid = paid
        self._again = on_uncertain == "retry"
        self._loop = asyncio.get_running_loop()
        self._over = threading.Event()
        self._telling: asyncio.Task[None] | None = None
        self._latest: bytes | None = None

    def __repr__(self) -> str:
        return f"JobContext({self.name!r}, attempt {self.attempt} of {self.attempts})"

    @property
    def cancelled(self) -> bool:
        """True once nobody waits for the handler any more; a plain function should look."""
        return self._over.is_set()

    def progress(self, value: Any) -> None:
        """Tell how far the job is; from any thread, as often as you like.

        Args:
            value: Any JSON; of several in a row, listeners may get only the last.
        """
        body = encode(value, "progress")
        self._loop.call_soon_threadsafe(self._tell, body)

    def _tell(self, body: bytes) -> None:
        self._latest = body
        if self._telling is None:
            self._telling = self._loop.create_task(self._keep_telling())

    async def _keep_telling(self) -> None:
        while (body := self._latest) is not None:
            self._latest = None
            await self._paid.progress(self._claim, body)
        self._telling = None

    async def pay(self, key: str, send: Callable[[], Awaitable[Any]]) -> Any:
        """Make a paid call once, whatever happens to this process.

        An intent is written down before the call and the response after it. If the job is
        taken up again after a crash, a response that is there is returned without a call;
        an intent without a response makes the job ``uncertain``, unless the worker was told
        ``on_uncertain="retry"``.

        Args:
            key: Names the call within the job; the same key is the same call.
            send: Makes the call and returns JSON; runs on the toolkit's loop.

        Returns:
            The response.

        Raises:
            ApiError: The server refused; that is not paid for.
            InDoubt: It was under way in a crash; a handler that lets it pass makes the job
                ``uncertain``.
        """
        if (pause := self.connection.wait_until - time.monotonic()) > 0:
            raise _Held(pause)
        state, response = await self._paid.begin(self._claim, key, again=self._again)
        if state == "wait":
            raise _Held(float(response or 0) / 1000)
        if state == "done" and response is not None:
            return orjson.loads(response)
        if state == "lost":
            raise _Lost
        self.doubts.add(key)
        if state == "open":
            raise InDoubt("it was under way when a worker was lost")
        try:
            value = await self._send(send)
        except BaseException as error:
            if _surely_unpaid(error):
                self.doubts.discard(key)
                await self._paid.end(self._claim, key, None)
            raise
        await self._paid.end(self._claim, key, encode(value, "a paid call's response"))
        self.doubts.discard(key)
        return value

    async def _send(self, send: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await asyncio.wrap_future(self.connection.portal.spawn(send))
        except RateLimitError as error:
            if error.retry_after:
                await self._paid.hold(error.retry_after)  # and so all other workers
            raise

    def end(self) -> None:
        """Take note that the attempt is over."""
        self._over.set()

    async def settle(self) -> None:
        """Wait until all progress is told."""
        if self._telling is not None:
            await self._telling


def _surely_unpaid(error: BaseException) -> bool:
    """Return True if a call that ended so cannot be on the bill."""
    if isinstance(error, ServerUnreachable):
        return not error.sent
    if isinstance(error, StreamError):
        return isinstance(error, StreamRefused)
    return isinstance(error, ApiError | InputError | SettingsError)


class JobRunner:
    """Carries claims out with the handlers of a queue; one for each worker, on its loop.

    Args:
        find: Returns the handler of a name, or None.
        connection: For handlers that ask the server.
        bus: Where handlers may publish.
        on_uncertain: ``"ask"``: a doubtful paid call ends the job; ``"retry"``: it is made again.
    """

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
            return Outcome("failed", error=f"No handler here is named {claim.spec.name!r}.")
        context = JobContext(claim, paid, self._connection, self._bus, self._on_uncertain)
        task = asyncio.ensure_future(_call(function, claim, context))
        self._running[claim.spec.id] = (task, context)
        try:
            await asyncio.wait((task,), timeout=claim.spec.timeout)
            timed_out = not task.done()
            if timed_out:
                task.cancel()
                context.end()
                await asyncio.wait((task,))
            await context.settle()
        except Exception as error:  # the store failed; the attempt's own end still counts
            if not task.done():
                task.cancel()
            return self._after(claim, context, error)
        finally:
            context.end()
            del self._running[claim.spec.id]
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
        if isinstance(error, _Lost):
            return Outcome("queued")  # which is not written: the token is an old one
        if isinstance(error, _Held):  # no attempt is lost, and its new start counts anew
            return Outcome("queued", delay=error.seconds)
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
        plain = isinstance(error, MistralNbError | GiveUp | RetryLater | InDoubt | TimeoutError)
        text = str(error) if plain and str(error) else f"{type(error).__name__}: {error}"
        return self._connection.without_key(text)[:LONGEST_ERROR]


def _backoff(claim: Claim, error: BaseException) -> float:
    """Return the seconds until the next attempt: doubling, with jitter, or as was asked."""
    if isinstance(error, RetryLater):
        return max(0.0, error.seconds)
    wait = min(LONGEST_BACKOFF, claim.spec.backoff * 2.0 ** (claim.attempt - 1))
    wait *= random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, hides nothing
    asked = getattr(error, "retry_after", None)
    return wait if asked is None else max(wait, float(asked))


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
