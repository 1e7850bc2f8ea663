"""Deliveries: tried again until heard, each id treated once, none lost, none sent to nobody."""

from __future__ import annotations

import os
import random
import time
from datetime import UTC, datetime

import httpx2
import pytest

from mistral_nb.errors import InputError, JobError, WaitTimeout
from mistral_nb.events import EventBus
from mistral_nb.jobs import Queue
from mistral_nb.webhooks import WebhookNotifier, WebhookReceiver, delivery, new_secret, sign
from mistral_nb.webhooks import receiver as receiver_module
from mistral_nb.webhooks.targets import LOOPBACK

SECRET = new_secret()


@pytest.fixture
def queue(connection):
    with Queue(name="hooks", connection=connection, bus=EventBus(connection.portal)) as queue:
        yield queue


@pytest.fixture
def working(queue):
    with queue.work(concurrency=8):
        yield queue


@pytest.fixture
def notifier(queue):
    return WebhookNotifier(SECRET, queue=queue, allow=LOOPBACK)


@pytest.fixture
def receiver():
    with WebhookReceiver(SECRET) as receiver:
        yield receiver


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(delivery, "SHORT", (0.02,) * 5)
    monkeypatch.setattr(delivery, "LONG", (0.02,) * 8)


def test_news_arrives_signed(working, notifier, receiver):
    """A delivery arrives once, with its event, its data and a time."""
    sent = notifier.notify(receiver.url, "batch.completed", {"rows": 3})
    assert sent.result(10) == {"status": 200, "attempts": 1}
    (event,) = receiver.wait()
    assert (event.event, event.data, event.id) == ("batch.completed", {"rows": 3}, sent.id)
    assert datetime.fromisoformat(event.timestamp).tzinfo is not None
    assert (sent.status, sent.attempts, sent.next_try, sent.error) == ("delivered", 1, None, None)


@pytest.mark.usefixtures("quick")
def test_a_receiver_that_fails_for_a_while_hears_it_in_the_end(working, notifier, receiver):
    """5xx and 429 are tried again with the same id and a new signature."""
    receiver.fail(3)
    sent = notifier.notify(receiver.url, "x")
    assert sent.result(20)["attempts"] == 4
    assert [each.status for each in receiver.received] == [503, 503, 503, 200]
    assert len(receiver.events) == 1


def test_retry_after_is_honoured(working, notifier, receiver):
    """The receiver's Retry-After is waited for when it is longer than the schedule."""
    receiver.fail(1, 429, retry_after=300)
    sent = notifier.notify(receiver.url, "x")
    deadline = time.monotonic() + 10
    while sent.status != "waiting" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sent.status == "waiting"
    assert sent.next_try is not None
    assert (sent.next_try - datetime.now(UTC)).total_seconds() > 250
    assert "429" in (sent.error or "")
    assert sent.cancel()


def test_a_refusal_for_good_is_a_dead_letter_that_can_be_replayed(working, notifier, receiver):
    """4xx ends at once; the failed delivery is listed, and a replay keeps its id."""
    receiver.fail(1, 400)
    sent = notifier.notify(receiver.url, "x")
    with pytest.raises(JobError, match="400"):
        sent.result(10)
    assert [job.id for job in working.jobs("failed").result()] == [sent.id]
    assert sent.replay()
    assert sent.result(10)["status"] == 200
    assert receiver.events[0].id == sent.id


def test_gone_silences_a_receiver_until_it_is_enabled(working, notifier, receiver):
    """After 410 nothing more is sent to that address, unless it is enabled again."""
    receiver.fail(1, 410)
    with pytest.raises(JobError, match="410"):
        notifier.notify(receiver.url, "x").result(10)
    with pytest.raises(InputError, match="enable"):
        notifier.notify(receiver.url, "x")
    notifier.enable(receiver.url)
    assert notifier.notify(receiver.url, "x").result(10)["status"] == 200


def test_private_targets_are_refused_unless_allowed(working, queue, receiver):
    """Without an allowance this machine is no target; the refusal is final and says why."""
    strict = WebhookNotifier(SECRET, queue=queue, allow=())
    with pytest.raises(JobError, match="not on the public internet"):
        strict.notify(receiver.url, "x").result(10)
    assert receiver.received == []


def test_outside_a_notebook_nothing_private_is_allowed(queue, monkeypatch):
    """The default allows this machine in notebooks only, or what the setting lists."""
    assert "public addresses only" in repr(WebhookNotifier(SECRET, queue=queue))
    monkeypatch.setenv("MISTRAL_NB_WEBHOOK_ALLOW", "hooks.internal, 127.0.0.1")
    assert "hooks.internal" in repr(WebhookNotifier(SECRET, queue=queue))


def test_a_changed_secret_is_heard_by_both_kinds_of_receivers(working, queue):
    """During a change-over receivers with the old or the new secret believe the delivery."""
    new = new_secret()
    notifier = WebhookNotifier([new, SECRET], queue=queue, allow=LOOPBACK)
    with WebhookReceiver(SECRET) as old_one, WebhookReceiver(new) as new_one:
        for receiver in (old_one, new_one):
            notifier.notify(receiver.url, "x").result(10)
            assert len(receiver.events) == 1


def test_the_secret_is_in_no_file_and_no_repr(queue, notifier, receiver, home):
    """The queue's file and the objects' reprs hold no part of the secret."""
    notifier.notify(receiver.url, "x")
    queue.close()
    plain = SECRET.removeprefix("whsec_").encode()
    files = [file for file in home.rglob("*") if file.is_file()]
    assert any("hooks" in file.name for file in files)
    assert not any(plain in file.read_bytes() for file in files)
    for shown in (notifier, receiver):
        assert plain.decode() not in repr(vars(shown))


@pytest.mark.parametrize(
    ("url", "event", "data"),
    [("ftp://x/", "e", 1), ("http://h/", "", 1), ("http://h/", "e", {1, 2}),
     ("http://h/", "e", "x" * 1_000_001)],
)  # fmt: skip
def test_bad_input_is_refused_before_a_job_is_made(queue, notifier, url, event, data):
    """What cannot be delivered is said at once."""
    with pytest.raises(InputError):
        notifier.notify(url, event, data)
    assert sum(queue.counts().result().values()) == 0


def test_a_missing_secret_is_said(queue, monkeypatch):
    """Without a secret there is no notifier."""
    monkeypatch.delenv("MISTRAL_NB_WEBHOOK_SECRET", raising=False)
    with pytest.raises(InputError, match="secret"):
        WebhookNotifier(queue=queue)


def test_a_job_tells_its_callback_how_it_ended(working, notifier, receiver):
    """`callback_url` hears of a completed and of a failed job, signed."""

    @working.handler("double")
    def double(data):
        return data * 2

    working.add("double", 21, callback_url=receiver.url)
    (event,) = receiver.wait()
    assert (event.event, event.data["result"]) == ("job.completed", 42)
    (news,) = [job for job in working.jobs().result() if job.name == "webhook"]
    assert news.attempts == len(delivery.LONG) + 1  # outside a notebook, for more than a day
    working.add("double", None, attempts=1, callback_url=receiver.url)
    events = receiver.wait(2)
    assert events[1].event == "job.failed"
    assert "NoneType" in events[1].data["error"]


def test_the_receiver_knows_repeats_forgeries_and_sizes(receiver):
    """A repeated id is counted once, a forgery is answered 401, a flood 413."""
    body = b'{"event": "x", "data": 1}'
    headers = sign(body, SECRET, "msg_1")
    for _ in range(2):
        assert httpx2.post(receiver.url, content=body, headers=headers).status_code == 200
    assert httpx2.post(receiver.url, content=b"{}", headers=headers).status_code == 401
    assert httpx2.post(receiver.url, content=b"x" * 2_100_000, headers=headers).status_code == 413
    assert [each.note for each in receiver.received[:2]] == ["new", "repeated"]
    assert len(receiver.events) == 1
    assert list(receiver.to_frame()["status"]) == [200, 200, 401, 413]
    assert "repeated" in receiver._repr_html_()
    with pytest.raises(WaitTimeout, match="1 of 2"):
        receiver.wait(2, timeout=0.01)


def test_deliveries_without_an_id_are_all_new(monkeypatch):
    """Where a scheme has no ids each delivery counts, also once old requests are forgotten."""
    monkeypatch.setattr(receiver_module, "KEPT", 2)
    with WebhookReceiver(SECRET, scheme="body") as receiver:
        for number in range(5):
            body = b'{"event": "x", "data": %d}' % number
            httpx2.post(receiver.url, content=body, headers=sign(body, SECRET, "msg"))
        assert [event.data for event in receiver.events] == list(range(5))
        assert [each.note for each in receiver.received] == ["new", "new"]


@pytest.mark.usefixtures("quick")
def test_a_storm_of_failures_loses_none(working, notifier):
    """With 30 % failures each delivery is delivered or a dead letter, each id once."""
    count = int(os.environ.get("MISTRAL_NB_STORM", "60"))
    dice = random.Random(3)
    with WebhookReceiver(SECRET) as receiver:
        answers = [(dice.choice([429, 500, 503, 400]), None) for _ in range(count)]
        receiver._refusals = [answers.pop() if dice.random() < 0.3 else None for _ in range(count)]
        sent = [notifier.notify(receiver.url, "x", n) for n in range(count)]
        ends = []
        for each in sent:
            try:
                ends.append(each.result(60)["status"])
            except JobError:
                ends.append(0)
        delivered = {event.id for event in receiver.events}
    assert len(delivered) == len(receiver.events)
    assert delivered == {each.id for each, end in zip(sent, ends, strict=True) if end == 200}
    dead = {job.id for job in working.jobs("failed", limit=10_000).result()}
    assert delivered | dead == {each.id for each in sent}
