"""Requests and tokens a minute, and the headers that tell of them."""

from __future__ import annotations

import threading
import time
from collections import deque

__all__ = ["RateLimiter"]

MINUTE = 60.0


class RateLimiter:
    """Counts what was used in the last minute.

    Args:
        requests: Requests allowed a minute; None for no limit.
        tokens: Tokens allowed a minute; None for no limit.
    """

    def __init__(self, requests: int | None = None, tokens: int | None = None) -> None:
        self.requests = requests
        self.tokens = tokens
        self._admitted: deque[float] = deque()
        self._spent: deque[tuple[float, int]] = deque()
        self._tokens_used = 0
        self._lock = threading.Lock()

    def admit(self) -> bool:
        """Return whether one more request is allowed now, and count it if so."""
        with self._lock:
            self._forget()
            if self.requests is not None and len(self._admitted) >= self.requests:
                return False
            if self.tokens is not None and self._tokens_used >= self.tokens:
                return False
            self._admitted.append(time.monotonic())
            return True

    def spend(self, tokens: int) -> None:
        """Note what an admitted request used."""
        with self._lock:
            self._spent.append((time.monotonic(), tokens))
            self._tokens_used += tokens

    def headers(self, cost: int = 0) -> dict[str, str]:
        """Return the ``x-ratelimit-*`` headers; none without a limit."""
        with self._lock:
            self._forget()
            found = {}
            if self.requests is not None:
                left = max(0, self.requests - len(self._admitted))
                found["x-ratelimit-limit-req-minute"] = str(self.requests)
                found["x-ratelimit-remaining-req-minute"] = str(left)
            if self.tokens is not None:
                left = max(0, self.tokens - self._tokens_used)
                found["x-ratelimit-limit-tokens-minute"] = str(self.tokens)
                found["x-ratelimit-remaining-tokens-minute"] = str(left)
                found["x-ratelimit-tokens-query-cost"] = str(cost)
            return found

    def wait(self) -> float:
        """Return seconds until as much is forgotten as the next request needs."""
        with self._lock:
            blocking = [0.0]
            if self.requests is not None and len(self._admitted) >= self.requests:
                blocking += list(self._admitted)[:1]
            used = self._tokens_used
            for at, spent in self._spent:
                if self.tokens is None or used < self.tokens:
                    break
                used -= spent
                blocking.append(at)
            return max(0.0, max(blocking) + MINUTE - time.monotonic())

    def _forget(self) -> None:
        horizon = time.monotonic() - MINUTE
        while self._admitted and self._admitted[0] < horizon:
            self._admitted.popleft()
        while self._spent and self._spent[0][0] < horizon:
            self._tokens_used -= self._spent.popleft()[1]
