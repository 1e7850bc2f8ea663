"""A webhook receiver on this machine, for lessons and tests: it verifies, keeps and shows."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mistral_nb.errors import InputError, WaitTimeout, WebhookRefused
from mistral_nb.markdown import escape, prose
from mistral_nb.portal import in_kernel
from mistral_nb.serving import ServedApp
from mistral_nb.webhooks.signing import Secrets, verify

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from pydantic import SecretStr
    from starlette.requests import Request

    from mistral_nb.webhooks.signing import Scheme, WebhookEvent

__all__ = ["Received", "WebhookReceiver"]

LARGEST_BODY = 2_000_000
KEPT = 10_000
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Received:
    """One request that came in.

    Attributes:
        at: When, in seconds since the epoch.
        status: What it was answered.
        event: What it said, if it was believed; else None.
        note: ``"new"``, ``"repeated"`` (an id that was treated before), or why it was refused.
    """

    at: float
    status: int
    event: WebhookEvent | None
    note: str


class WebhookReceiver:
    """A running receiver; ``receiver.url`` is what a notifier is given.

    Args:
        secret: Shared with the sender.
        port: Port on this machine; 0 takes any free one.
        scheme: What is verified: see :func:`mistral_nb.webhooks.verify`.
        show: Whether a table below the cell grows as deliveries come; None in notebooks only.

    Raises:
        InputError: The secret guards nothing.
        PortTaken: Nothing can listen at the port.
    """

    def __init__(
        self,
        secret: str | SecretStr | Sequence[str | SecretStr],
        port: int = 0,
        *,
        scheme: Scheme = "standard",
        show: bool | None = None,
    ) -> None:
        self._secrets = Secrets(secret)
        self._scheme: Scheme = scheme
        self._received: list[Received] = []
        self._events: dict[str, WebhookEvent] = {}
        self._taken = 0
        self._refusals: list[tuple[int, float | None] | None] = []
        self._news = threading.Condition()
        self._display: Any = None
        app = Starlette(routes=[Route("/{path:path}", self._take, methods=["POST"])])
        self._served = ServedApp(app, port=port, name="webhook-receiver")
        self.url = self._served.url + "/webhooks"
        if in_kernel() if show is None else show:
            from IPython.display import display

            self._display = display(self, display_id=True)

    def __repr__(self) -> str:
        return f"WebhookReceiver({self.url}, {len(self.events)} events)"

    @property
    def received(self) -> list[Received]:
        """Every request so far, refused and repeated ones included, oldest first."""
        with self._news:
            return list(self._received)

    @property
    def events(self) -> list[WebhookEvent]:
        """Every event so far, once each, oldest first."""
        with self._news:
            return list(self._events.values())

    def fail(self, times: int = 1, status: int = 503, retry_after: float | None = None) -> None:
        """Refuse the next requests, to see a sender try again.

        Args:
            times: How many.
            status: What they are answered.
            retry_after: Seconds the sender is asked to wait; None says nothing.

        Raises:
            InputError: A number is out of range.
        """
        if times < 0 or not 300 <= status <= 599:  # noqa: PLR2004 - HTTP's own numbers
            raise InputError("times must be 0 or more, and status an HTTP status from 300 to 599.")
        with self._news:
            self._refusals = [(status, retry_after)] * times

    def wait(self, count: int = 1, timeout: float = 30.0) -> list[WebhookEvent]:
        """Wait until so many events have come.

        Args:
            count: How many in all.
            timeout: Longest wait in seconds.

        Returns:
            All events there are, the earliest first.

        Raises:
            WaitTimeout: Fewer came in that time.
        """
        with self._news:
            if not self._news.wait_for(lambda: len(self._events) >= count, timeout):
                raise WaitTimeout(
                    f"{len(self._events)} of {count} events came within {timeout:g} s. "
                    "Wait again, or look at receiver.received for refused ones."
                )
            return list(self._events.values())

    def to_frame(self) -> pd.DataFrame:
        """Return every request as a table: when, answer, event, id, note."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "at": pd.Timestamp(each.at, unit="s", tz="UTC"),
                    "status": each.status,
                    "event": each.event.event if each.event else None,
                    "id": each.event.id if each.event else None,
                    "note": each.note,
                }
                for each in self.received
            ],
            columns=["at", "status", "event", "id", "note"],
        )

    def stop(self) -> None:
        """Stop listening; what came stays readable."""
        self._served.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    async def _take(self, request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_BODY:
                return self._keep(413, None, f"larger than {LARGEST_BODY:,} bytes")
        with self._news:
            refusal = self._refusals.pop() if self._refusals else None
        if refusal is not None:
            answer = self._keep(refusal[0], None, "refused on request")
            if refusal[1] is not None:
                answer.headers["retry-after"] = f"{refusal[1]:g}"
            return answer
        try:
            event = verify(request.headers, bytes(body), self._secrets, scheme=self._scheme)
        except WebhookRefused as error:
            return self._keep(401, None, str(error))
        return self._keep(200, event, "")

    def _keep(self, status: int, event: WebhookEvent | None, note: str) -> Response:
        with self._news:
            if event is not None:
                # Without an id in the scheme, nothing tells a repeated delivery from a new one.
                self._taken += 1
                key = event.id or f"#{self._taken}"
                note = "repeated" if key in self._events else "new"
                self._events.setdefault(key, event)
            self._received.append(Received(time.time(), status, event, note))
            del self._received[:-KEPT]
            self._news.notify_all()
        if self._display is not None:
            self._display.update(self)
        return JSONResponse({"received": event is not None, "note": note}, status)

    def _repr_html_(self) -> str:
        latest = self.received[-SHOWN:]
        rows = "".join(_row(each) for each in reversed(latest))
        head = "<tr><th>time</th><th>answer</th><th>event</th><th>id</th><th>note</th></tr>"
        empty = '<tr><td colspan="5">No delivery yet.</td></tr>'
        return (
            f"<p>Webhook receiver at <code>{escape(self.url)}</code>, "
            f"{len(self.events)} events, {len(self.received)} requests</p>"
            f"<table><thead>{head}</thead><tbody>{rows or empty}</tbody></table>"
        )


def _row(received: Received) -> str:
    event = received.event
    clock = time.strftime("%H:%M:%S", time.localtime(received.at))
    cells = (
        clock,
        str(received.status),
        prose(event.event) if event else "",
        f"<code>{escape(event.id)}</code>" if event else "",
        prose(received.note),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
