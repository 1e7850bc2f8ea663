"""Recording: a local server that passes everything on to a real one and keeps what it said.

Keys and the signatures of addresses are taken out on the way into the file; what the client
gets is what the server sent, piece by piece as it comes.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import httpx2
import orjson
from starlette.applications import Starlette
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Mount

from mistral_nb.errors import InputError
from mistral_nb.explaining import bad_environment, unreachable
from mistral_nb.serving import LOCAL_NAMES, ServedApp, is_loopback
from mistral_nb.settings import LIVE_URL, resolve
from mistral_nb.simulator.cassette import Cassette
from mistral_nb.simulator.exchanges import Body, Events, boundary_of, kept_headers
from mistral_nb.simulator.replies import JsonReply
from mistral_nb.simulator.scrubbing import SHORTEST_KEY, Scrubber, sent_keys
from mistral_nb.simulator.streams import Cut, while_connected
from mistral_nb.simulator.validation import ApiProblem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

__all__ = ["Recorder", "record"]

SILENCE = httpx2.Timeout(600.0, connect=10.0)
"""Seconds: a model that reasons may be silent for long."""
GRACE = 0.5
"""Seconds in which a stream may still end by itself when its reader has left."""
OF_ONE_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
NOT_PASSED_ON = OF_ONE_HOP | {"host", "cookie", "accept-encoding", "expect", "origin", "referer"}
NOT_PASSED_BACK = OF_ONE_HOP | {"alt-svc", "content-encoding", "set-cookie"}
OF_THE_KEY = frozenset({"authorization", "x-api-key"})


class Recorder:
    """A running recorder: use its ``url`` as any client's ``server_url``.

    Args:
        cassette: Where exchanges go.
        upstream: The server to ask, without ``/v1``.
        key: What to ask it with; None for the key that each request brings.
        port: Port; 0 takes any free one.

    Attributes:
        url: Where it answers, on this machine only.
        path: The file it writes.
    """

    def __init__(self, cassette: Cassette, upstream: str, key: str | None, port: int) -> None:
        self.path = cassette.path
        self._cassette = cassette
        self._upstream = upstream
        proxy = _Proxy(cassette, upstream, key)
        app = Starlette(routes=[Mount("/", proxy)], lifespan=lambda _: proxy.open())
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOCAL_NAMES))
        self._served = ServedApp(app, "127.0.0.1", port, name="recorder", lifespan=True)
        self.url = self._served.url

    def __repr__(self) -> str:
        return f"Recorder({self.url} -> {self._upstream}, {self.path}, {self.count} exchanges)"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def count(self) -> int:
        """How many exchanges it has written."""
        return self._cassette.count

    def wait(self) -> None:
        """Block until it stops."""
        self._served.wait()

    def stop(self) -> None:
        """Stop; a stream under way is kept as far as it came."""
        if self._served.stop():
            self._cassette.close()


def record(
    file: str | os.PathLike[str],
    *,
    upstream: str | None = None,
    api_key: str | None = None,
    port: int = 0,
) -> Recorder:
    """Start a local server that passes requests on to a real one and records the answers.

        with mnb.simulator.record("lesson.jsonl") as recorder:
            session = mnb.connect(server_url=recorder.url)
            session.stream("Why are there tides?").result()

    Keys, cookies and the signatures of addresses do not get into the file; what was said does.
    While it runs, whoever can reach this port of this machine uses your key.

    Args:
        file: Recording, one exchange a line; one that exists is gone on with. Or a folder
            (or a name that ends in ``/``) for a new file of its own.
        upstream: The real server without ``/v1``, by default ``https://api.mistral.ai``. It
            must be reached by https, unless it is on this machine.
        api_key: Key to use in place of that of each request; else ``MISTRAL_API_KEY``.
        port: Port; 0 takes any free one.

    Returns:
        The running recorder; stop it with ``stop()`` or use it in a ``with`` block.

    Raises:
        InputError: The upstream is of no use, the key too short to be told from a word, or
            the file holds something else.
        SettingsError: The upstream or the key is malformed, or the environment names
            certificates or a proxy that cannot be used.
        StoreError: The file cannot be written.
        PortTaken: Nothing can listen at the port.
    """
    upstream = upstream or LIVE_URL
    if not upstream.startswith(("http://", "https://")):
        raise InputError("upstream must look like https://host, with a port if need be.")
    settings = resolve(api_key=api_key, server_url=upstream)
    url = urlsplit(settings.base_url)
    if url.scheme != "https" and not is_loopback(url.hostname or ""):
        raise InputError(
            f"upstream must begin with https:// ({settings.base_url} would send the key in the "
            "open); only a server on this machine may do without."
        )
    if url.username or url.query or url.fragment:
        raise InputError("upstream must be an address alone, without a name, query or fragment.")
    key = settings.api_key.get_secret_value() if settings.api_key else None
    if key is not None and len(key) < SHORTEST_KEY:
        raise InputError(
            f"A key of fewer than {SHORTEST_KEY} characters cannot be kept out of a recording: "
            "it may be part of any word. Check api_key or MISTRAL_API_KEY."
        )
    cassette = Cassette(_file(file))
    try:
        return Recorder(cassette, settings.base_url, key, port)
    except BaseException:
        cassette.close()
        raise


def _file(where: str | os.PathLike[str]) -> Path:
    path = Path(where)
    if path.is_dir() or os.fspath(where).endswith(("/", os.sep)):
        return path / time.strftime("%Y-%m-%dT%H-%M-%S.jsonl")
    return path


class _Proxy:
    """The app: each request goes on to the upstream, each answer back and into the file."""

    def __init__(self, cassette: Cassette, upstream: str, key: str | None) -> None:
        self._cassette = cassette
        self._upstream = upstream
        self._key = key
        self._http = _http()
        self._complained = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hold the connections to the upstream."""
        async with self._http:
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        request = Request(scope, receive)
        problem = _problem(request.headers, has_key=self._key is not None)
        if problem is not None:
            await problem(scope, receive, send)
            return
        exchange = _Passing(self, request, send)
        try:
            await exchange.run()
        except ClientDisconnect:
            pass
        except httpx2.HTTPError as error:
            if exchange.begun:
                raise Cut from error
            message = exchange.scrub.text(self._unanswered(error))
            refusal = ApiProblem.of(502, message, "upstream_unreachable")
            await JsonReply(refusal.body, 502)(scope, receive, send)

    def _unanswered(self, error: httpx2.HTTPError) -> str:
        reason = str(error) or type(error).__name__
        if isinstance(error, httpx2.ConnectError):
            return str(unreachable(self._upstream, reason, setting="upstream (--upstream)"))
        return f"The recorder got no answer from {self._upstream}: {reason}."

    async def ask(self, request: Request, body: AsyncIterator[bytes] | None) -> httpx2.Response:
        """Ask the upstream the same; the body of its answer is still to be read."""
        named = request.headers.get("connection", "").lower().replace(" ", "").split(",")
        dropped = NOT_PASSED_ON.union(named, OF_THE_KEY if self._key else ())
        headers = [(name, value) for name, value in request.headers.items() if name not in dropped]
        headers.append(("accept-encoding", "identity"))
        if self._key:
            headers.append(("authorization", f"Bearer {self._key}"))
        base = httpx2.URL(self._upstream)
        target = base.raw_path.rstrip(b"/") + request.scope["raw_path"]
        if query := request.scope["query_string"]:
            target += b"?" + query
        url = base.copy_with(raw_path=target)  # whatever the path is, the host is the upstream's
        wanted = self._http.build_request(request.method, url, headers=headers, content=body)
        response = await self._http.send(wanted, stream=True)
        location = response.headers.get("location", "")
        if location.startswith(f"{self._upstream}/"):  # within the upstream it leads through here
            response.headers["location"] = location.removeprefix(self._upstream)
        return response

    def scrubber(self, headers: Mapping[str, str]) -> Scrubber:
        """Return what takes the secrets out of one exchange."""
        keys = [*sent_keys(headers), self._key or ""]
        return Scrubber((key for key in keys if len(key) >= SHORTEST_KEY), boundary_of(headers))

    def write(self, line: Iterator[bytes]) -> None:
        """Record an exchange; a full disk is told once, and the client does not suffer."""
        try:
            self._cassette.write(line)
        except (OSError, ValueError) as error:
            if not self._complained:
                self._complained = True
                print(f"Not recorded: {self._cassette.path}: {error}", file=sys.stderr)


def _http() -> httpx2.AsyncClient:
    """Return a client that keeps no cookies: two programs may share it."""
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
    try:
        return httpx2.AsyncClient(
            timeout=SILENCE, limits=limits, follow_redirects=False, cookies=no_cookies
        )
    except (ImportError, OSError, ValueError, httpx2.InvalidURL) as error:
        raise bad_environment(error) from None  # its words may hold a password


class _Passing:
    """One request on its way there, and its answer on its way back."""

    def __init__(self, proxy: _Proxy, request: Request, send: Send) -> None:
        self.begun = False
        self.scrub = proxy.scrubber(request.headers)
        self._proxy = proxy
        self._request = request
        self._send = send
        self._asked = Body(self.scrub)
        self._said: Body | Events | None = None
        self._response: httpx2.Response | None = None
        self._read = asyncio.Event()
        self._written = False

    async def run(self) -> None:
        """Do it, as long as somebody waits for the answer."""
        try:
            await while_connected(self._receive, self._pass_on(), GRACE)
        finally:
            if self._response is not None and not self._written:
                self._write(cut=True)
            for body in (self._asked, self._said):
                if body is not None:
                    body.close()

    async def _receive(self) -> Any:
        await self._read.wait()  # what comes before is the request's body
        return await self._request.receive()

    async def _body(self) -> AsyncIterator[bytes]:
        async for data in self._request.stream():
            self._asked.feed(data)
            yield data
        self._read.set()

    async def _pass_on(self) -> None:
        body = self._body() if _has_body(self._request.headers) else None
        if body is None:
            await self._request.body()
            self._read.set()
        started = time.monotonic()
        response = await self._proxy.ask(self._request, body)
        try:
            kind = response.headers.get("content-type", "")
            streams = kind.lower().startswith("text/event-stream")
            self._said = Events(self.scrub, started) if streams else Body(self.scrub)
            self._response = response
            await self._answer(response, self._said)
        finally:
            await response.aclose()

    async def _answer(self, response: httpx2.Response, said: Body | Events) -> None:
        self.begun = True
        await self._send(
            {
                "type": "http.response.start",
                "status": response.status_code,
                "headers": _passed_back(response.headers),
            }
        )
        held = b""  # of a plain body: who has all of it finds it in the file
        async for data in response.aiter_bytes():
            said.feed(data)
            if isinstance(said, Body):
                data, held = held, data  # noqa: PLW2901
            elif said.over:
                self._write()
            if data:
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._write()
        await self._send({"type": "http.response.body", "body": held, "more_body": False})

    def _write(self, *, cut: bool = False) -> None:
        if not self._written:
            self._written = True
            self._proxy.write(self._line(cut=cut))

    def _line(self, *, cut: bool) -> Iterator[bytes]:
        """Yield the exchange as a line of the file."""
        request, response, scrub = self._request, self._response, self.scrub
        assert response is not None
        assert self._said is not None
        self._asked.finish()
        self._said.finish()
        asked = {
            "method": request.method,
            "path": scrub.text(request.scope["raw_path"].decode("ascii")),
            "headers": kept_headers(request.headers, scrub),
        }
        if request.url.query:
            asked["query"] = scrub.text("?" + request.url.query).removeprefix("?")
        said = {
            "status": response.status_code,
            "headers": kept_headers(response.headers, scrub),
        }
        yield b'{"request":' + orjson.dumps(asked)[:-1]
        yield from self._asked.field(exact=False)
        yield b'},"response":' + orjson.dumps(said)[:-1]
        yield from self._said.field(exact=True)
        yield b',"cut":true}}' if cut else b"}}"


def _has_body(headers: Mapping[str, str]) -> bool:
    return "content-length" in headers or "transfer-encoding" in headers


def _passed_back(headers: httpx2.Headers) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer as the client gets them: of a body that is decoded."""
    dropped = NOT_PASSED_BACK
    if "content-encoding" in headers:
        dropped |= {"content-length"}
    named = [(name, value) for name, value in headers.multi_items() if name not in dropped]
    return [(name.encode(), value.encode(headers.encoding)) for name, value in named]


def _problem(headers: Mapping[str, str], *, has_key: bool) -> Response | None:
    """Return the refusal of a request that must not go on.

    Args:
        headers: Of the request.
        has_key: Whether the recorder uses a key of its own.
    """
    if "origin" in headers or headers.get("sec-fetch-site", "none") != "none":
        # A page in a browser must not spend the key of whoever runs this.
        return JsonReply({"detail": "Not for web pages"}, 403)
    if not has_key and any(len(key) < SHORTEST_KEY for key in sent_keys(headers)):
        message = (
            f"A key of fewer than {SHORTEST_KEY} characters cannot be kept out of a recording: "
            "it may be part of any word. Use another one."
        )
        return JsonReply(ApiProblem.of(400, message, "key_too_short").body, 400)
    return None
