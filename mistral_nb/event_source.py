"""Server-sent events from any server: a cut line is taken up again where it broke.

The format is that of the HTML standard (section "Server-sent events"); httpx2 reads it. What
is added here is what its client leaves to its caller: reconnecting with ``Last-Event-ID``,
waiting between attempts, and knowing when a stream is over.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import httpx2
import orjson

from mistral_nb import portal as portals
from mistral_nb.client import http_client
from mistral_nb.errors import (
    InputError,
    StreamCut,
    StreamMalformed,
    StreamStalled,
)
from mistral_nb.explaining import api_error, unreachable
from mistral_nb.settings import is_http_address

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping
    from concurrent.futures import Future

__all__ = ["ServerEvent", "ServerEvents", "sse"]

LONGEST_WAIT = 60.0
"""Seconds between two attempts at most, whatever the server asks for."""
FIRST_WAIT = 0.5
"""Seconds before the second attempt, doubled for each further one."""
BODY_LIMIT = 20_000
"""Bytes of a refusal that are read."""
REPEATED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may work later."""
UNTOUCHED = frozenset({429, 503})
"""Those of them that say that nothing was begun."""
NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of a stream.

    Attributes:
        name: The event's type; ``"message"`` where the server named none.
        data: Its text.
        id: The server's id of the latest event that had one, or ``""``.
    """

    name: str
    data: str
    id: str = ""

    def json(self) -> Any:
        """Return the data read as JSON.

        Raises:
            StreamMalformed: It is not JSON.
        """
        try:
            return orjson.loads(self.data)
        except orjson.JSONDecodeError as error:
            raise StreamMalformed(
                f"The event {self.name!r} (id {self.id!r}) is not JSON ({error}): "
                f"{self.data[:80]!r}. Use .data for its text."
            ) from error


class _WaitThenRepeatError(Exception):
    """The attempt failed in a way that another one may mend."""

    def __init__(self, error: Exception, seconds: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.seconds = seconds


@dataclass(slots=True)
class _Line:
    """The one stream behind its attempts, on the portal's loop."""

    url: str
    method: str
    headers: dict[str, str]
    content: bytes | None
    last_id: str
    ends: frozenset[str]
    timeout: float
    attempts: int
    max_event_bytes: int
    pause: float  # before the second attempt, in seconds; the server may change it
    failures: int = 0

    async def events(self) -> AsyncGenerator[ServerEvent]:
        """Yield each event once, over as many connections as it takes."""
        timeout = httpx2.Timeout(self.timeout, connect=min(self.timeout, 10.0))
        redirects = self.method == "GET"
        async with http_client(timeout=timeout, follow_redirects=redirects) as client:
            while True:
                try:
                    async for event in self._attempt(client):
                        yield event
                        if event.name in self.ends:
                            return
                except _WaitThenRepeatError as failure:
                    self.failures += 1
                    if self.failures >= self.attempts:
                        raise failure.error from failure.error.__cause__
                    await asyncio.sleep(self._wait(failure.seconds))
                else:  # the server says that there is no more
                    return

    async def _attempt(self, client: httpx2.AsyncClient) -> AsyncGenerator[ServerEvent]:
        headers: dict[str, Any] = dict(self.headers)
        if self.last_id:
            headers["Last-Event-ID"] = self.last_id.encode()  # the standard's UTF-8, not ASCII
        try:
            async with client.sse(
                self.url,
                method=self.method,
                headers=headers,
                content=self.content,
                max_event_size=self.max_event_bytes,
            ) as source:
                if source.response.status_code == httpx2.codes.NO_CONTENT:
                    return  # which tells an EventSource to stop as well
                if not source.response.is_success:
                    await self._refuse(source.response)
                async for event in source:
                    self.last_id = event.id or self.last_id
                    if event.retry is not None:
                        self.pause = min(event.retry, LONGEST_WAIT * 1000) / 1000
                    if event.data or event.event != "message":
                        self.failures = 0
                        yield ServerEvent(event.event, event.data, self.last_id)
        except httpx2.SSEError as error:
            raise StreamMalformed(f"{self.url} sent no usable stream of events: {error}") from error
        except httpx2.HTTPError as error:
            self._lost(error)
        self._lost(None)

    async def _refuse(self, response: httpx2.Response) -> None:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > BODY_LIMIT:
                break
        text = bytes(body[:BODY_LIMIT]).decode(errors="replace")
        error = api_error(response.status_code, text, response.headers)
        if response.status_code in (REPEATED if self._repeatable() else UNTOUCHED):
            raise _WaitThenRepeatError(error, error.retry_after)
        raise error

    def _repeatable(self) -> bool:
        """Return False where the server would take another attempt for a new request."""
        return self.method == "GET" or bool(self.last_id)

    def _lost(self, error: httpx2.HTTPError | None) -> None:
        """Say why no more comes; a POST that may have been carried out is not sent again."""
        reason: Exception
        after = f" after the event {self.last_id!r}" if self.last_id else ""
        if isinstance(error, NEVER_SENT):
            told = str(error) or type(error).__name__
            reason = unreachable(self.url, told, setting="the address")
        elif isinstance(error, httpx2.TimeoutException):
            reason = StreamStalled(
                f"Nothing arrived from {self.url} for {self.timeout:g} s{after} "
                "(argument: timeout)."
            )
        else:
            reason = StreamCut(
                f"The stream from {self.url} broke{after}"
                + (f": {error}." if error is not None else " without a last event.")
            )
        reason.__cause__ = error
        if not self._repeatable() and not isinstance(error, NEVER_SENT):
            raise reason
        raise _WaitThenRepeatError(reason)

    def _wait(self, asked_for: float | None) -> float:
        """Seconds until the next attempt: what the server asked for, else ever longer."""
        if asked_for is not None:
            return min(asked_for, LONGEST_WAIT)
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 - spreads clients, guards nothing
        return float(min(self.pause * 2 ** min(self.failures - 1, 10) * jitter, LONGEST_WAIT))


class ServerEvents(AsyncIterator[ServerEvent], Iterator[ServerEvent]):
    """A stream of events; iterate it with ``async for`` or a plain ``for``, once.

    The network work runs on the toolkit's own loop. Nothing is asked for before the first
    step, and the server is read only as fast as the iteration goes. A step that is given up,
    as by ``asyncio.wait_for``, loses no event: the next step goes on waiting for the same one.
    An interrupt of a plain ``for`` leaves the stream.

    Args:
        line: What is asked, and how often again; :func:`sse` makes it.
    """

    _step: Future[ServerEvent | None] | None = None

    def __init__(self, line: _Line) -> None:
        self._portal = portals.shared()
        self._events = line.events()
        self._turn = asyncio.Lock()
        self._url = line.url

    def __repr__(self) -> str:
        return f"ServerEvents({self._url})"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerEvent:
        step = self._begun()
        try:
            event = await asyncio.shield(asyncio.wrap_future(step))
        except asyncio.CancelledError:
            if step.cancelled():  # somebody has left the stream
                raise StopAsyncIteration from None
            raise
        except Exception:
            self._step = None
            raise
        self._step = None
        if event is None:
            raise StopAsyncIteration
        return event

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ServerEvent:
        self._portal.refuse_own_thread()
        step = self._begun()
        try:
            portals.wait_for(step)
        except KeyboardInterrupt:
            self._give_up()
            raise
        self._step = None
        event = None if step.cancelled() else step.result()
        if event is None:
            raise StopIteration
        return event

    def _begun(self) -> Future[ServerEvent | None]:
        """Return the step under way: a new one, or one that its waiter has given up."""
        if self._step is None:
            self._step = self._portal.spawn(_next, self._events, self._turn)
        return self._step

    def close(self) -> None:
        """Leave the stream; the server sees the connection close."""
        self._portal.refuse_own_thread()
        portals.run(self._leave())

    async def aclose(self) -> None:
        """Leave the stream, as :meth:`close` does, without blocking a loop."""
        await asyncio.wrap_future(self._portal.spawn(self._leave))

    async def _leave(self) -> None:
        self._give_up()
        async with self._turn:  # until a step that was under way has seen its end
            await self._events.aclose()

    def _give_up(self) -> None:
        if self._step is not None:
            self._step.cancel()

    __del__ = _give_up

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


async def _next(events: AsyncGenerator[ServerEvent], turn: asyncio.Lock) -> ServerEvent | None:
    """Take one step; None at the end, as StopAsyncIteration cannot cross to another loop."""
    async with turn:
        return await anext(events, None)


def sse(
    url: str,
    *,
    method: str = "GET",
    json: Any = None,
    headers: Mapping[str, str] | None = None,
    last_event_id: str = "",
    ends: Collection[str] = ("complete", "error"),
    timeout: float = 60.0,
    attempts: int = 5,
    max_event_bytes: int = 1_000_000,
) -> ServerEvents:
    """Follow a stream of server-sent events; when the line breaks, take it up again.

        async for event in mnb.sse("http://127.0.0.1:8000/api/streams/chat-1"):
            print(event.name, event.json())

    Args:
        url: Address of the stream, http or https.
        method: ``"GET"``, or ``"POST"`` with a body. A POST is sent again only with the id
            of the last event, so that no server takes it for a new request.
        json: Body, anything JSON can hold.
        headers: Further headers, e.g. ``{"Authorization": "Bearer ..."}``.
        last_event_id: Begin after this event.
        ends: Names of events (or the one name) after which the stream is over. Without such an
            event, an end of the connection is a cut, as for a browser's EventSource.
        timeout: Longest silence in seconds.
        attempts: How many connections in a row may fail before the error is raised; an event
            that arrives sets the count back.
        max_event_bytes: Largest event taken.

    Returns:
        The events, for ``async for`` or ``for``.

    Raises:
        InputError: The address or a number cannot be used.
        ApiError: The server refused; raised by the iteration.
        ServerUnreachable: No connection; raised by the iteration.
        StreamCut: The line broke and could not be taken up again.
        StreamStalled: Nothing came for ``timeout`` seconds, time and again.
        StreamMalformed: What came is no stream of events, or one event is too large.
    """
    if not is_http_address(url):
        raise InputError(f"url must look like http://host:port/path, not {url!r}.")
    if attempts < 1 or not timeout > 0 or max_event_bytes < 1:
        raise InputError("attempts, timeout and max_event_bytes must be above 0.")
    line = _Line(
        url,
        method.upper(),
        {"content-type": "application/json"} if json is not None else {},
        orjson.dumps(json) if json is not None else None,
        last_event_id,
        frozenset([ends] if isinstance(ends, str) else ends),
        timeout,
        attempts,
        max_event_bytes,
        pause=FIRST_WAIT,
    )
    line.headers |= headers or {}
    return ServerEvents(line)
