"""What a server's answer means: for its request, and at times for the whole run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from mistral_nb.errors import (
    InvalidRequestError,
    MistralNbError,
    RateLimitError,
    RunError,
    ServerError,
    ServerUnreachable,
)
from mistral_nb.explaining import api_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.labelling.throttle import Verdict
    from mistral_nb.lean import Answer

__all__ = ["Fault", "Judgement", "Patience", "judge"]

TOO_MANY = 429
AGAIN = frozenset({408, 409, 425})
NEVER = frozenset({501, 505})
"""Statuses that are worth another try though below 500, and not worth one though above."""
BAD_KEY = frozenset({401, 402})
BAD_SETTINGS = frozenset({403, 404, 405, 501})
"""Refusals that mean the key; and those that mean the settings, unless some request worked."""
INVALID_MODEL = "1500"
LONGEST_PAUSE = 600.0
"""A server that asks for a longer pause (in seconds) ends the run, with the time to come back."""
PATIENCE, FIRST_PATIENCE = 300.0, 30.0
"""Seconds of the breaker's rests after which the run ends: once anything has been answered
(or everything is just too often), and before."""
SAME_REFUSALS = 20
"""So many first requests refused for the same reason: the settings are wrong, not the rows."""
NEEDED = {
    "/v1/chat/completions": "choices",
    "/v1/agents/completions": "choices",
    "/v1/fim/completions": "choices",
    "/v1/embeddings": "data",
    "/v1/moderations": "results",
    "/v1/chat/moderations": "results",
    "/v1/classifications": "results",
    "/v1/chat/classifications": "results",
    "/v1/ocr": "pages",
}
"""The list that a reply of each endpoint must hold."""


class Fault(NamedTuple):
    """What a caller's check finds wrong with a reply.

    Attributes:
        reason: In plain words, without a full stop.
        again: Another attempt may do better; it is paid for again.
    """

    reason: str
    again: bool = True


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one attempt came to.

    Attributes:
        verdict: What the throttle should make of it.
        status: HTTP status; None if there was no answer.
        body: JSON of the reply; None if there was none.
        error: What is wrong; None for a good reply.
        reply: The reply, parsed.
        fault: What the caller's check found; such a reply is paid for all the same.
    """

    verdict: Verdict
    status: int | None = None
    body: bytes | None = None
    error: MistralNbError | None = None
    reply: dict[str, Any] | None = None
    fault: Fault | None = None

    @property
    def tokens(self) -> int | None:
        """Tokens that the server counted."""
        usage = (self.reply or {}).get("usage")
        total = usage.get("total_tokens") if isinstance(usage, dict) else None
        return total if isinstance(total, int) else None

    @property
    def again(self) -> bool:
        """The same request may work another time."""
        if self.fault is not None:
            return self.fault.again
        return self.error is not None and self.verdict != "refused"


def judge(
    endpoint: str, answer: Answer, clean: Callable[[str], str] = lambda text: text
) -> Judgement:
    """Judge an answer.

    Args:
        endpoint: Where the request went, e.g. ``"/v1/chat/completions"``.
        answer: What came back.
        clean: Takes out of a server's words what must not be shown, such as the key.

    Returns:
        The judgement; garbage with status 200 is a failure like a 500.
    """
    status = answer.status
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP's own numbers
        return _reply(endpoint, answer, clean)
    if 300 <= status < 400:  # noqa: PLR2004
        return Judgement("refused", status, error=_moved(answer))
    error = api_error(status, clean(answer.body.decode("utf-8", "replace")), answer.headers)
    if status == TOO_MANY:
        return Judgement("limited", status, error=error)
    failed = (status >= 500 and status not in NEVER) or status in AGAIN  # noqa: PLR2004
    return Judgement("failed" if failed else "refused", status, error=error)


def _reply(endpoint: str, answer: Answer, clean: Callable[[str], str]) -> Judgement:
    try:
        reply: Any = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        reply = None
    needed = NEEDED.get(endpoint)
    if isinstance(reply, dict) and (needed is None or isinstance(reply.get(needed), list)):
        return Judgement("good", answer.status, answer.body, reply=reply)
    start = " ".join(clean(answer.body[:9999].decode("utf-8", "replace")).split())[:80]
    error = ServerError(
        f"The server answered with something that is no reply: {start!r}. "
        "The same request may work later.",
        status_code=answer.status,
    )
    return Judgement("failed", answer.status, error=error)


def _moved(answer: Answer) -> MistralNbError:
    where = answer.headers.get("location", "another address")[:200]
    return InvalidRequestError(
        f"The server redirects to {where!r}. Set server_url to the address it really has.",
        status_code=answer.status,
    )


class Patience:
    """Decides when going on with a run makes no sense any more.

    Args:
        proven: These settings have worked before.
    """

    def __init__(self, *, proven: bool = False) -> None:
        self._proven = proven
        self._refusal = ""
        self._refusals = 0

    def hopeless(self, found: Judgement) -> bool:
        """Return whether no request at all can work with these settings."""
        if found.verdict != "refused" or found.status is None:
            return False
        if found.status in BAD_KEY:
            return True
        if self._proven:  # then it is about this one request: a filter in between, say
            return False
        bad_model = getattr(found.error, "code", None) == INVALID_MODEL
        return bad_model or found.status in BAD_SETTINGS or 300 <= found.status < 400  # noqa: PLR2004

    def ended_by(self, found: Judgement, rested: float, pause: float) -> MistralNbError | None:
        """Take in one attempt.

        Args:
            found: What it came to.
            rested: Seconds that the breaker rested since the last answer.
            pause: Seconds for which the server wants no request.

        Returns:
            The error that ends the run, or None.
        """
        self._proven = self._proven or found.verdict == "good"
        if pause > LONGEST_PAUSE:
            return _long_pause(pause)
        if found.error is None or self.hopeless(found):
            return found.error
        patient = self._proven or found.verdict == "limited"
        if rested >= (PATIENCE if patient else FIRST_PATIENCE):
            return self._gave_up(found.error, rested)
        if found.verdict == "refused" and not self._proven:
            self._refusals = self._refusals + 1 if str(found.error) == self._refusal else 1
            self._refusal = str(found.error)
            if self._refusals >= SAME_REFUSALS:
                return found.error
        return None

    def _gave_up(self, error: MistralNbError, rested: float) -> MistralNbError:
        if not self._proven and isinstance(error, ServerUnreachable):
            return error
        told = RunError(
            f"Nothing but errors from the server for {rested:.0f} s of waiting and trying. The "
            f"last one: {error} What is done is kept; run the same call again later."
        )
        told.__cause__ = error
        return told


def _long_pause(seconds: float) -> MistralNbError:
    back = time.strftime("%d %B %H:%M", time.localtime(time.time() + seconds))
    return RateLimitError(
        f"The server asks for a pause until {back} ({seconds / 60:.0f} minutes). What is done is "
        "kept; run the same call again after that.",
        status_code=TOO_MANY,
        retry_after=seconds,
    )
