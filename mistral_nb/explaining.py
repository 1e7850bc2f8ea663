"""What went wrong between here and a server, as exceptions of ours in plain words."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
import orjson

from mistral_nb.errors import (
    ApiError,
    AuthenticationError,
    InputError,
    InvalidRequestError,
    MistralNbError,
    NotFoundError,
    RateLimitError,
    ServerError,
    ServerUnreachable,
    SettingsError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import ValidationError

    from mistral_nb.client import Connection

__all__ = [
    "api_error",
    "bad_environment",
    "explain",
    "misfit",
    "proxy_for",
    "reason_in",
    "retry_after",
    "unreachable",
]

SERVER_SETTING = "server_url (or MISTRAL_SERVER_URL)"
UNKNOWN_NAME = (
    "Name or service not known",
    "nodename nor servname",
    "getaddrinfo failed",
    "No address associated",
    "name resolution",
)
NOBODY_THERE = ("All connection attempts failed", "Connect call failed", "refused")
NO_TLS = ("WRONG_VERSION_NUMBER", "record layer failure", "UNKNOWN_PROTOCOL", "HTTP_REQUEST")


def explain(error: Exception, connection: Connection) -> MistralNbError:
    """Turn an exception of the SDK or of HTTP into one of ours.

    Args:
        error: What was raised by a call through ``connection``.
        connection: Names the server in the message.

    Returns:
        The exception to raise ``from error``; one of ours is returned as it is.
    """
    from mistralai.client.errors import MistralError
    from pydantic import ValidationError

    where = connection.base_url
    if isinstance(error, MistralNbError):
        return error
    if isinstance(error, MistralError):
        return api_error(
            error.status_code, connection.without_key(error.body), error.headers, server=where
        )
    if isinstance(error, ValidationError):  # the SDK's models of requests
        return InputError(f"The request does not fit the API: {misfit(error)}. Nothing was sent.")
    if isinstance(error, httpx2.HTTPError):
        return _unanswered(error, connection)
    return MistralNbError(f"{type(error).__name__}: {error}")


def _unanswered(error: httpx2.HTTPError, connection: Connection) -> ServerUnreachable:
    where, settings = connection.base_url, connection.settings
    if isinstance(error, httpx2.ConnectTimeout):
        return unreachable(where, f"no answer within {settings.connect_timeout:g} s")
    if isinstance(error, httpx2.TimeoutException):
        return ServerUnreachable(
            f"{where} did not answer within {settings.timeout:g} s ({type(error).__name__}). "
            "Try again, or raise timeout= in mnb.connect."
        )
    return unreachable(where, str(error) or type(error).__name__)


def unreachable(
    url: str, reason: str, *, setting: str = SERVER_SETTING, sent: bool = True
) -> ServerUnreachable:
    """Say that there is no connection, why as far as one can tell, and what to look at.

    Args:
        url: Where to.
        reason: What the operating system or HTTP says.
        setting: What holds the address.
        sent: As :class:`~mistral_nb.errors.ServerUnreachable` has it.
    """
    proxy = proxy_for(url)
    through, advice = "", f"Check {setting} and the network."
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        detail = reason.partition("failed: ")[2].partition(" (_ssl")[0] or "unknown issuer"
        reason = f"its certificate cannot be trusted ({detail})"
        advice = (
            "If it is your own server's, or that of your company's proxy, set SSL_CERT_FILE to a "
            "file that has it."
        )
    elif any(sign in reason for sign in NO_TLS):
        reason = "it does not speak HTTPS"
        advice = f"Should {setting} begin with http://, or name another port?"
    elif proxy is not None:  # which is what could not be reached; its address may hold a password
        at = urlsplit(proxy)
        through = f" through the proxy {at.hostname}:{at.port}" if at.port else " through the proxy"
        advice = "Check HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, or add the server to NO_PROXY."
    elif any(sign in reason for sign in UNKNOWN_NAME):
        reason = f"the name {urlsplit(url).hostname} is not known"
        advice = f"Check {setting} for a typing error, and the network."
    elif any(sign in reason for sign in NOBODY_THERE):
        reason = "nothing answers there"
        advice = f"Check {setting}, that the server runs, and the network."
    return ServerUnreachable(f"No connection to {url}{through}: {reason}. {advice}", sent=sent)


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for an address, as the SDK chooses it.

    Args:
        url: Where to.

    Returns:
        The proxy's address with its scheme; None where the way is direct.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def bad_environment(error: Exception) -> SettingsError:
    """Say that HTTP cannot begin as the environment has it; no address is quoted.

    Args:
        error: Raised while a client was made: by a kind of proxy that it does not know, or a
            file that is not there.
    """
    proxies = "HTTPS_PROXY, HTTP_PROXY and ALL_PROXY"
    if isinstance(error, ImportError):
        told = (
            "The environment asks for a SOCKS proxy, which needs one more package. Install it: "
            f"pip install socksio. Or change {proxies}, or add the server to NO_PROXY."
        )
    elif isinstance(error, OSError):
        told = (
            "The certificates that the environment names cannot be read: "
            f"{error.strerror or type(error).__name__}. Check SSL_CERT_FILE and SSL_CERT_DIR."
        )
    else:
        told = f"The proxy that the environment names cannot be used. Check {proxies}."
    return SettingsError(told)


def misfit(error: ValidationError) -> str:
    """Return what does not fit a model of the SDK's, in one line.

    Args:
        error: As pydantic raised it.
    """
    lines: dict[str, str] = {}
    for each in error.errors(include_url=False):
        # After the names of fields come those of members of unions, which tell a person nothing.
        names = takewhile(lambda part: isinstance(part, int) or part.islower(), each["loc"])
        place = ".".join(str(name) for name in names if name != "body" and "[" not in str(name))
        said = each["msg"].replace(" found using <lambda>()", "")
        lines.setdefault(place, f"{place}: {said}" if place else said)
    return "; ".join(lines.values())


def api_error(
    status: int,
    body: str,
    headers: Mapping[str, str] | None = None,
    *,
    server: str | None = None,
) -> ApiError:
    """Build the exception for a refusal.

    Args:
        status: HTTP status code.
        body: Response body; Mistral's error JSON, or anything else.
        headers: Response headers, for Retry-After.
        server: Where the answer came from, if it is to be named.

    Returns:
        The matching subclass of ApiError.
    """
    message, code, model = _error_text(body)
    if status < 400:  # noqa: PLR2004 - HTTP's own numbers
        return ApiError(
            f"What {server or 'the server'} answers is not Mistral's API (status {status}): "
            f"{message[:200]}. Check {SERVER_SETTING}: it must lead to the API, not to a page.",
            status_code=status,
        )
    seconds = retry_after(headers or {})
    kind: type[ApiError] = InvalidRequestError
    advice = ""
    if status in {401, 403}:
        kind, advice = AuthenticationError, " Check api_key or MISTRAL_API_KEY."
    elif status == 404:  # noqa: PLR2004
        kind = NotFoundError
        advice = f" Check the name, and {SERVER_SETTING}." if code is None else ""
    elif status == 413:  # noqa: PLR2004
        advice = " Send less at once."
    elif status == 429:  # noqa: PLR2004
        wait = "Wait" if seconds is None else f"Wait {seconds:g} s"
        kind, advice = RateLimitError, f" {wait}, or send fewer requests at once."
    elif status >= 500:  # noqa: PLR2004
        kind, advice = ServerError, " The same request may work later."
    elif model:
        advice = " session.models() lists the models there are."
    return kind(
        f"The server refused the request ({status}): {message}.{advice}",
        status_code=status,
        code=code,
        retry_after=seconds,
    )


def reason_in(body: str) -> str:
    """Return the reason in an error body of any of the forms servers send.

    Args:
        body: The body as it came: JSON or not.
    """
    return _error_text(body)[0]


def _error_text(body: str) -> tuple[str, str | None, bool]:
    """Return the reason and code in an error body of any form, and if it is about a model."""
    try:
        data: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return (" ".join(body.split())[:300] or "no reason given"), None, False
    if not isinstance(data, dict):
        return str(data)[:300], None, False
    if isinstance(data.get("error"), dict):  # OpenAI-like servers nest it
        data = data["error"]
    code = data.get("code")
    detail = data.get("message") or data.get("detail") or data.get("error") or data
    if isinstance(detail, dict) and "detail" in detail:
        detail = detail["detail"]
    if isinstance(detail, list):
        detail = "; ".join(_detail_line(item) for item in detail)
    text = str(detail).rstrip(".")[:1000]
    return text, None if code is None else str(code), data.get("type") == "invalid_model"


def _detail_line(item: object) -> str:
    if not isinstance(item, dict):
        return str(item)
    where = item.get("loc")
    parts = where if isinstance(where, list) else []
    place = ".".join(str(part) for part in parts if part != "body")
    return f"{place}: {item.get('msg', item)}" if place else str(item.get("msg", item))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, of a number or a date; None where the server says nothing.

    Args:
        headers: Response headers, in lower case or of any case-insensitive kind.

    Source:
        RFC 9110, section 10.2.3.
    """
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        # By the server's own clock where it shows it: ours may be minutes ahead of it.
        now = parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else None
        at = parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, at - (time.time() if now is None else now))
