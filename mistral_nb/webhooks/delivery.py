"""Delivering webhooks as jobs: they outlive the cell, are tried again, and are never lost."""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
import weakref
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.errors import InputError
from mistral_nb.jobs import CALLBACK, GiveUp, RetryLater, handler
from mistral_nb.jobs.model import timestamp
from mistral_nb.portal import in_kernel
from mistral_nb.store import open_store, storage_errors
from mistral_nb.webhooks.sending import Sender
from mistral_nb.webhooks.signing import Secrets, sign
from mistral_nb.webhooks.targets import LOOPBACK, check_url

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Generator, Iterator, Sequence

    from pydantic import SecretStr

    from mistral_nb.client import Connection
    from mistral_nb.jobs import Job, JobContext, Queue, Snapshot

__all__ = ["Delivery", "WebhookNotifier"]

SHORT = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between attempts where somebody watches: in a notebook."""
LONG = (5.0, 30.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 36000.0)
"""Seconds between attempts of a worker, over more than a day."""
JITTER = 0.2
LONGEST_WAIT = 24 * 3600.0
SECRET_SETTING = "MISTRAL_NB_WEBHOOK_SECRET"  # noqa: S105 - the name of a setting
ALLOW_SETTING = "MISTRAL_NB_WEBHOOK_ALLOW"
LARGEST_DATA = 1_000_000
STATES = {
    "queued": "sending",
    "active": "sending",
    "delayed": "waiting",
    "completed": "delivered",
}
MIGRATIONS = ("CREATE TABLE disabled (url TEXT PRIMARY KEY, at REAL NOT NULL)",)


class Delivery:
    """One webhook on its way; ``await`` it or call ``.result()`` to know that it arrived.

    Args:
        job: The job that delivers it.
        url: The receiver.
        event: What happened.
    """

    def __init__(self, job: Job, url: str, event: str) -> None:
        self._job = job
        self.url = url
        self.event = event

    def __repr__(self) -> str:
        return f"Delivery({self.id}, {self.event!r} to {self.url})"

    @property
    def id(self) -> str:
        """Its id, the ``webhook-id`` of every attempt."""
        return self._job.id

    @property
    def status(self) -> str:
        """``sending``, ``waiting`` (for the next attempt), ``delivered``, ``failed``, ..."""
        status = self._now().status
        return STATES.get(status, status)

    @property
    def attempts(self) -> int:
        """How many attempts have been made."""
        return self._now().attempts_made

    @property
    def next_try(self) -> datetime | None:
        """When the next attempt is due (UTC); None if none is."""
        due = self._now().due_at
        return None if due is None else datetime.fromtimestamp(due, UTC)

    @property
    def error(self) -> str | None:
        """Why the last attempt failed; None if none did."""
        return self._now().error

    def _now(self) -> Snapshot:
        return self._job.refresh().result()

    def result(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait until it has arrived.

        Args:
            timeout: Longest wait in seconds; None waits until its end.

        Returns:
            ``status`` (HTTP) and ``attempts``.

        Raises:
            JobError: It was given up; the message says why. :meth:`replay` sends it again.
            WaitTimeout: The time is up; the delivery goes on.
        """
        return dict(self._job.result(timeout))

    def __await__(self) -> Generator[Any, None, dict[str, Any]]:
        return self._job.__await__()

    def replay(self) -> bool:
        """Send it again, with the same id, after it was given up.

        Returns:
            False if it is under way or was delivered.
        """
        return self._job.replay().result()

    def cancel(self) -> bool:
        """Send it no more.

        Returns:
            False if it had ended already.
        """
        return self._job.cancel().result()


class WebhookNotifier:
    """Tells other servers what happened, signed, and tries again until they have heard it.

    Args:
        secret: Shared with the receivers: ``whsec_...`` or any text of 16 characters or more;
            two of them while receivers change over; else ``MISTRAL_NB_WEBHOOK_SECRET``.
        queue: Where deliveries wait as jobs; a worker of that queue sends them.
        allow: Host names that need not be on the public internet, e.g. ``["hooks.internal"]``.
            None allows this machine (localhost) in a notebook and nothing elsewhere, or what
            ``MISTRAL_NB_WEBHOOK_ALLOW`` lists, with commas between.
        name: Tells notifiers with different secrets apart; a worker in another process must
            have one of the same name.

    Raises:
        InputError: There is no secret, or it guards nothing.
    """

    def __init__(
        self,
        secret: str | SecretStr | Sequence[str | SecretStr] | None = None,
        *,
        queue: Queue,
        allow: Collection[str] | None = None,
        name: str = "default",
    ) -> None:
        self.name = name
        self._queue = queue
        self._signer = _Signer(secret, allow, queue.connection)
        _signers[name] = self._signer

    def __repr__(self) -> str:
        allowed = ", ".join(sorted(self._signer.allowed)) or "public addresses only"
        return f"WebhookNotifier({self.name!r}, allows {allowed})"

    def notify(self, url: str, event: str, data: Any = None) -> Delivery:
        """Send news to a receiver; returns at once, the delivery goes on by itself.

        Args:
            url: The receiver, http or https.
            event: What happened, e.g. ``"batch.completed"``.
            data: Any JSON; the body is ``{"event": ..., "timestamp": ..., "data": ...}``.

        Returns:
            The delivery.

        Raises:
            InputError: The address is none, it has asked to hear nothing more (410), or the
                data is no JSON or too large.
            StoreError: The queue's file cannot be written.
        """
        if not event or not isinstance(event, str):
            raise InputError(f"event must be a name such as 'job.completed', not {event!r}.")
        check_url(url)
        if self._signer.disabled(url):
            raise InputError(
                f"{url} answered 410: it wants no more webhooks. "
                "If that has changed, call notifier.enable(url)."
            )
        body = {"url": url, "event": event, "data": data, "timestamp": timestamp()}
        if len(_encoded(data)) > LARGEST_DATA:
            raise InputError(
                f"The data is larger than {LARGEST_DATA:,} bytes, which receivers refuse. "
                "Send where to fetch it instead."
            )
        attempts = 1 + len(SHORT if in_kernel() else LONG)
        job = self._queue.add(
            CALLBACK,
            {**body, "signer": self.name},
            job_id=f"msg_{uuid.uuid4().hex[:20]}",
            attempts=attempts,
            timeout=30.0,
        )
        return Delivery(job.result(), url, event)

    def enable(self, url: str) -> None:
        """Send to a receiver again that had answered 410.

        Args:
            url: Its address.
        """
        self._signer.enable(url)


class _Signer:
    """What a worker needs to send: the secret, who is allowed, and who wants nothing more."""

    def __init__(
        self,
        secret: str | SecretStr | Sequence[str | SecretStr] | None,
        allow: Collection[str] | None,
        connection: Connection,
    ) -> None:
        self.secrets = Secrets(secret or os.environ.get(SECRET_SETTING) or ())
        self.allowed = _allowed(allow)
        self.sender = Sender(self.allowed)
        self._file = connection.settings.home / "webhooks.sqlite"
        self._opened: sqlite3.Connection | None = None
        self._turn = threading.Lock()

    def disabled(self, url: str) -> bool:
        with self._store() as store:
            return bool(store.execute("SELECT 1 FROM disabled WHERE url = ?", (url,)).fetchall())

    def disable(self, url: str) -> None:
        with self._store() as store:
            store.execute("INSERT OR REPLACE INTO disabled VALUES (?, ?)", (url, time.time()))

    def enable(self, url: str) -> None:
        with self._store() as store:
            store.execute("DELETE FROM disabled WHERE url = ?", (url,))

    @contextmanager
    def _store(self) -> Iterator[sqlite3.Connection]:
        """Give the file, opened once: opening it costs a write, and each delivery asks it."""
        with self._turn, storage_errors(self._file):
            if self._opened is None:
                self._opened = open_store(self._file, MIGRATIONS)
                weakref.finalize(self, self._opened.close)
            yield self._opened


_signers: dict[str, _Signer] = {}


@handler(CALLBACK)
async def deliver(data: Any, context: JobContext) -> dict[str, Any]:
    """Make one attempt at a delivery; the queue repeats it as the outcome asks for.

    Args:
        data: ``url``, ``event``, ``data``, ``timestamp`` and ``signer``, as ``notify`` and the
            queue's callbacks write them.
        context: The job's.

    Returns:
        ``status`` (HTTP) and ``attempts``.

    Raises:
        RetryLater: Another attempt may work.
        GiveUp: None can.
    """
    signer = _signer(str(data.get("signer", "default")), context)
    url = str(data["url"])
    try:
        check_url(url)
    except InputError as error:
        raise GiveUp(str(error)) from error
    if signer.disabled(url):
        raise GiveUp(f"{url} answered 410 before: it wants no more webhooks.")
    fields = {"event": data["event"], "timestamp": data["timestamp"], "data": data["data"]}
    body = orjson.dumps(fields)
    headers = {
        **sign(body, signer.secrets, context.job_id),
        "content-type": "application/json",
        "user-agent": "mistral-nb-webhooks",
    }
    attempt = await signer.sender.send(url, headers, body)
    if attempt.verdict == "delivered":
        return {"status": attempt.status, "attempts": context.attempt}
    if attempt.verdict == "again":
        raise RetryLater(_wait(context, attempt.retry_after), attempt.reason)
    if attempt.verdict == "gone":
        signer.disable(url)
    raise GiveUp(attempt.reason)


def _signer(name: str, context: JobContext) -> _Signer:
    """Return the notifier's part that signs; a worker process makes one of its settings."""
    if name not in _signers:
        if name != "default" or not os.environ.get(SECRET_SETTING):
            raise GiveUp(
                f"This process has no secret to sign with (notifier {name!r}). Set "
                f"{SECRET_SETTING}, or make a WebhookNotifier here; then replay the job."
            )
        _signers[name] = _Signer(None, None, context.connection)
    return _signers[name]


def _wait(context: JobContext, asked_for: float | None) -> float:
    """Seconds before the next attempt: the schedule's, or more if the receiver asked for it."""
    schedule = SHORT if context.attempts <= len(SHORT) + 1 else LONG
    planned = schedule[min(context.attempt, len(schedule)) - 1]
    planned *= random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads, guards nothing
    return min(max(planned, asked_for or 0.0), LONGEST_WAIT)


def _allowed(allow: Collection[str] | None) -> frozenset[str]:
    if isinstance(allow, str):
        raise InputError(f"allow must be a list of host names, e.g. [{allow!r}].")
    if allow is not None:
        return frozenset(allow)
    listed = os.environ.get(ALLOW_SETTING, "")
    if names := [name.strip() for name in listed.split(",") if name.strip()]:
        return frozenset(names)
    return LOOPBACK if in_kernel() else frozenset()


def _encoded(data: Any) -> bytes:
    try:
        return orjson.dumps(data)
    except TypeError as error:
        raise InputError(f"data must be a value that JSON can hold: {error}.") from error
