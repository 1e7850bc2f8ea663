"""The connection to a server: one SDK client on the portal's loop, its hooks, its errors."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import httpx2
import orjson

from mistral_nb import portal as portals
from mistral_nb.explaining import api_error, bad_environment, explain, retry_after
from mistral_nb.usage import Tally

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from mistralai.client import Mistral

    from mistral_nb.errors import ApiError
    from mistral_nb.lean import Answer, LeanPool
    from mistral_nb.portal import Portal
    from mistral_nb.settings import Settings
    from mistral_nb.simulator import Simulator

__all__ = ["Connection", "ModelDeprecated", "RateLimits", "http_client"]

DEPRECATION_HEADER = "x-model-deprecation-timestamp"
SIMULATOR_KEY = "simulator"
LONGEST_RETRY_AFTER = 24 * 3600.0
"""No Retry-After is believed beyond a day (in seconds)."""


class ModelDeprecated(UserWarning):
    """The server says that a model will be retired; the message says when."""


@dataclass(frozen=True)
class RateLimits:
    """The server's last word on its limits; None where it did not say.

    Attributes:
        requests: Requests allowed a minute.
        requests_left: Requests left in this minute.
        tokens: Tokens allowed a minute.
        tokens_left: Tokens left in this minute.
        seen_at: When, in seconds since the epoch.
    """

    requests: int | None = None
    requests_left: int | None = None
    tokens: int | None = None
    tokens_left: int | None = None
    seen_at: float = 0.0


class Connection:
    """One server, one SDK client, one HTTP pool, all on the portal's loop.

    Args:
        settings: Where the server is and which key it takes. With neither key nor address
            the built-in simulator is started.

    Attributes:
        settings: As given.
        portal: The loop everything of this connection runs on.
        base_url: Address of the server, without ``/v1``.
        simulated: True if the built-in simulator answers.
        simulator: The built-in simulator, where it answers.
        rate_limits: What the last response said of the server's limits.
        tally: Tokens of the replies and turns that were asked for through it, by model.
        wait_until: Time on the monotonic clock before which the server wants no request
            (Retry-After); in the past when it said nothing.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.portal: Portal = portals.shared()
        self.simulated = settings.simulated
        self.rate_limits = RateLimits()
        self.tally = Tally()
        self.wait_until = -math.inf
        self._warned: set[str] = set()
        self._sdk: Mistral | None = None
        self._http: httpx2.AsyncClient | None = None
        self._blocking: httpx2.Client | None = None
        self._lean: LeanPool | None = None
        self._lock = threading.Lock()
        self.simulator = self._start_simulator() if self.simulated else None
        self.base_url: str = self.simulator.url if self.simulator else settings.base_url
        self.portal.on_close(self._close)

    def __repr__(self) -> str:
        where = "built-in simulator" if self.simulated else self.settings.base_url
        return f"Connection({where}, model={self.settings.model!r})"

    def _start_simulator(self) -> Simulator:
        # The package's one import upwards: the simulator stands beside the floors.
        from mistral_nb.simulator import shared_simulator

        simulator = shared_simulator(self.settings.home / "simulator")
        using = "Using" if self.settings.simulator else "No MISTRAL_API_KEY: using"
        _announce(f"{using} the built-in simulator; replies are simulated.")
        return simulator

    @property
    def http(self) -> httpx2.AsyncClient:
        """The HTTP pool of the SDK; use it on the portal only."""
        if self._http is None:
            limits = httpx2.Limits(
                max_connections=self.settings.connections,
                max_keepalive_connections=self.settings.connections,
            )
            timeout = httpx2.Timeout(self.settings.timeout, connect=self.settings.connect_timeout)
            self._http = http_client(
                limits=limits,
                timeout=timeout,
                follow_redirects=True,
                event_hooks={"request": [self._on_request], "response": [self._on_response]},
            )
        return self._http

    @property
    def sdk(self) -> Mistral:
        """The official SDK's client; call its ``*_async`` methods on the portal only."""
        with self._lock:
            if self._sdk is None:
                from mistralai.client import Mistral

                http = self.http
                self._blocking = httpx2.Client(verify=_certificates(), follow_redirects=True)
                self._sdk = Mistral(
                    api_key=self._key(),
                    server_url=self.base_url,
                    async_client=http,
                    client=self._blocking,
                    timeout_ms=round(self.settings.timeout * 1000),
                )
            return self._sdk

    async def post(self, path: str, body: bytes) -> Answer:
        """Send a JSON body by the lean path: the SDK's address and auth, little of its CPU.

        Call it on the portal only. Nothing is repeated and no redirect followed.

        Args:
            path: e.g. ``"/v1/chat/completions"``.
            body: The JSON, encoded.

        Returns:
            The answer, read, whatever its status.

        Raises:
            ServerUnreachable: No connection, no answer in time, or an answer cut short.
        """
        if self._lean is None:
            self._lean = self._open_lean()
        answer = await self._lean.post(path, body)
        self._note(answer.status, answer.headers, body)
        return answer

    async def models(self) -> list[dict[str, Any]]:
        """List the models that the server offers, as it says it: call it on the portal only.

        The SDK's model of a model asks for more than servers other than Mistral's tell.

        Returns:
            A JSON object each, with its ``id`` at least.

        Raises:
            ApiError: The server refused, or what it answers is no list of models.
            ServerUnreachable: No server answered.
        """
        headers = self._headers("application/json")
        try:
            response = await self.http.get(f"{self.base_url}/v1/models", headers=headers)
        except httpx2.HTTPError as error:
            raise explain(error, self) from error
        with suppress(orjson.JSONDecodeError, KeyError, TypeError):
            if response.is_success:
                listed = orjson.loads(response.content)["data"]
                return [model for model in listed if isinstance(model["id"], str)]
        raise self._refusal(response)

    async def open_stream(self, path: str, body: bytes) -> httpx2.Response:
        """Send a JSON body over the SDK's pool and leave the answer to be read as it comes.

        The SDK's own calls build their pydantic classes anew each time: 5 ms where this
        takes one. Call it on the portal only, and close the response.

        Args:
            path: e.g. ``"/v1/conversations"``.
            body: The JSON, encoded.

        Returns:
            The open response of a request that was accepted.

        Raises:
            ApiError: The server refused, or what it answers is no stream.
            httpx2.HTTPError: No connection, or it broke.
        """
        headers = self._headers("text/event-stream")
        request = self.http.build_request(
            "POST", self.base_url + path, content=body, headers=headers
        )
        response = await self.http.send(request, stream=True)
        kind = response.headers.get("content-type", "")
        if response.is_success and kind.startswith("text/event-stream"):
            return response
        try:
            await response.aread()
        finally:
            await response.aclose()
        raise self._refusal(response)

    def _refusal(self, response: httpx2.Response) -> ApiError:
        text = self.without_key(response.content.decode(errors="replace"))
        return api_error(response.status_code, text, response.headers, server=self.base_url)

    def _headers(self, accept: str) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": accept}
        headers["user-agent"] = _user_agent()
        if (key := self._key()) is not None:
            headers["authorization"] = f"Bearer {key}"
        return headers

    def _open_lean(self) -> LeanPool:
        from mistral_nb.lean import LeanPool

        return LeanPool(
            self.base_url,
            self._headers("application/json"),
            timeout=self.settings.timeout,
            connect_timeout=self.settings.connect_timeout,
            tls=_certificates(),
        )

    def without_key(self, text: str) -> str:
        """Blank out the key in a server's words: some servers quote the key they refuse.

        Args:
            text: The words.

        Returns:
            The words, ``[key]`` in place of the key.
        """
        key = self.settings.api_key
        return text.replace(key.get_secret_value(), "[key]") if key is not None else text

    def _key(self) -> str | None:
        if self.simulated:
            return SIMULATOR_KEY
        return self.settings.api_key.get_secret_value() if self.settings.api_key else None

    async def _on_request(self, request: httpx2.Request) -> None:
        # The SDK sets one number for every phase; a dead address should fail sooner.
        timeout = dict(request.extensions.get("timeout") or {})
        timeout["connect"] = self.settings.connect_timeout
        request.extensions["timeout"] = timeout

    async def _on_response(self, response: httpx2.Response) -> None:
        try:
            sent = response.request.content
        except httpx2.RequestNotRead:
            sent = b""
        self._note(response.status_code, response.headers, sent)
        # Left in place, this header makes the SDK read a streamed body as JSON and fail.
        response.headers.pop(DEPRECATION_HEADER, None)

    def _note(self, status: int, headers: Mapping[str, str], sent: bytes) -> None:
        """Take in what any response may say: limits, a pause, a model's retirement."""
        limits = _rate_limits(headers)
        if limits is not None:
            self.rate_limits = limits
        if status >= 400 and (seconds := retry_after(headers)) is not None:  # noqa: PLR2004
            until = time.monotonic() + min(seconds, LONGEST_RETRY_AFTER)
            self.wait_until = max(self.wait_until, until)
        retired = headers.get(DEPRECATION_HEADER)
        if retired is not None:
            self._warn_deprecated(sent, retired)

    def _warn_deprecated(self, sent: bytes, retired: str) -> None:
        try:
            model = str(orjson.loads(sent)["model"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            model = "in use"
        if model not in self._warned:
            self._warned.add(model)
            warnings.warn(
                f"The model {model} is deprecated and will be retired on {retired}. "
                "Choose another with model=... (mnb.connect or the call).",
                ModelDeprecated,
                stacklevel=2,
            )

    async def _close(self) -> None:
        if self._http is not None:
            await self._http.aclose()
        if self._blocking is not None:
            self._blocking.close()
        if self._lean is not None:
            await self._lean.close()


def http_client(**options: Any) -> httpx2.AsyncClient:
    """Return an HTTP client that takes proxies and certificates from the environment.

    Args:
        **options: As for ``httpx2.AsyncClient``.

    Returns:
        The client, to be used on one loop and closed there.

    Raises:
        SettingsError: What the environment names cannot be used.
    """
    try:
        return httpx2.AsyncClient(verify=_certificates(), **options)
    except (ImportError, OSError, ValueError, httpx2.InvalidURL) as error:
        raise bad_environment(error) from None  # its words may hold a password


def _certificates() -> ssl.SSLContext:
    """Whom to trust; reading the machine's certificates takes 20 ms of CPU, so it is done once."""
    return _read_certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=1)
def _read_certificates(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    return httpx2.create_ssl_context()  # it reads the two variables by itself


def _rate_limits(headers: Mapping[str, str]) -> RateLimits | None:
    def number(name: str) -> int | None:
        value = headers.get(f"x-ratelimit-{name}", "")
        return int(value) if value.isascii() and value.isdigit() and len(value) < 16 else None  # noqa: PLR2004

    found = RateLimits(
        requests=number("limit-req-minute"),
        requests_left=number("remaining-req-minute"),
        tokens=number("limit-tokens-minute"),
        tokens_left=number("remaining-tokens-minute"),
        seen_at=time.time(),
    )
    values = (found.requests, found.requests_left, found.tokens, found.tokens_left)
    return None if all(value is None for value in values) else found


def _user_agent() -> str:
    from mistralai.client._version import __version__

    return f"mistral-client-python/{__version__}"


def _announce(text: str) -> None:
    """Tell the person once: in the cell, or on stderr where stdout may be a pipe."""
    print(text, file=sys.stdout if portals.in_kernel() else sys.stderr)
