"""Signing webhook bodies, and telling true ones from forged, old and repeated ones.

Three schemes are spoken. Standard Webhooks (https://www.standardwebhooks.com) signs id, time
and body, so that an old delivery cannot be sent again: use it. ``X-Webhook-Signature`` is the
plain HMAC of the body that many receivers know. ``x-mistral-signature`` is what Mistral's voice
agents send.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import SecretStr
from standardwebhooks import Webhook

from mistral_nb.errors import InputError, WebhookRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Secrets", "WebhookEvent", "new_secret", "sign", "verify"]

Scheme = Literal["standard", "body", "mistral"]
SHORTEST_SECRET = 16
# What the libraries below would read with a generous eye is held to the letter first: base64
# skips foreign characters, float() takes "1_0", "nan" and digits of other scripts.
SIGNATURES = re.compile(
    r"v\d+[a-z]?,[A-Za-z0-9+/]{1,512}={0,2}( v\d+[a-z]?,[A-Za-z0-9+/]{1,512}={0,2}){0,15}"
)
TIMESTAMP = re.compile(r"[0-9]{1,11}")
DELIVERY_ID = re.compile(r"[\x21-\x7e]{1,256}")
HEX_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """A delivery whose signature holds.

    Attributes:
        event: What happened, e.g. ``"job.completed"``; ``""`` where the sender names nothing.
        data: The news itself, any JSON value.
        timestamp: When it happened, as the body says; ``""`` where it does not.
        id: Id of the delivery, the same for each attempt: keep those seen, and treat none
            twice. ``""`` in the schemes that have none.
        body: The whole body, read.
    """

    event: str
    data: Any
    timestamp: str
    id: str
    body: Any


class Secrets:
    """One signing secret, or two while receivers change over; none shows in a repr.

    Args:
        secret: ``whsec_...`` (base64, as Standard Webhooks writes it) or any text of 16
            characters or more; the first of several signs, and all of them verify.

    Raises:
        InputError: No secret, or one that is too short or no base64.
    """

    def __init__(self, secret: str | SecretStr | Sequence[str | SecretStr] | None) -> None:
        listed = [secret] if isinstance(secret, str | SecretStr) else list(secret or ())
        texts = [
            each.get_secret_value() if isinstance(each, SecretStr) else each for each in listed
        ]
        if not texts:
            raise InputError(
                "secret is missing: pass one to mnb.WebhookNotifier (mnb.webhooks.new_secret() "
                "makes one), or set MISTRAL_NB_WEBHOOK_SECRET."
            )
        self._keys = [_key(text) for text in texts]

    def __repr__(self) -> str:
        return f"Secrets({len(self._keys)} hidden)"

    def standard(self, delivery_id: str, at: datetime, body: str) -> str:
        """Return the value of ``webhook-signature``: one signature a secret.

        Args:
            delivery_id: The delivery's id.
            at: When it is sent.
            body: The body as it goes out.
        """
        signed = (Webhook(key).sign(delivery_id, at, body) for key in self._keys)
        return " ".join(signed)

    def digest(self, body: bytes) -> str:
        """Return the hex HMAC-SHA256 of the body under the first secret.

        Args:
            body: The body as it goes out.
        """
        return hmac.new(self._keys[0], body, hashlib.sha256).hexdigest()

    def check_standard(self, headers: dict[str, str], body: bytes) -> None:
        """Raise unless one of the secrets has signed id, time and body just now.

        Args:
            headers: Those of the request, names in lower case.
            body: The body as it came.

        Raises:
            WebhookRefused: None of them has, or not within five minutes.
        """
        error: Exception | None = None
        for key in self._keys:
            try:
                Webhook(key).verify(body, headers, json_parse=False)
            except Exception as refused:
                error = refused
            else:
                return
        raise WebhookRefused(f"The signature does not hold: {error}.") from error

    def check_digest(self, given: str, body: bytes) -> None:
        """Raise unless one of the secrets has signed the body.

        Args:
            given: The hex digest that came with it.
            body: The body as it came.

        Raises:
            WebhookRefused: None of them has.
        """
        digests = (hmac.new(key, body, hashlib.sha256).hexdigest() for key in self._keys)
        if not any([hmac.compare_digest(given, digest) for digest in digests]):  # noqa: C419
            raise WebhookRefused("The signature does not hold: another secret, or another body.")


def new_secret() -> str:
    """Return a new random secret in the form of Standard Webhooks: ``whsec_`` and base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _key(text: str) -> bytes:
    """Turn a secret into the key of the HMAC."""
    if not text.startswith("whsec_"):
        key = text.encode()
    else:
        encoded = text.removeprefix("whsec_")
        try:
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except ValueError:
            raise InputError(
                "The secret begins with whsec_ but what follows is no base64. "
                "Copy it again, or make one with mnb.webhooks.new_secret()."
            ) from None
    if len(key) < SHORTEST_SECRET:
        raise InputError(
            f"The secret is too short to guard anything ({len(key)} bytes, at least "
            f"{SHORTEST_SECRET}). Make one with mnb.webhooks.new_secret()."
        )
    return key


def sign(
    body: bytes,
    secret: str | SecretStr | Sequence[str | SecretStr] | Secrets,
    delivery_id: str,
    at: datetime | None = None,
) -> dict[str, str]:
    """Return the headers that prove where a body comes from.

    Args:
        body: The body as it will be sent, UTF-8.
        secret: The secret, or several during a change-over.
        delivery_id: Id of the delivery, the same for each attempt.
        at: When it is sent; else now.

    Returns:
        The headers of Standard Webhooks and ``X-Webhook-Signature`` (hex HMAC-SHA256 of the
        body under the first secret) with ``X-Webhook-Timestamp`` (ISO 8601, UTC).

    Raises:
        InputError: The secret cannot be used.
    """
    keys = secret if isinstance(secret, Secrets) else Secrets(secret)
    moment = (at or datetime.now(UTC)).astimezone(UTC)
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": keys.standard(delivery_id, moment, body.decode()),
        "X-Webhook-Signature": keys.digest(body),
        "X-Webhook-Timestamp": moment.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


def verify(
    headers: Mapping[str, str],
    body: bytes | str,
    secret: str | SecretStr | Sequence[str | SecretStr] | Secrets,
    *,
    scheme: Scheme = "standard",
) -> WebhookEvent:
    """Return what a delivery says, if it comes from who holds the secret.

    Compare in constant time, refuse what is older or newer than five minutes, and never
    believe a body before this returns.

    Args:
        headers: The request's headers, in any case.
        body: The request's body, untouched: a parsed and re-written one has another signature.
        secret: The secret shared with the sender, or several during a change-over.
        scheme: ``"standard"`` (Standard Webhooks); ``"body"`` for ``X-Webhook-Signature``
            alone, which cannot tell a repeated delivery from a new one; ``"mistral"`` for
            ``x-mistral-signature`` of Mistral's voice agents, which has no time either.

    Returns:
        The event. Standard Webhooks, verified, still can come twice (an answer may get lost
        on its way back): keep the ids you have treated.

    Raises:
        WebhookRefused: Anything about it is missing, malformed, forged or too old.
        InputError: The secret cannot be used, or there is no such scheme.
    """
    keys = secret if isinstance(secret, Secrets) else Secrets(secret)
    checks = {"standard": _standard, "body": _body, "mistral": _mistral}
    if scheme not in checks:
        raise InputError(f"scheme must be 'standard', 'body' or 'mistral', not {scheme!r}.")
    try:
        given = {str(name).lower(): str(value) for name, value in dict(headers).items()}
        raw = body.encode() if isinstance(body, str) else bytes(body)
        checks[scheme](given, raw, keys)
        # In the other schemes an id is a header that nobody signed.
        signed_id = given["webhook-id"] if scheme == "standard" else ""
        return _event(signed_id, orjson.loads(raw))
    except WebhookRefused:
        raise
    except orjson.JSONDecodeError as error:
        raise WebhookRefused(f"The signature holds, but the body is no JSON: {error}.") from error
    except Exception as error:  # whatever a stranger sends, a receiver needs one answer
        raise WebhookRefused(f"The delivery cannot be read: {error}.") from error


def _standard(headers: dict[str, str], body: bytes, keys: Secrets) -> None:
    for name, pattern in (
        ("webhook-id", DELIVERY_ID),
        ("webhook-timestamp", TIMESTAMP),
        ("webhook-signature", SIGNATURES),
    ):
        if name not in headers:
            raise WebhookRefused(f"The header {name} is missing.")
        if not pattern.fullmatch(headers[name]):
            raise WebhookRefused(f"The header {name} is malformed.")
    keys.check_standard(headers, body)


def _body(headers: dict[str, str], body: bytes, keys: Secrets) -> None:
    given = headers.get("x-webhook-signature", "")
    if not HEX_DIGEST.fullmatch(given):
        raise WebhookRefused("The header X-Webhook-Signature is missing or malformed.")
    keys.check_digest(given, body)


def _mistral(headers: dict[str, str], body: bytes, keys: Secrets) -> None:
    method, _, given = headers.get("x-mistral-signature", "").partition("=")
    if method != "hmac-sha256" or not HEX_DIGEST.fullmatch(given):
        raise WebhookRefused("The header x-mistral-signature is missing or malformed.")
    keys.check_digest(given, body)


def _event(delivery_id: str, body: Any) -> WebhookEvent:
    fields = body if isinstance(body, dict) else {}
    return WebhookEvent(
        event=str(fields.get("event", "")),
        data=fields.get("data"),
        timestamp=str(fields.get("timestamp", "")),
        id=delivery_id,
        body=body,
    )
