"""Signatures: what is true passes, whatever else is refused in one clear way."""

from __future__ import annotations

import hashlib
import hmac
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook

from mistral_nb.errors import InputError, WebhookRefused
from mistral_nb.webhooks.signing import Secrets, new_secret, sign, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "another secret of some length"
BODY = '{"event":"job.completed","timestamp":"2026-01-01T00:00:00Z","data":{"é":1}}'.encode()


def test_a_signed_delivery_is_believed():
    """What was signed verifies, and its event, data, time and id are read."""
    event = verify(sign(BODY, SECRET, "msg_1"), BODY, SECRET)
    assert (event.event, event.data, event.id) == ("job.completed", {"é": 1}, "msg_1")
    assert event.timestamp == "2026-01-01T00:00:00Z"
    assert verify(sign(BODY, OTHER, "m"), BODY.decode(), OTHER).data == {"é": 1}


def test_the_headers_are_those_of_both_schemes():
    """Receivers of Standard Webhooks and of a plain HMAC each find what they check."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    headers = sign(BODY, OTHER, "msg_1", at)
    key = OTHER.encode()
    assert headers["X-Webhook-Signature"] == hmac.new(key, BODY, hashlib.sha256).hexdigest()
    assert headers["X-Webhook-Timestamp"] == "2026-01-01T00:00:00Z"
    assert headers["webhook-timestamp"] == str(int(at.timestamp()))
    Webhook(SECRET).verify(BODY, sign(BODY, SECRET, "msg_1"))


def test_a_local_time_is_signed_as_the_same_moment():
    """A time with another offset is the same moment in every header."""
    here = datetime.now(UTC).astimezone(tz=None)
    assert sign(BODY, OTHER, "m", here) == sign(BODY, OTHER, "m", here.astimezone(UTC))
    verify(sign(BODY, OTHER, "m", here), BODY, OTHER)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_old_and_future_deliveries_are_refused(minutes):
    """More than five minutes either way is a replay or a wrong clock."""
    at = datetime.now(UTC) + timedelta(minutes=minutes)
    with pytest.raises(WebhookRefused, match="too"):
        verify(sign(BODY, SECRET, "m", at), BODY, SECRET)


def test_a_change_of_secret_loses_nothing():
    """While two secrets are in use, receivers with either one believe the delivery."""
    headers = sign(BODY, [SECRET, OTHER], "m")
    for known in (SECRET, OTHER, [OTHER, SECRET]):
        assert verify(headers, BODY, known).id == "m"
    with pytest.raises(WebhookRefused, match="does not hold"):
        verify(headers, BODY, new_secret())


def test_the_plain_schemes():
    """The body's HMAC alone, ours and that of Mistral's voice agents, verifies on request."""
    digest = hmac.new(OTHER.encode(), BODY, hashlib.sha256).hexdigest()
    assert verify({"X-Webhook-Signature": digest}, BODY, OTHER, scheme="body").data == {"é": 1}
    mistral = {"X-Mistral-Signature": f"hmac-sha256={digest}"}
    assert verify(mistral, BODY, OTHER, scheme="mistral").body["event"] == "job.completed"
    assert verify({"webhook-id": "mine", **mistral}, BODY, OTHER, scheme="mistral").id == ""
    for scheme in ("body", "mistral"):
        with pytest.raises(WebhookRefused):
            verify({"x-webhook-signature": digest[:-1] + "z"}, BODY, OTHER, scheme=scheme)
    with pytest.raises(WebhookRefused, match="missing"):
        verify({"x-webhook-signature": digest}, BODY, OTHER)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-id", "msg 1"),
        ("webhook-id", "msg_2"),
        ("webhook-timestamp", "nan"),
        ("webhook-timestamp", "1e9"),
        ("webhook-timestamp", "١٢٣"),
        ("webhook-timestamp", "-1"),
        ("webhook-timestamp", "9" * 400),
        ("webhook-signature", ""),
        ("webhook-signature", "v1"),
        ("webhook-signature", "v1,a,b"),
        ("webhook-signature", "v2,AAAA"),
        ("webhook-signature", "v1,é"),
        ("webhook-signature", "v1,AAA"),
    ],
)
def test_malformed_headers_are_refused(name, value):
    """Whatever a header holds, the answer is a refusal."""
    with pytest.raises(WebhookRefused):
        verify({**sign(BODY, SECRET, "msg_1"), name: value}, BODY, SECRET)


def test_signatures_have_one_spelling():
    """Characters that base64 would skip, or a fraction of a second, make another signature."""
    headers = sign(BODY, SECRET, "m")
    signature = headers["webhook-signature"]
    for other in (signature + "!", signature[:9] + "-" + signature[9:], signature + "\n"):
        with pytest.raises(WebhookRefused):
            verify({**headers, "webhook-signature": other}, BODY, SECRET)
    with pytest.raises(WebhookRefused):
        verify({**headers, "webhook-timestamp": headers["webhook-timestamp"] + ".5"}, BODY, SECRET)


def test_ten_thousand_forgeries():
    """Each mutation of headers or body is refused, none with another exception."""
    dice = random.Random(7)
    headers = sign(BODY, SECRET, "msg_1")
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    for _ in range(10_000):
        forged, body = dict(headers), bytearray(BODY)
        if dice.random() < 0.5:
            name = dice.choice(names)
            text = forged[name]
            place = dice.randrange(len(text))
            put = chr(dice.randrange(1, 0x250)) * dice.randrange(3)
            forged[name] = text[:place] + put + text[place + dice.randrange(2) :]
            if forged[name] == text:
                continue
        else:
            body[dice.randrange(len(body))] ^= 1 << dice.randrange(8)
        with pytest.raises(WebhookRefused):
            verify(forged, bytes(body), SECRET)


@settings(max_examples=200)
@given(
    st.dictionaries(st.text(), st.text()),
    st.binary(),
    st.sampled_from(["standard", "body", "mistral"]),
)
def test_garbage_is_refused(headers, body, scheme):
    """No headers and no body whatever are believed, or break anything."""
    with pytest.raises(WebhookRefused):
        verify(headers, body, SECRET, scheme=scheme)


def test_what_is_signed_but_no_json_is_refused():
    """A true signature over something else than JSON is said to be just that."""
    with pytest.raises(WebhookRefused, match="no JSON"):
        verify(sign(b"hello", SECRET, "m"), b"hello", SECRET)
    with pytest.raises(WebhookRefused):
        digest = hmac.new(OTHER.encode(), b"\xff", hashlib.sha256).hexdigest()
        verify({"x-webhook-signature": digest}, b"\xff", OTHER, scheme="body")


@pytest.mark.parametrize("secret", ["", "hunter2", [], "whsec_!!!!", "whsec_AAAA"])
def test_useless_secrets_are_refused(secret):
    """A secret that guards nothing is named at once, and not quoted."""
    with pytest.raises(InputError, match="secret") as refused:
        Secrets(secret)
    assert not secret or str(secret) not in str(refused.value)


def test_secrets_stay_hidden():
    """Neither the repr of a secret's holder nor an unknown scheme's message shows it."""
    assert SECRET not in repr(Secrets(SECRET))
    assert new_secret() != new_secret()
    with pytest.raises(InputError, match="scheme"):
        verify({}, b"", SECRET, scheme="none")
