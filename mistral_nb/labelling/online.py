"""The online engine: many requests at once, none lost, none sent without being written down.

Workers pull from one iterator, so that 200,000 requests are never 200,000 tasks. A request
in its backoff holds no place: there are more workers than places. Starts and outcomes are
handed to ``commit`` in groups; a request is sent once the commit that names it has returned.
It takes its place first, so that no more are ever written down without an end than may be
under way: after a kill, these and no others are uncertain.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import anyio

from mistral_nb.errors import MistralNbError, RunError, ServerUnreachable
from mistral_nb.labelling.journal import Journal
from mistral_nb.labelling.throttle import Throttle
from mistral_nb.labelling.verdicts import Fault, Judgement, Patience, judge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from mistral_nb.client import Connection
    from mistral_nb.labelling.throttle import Pace, Permit

__all__ = ["Outcome", "Outgoing", "Sender", "Summary"]

WORKERS_A_PLACE = 4
LONGEST_BACKOFF = 30.0
ABORT_GRACE = 30.0
"""Seconds that requests under way get to end when the run cannot go on: they are paid for."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to send.

    Attributes:
        custom_id: Ties it to its row and its outcome.
        body: JSON body of the endpoint, the model included.
    """

    custom_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended.

    Attributes:
        custom_id: Of the request.
        status: HTTP status of the last attempt; None if there was no answer.
        body: JSON of the reply, also of one that the check refused in the end.
        error: What went wrong; None for a good reply.
        attempts: How often it was sent.
        seconds: From the last attempt's start to its end.
        again: With an error: the same request may work another time.
        undone: It was surely not carried out and says nothing about its row (the run ended
            first, or its settings are wrong): as if it had never been sent. Its start may
            not have been committed either.
        discarded: JSON of earlier replies that were paid for and refused by the check.
    """

    custom_id: str
    status: int | None
    body: bytes | None
    error: MistralNbError | None
    attempts: int
    seconds: float
    again: bool = False
    undone: bool = False
    discarded: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of all requests.

    Attributes:
        done: Requests with a good reply.
        failed: Requests with an error.
        sent: Requests sent, repeats included.
        stopped: True if it was stopped before all were through.
        seconds: How long it took.
    """

    done: int
    failed: int
    sent: int
    stopped: bool
    seconds: float


@dataclass(slots=True)
class _Trial:
    """One request on its way to its outcome."""

    request: Outgoing
    sent: int = 0
    begun: bool = False
    settled: bool = False
    in_doubt: bool = False  # an attempt without a clear answer may have been carried out
    seconds: float = 0.0
    discarded: list[bytes] = field(default_factory=list)


class Sender:
    """Sends requests to one endpoint, many at once.

    Args:
        connection: The server.
        endpoint: e.g. ``"/v1/chat/completions"``.
        commit: Awaited with the custom_ids that are about to be sent and the outcomes that
            have come, in groups, one call at a time. Nothing named in it is sent before it
            returns. If it raises, nothing more is sent, what is under way is waited for,
            and it is called once more with all outcomes it did not take.
        check: Returns what is wrong with a reply (parsed JSON), or None.
        concurrency: Most requests at once.
        rpm: Most requests a minute; None leaves it to the server.
        tpm: Most tokens a minute; None leaves it to the server.
        attempts: Most attempts a request, the first included.
        rechecks: How many more attempts a reply gets that the check refuses (each is paid).
        proven: These settings have worked before, so a row of equal refusals says nothing
            about them.
        backoff: Longest wait before the first repeat in seconds; it doubles with each.
        throttle: Instead of one made from concurrency, rpm and tpm.

    Attributes:
        unsaved: Outcomes that ``commit`` did not take; empty unless it failed.
    """

    def __init__(
        self,
        connection: Connection,
        endpoint: str,
        *,
        commit: Callable[[Sequence[str], Sequence[Outcome]], Awaitable[None]],
        check: Callable[[dict[str, Any]], Fault | None] | None = None,
        concurrency: int = 32,
        rpm: int | None = None,
        tpm: int | None = None,
        attempts: int = 6,
        rechecks: int = 2,
        proven: bool = False,
        backoff: float = 0.5,
        throttle: Throttle | None = None,
    ) -> None:
        self._connection = connection
        self._endpoint = endpoint
        self._check = check
        self._attempts = attempts
        self._rechecks = rechecks
        self._patience = Patience(proven=proven)
        self._backoff = backoff
        self._throttle = throttle or Throttle(
            concurrency, rpm=rpm, tpm=tpm, hold=lambda: connection.wait_until
        )
        self._journal: Journal[Outcome] = Journal(commit, on_error=self._abort)
        self._entrance = asyncio.Lock()  # one new request is in line: repeats pass the others
        self._ending = asyncio.Event()
        self._error: Exception | None = None
        self._grace = 0.0
        self._workers: list[asyncio.Task[None]] = []
        self._flying: set[asyncio.Task[Any] | None] = set()
        self._done = self._failed = self._sent = 0

    @property
    def unsaved(self) -> Sequence[Outcome]:
        """Outcomes that could not be committed."""
        return self._journal.unsaved

    def pace(self) -> Pace:
        """Return how fast requests may go now, and why none may start."""
        return self._throttle.pace()

    def pause(self) -> None:
        """Start no request until :meth:`resume`; those under way go on. From any thread."""
        self._connection.portal.call_soon(self._throttle.pause, True)

    def resume(self) -> None:
        """Go on after :meth:`pause`. From any thread."""
        self._connection.portal.call_soon(self._throttle.pause, False)

    def stop(self, grace: float = 1.5) -> None:
        """Start nothing more and end. From any thread; on the portal's loop, at this moment.

        Args:
            grace: Seconds to wait for requests under way; they are paid for.
        """
        if self._connection.portal.on_own_thread():
            self._end(grace)
        else:
            self._connection.portal.call_soon(self._end, grace)

    async def send(self, requests: Iterable[Outgoing] | AsyncIterator[Outgoing]) -> Summary:
        """Send requests until all have their outcome, or :meth:`stop`. Once, on the portal.

        Args:
            requests: What to send; pulled only as fast as it goes out.

        Returns:
            What became of them.

        Raises:
            AuthenticationError: The key is wrong; likewise other ApiErrors for settings
                that no request can work with. Nothing more was sent.
            RunError: The server has been refusing everything for too long.
            ServerUnreachable: The server was never reached.
            StoreError: What ``commit`` raised; see ``unsaved``.
        """
        began = time.perf_counter()
        source = _Source(requests)
        self._journal.start()
        self._workers = workers = [
            asyncio.create_task(self._work(source))
            for _ in range(WORKERS_A_PLACE * self._throttle.most)
        ]
        try:
            await self._until_done(workers)
        finally:
            for worker in workers:
                worker.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.gather(*workers, return_exceptions=True)
                await self._journal.close()
        if self._error is not None:
            raise self._error
        seconds = time.perf_counter() - began
        return Summary(self._done, self._failed, self._sent, self._ending.is_set(), seconds)

    async def _until_done(self, workers: list[asyncio.Task[None]]) -> None:
        """Wait for the workers; once the end is called for, only for those under way."""
        ending: asyncio.Future[Any] = asyncio.ensure_future(self._ending.wait())
        all_done: asyncio.Future[Any] = asyncio.gather(*workers, return_exceptions=True)
        try:
            await asyncio.wait({ending, all_done}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
        if all_done.done():
            return
        if flying := [worker for worker in workers if worker in self._flying]:
            await asyncio.wait(flying, timeout=self._grace)

    def _end(self, grace: float) -> None:
        self._grace = grace
        self._ending.set()
        for worker in self._workers:
            if worker not in self._flying:  # nothing starts from here on
                worker.cancel()

    def _abort(self, error: Exception, grace: float = ABORT_GRACE) -> None:
        if self._error is None:
            self._error = error
            self._end(grace)

    async def _work(self, source: _Source) -> None:
        try:
            while not self._ending.is_set() and (request := await source.next()) is not None:
                await self._carry(_Trial(request))
        except Exception as error:  # the iterator's own, or the journal's: it ends the run
            self._abort(error)

    async def _carry(self, trial: _Trial) -> None:
        """Bring one request to its outcome."""
        last = Judgement("failed", error=RunError("Not sent: the run ended first."))
        try:
            while True:
                permit = await self._permitted(trial)
                last = await self._attempt(trial, permit)
                if self._settled(trial, last):
                    return
                if self._ending.is_set():
                    break
                longest = min(LONGEST_BACKOFF, self._backoff * 2 ** (trial.sent - 1))
                await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - full jitter
        finally:
            if trial.begun and not trial.settled and not trial.in_doubt:
                self._finish(trial, last, undone=not trial.discarded)

    async def _permitted(self, trial: _Trial) -> Permit:
        """Wait until the request may start and is written down."""
        size = len(trial.request.body)
        if trial.begun:
            return await self._throttle.acquire(size)
        async with self._entrance:
            permit = await self._throttle.acquire(size)
        trial.begun = True
        try:
            await self._journal.begin(trial.request.custom_id)
            while (pause := self._pause()) > 0:  # noqa: ASYNC110 - asked for amid the commit
                await asyncio.sleep(pause)
        except BaseException:
            self._throttle.give_back(permit)
            raise
        return permit

    def _pause(self) -> float:
        """Return the seconds for which the server wants no request."""
        return self._connection.wait_until - time.monotonic()

    async def _attempt(self, trial: _Trial, permit: Permit) -> Judgement:
        """Send the request once."""
        task = asyncio.current_task()
        trial.sent += 1
        self._sent += 1
        in_doubt, trial.in_doubt = trial.in_doubt, True
        began = time.perf_counter()
        self._flying.add(task)
        try:
            answer = await self._connection.post(self._endpoint, trial.request.body)
        except ServerUnreachable as error:
            found = Judgement("failed", error=error)
            trial.in_doubt = in_doubt or error.sent
        except BaseException:
            self._throttle.give_back(permit)
            raise
        else:
            found = self._checked(judge(self._endpoint, answer, self._connection.without_key))
            trial.in_doubt = in_doubt or found.verdict == "failed"
        finally:
            self._flying.discard(task)
        trial.seconds = time.perf_counter() - began
        self._throttle.sync(self._connection.rate_limits)
        self._throttle.release(permit, found.verdict, found.tokens)
        return found

    def _checked(self, found: Judgement) -> Judgement:
        if found.reply is None or self._check is None:
            return found
        try:
            fault = self._check(found.reply)
        except Exception as error:  # the reply is paid for, whatever a check makes of it
            fault = Fault(f"the check failed ({type(error).__name__}: {error})", again=False)
        if fault is None:
            return found
        told = f"{fault.reason[:1].upper()}{fault.reason[1:]}."
        return replace(found, error=MistralNbError(told), fault=fault)

    def _settled(self, trial: _Trial, found: Judgement) -> bool:
        """Decide what follows from an attempt; False if the request is not through."""
        ends_all = self._patience.ended_by(found, self._throttle.rested, self._pause())
        if ends_all is not None:
            self._abort(ends_all)
        if self._patience.hopeless(found):
            return False
        if found.error is None:
            self._done += 1
        elif found.again and self._may_repeat(trial, found):
            return False
        else:
            self._failed += 1
        self._finish(trial, found)
        return True

    def _may_repeat(self, trial: _Trial, found: Judgement) -> bool:
        if found.fault is not None:
            if len(trial.discarded) >= self._rechecks or trial.sent >= self._attempts:
                return False
            assert found.body is not None
            trial.discarded.append(found.body)
        return trial.sent < self._attempts

    def _finish(self, trial: _Trial, found: Judgement, *, undone: bool = False) -> None:
        trial.settled = True
        self._journal.finish(
            Outcome(
                trial.request.custom_id,
                found.status,
                found.body,
                found.error,
                trial.sent,
                trial.seconds,
                again=found.again,
                undone=undone,
                discarded=tuple(trial.discarded),
            )
        )


class _Source:
    """Hands out requests of one iterator, of either kind, to many workers."""

    def __init__(self, requests: Iterable[Outgoing] | AsyncIterator[Outgoing]) -> None:
        self._async = requests if isinstance(requests, AsyncIterator) else None
        self._sync = iter(()) if isinstance(requests, AsyncIterator) else iter(requests)
        self._turn = asyncio.Lock()

    async def next(self) -> Outgoing | None:
        """Return the next request; None at the end."""
        if self._async is None:
            return next(self._sync, None)
        async with self._turn:  # an async generator cannot be asked twice at once
            return await anext(self._async, None)
