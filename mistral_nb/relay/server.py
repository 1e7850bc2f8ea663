"""A running relay: its token, its address, and how it is stopped."""

from __future__ import annotations

import math
import os
import secrets
from typing import TYPE_CHECKING, Self

from mistral_nb.errors import InputError
from mistral_nb.relay.app import create_app
from mistral_nb.relay.desk import Desk
from mistral_nb.serving import LOCAL_NAMES, ServedApp
from mistral_nb.webhooks import WebhookNotifier

if TYPE_CHECKING:
    from collections.abc import Collection

    from mistral_nb.jobs import Queue

__all__ = ["Relay"]

SHORTEST_TOKEN = 16


class Relay:
    """A server that passes replies and jobs on as server-sent events.

    Args:
        queue: Its jobs; its connection is the one that chats use.
        host: Address to listen on; only this machine can reach the default.
        port: Port; 0 takes any free one.
        token: What callers must send as ``Authorization: Bearer ...``; None makes a random
            one, ``""`` asks for none (on this machine only).
        cors: Origins whose pages may call it, e.g. ``["https://app.example.com"]``; none by
            default.
        keep: Seconds for which events are kept for those who come back.
        grace: Seconds after the last listener has left until its reply is stopped.
        max_streams: Most replies at once.
        max_body: Largest request in bytes.
        work: How many jobs it carries out at once; 0 leaves them to other workers.

    Attributes:
        url: Its address.
        token: The token.

    Raises:
        InputError: A setting cannot be used.
        PortTaken: Nothing can listen at the port.
        StoreError: Its file cannot be written.
    """

    def __init__(
        self,
        queue: Queue,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        cors: Collection[str] = (),
        keep: float = 3600.0,
        grace: float = 10.0,
        max_streams: int = 1000,
        max_body: int = 1_000_000,
        work: int = 0,
    ) -> None:
        local = host in {"127.0.0.1", "localhost", "::1"}
        self.token = _checked_token(token, local=local)
        for name, value in (("keep", keep), ("grace", grace), ("work", work)):
            if not 0 <= value < math.inf:
                raise InputError(f"{name} must be 0 or more, not {value!r}.")
        if isinstance(cors, str) or max_streams < 1 or max_body < 1:
            raise InputError("cors must be a list of origins, max_streams and max_body above 0.")
        connection = queue.connection
        self._desk = Desk(
            connection,
            queue.bus,
            queue,
            _notifier(queue),
            file=connection.settings.home / "relay.sqlite",
            keep=keep,
            grace=grace,
            max_streams=max_streams,
        )
        app = create_app(
            self._desk,
            token=self.token or None,
            hosts=LOCAL_NAMES if local else ("*",),
            cors=cors,
            max_body=max_body,
        )
        self._served = ServedApp(app, host, port, name="relay", lifespan=True)
        self.url = self._served.url
        queue.status_base = self.url
        self._worker = queue.work(work) if work else None

    def __repr__(self) -> str:
        return f"Relay({self.url})"

    @property
    def page(self) -> str:
        """Address of its page; the token stands behind the ``#``, which browsers keep."""
        return f"{self.url}/#token={self.token}" if self.token else f"{self.url}/"

    def announce(self) -> None:
        """Print the address and the token, once, for the person who started it."""
        print(f"Relay at {self.url}" + (f", token {self.token}" if self.token else ""), flush=True)
        print(f"Its page: {self.page}", flush=True)

    def wait(self) -> None:
        """Block until it is stopped."""
        self._served.wait()

    def stop(self) -> None:
        """Stop serving; replies under way are stopped, jobs stay in their queue."""
        if self._worker is not None:
            self._worker.stop()
        self._served.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _notifier(queue: Queue) -> WebhookNotifier | None:
    """Return what signs callbacks, if there is a secret to sign with."""
    return WebhookNotifier(queue=queue) if os.environ.get("MISTRAL_NB_WEBHOOK_SECRET") else None


def _checked_token(token: str | None, *, local: bool) -> str:
    if token is None:
        return secrets.token_urlsafe(24)
    if token == "" and local:
        return token
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise InputError(
            f"token must be at least {SHORTEST_TOKEN} plain characters"
            + (", or empty for none." if local else ": others can reach this relay.")
            + " Leave it out for a random one."
        )
    return token
