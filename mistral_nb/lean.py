"""The lean path: JSON requests over aiohttp, for thousands of rows at little CPU each.

The SDK takes 8 to 10 ms of CPU a request, its HTTP client alone about 0.6, this 0.15. Only
bulk work goes this way. Address, key and user agent are the SDK's, and so are the rules for
certificates and proxies in the environment. Nothing is ever repeated here: a request that
may have been paid for is sent again only by whoever keeps count.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from mistral_nb.errors import ServerUnreachable, SettingsError
from mistral_nb.explaining import proxy_for, unreachable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

__all__ = ["Answer", "LeanPool"]

LARGE = 1 << 19
"""Bytes of a body that is not written in one go: images and documents are larger."""


class Answer(NamedTuple):
    """A server's answer, read to its end, whatever its status.

    Attributes:
        status: HTTP status.
        headers: Response headers; names in any case.
        body: The body, decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class LeanPool:
    """Keep-alive connections to one server; use it on one event loop only.

    It opens as many connections as there are requests at once and keeps them: the bound is
    the caller's concurrency.

    Args:
        base_url: Address of the server, without ``/v1``.
        headers: Sent with every request; the key is among them.
        timeout: Longest silence of the server in seconds.
        connect_timeout: Longest wait for a connection in seconds.
        tls: Whom to trust: aiohttp itself takes the machine's certificates only, the SDK also
            those of ``SSL_CERT_FILE``.

    Raises:
        SettingsError: The environment asks for a kind of proxy that cannot be used here.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        *,
        timeout: float,
        connect_timeout: float,
        tls: ssl.SSLContext,
    ) -> None:
        self._base_url = base_url
        self._urls: dict[str, URL] = {}
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._session = aiohttp.ClientSession(
            headers=headers,
            proxy=_proxy(base_url),
            connector=aiohttp.TCPConnector(limit=0, ssl=tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=connect_timeout, sock_read=timeout
            ),
        )

    async def post(self, path: str, body: bytes) -> Answer:
        """Send a JSON body.

        Args:
            path: e.g. ``"/v1/chat/completions"``.
            body: The JSON, encoded.

        Returns:
            The answer, whatever its status; redirects are not followed.

        Raises:
            ServerUnreachable: No connection, no answer in time, or an answer cut short.
        """
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(self._base_url + path)
        # A large body goes out piece by piece, so that the loop sees to others in between.
        data = body if len(body) < LARGE else io.BytesIO(body)
        try:
            async with self._session.post(url, data=data, allow_redirects=False) as response:
                return Answer(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, OSError) as error:
            trouble = self._explained(error)
        # Raised out here, because aiohttp's errors hold the request's headers with the key.
        raise trouble

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    def _explained(self, error: Exception) -> ServerUnreachable:
        where = self._base_url
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            reason = f"no answer within {self._connect_timeout:g} s"
            return unreachable(where, reason, sent=False)
        if isinstance(error, TimeoutError):
            return ServerUnreachable(
                f"{where} did not answer within {self._timeout:g} s. "
                "Try again, or raise timeout= in mnb.connect."
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            cause = getattr(error, "certificate_error", None) or error.strerror or error.os_error
            return unreachable(where, str(cause), sent=False)
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return ServerUnreachable(
                f"The proxy lets nothing through to {where}: it answered {error.status}. "
                "Check HTTPS_PROXY, or add the server to NO_PROXY.",
                sent=False,
            )
        if isinstance(error, aiohttp.ClientResponseError):  # its text may quote any bytes
            reason = "the answer was not HTTP"
        else:
            reason = f"the connection broke ({type(error).__name__})"
        return ServerUnreachable(f"No complete answer from {where}: {reason}. Try again.")


def _proxy(base_url: str) -> str | None:
    proxy = proxy_for(base_url)
    if proxy is not None and not proxy.startswith(("http://", "https://")):
        raise SettingsError(
            f"The environment asks for a {urlsplit(proxy).scheme} proxy; labelling can use HTTP "
            f"proxies only. Set {urlsplit(base_url).scheme.upper()}_PROXY to one, or add the "
            "server to NO_PROXY."
        )
    return proxy
