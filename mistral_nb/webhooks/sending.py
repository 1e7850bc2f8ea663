"""One attempt to deliver a webhook, and what its outcome asks for next."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import anyio
import httpcore2
import httpx2

from mistral_nb.explaining import retry_after
from mistral_nb.webhooks.targets import GuardedNetwork, RefusedTargetError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["Attempt", "Sender"]

Verdict = Literal["delivered", "again", "never", "gone"]
TIMEOUT = 15.0
"""Seconds an attempt may take, from resolving the name to the last byte of the answer."""
ANSWER_LIMIT = 2_000
"""Bytes of an answer that are read; nothing in it matters but its status."""
WORTH_ANOTHER = frozenset({408, 425, 429})
GONE = 410


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one attempt.

    Attributes:
        verdict: ``"delivered"``; ``"again"`` if another attempt may work; ``"never"`` if none
            can; ``"gone"`` if the receiver asks to hear nothing more (410).
        status: HTTP status, or None if there was no answer.
        reason: Why it was not delivered, in a sentence; else ``""``.
        retry_after: Seconds the receiver asked to wait, or None.
        seconds: How long it took.
    """

    verdict: Verdict
    status: int | None
    reason: str
    retry_after: float | None
    seconds: float


class Sender:
    """Sends deliveries: no redirects, no proxies, checked addresses, one time limit.

    Args:
        allowed: Host names that need not be on the public internet.
    """

    def __init__(self, allowed: Collection[str] = ()) -> None:
        self._allowed = allowed

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Attempt:
        """Try once to deliver.

        Args:
            url: The receiver.
            headers: Signed headers.
            body: The body they sign.

        Returns:
            The outcome; no failure of the receiver or the network is raised.
        """
        begun = time.monotonic()
        status, retry, reason = None, None, ""
        verdict: Verdict = "again"
        try:
            with anyio.fail_after(TIMEOUT):
                status, answer_headers, answer = await self._post(url, headers, body)
            verdict, reason = _judged(status, answer)
            retry = retry_after(answer_headers) if verdict == "again" else None
        except RefusedTargetError as error:
            verdict, reason = "never", str(error)
        except (TimeoutError, httpcore2.TimeoutException):
            reason = f"No answer within {TIMEOUT:g} s."
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
            reason = f"The connection failed: {error or type(error).__name__}."
        return Attempt(verdict, status, reason, retry, time.monotonic() - begun)

    async def _post(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], str]:
        # httpx2 takes no network of one's own, and its environment proxies would go round it.
        network = GuardedNetwork(self._allowed)
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        async with (
            httpcore2.AsyncConnectionPool(network_backend=network) as pool,
            pool.stream("POST", url, headers=sent, content=body) as response,
        ):
            answer = bytearray()
            async for chunk in response.aiter_stream():
                answer += chunk
                if len(answer) >= ANSWER_LIMIT:
                    break
            text = bytes(answer[:ANSWER_LIMIT]).decode(errors="replace")
            return response.status, httpx2.Headers(response.headers), text


def _judged(status: int, answer: str) -> tuple[Verdict, str]:
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP's own numbers
        return "delivered", ""
    said = " ".join(answer.split())[:200]
    reason = f"The receiver answered {status}" + (f": {said}" if said else "") + "."
    if status == GONE:
        return "gone", reason
    if status in WORTH_ANOTHER or status >= 500:  # noqa: PLR2004
        return "again", reason
    if 300 <= status < 400:  # noqa: PLR2004
        return "never", reason + " Redirects are not followed: give the address it moved to."
    return "never", reason
