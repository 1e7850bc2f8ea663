"""When the next request may start: adaptive concurrency, budgets a minute, pauses, a breaker.

Rules, in this order: the person's own pause; the server's Retry-After; the breaker's rest
after a row of failures; the concurrency that the server puts up with; the budgets.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mistral_nb.labelling.bounds import check_pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mistral_nb.client import RateLimits

__all__ = ["Budget", "Pace", "Permit", "Throttle", "Verdict"]

MINUTE = 60.0
FIRST_REST = 1.0
LONGEST_REST = 60.0
"""Seconds that the breaker rests, first and at most; each rest in a row is twice the last."""

Verdict = Literal["good", "refused", "limited", "failed"]
"""How a request ended: an answer; a refusal of this one request (400, 422); a refusal for
coming too often (429); no usable answer (5xx, timeout, cut, garbage)."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast requests may go now.

    Attributes:
        limit: Requests at once that the server puts up with.
        in_flight: Requests that have started and not ended.
        waiting: Why none may start, in plain words; "" if one may.
    """

    limit: int
    in_flight: int
    waiting: str


@dataclass(slots=True)
class Permit:
    """The right to have one request under way.

    Attributes:
        at: When it was given (monotonic clock).
        size: Bytes of the request.
        tokens: Tokens set aside for it.
        request_slot: Where it is counted in the budget of requests.
        token_slot: Where its tokens are.
    """

    at: float
    size: int
    tokens: float
    request_slot: list[float]
    token_slot: list[float]


class Budget:
    """An amount that may be used in any minute, of requests or of tokens.

    Use is summed up in slots, so that its memory does not grow with the rate. A slot counts
    until a minute after its end: this never allows more than the limit in any minute.

    Args:
        limit: Amount allowed; None for any.
        seconds: Length of the "minute".
    """

    SLOTS = 600

    def __init__(self, limit: int | None = None, seconds: float = MINUTE) -> None:
        self.limit: float = math.inf if limit is None else limit
        self._own_limit = self.limit
        self._seconds = seconds
        self._slot = seconds / self.SLOTS
        self._slots: deque[list[float]] = deque()  # [end of the slot, amount]
        self._used = 0.0

    def wait(self, amount: float, now: float) -> float:
        """Return seconds until an amount may be used; 0 is now.

        An amount above the whole limit may be used once nothing else counts any more.
        """
        self._forget(now)
        over = self._used + amount - self.limit
        if over <= 0 or not self._slots:
            return 0.0
        for end, used in self._slots:
            over -= used
            if over <= 0:
                return max(0.001, end + self._seconds - now)
        return max(0.001, self._slots[-1][0] + self._seconds - now)

    def use(self, amount: float, now: float) -> list[float]:
        """Note that an amount is used now.

        Returns:
            The slot it is in, for :meth:`correct`.
        """
        if not self._slots or self._slots[-1][0] <= now:
            self._slots.append([now + self._slot, 0.0])
        slot = self._slots[-1]
        slot[1] += amount
        self._used += amount
        return slot

    def correct(self, slot: list[float], change: float) -> None:
        """Add to an amount used before what it turned out to be more (or less)."""
        slot[1] += change
        if self._slots and self._slots[0][0] <= slot[0]:  # it still counts
            self._used += change

    def sync(self, limit: int | None, left: int | None, now: float) -> None:
        """Take in the server's word: what others used in its minute counts here as well."""
        self._forget(now)
        if limit is not None:
            self.limit = min(self._own_limit, limit)
        if limit is not None and left is not None and limit - left > self._used:
            self.use(limit - left - self._used, now)

    def _forget(self, now: float) -> None:
        while self._slots and self._slots[0][0] + self._seconds <= now:
            self._used -= self._slots.popleft()[1]
        if not self._slots:
            self._used = 0.0


class Throttle:
    """Lets requests start, one after another; use it on one event loop only.

    The limit on requests at once starts at its most. A 429 halves it, once for all requests
    that were under way together; answers raise it again bit by bit. It never falls below
    an eighth of the most: bare refusals at random must not end in single file. When a
    whole row of requests fails with no answer between them, the breaker opens: a rest,
    then one request to try, and again a rest, twice as long, until one is answered.

    Args:
        most: Most requests at once.
        rpm: Most requests a minute; None leaves it to the server.
        tpm: Most tokens a minute; None leaves it to the server.
        hold: Returns the time (monotonic) before which the server wants no request.
        may_start: Told how many requests are under way; False holds the next one back.
        minute: Length of a minute in seconds; shorter in tests.
        first_rest: The breaker's first rest in seconds; shorter in tests.

    Raises:
        InputError: A number is no whole one above 0, or ``most`` is above 1,000.

    Attributes:
        rested: Seconds that the breaker rested since the last answer.
    """

    def __init__(
        self,
        most: int,
        *,
        rpm: int | None = None,
        tpm: int | None = None,
        hold: Callable[[], float] = lambda: -math.inf,
        may_start: Callable[[int], bool] = lambda _: True,
        minute: float = MINUTE,
        first_rest: float = FIRST_REST,
    ) -> None:
        check_pace(most, rpm, tpm)
        self.most = most
        self.rested = 0.0
        self._floor = min(most, max(2, most // 8))
        self._step = max(1.0, most / 16)
        self._streak_limit = min(16, max(3, 2 * most))
        self._limit = float(most)
        self._in_flight = 0
        self._requests = Budget(rpm, minute)
        self._tokens = Budget(tpm, minute)
        self._tokens_a_byte = 0.4
        self._last_size = 1
        self._hold = hold
        self._may_start = may_start
        self._paused = False
        self._cut_at = -math.inf
        self._streak = 0
        self._first_rest = self._rest = first_rest
        self._rest_until: float | None = None
        self._seen: RateLimits | None = None
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    async def acquire(self, size: int) -> Permit:
        """Wait until a request may start; first come, first served.

        Args:
            size: Bytes of its body, above 0; its tokens are guessed from them.

        Returns:
            The permit; give it back with :meth:`release` or :meth:`give_back`.
        """
        async with self._turn:
            self._last_size = size
            while True:
                now = time.monotonic()
                seconds, _ = self._wait(size, now)
                if seconds <= 0:
                    return self._permit(size, now)
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                        await self._changed.wait()

    def release(self, permit: Permit, verdict: Verdict, tokens: int | None = None) -> None:
        """Give a permit back, and say how the request ended.

        Args:
            permit: The permit.
            verdict: How it ended.
            tokens: Tokens it cost as the server counts them, where that is known.
        """
        self._in_flight -= 1
        self._changed.set()
        now = time.monotonic()
        if verdict in {"good", "refused"}:
            self._answered(permit, verdict, tokens)
            return
        self._tokens.correct(permit.token_slot, -permit.tokens)
        if verdict == "limited" and permit.at > self._cut_at:
            self._limit = max(self._floor, self._limit / 2)
            self._cut_at = now
        self._streak += 1
        began = -math.inf if self._rest_until is None else self._rest_until
        if self._streak >= self._streak_limit and permit.at >= began:
            self._open_breaker(now)

    def give_back(self, permit: Permit) -> None:
        """Give back a permit that was not used."""
        self._in_flight -= 1
        self._changed.set()
        self._requests.correct(permit.request_slot, -1)
        self._tokens.correct(permit.token_slot, -permit.tokens)

    def sync(self, limits: RateLimits) -> None:
        """Take in what the server said of its limits."""
        if limits is self._seen:
            return
        self._seen = limits
        now = time.monotonic()
        self._requests.sync(limits.requests, limits.requests_left, now)
        self._tokens.sync(limits.tokens, limits.tokens_left, now)
        self._changed.set()

    def pause(self, paused: bool = True) -> None:
        """Let no request start until further notice, or let them start again."""
        self._paused = paused
        self._changed.set()

    def pace(self) -> Pace:
        """Return how fast requests may go now."""
        seconds, why = self._wait(self._last_size, time.monotonic())
        if why and not math.isinf(seconds):
            why = f"{why}, {math.ceil(seconds)} s left"
        return Pace(self._allowed(), self._in_flight, why)

    def _wait(self, size: int, now: float) -> tuple[float, str]:
        """Return seconds until a request may start, and why it may not start now."""
        return next((each for each in self._obstacles(size, now) if each[0] > 0), (0.0, ""))

    def _obstacles(self, size: int, now: float) -> Iterator[tuple[float, str]]:
        if self._paused:
            yield math.inf, "paused"
        if not self._may_start(self._in_flight):
            yield math.inf, "waiting for what answers under way cost"
        yield self._hold() - now, "the server asked for a pause"
        if self._rest_until is not None:
            yield self._rest_until - now, "nothing but errors from the server: resting"
            if self._in_flight:
                yield math.inf, "nothing but errors from the server: trying one request"
        if self._in_flight >= self._allowed():
            yield math.inf, ""
        wait = self._requests.wait(1, now)
        yield wait, f"limit of {self._requests.limit:,.0f} requests a minute" if wait else ""
        wait = self._tokens.wait(size * self._tokens_a_byte, now)
        yield wait, f"limit of {self._tokens.limit:,.0f} tokens a minute" if wait else ""

    def _allowed(self) -> int:
        return 1 if self._rest_until is not None else int(self._limit)

    def _permit(self, size: int, now: float) -> Permit:
        self._in_flight += 1
        tokens = size * self._tokens_a_byte
        return Permit(now, size, tokens, self._requests.use(1, now), self._tokens.use(tokens, now))

    def _answered(self, permit: Permit, verdict: Verdict, tokens: int | None) -> None:
        self._streak = 0
        self.rested = 0.0
        if self._rest_until is not None:
            self._rest_until = None
            self._rest = self._first_rest
            self._limit = self._floor
        elif verdict == "good":
            self._limit = min(self.most, self._limit + self._step / self._limit)
        if verdict == "refused":
            self._tokens.correct(permit.token_slot, -permit.tokens)
        elif tokens is not None:
            self._tokens.correct(permit.token_slot, tokens - permit.tokens)
            self._tokens_a_byte += 0.1 * (tokens / permit.size - self._tokens_a_byte)

    def _open_breaker(self, now: float) -> None:
        rest = self._rest * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load, hides nothing
        self._rest_until = now + rest
        self._rest = min(LONGEST_REST, 2 * self._rest)
        self._limit = self._floor
        self.rested += rest
