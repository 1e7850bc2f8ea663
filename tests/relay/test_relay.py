"""The relay: every event once and in order, to whoever may hear it, however often they come back."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx2
import pytest

import mistral_nb as mnb
from mistral_nb import store
from mistral_nb.errors import AuthenticationError, InputError
from mistral_nb.events import EventBus
from mistral_nb.jobs import GiveUp, Queue
from mistral_nb.jobs import job as job_module
from mistral_nb.relay import desk
from mistral_nb.simulator import Faults
from mistral_nb.webhooks import WebhookReceiver, new_secret
from tests.relay.conftest import TOKEN

AUTH = {"authorization": f"Bearer {TOKEN}"}
PROMPT = {"prompt": "Hello", "max_tokens": 40}
LONG = {"prompt": "Write a long story, in detail.", "max_tokens": 2000}


def ask(relay, **more) -> dict:
    answer = httpx2.post(f"{relay.url}/api/chat", json={**PROMPT, **more}, headers=AUTH)
    assert answer.status_code == 202, answer.text
    return answer.json()


def numbers(events) -> list[int]:
    return [int(event.id.rpartition(":")[2]) for event in events]


def text_of(events) -> str:
    return "".join(event.json()["content"] for event in events if event.name == "chunk")


def eventually(check, limit: float = 60.0) -> None:
    end = time.monotonic() + limit
    while not check():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


def test_a_post_streams_start_chunks_and_complete(relay):
    """One start, numbered chunks, one complete with usage, ids without a gap."""
    events = list(mnb.sse(f"{relay.url}/api/chat/stream", method="POST", json=PROMPT, headers=AUTH))
    names = [event.name for event in events]
    assert names[0] == "start"
    assert names[-1] == "complete"
    assert set(names[1:-1]) == {"chunk"}
    assert numbers(events) == list(range(1, len(events) + 1))
    last = events[-1].json()
    assert last["usage"]["totalTokens"] > 0
    assert last["finishReason"] == "stop"
    assert last["characters"] == len(text_of(events))


def test_nothing_between_may_hold_events_back(relay):
    """Proxies and browsers are told neither to keep, nor to compress, nor to gather a stream."""
    for headers in ({}, {"accept-encoding": "gzip"}):
        with httpx2.stream("GET", relay.url + ask(relay)["streamUrl"], headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store, no-transform"
            assert answer.headers["x-accel-buffering"] == "no"
            assert "content-encoding" not in answer.headers


def test_a_202_gives_an_address_that_needs_no_header(relay):
    """EventSource sends no header: the stream's own ticket opens it, and nothing else."""
    made = ask(relay)
    events = list(mnb.sse(relay.url + made["streamUrl"]))
    assert events[-1].name == "complete"
    assert events[0].json()["requestId"] == made["requestId"]
    other = ask(relay)
    wrong = other["streamUrl"].partition("?")[0] + "?" + made["streamUrl"].partition("?")[2]
    assert httpx2.get(relay.url + wrong).status_code == 401
    assert httpx2.delete(relay.url + made["streamUrl"]).status_code == 401


@pytest.mark.parametrize("way", ["bare", "full"])
def test_who_comes_back_gets_what_it_missed(relay, way):
    """After any event, the rest follows: nothing twice, nothing left out, live or long ended."""
    made = ask(relay)
    whole = list(mnb.sse(relay.url + made["streamUrl"]))
    for after in (1, len(whole) // 2, len(whole) - 1):
        last_id = whole[after - 1].id if way == "full" else str(after)
        rest = list(mnb.sse(relay.url + made["streamUrl"], last_event_id=last_id))
        assert [(e.id, e.data) for e in rest] == [(e.id, e.data) for e in whole[after:]]


def test_a_post_is_taken_up_by_its_last_event_id(relay, simulator):
    """POST with Last-Event-ID goes on with that stream and pays for no other."""
    url = f"{relay.url}/api/chat/stream"
    with mnb.sse(url, method="POST", json=PROMPT, headers=AUTH) as events:
        first = [next(events) for _ in range(3)]
    options = {"method": "POST", "json": PROMPT, "headers": AUTH}
    rest = list(mnb.sse(url, last_event_id=first[-1].id, **options))
    assert numbers(first + rest) == list(range(1, len(first + rest) + 1))
    assert simulator.stats()["streams"]["opened"] == 1


def test_streams_cut_at_random_are_resumed_whole(relay):
    """Many listeners that hang up anywhere, again and again, each end up with the whole."""
    made = ask(relay)
    whole = list(mnb.sse(relay.url + made["streamUrl"]))

    def resumed(seed: int) -> list:
        dice = random.Random(seed)
        got: list = []
        while not got or got[-1].name != "complete":
            last_id = got[-1].id if got else ""
            with mnb.sse(relay.url + made["streamUrl"], last_event_id=last_id) as events:
                for event in events:
                    got.append(event)
                    if dice.random() < 0.2:
                        break
        return got

    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(resumed, range(int(os.environ.get("MISTRAL_NB_STORM", "24")))):
            assert numbers(got) == numbers(whole)
            assert text_of(got) == text_of(whole)


def test_a_relay_that_restarts_knows_its_streams(make_relay):
    """Ended streams are read again from the file; one that was cut off ends with an error."""
    relay = make_relay()
    ended = ask(relay)
    whole = list(mnb.sse(relay.url + ended["streamUrl"]))
    cut = ask(relay, **LONG)
    with mnb.sse(relay.url + cut["streamUrl"]) as events:
        next(events)
    relay.stop()
    again = make_relay()
    assert [e.data for e in mnb.sse(again.url + ended["streamUrl"])] == [e.data for e in whole]
    last = list(mnb.sse(again.url + cut["streamUrl"]))[-1]
    assert last.name == "error"
    assert "relay was stopped" in last.json()["message"]


def test_who_has_heard_the_end_is_told_to_come_no_more(relay):
    """After the last event there is nothing: 204 ends an EventSource that would ask for ever."""
    made = ask(relay)
    whole = list(mnb.sse(relay.url + made["streamUrl"]))
    url = relay.url + made["streamUrl"]
    assert httpx2.get(url, headers={"last-event-id": whole[-1].id}).status_code == 204
    assert list(mnb.sse(url, last_event_id=whole[-1].id)) == []


def test_nobody_listening_stops_the_upstream_request(make_relay, simulator):
    """Some time after the last listener left, the reply is stopped, and its partial kept."""
    simulator.chunk_delay = 0.05
    relay = make_relay(grace=0.1)
    made = ask(relay, **LONG)
    with mnb.sse(relay.url + made["streamUrl"]) as events:
        next(events)

    def ended() -> bool:
        return (
            list(mnb.sse(relay.url + made["streamUrl"], last_event_id="1"))[-1].name == "complete"
        )

    time.sleep(0.3)
    assert ended()
    last = list(mnb.sse(relay.url + made["streamUrl"]))[-1].json()
    assert last["finishReason"] == "stopped"


def test_who_comes_back_in_time_keeps_the_reply_alive(make_relay, simulator):
    """A listener back within the grace finds the reply going on."""
    simulator.chunk_delay = 0.02
    relay = make_relay(grace=5.0)
    made = ask(relay)
    with mnb.sse(relay.url + made["streamUrl"]) as events:
        next(events)
    assert list(mnb.sse(relay.url + made["streamUrl"]))[-1].json()["finishReason"] == "stop"


def test_delete_stops_a_reply(relay, simulator):
    """DELETE ends the stream for every listener, as complete with `stopped`."""
    simulator.chunk_delay = 0.05
    made = ask(relay, **LONG)
    with mnb.sse(relay.url + made["streamUrl"]) as events:
        next(events)
        url = f"{relay.url}/api/streams/{made['requestId']}"
        assert httpx2.delete(url, headers=AUTH).json() == {"stopped": True}
        assert list(events)[-1].json()["finishReason"] == "stopped"
    assert httpx2.delete(url, headers=AUTH).json() == {"stopped": False}


@pytest.mark.parametrize(
    "fault",
    [
        {"cut_after": 5},
        {"malformed_chunk": 5},
        {"error_chunk": 5},
        {"drop_finish": True},
        {"error_rate": 1.0},
    ],
    ids=str,
)
def test_upstream_faults_end_in_one_error(relay, simulator, fault):
    """Whatever breaks upstream, there is one end, an error, and no reply posing as complete."""
    simulator.faults = Faults(**fault)
    events = list(mnb.sse(relay.url + ask(relay)["streamUrl"]))
    ends = [event.name for event in events if event.name in {"complete", "error"}]
    assert ends == ["error"]
    assert events[-1].json()["message"]


def test_a_slow_listener_gets_joined_chunks_and_the_same_text(relay):
    """Who is far behind gets fewer, larger chunks; the text and the last id are the same."""
    from mistral_nb.relay.channels import Channel, follow

    async def read() -> tuple[list[str], list[str]]:
        channel = Channel("chat-1")
        channel.tell("start", {})
        listener = follow(channel, 0)
        frames = await anext(listener) + await anext(listener)
        for index in range(5000):
            channel.tell("chunk", {"content": f"{index} ", "index": index, "tokenCount": index + 1})
        channel.tell("complete", {}, last=True)
        frames += b"".join([frame async for frame in listener])
        fields = [
            dict(line.split(": ", 1) for line in frame.split("\n"))
            for frame in frames.decode().split("\n\n")
            if frame
        ]
        data = [json.loads(field["data"]) for field in fields[2:-1]]
        assert sum(each["joined"] for each in data) == 5000
        return [each["content"] for each in data], [field["id"] for field in fields[1:]]

    contents, ids = mnb.run(read())
    assert "".join(contents) == "".join(f"{index} " for index in range(5000))
    assert len(contents) < 100
    assert ids[-1] == "chat-1:5002"


def test_silence_is_filled_with_comments(monkeypatch):
    """A quiet line carries a comment now and then, so that nothing between closes it."""
    from mistral_nb.relay import channels

    monkeypatch.setattr(channels, "HEARTBEAT", 0.01)

    async def read() -> bytes:
        listener = channels.follow(channels.Channel("x"), 0)
        assert await anext(listener) == channels.RETRY
        return await anext(listener)

    assert mnb.run(read()).startswith(b":")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/chat"), ("POST", "/api/chat/stream"), ("GET", "/api/streams/chat-1"),
     ("DELETE", "/api/streams/chat-1"), ("POST", "/api/jobs"), ("GET", "/api/jobs/x"),
     ("GET", "/api/jobs/x/events"), ("DELETE", "/api/jobs/x")],
)  # fmt: skip
def test_every_route_wants_the_token(relay, method, path):
    """Without the token, or with another, each route answers 401 before it looks at anything."""
    for headers in ({}, {"authorization": "Bearer x"}, {"authorization": f"Basic {TOKEN}"}):
        answer = httpx2.request(method, relay.url + path, headers=headers, json=PROMPT)
        assert answer.status_code == 401
    with pytest.raises(AuthenticationError):
        list(mnb.sse(relay.url + path, method=method))


def test_bad_requests_are_refused_with_a_sentence(relay):
    """Wrong bodies, options, ids and sizes say what is wrong, and cost nothing."""

    def post(path, **options):
        answer = httpx2.post(relay.url + path, headers=AUTH, **options)
        return answer.status_code, str(answer.json()["detail"])

    assert post("/api/chat", json={}) == (422, "Send either messages or a prompt.")
    status, detail = post("/api/chat", json={**PROMPT, "temprature": 1})
    assert (status, "temperature" in detail) == (422, True)
    assert (
        post(
            "/api/chat",
            content=b"{",
        )[0]
        == 422
    )
    assert post("/api/chat", json={"prompt": "x" * 1_100_000})[0] == 413
    assert post("/api/chat", content=iter([b'{"prompt": "', b"x" * 1_100_000, b'"}']))[0] == 413
    assert post("/api/chat", json={**PROMPT, "callbackUrl": "http://127.0.0.1/"})[0] == 422
    assert post("/api/jobs", json={"name": "chat", "attempts": 0})[0] == 422
    made = ask(relay)
    for last_id in ("other:1", "x", "1.5", "-1"):
        answer = httpx2.get(relay.url + made["streamUrl"], headers={"last-event-id": last_id})
        assert answer.status_code == 400
    assert httpx2.get(f"{relay.url}/api/streams/nope", headers=AUTH).status_code == 404
    assert httpx2.get(f"{relay.url}/api/streams/..%2f..%2fx", headers=AUTH).status_code == 404


def test_too_many_streams_are_refused(make_relay, simulator):
    """Beyond its limit the relay asks to come back later."""
    simulator.chunk_delay = 0.1
    relay = make_relay(max_streams=1)
    ask(relay)
    assert httpx2.post(f"{relay.url}/api/chat", json=PROMPT, headers=AUTH).status_code == 503


def test_other_names_and_other_origins_are_strangers(make_relay):
    """A page of another origin may not call, nor may a name that was rebound to this machine."""
    relay = make_relay()
    assert httpx2.get(f"{relay.url}/health", headers={"host": "evil.test"}).status_code == 400
    origin = {"origin": "https://app.example.com"}
    assert (
        "access-control-allow-origin"
        not in httpx2.get(f"{relay.url}/health", headers=origin).headers
    )
    open_one = make_relay(cors=["https://app.example.com"])
    answer = httpx2.get(f"{open_one.url}/health", headers=origin)
    assert answer.headers["access-control-allow-origin"] == origin["origin"]


def test_a_job_is_added_followed_and_cancelled(make_relay):
    """POST adds a job; its status, its events and its end can be read, and it can be cancelled."""
    relay = make_relay(work=2)
    answer = httpx2.post(f"{relay.url}/api/jobs", headers=AUTH,
                         json={"name": "complete", "data": PROMPT, "jobId": "mine"})  # fmt: skip
    assert answer.status_code == 202
    assert answer.json()["jobId"] == "mine"
    assert answer.json()["statusUrl"] == f"{relay.url}/api/jobs/mine"
    ends = ("completed", "failed")
    events = list(mnb.sse(f"{relay.url}/api/jobs/mine/events", headers=AUTH, ends=ends))
    assert events[-1].name == "completed"
    assert events[-1].json()["result"]["text"]
    assert numbers(events) == list(range(1, len(events) + 1))
    assert httpx2.get(answer.json()["statusUrl"], headers=AUTH).json()["status"] == "completed"
    httpx2.post(f"{relay.url}/api/jobs", headers=AUTH,
                json={"name": "complete", "data": PROMPT, "jobId": "late", "delay": 60})  # fmt: skip
    late = f"{relay.url}/api/jobs/late"
    assert httpx2.delete(late, headers=AUTH).json() == {"cancelled": True}
    assert httpx2.get(late, headers=AUTH).json()["status"] == "cancelled"
    assert httpx2.get(f"{relay.url}/api/jobs/none", headers=AUTH).status_code == 404


def follow_job(relay, job_id, **options) -> list:
    ends = ("completed", "failed", "error")
    url = f"{relay.url}/api/jobs/{job_id}/events"
    return list(mnb.sse(url, headers=AUTH, ends=ends, **options))


def test_a_job_that_tells_much_is_kept_in_part(make_relay, queue, monkeypatch):
    """Of a job's events, the relay holds and saves the latest, in order, and always the end."""
    monkeypatch.setattr(desk, "JOB_BYTES", 20_000)
    monkeypatch.setattr(desk, "SAVE_EVERY", 0.01)

    @queue.handler("talk")
    async def talk(_, context):
        for step in range(400):
            context.progress({"step": step, "more": "x" * 200})
            await asyncio.sleep(0.002)
        return "done"

    relay = make_relay(work=1)
    queue.add("talk", job_id="mine").result()
    live = follow_job(relay, "mine")
    assert live[-1].json()["result"] == "done"
    eventually(lambda: not relay._desk._live)
    saved = follow_job(relay, "mine")
    assert saved[-1].data == live[-1].data
    assert numbers(saved) == list(range(numbers(saved)[0], numbers(live)[-1] + 1))
    assert sum(len(event.data) for event in saved) < 20_000 < sum(len(each.data) for each in live)
    late = follow_job(relay, "mine", last_event_id=live[0].id)
    assert [event.id for event in late] == [event.id for event in saved]


def test_a_job_is_followed_through_a_failing_store(make_relay, connection, tmp_path, monkeypatch):
    """While the queue's file cannot be used nothing is told; then the job's events go on."""
    monkeypatch.setattr(store, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(job_module, "CHECK_EVERY", 0.05)
    monkeypatch.setattr(desk, "ASK_AGAIN", 0.05)
    file = tmp_path / "queue.sqlite"
    bus = EventBus(connection.portal)
    with Queue(f"sqlite:///{file}", connection=connection, bus=bus) as queue:
        queue.handler("greet")(lambda name: f"Hello {name}")
        relay = make_relay(queue)
        queue.add("greet", "Ada", job_id="mine").result()
        with ThreadPoolExecutor(1) as pool:
            followed = pool.submit(follow_job, relay, "mine")
            eventually(lambda: relay._desk._live)
            with closing(sqlite3.connect(file, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                time.sleep(0.5)
            with queue.work():
                assert followed.result(20)[-1].json()["result"] == "Hello Ada"
        relay.stop()


def test_a_job_nobody_follows_is_let_go(make_relay, queue):
    """A relay keeps no place for a job that nobody has listened to for as long as it keeps events."""
    relay = make_relay(keep=0.2, grace=0)
    queue.add("nobody", job_id="mine").result()
    url = f"{relay.url}/api/jobs/mine/events"
    with mnb.sse(url, headers=AUTH) as events:
        assert next(events).name == "queued"
        assert relay._desk._live
    eventually(lambda: not relay._desk._live)
    eventually(lambda: not queue.bus._subscriptions)
    with mnb.sse(url, headers=AUTH) as events:
        assert next(events).name == "queued"


@pytest.mark.parametrize("saved", [False, True])
def test_a_replayed_job_is_told_to_its_new_end(make_relay, queue, monkeypatch, saved):
    """Who comes, or comes back, after a replay hears what follows it, numbered from the old end."""
    monkeypatch.setattr(desk, "SAVE_EVERY", 0.01 if saved else 60)
    works = []

    @queue.handler("shaky")
    async def shaky(_):
        if not works:
            raise GiveUp("not today")
        return "well"

    relay = make_relay(work=1)
    ends = ("completed", "failed")

    def follow(last=""):
        url = f"{relay.url}/api/jobs/mine/events"
        return list(mnb.sse(url, headers=AUTH, ends=ends, last_event_id=last))

    httpx2.post(f"{relay.url}/api/jobs", headers=AUTH, json={"name": "shaky", "jobId": "mine"})
    first = follow()
    assert first[-1].name == "failed"
    assert [each.id for each in follow()] == [each.id for each in first]
    if saved:
        eventually(lambda: "job.mine" not in relay._desk._live)
    works.append(1)
    assert queue.replay("mine").result()
    again = follow(last=first[-1].id)
    assert again[-1].name == "completed"
    assert "failed" not in {each.name for each in again}
    assert numbers(again) == list(range(len(first) + 1, len(first) + len(again) + 1))
    assert [each.id for each in follow()] == [each.id for each in again]
    if saved:
        eventually(lambda: "job.mine" not in relay._desk._live)
        assert [each.id for each in follow()] == [each.id for each in again]
    heard = httpx2.get(
        f"{relay.url}/api/jobs/mine/events", headers=AUTH | {"last-event-id": again[-1].id}
    )
    assert heard.status_code == 204


def test_a_callback_hears_how_a_reply_ended(make_relay, queue, monkeypatch):
    """`callbackUrl` is told of the end, signed."""
    secret = new_secret()
    monkeypatch.setenv("MISTRAL_NB_WEBHOOK_SECRET", secret)
    monkeypatch.setenv("MISTRAL_NB_WEBHOOK_ALLOW", "127.0.0.1")
    relay = make_relay(work=1)
    with WebhookReceiver(secret) as receiver:
        made = ask(relay, callbackUrl=receiver.url)
        (event,) = receiver.wait()
    assert event.event == "chat.completed"
    assert event.data["requestId"] == made["requestId"]


def test_health_page_and_description(relay):
    """Health needs no token; the page loads nothing from elsewhere; OpenAPI names the routes."""
    assert httpx2.get(f"{relay.url}/health").json() == {"status": "ok"}
    page = httpx2.get(relay.url)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http" not in page.text.replace("http-equiv", "")
    assert httpx2.get(f"{relay.url}/static/relay.js").status_code == 200
    assert httpx2.get(f"{relay.url}/static/..%2fapp.py").status_code == 404
    assert "/api/chat/stream" in httpx2.get(f"{relay.url}/openapi.json").json()["paths"]


def test_tokens_that_guard_nothing_are_refused(make_relay):
    """A short token, or none where others can reach the relay, is named at once."""
    for options in ({"token": "short"}, {"token": "", "host": "0.0.0.0"}):
        with pytest.raises(InputError, match="token"):
            make_relay(**options)
    assert make_relay(token=None).token != make_relay(token=None).token


def test_the_token_is_printed_by_request_only(relay, capsys):
    """Neither repr nor start shows the token; announce() prints it once."""
    assert TOKEN not in repr(relay)
    assert TOKEN not in capsys.readouterr().out
    relay.announce()
    assert TOKEN in capsys.readouterr().out
