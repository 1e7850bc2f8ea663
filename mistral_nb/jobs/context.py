"""What a handler is given: its job's context, paid calls made once, and words for other ends."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.errors import (
    ApiError,
    InputError,
    RateLimitError,
    ServerUnreachable,
    SettingsError,
    StreamError,
    StreamRefused,
)
from mistral_nb.jobs.model import encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus
    from mistral_nb.jobs.engine import Paid
    from mistral_nb.jobs.model import Claim, OnUncertain

__all__ = ["GiveUp", "Held", "InDoubt", "JobContext", "Lost", "RetryLater"]

log = logging.getLogger(__name__)
LONGEST_WAIT = 24 * 3600.0
"""Seconds; a server that asks for more is not believed."""
BAD_KEY = frozenset({401, 402})
"""Statuses that refuse whoever asks, not what is asked: a wrong key, an account without credit."""


class RetryLater(Exception):  # noqa: N818 - says what to do
    """Raise it in a handler: the job is tried again after so many seconds.

    Args:
        seconds: How long to wait.
        reason: Why, for people.

    Raises:
        InputError: That is no number of seconds.
    """

    def __init__(self, seconds: float, reason: str = "tried again later") -> None:
        if not 0 <= seconds < math.inf:
            raise InputError(f"RetryLater takes a number of seconds from 0, not {seconds!r}.")
        super().__init__(reason)
        self.seconds = seconds


class GiveUp(Exception):  # noqa: N818
    """Raise it in a handler: the job has failed, whatever attempts are left."""


class InDoubt(Exception):  # noqa: N818
    """A paid call was under way when a worker was lost: it may have been carried out."""


class Lost(Exception):  # noqa: N818
    """The job is in other hands by now."""


class Held(Exception):  # noqa: N818
    """The server asked this process, or another one, for a pause."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the server asked for a pause of {seconds:.1f} s")
        self.seconds = seconds


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
        self.refusal: BaseException | None = None
        """Set once the server has turned this worker away, whatever it asks."""
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
            try:
                await self._paid.progress(self._claim, body)
            except Exception as error:  # the store's: news that is lost must not cost the work
                log.debug("The progress of %s is not told: %s", self.job_id, error)
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
        if self.refusal is not None:
            raise self.refusal
        if (pause := self.connection.wait_until - time.monotonic()) > 0:
            raise Held(pause)
        state, response = await self._paid.begin(self._claim, key, again=self._again)
        if state == "wait":
            raise Held(float(response or 0) / 1000)
        if state == "done" and response is not None:
            return orjson.loads(response)
        if state == "lost":
            raise Lost
        self.doubts.add(key)
        if state == "open":
            raise InDoubt("it was under way when a worker was lost")
        try:
            value = await self._send(send)
        except BaseException as error:
            if _surely_unpaid(error):
                self.doubts.discard(key)
                await self._paid.end(self._claim, key, None)
            if getattr(error, "status_code", None) in BAD_KEY and await self._is_stranger():
                self.refusal = error
            raise
        await self._paid.end(self._claim, key, encode(value, "a paid call's response"))
        self.doubts.discard(key)
        return value

    async def _send(self, send: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await asyncio.wrap_future(self.connection.portal.spawn(send))
        except RateLimitError as error:
            if error.retry_after:  # all other workers wait as well
                await self._paid.hold(min(error.retry_after, LONGEST_WAIT))
            raise

    async def _is_stranger(self) -> bool:
        """Return False if the server knows this worker's key, and refused one request alone.

        Gateways answer 401 to a model that a key may not use: that is one job's fault, and
        must not send every worker home that takes it up.
        """

        async def ask() -> None:
            await self.connection.sdk.models.list_async()

        try:
            await asyncio.wrap_future(self.connection.portal.spawn(ask))
        except Exception:  # whatever it says: it has not accepted the key
            return True
        return False

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
