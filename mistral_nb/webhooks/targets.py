"""Where a webhook may go: the check of an address at the moment it is connected to.

A URL from elsewhere must not make this machine talk to itself or to its neighbours (server-side
request forgery, OWASP). A name is resolved once, every address it has must be public, and the
connection is made to that very address, so that a name that changes its mind between the check
and the connection (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import httpcore2

from mistral_nb.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["LOOPBACK", "GuardedNetwork", "RefusedTargetError", "check_url", "is_public"]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this machine."""
PROTOCOLS = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
"""IPv4 for protocols' own use and for 6to4 relays."""
GLOBAL_UNICAST = IPv6Network("2000::/3")
# Parts of it that are no place of their own: they stand for an IPv4 address or for no host.
NOT_HOSTS = tuple(
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)


class RefusedTargetError(Exception):
    """The address is none that a webhook may be sent to; the message says which and why."""


def check_url(url: str) -> tuple[str, int]:
    """Check the form of a target's address, before anything is resolved.

    Args:
        url: The address.

    Returns:
        Host and port.

    Raises:
        InputError: It is no plain http or https address.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except (AttributeError, ValueError):  # no text at all, or a malformed one
        host = port = None
        parts = urlsplit("")
    if (
        parts.scheme not in {"http", "https"}
        or not host
        or port == 0
        or not url.isascii()
        or not url.isprintable()
        or any(sign in url for sign in ' \\"<>^`{|}')
    ):
        raise InputError(f"A webhook's address must look like https://host/path, not {url!r}.")
    if parts.username is not None or parts.password is not None:
        raise InputError(
            "A webhook's address may hold no user name or password: "
            "they would end up in logs. Verify the signature instead."
        )
    return host, port or (443 if parts.scheme == "https" else 80)


def is_public(address: str) -> bool:
    """Return True for the address of a host on the public internet.

    Args:
        address: A numeric IPv4 or IPv6 address; with a zone (``%eth0``) it is never public.

    Source: the IANA special-purpose address registries, through :mod:`ipaddress`, less what
    embeds an IPv4 address (mapped, NAT64, 6to4, Teredo).
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        inside = ip in GLOBAL_UNICAST and not any(ip in network for network in NOT_HOSTS)
        return inside and ip.is_global and ip.scope_id is None
    special = ip.is_multicast or ip.is_reserved or any(ip in network for network in PROTOCOLS)
    return ip.is_global and not special


class GuardedNetwork(httpcore2.AnyIOBackend):
    """Connects to public addresses only, and to the very address that was checked.

    Args:
        allowed: Host names (or addresses as they stand in the URL) that need not be public.
    """

    def __init__(self, allowed: Collection[str] = ()) -> None:
        super().__init__()
        self._allowed = frozenset(name.lower() for name in allowed)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the backend's own signature
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to a host whose every address may be connected to.

        Raises:
            RefusedTargetError: One of its addresses is not public.
            httpcore2.ConnectError: It has none, or none answers.
        """
        with anyio.fail_after(timeout):
            addresses = await _addresses(host, port)
        if host.lower() not in self._allowed:
            for address in addresses:
                if not is_public(address):
                    raise RefusedTargetError(
                        f"{host} is {address}, which is not on the public internet. "
                        "If it is meant, allow it by name: WebhookNotifier(..., "
                        f"allow=[{host!r}])."
                    )
        error: Exception | None = None
        for address in addresses:
            try:
                return await super().connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as failed:
                error = failed
        raise httpcore2.ConnectError(f"{host}: {error}") from error

    async def connect_unix_socket(self, *_args: Any, **_options: Any) -> Any:
        """Refuse: no webhook goes to a local socket."""
        raise RefusedTargetError("A webhook cannot be sent to a local socket.")


async def _addresses(host: str, port: int) -> list[str]:
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(f"{host} has no address: {error}") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
