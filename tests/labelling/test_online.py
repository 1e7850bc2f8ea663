"""The online engine over real HTTP: what is sent when, repeated how often, and what comes back."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb import errors
from mistral_nb.client import Connection
from mistral_nb.labelling.throttle import Throttle
from mistral_nb.labelling.verdicts import Fault
from mistral_nb.settings import resolve
from tests.labelling.sending import Ledger, request, requests, send, sender
from tests.recorder import GOOD, Arrival, Recorder, Say, chat_reply, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from mistral_nb.labelling.online import Outcome, Outgoing


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    server = Recorder()
    yield server
    server.close()


@pytest.fixture
def linked(recorder: Recorder) -> Connection:
    return Connection(resolve(api_key="a-key", server_url=recorder.url, timeout=5))


def attempts(recorder: Recorder) -> Counter[str]:
    return Counter(arrival.prompt for arrival in recorder.arrivals)


def first_then(first: Say, then: Say = GOOD, *, times: int = 1) -> Callable[[int, Arrival], Say]:
    """Answer the first ``times`` attempts of each prompt with one thing, then with another."""
    seen: Counter[str] = Counter()

    def script(_: int, arrival: Arrival) -> Say:
        seen[arrival.prompt] += 1
        return first if seen[arrival.prompt] <= times else then

    return script


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(2000):
        if true():
            return
        time.sleep(0.005)
    raise AssertionError("it never came true")


# The plain way


def test_every_request_is_sent_once_and_answered(recorder: Recorder, linked: Connection) -> None:
    """Bodies go out as given, replies come back byte for byte under their custom_id."""
    recorder.script = lambda _, arrival: Say(body=chat_reply(arrival.prompt[::-1]))
    ledger = Ledger()
    summary = send(linked, ledger, 200, concurrency=16)
    assert (summary.done, summary.failed, summary.sent, summary.stopped) == (200, 0, 200, False)
    assert set(attempts(recorder).values()) == {1}
    assert ledger.uncertain == set()
    for name, outcome in ledger.outcomes.items():
        assert outcome.body == chat_reply(name[::-1])
        assert (outcome.error, outcome.status, outcome.attempts) == (None, 200, 1)
        assert 0 < outcome.seconds < 60
    sent = {each.custom_id: each.body for each in requests(200)}
    assert all(arrival.body == sent[arrival.prompt] for arrival in recorder.arrivals)


def test_nothing_to_send(linked: Connection) -> None:
    """No request, no commit, a summary of zeros."""
    ledger = Ledger()
    summary = send(linked, ledger, [])
    assert (summary.done, summary.failed, summary.sent, summary.stopped) == (0, 0, 0, False)
    assert ledger.begun == []


def test_no_more_than_concurrency_at_once_on_as_many_connections(
    recorder: Recorder, linked: Connection
) -> None:
    """The server never sees more requests together than asked for; connections are kept."""
    recorder.latency = 0.005
    send(linked, Ledger(), 300, concurrency=7)
    assert recorder.most_at_once == 7
    assert recorder.connections == 7


def test_an_intent_is_written_before_its_first_byte(recorder: Recorder, linked: Connection) -> None:
    """When a request arrives, its custom_id has been committed."""
    ledger = Ledger()
    early = []

    def script(_: int, arrival: Arrival) -> Say:
        if arrival.prompt not in ledger.begun:
            early.append(arrival.prompt)
        return GOOD

    recorder.script = script
    send(linked, ledger, 300, concurrency=20)
    assert early == []
    assert Counter(ledger.begun) == Counter(f"r{number}" for number in range(300))


def test_the_iterator_is_pulled_as_requests_go_out(recorder: Recorder, linked: Connection) -> None:
    """Of endlessly many requests only a few times the concurrency are pulled ahead."""
    pulled = [0]

    def endless() -> Iterator[Outgoing]:
        while True:
            pulled[0] += 1
            yield request(f"r{pulled[0]}")

    engine = sender(linked, Ledger(), concurrency=3)
    recorder.script = lambda number, _: engine.stop() or GOOD if number == 50 else GOOD
    summary = linked.portal.call(engine.send, endless())
    assert summary.stopped
    assert pulled[0] <= len(recorder.arrivals) + 4 * 3 + 3


def test_an_asynchronous_iterator_may_be_given(recorder: Recorder, linked: Connection) -> None:
    """It is asked for one request at a time."""

    async def slow() -> AsyncIterator[Outgoing]:
        import asyncio

        for each in requests(20):
            await asyncio.sleep(0.001)
            yield each

    ledger = Ledger()
    assert send(linked, ledger, slow(), concurrency=5).done == 20  # type: ignore[arg-type]


def test_an_iterator_that_fails_ends_the_run_with_its_error(linked: Connection) -> None:
    """What was sent before is kept; the error is the iterator's own."""

    def broken() -> Iterator[Outgoing]:
        yield from requests(10)
        raise errors.TemplateError("row 10 does not fit")

    ledger = Ledger()
    with pytest.raises(errors.TemplateError, match="row 10"):
        send(linked, ledger, broken(), concurrency=2)
    assert ledger.uncertain == set()
    assert not ledger.errors


# Repeating


@pytest.mark.parametrize("trouble", [
    pytest.param(refusal(429), id="429"),
    pytest.param(refusal(500), id="500"),
    pytest.param(refusal(503), id="503"),
    pytest.param(refusal(408), id="408"),
    pytest.param(Say(502, b"<html>Bad gateway</html>"), id="HTML 502"),
    pytest.param(Say(cut="at once"), id="hang-up"),
    pytest.param(Say(cut="body"), id="cut"),
    pytest.param(Say(raw=b"HTTP/1.1 what\r\n\r\n"), id="no HTTP"),
    pytest.param(Say(body=b"<html>login</html>"), id="HTML 200"),
    pytest.param(Say(body=b'{"choices": '), id="half JSON"),
    pytest.param(Say(body=b'{"object": "error", "message": "oops"}'), id="error with 200"),
    pytest.param(Say(body=b"[]"), id="a list"),
    pytest.param(Say(body=b""), id="nothing"),
])  # fmt: skip
def test_passing_trouble_is_met_by_repeating(
    recorder: Recorder, linked: Connection, trouble: Say
) -> None:
    """Each request is repeated until it is answered, and no other is harmed."""
    recorder.script = first_then(trouble)
    ledger = Ledger()
    summary = send(linked, ledger, 12, concurrency=4)
    assert summary.done == 12
    assert set(attempts(recorder).values()) == {2}
    assert {outcome.attempts for outcome in ledger.outcomes.values()} == {2}


def test_silence_is_met_by_repeating(recorder: Recorder) -> None:
    """A request without an answer in time is sent again."""
    linked = Connection(resolve(api_key="k", server_url=recorder.url, timeout=0.3))
    recorder.latency = 3
    ledger = Ledger()
    engine = sender(linked, ledger)
    handle = linked.portal.spawn(engine.send, requests(1))
    wait_until(lambda: len(recorder.arrivals) == 2)
    recorder.latency = 0
    assert handle.result(30).done == 1


def test_attempts_have_a_cap(recorder: Recorder, linked: Connection) -> None:
    """After the last attempt the request has the server's reason as its error."""
    recorder.script = lambda _, arrival: refusal(500, "No GPU") if arrival.prompt == "r3" else GOOD
    ledger = Ledger()
    summary = send(linked, ledger, 30, concurrency=4, attempts=4)
    assert (summary.done, summary.failed) == (29, 1)
    assert attempts(recorder)["r3"] == 4
    outcome = ledger.outcomes["r3"]
    assert isinstance(outcome.error, errors.ServerError)
    assert "No GPU" in str(outcome.error)
    assert (outcome.status, outcome.attempts, outcome.again) == (500, 4, True)
    assert not outcome.undone


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_bad_request_is_not_repeated(recorder: Recorder, linked: Connection, status: int) -> None:
    """A refusal of one request is its error at once; the others go on."""
    recorder.script = lambda _, arrival: (
        refusal(status, "Too long") if arrival.prompt in {"r0", "r7"} else GOOD
    )
    ledger = Ledger()
    summary = send(linked, ledger, 30, concurrency=4)
    assert (summary.done, summary.failed) == (28, 2)
    assert set(attempts(recorder).values()) == {1}
    assert not ledger.outcomes["r7"].again
    assert "Too long" in ledger.errors["r7"]


def test_a_request_in_its_backoff_holds_no_place(recorder: Recorder, linked: Connection) -> None:
    """One request at a time, and others go out while a failed one waits for its turn."""
    recorder.script = lambda _, arrival: refusal(500) if arrival.prompt == "r0" else GOOD
    ledger = Ledger()
    engine = sender(linked, ledger, concurrency=1, backoff=60)
    done = linked.portal.spawn(engine.send, requests(20))
    wait_until(lambda: len(ledger.outcomes) == 19)
    engine.stop()
    assert done.result(10).stopped


# Checks


def fault_unless_label(reply: dict[str, Any]) -> Fault | None:
    text = reply["choices"][0]["message"]["content"]
    return None if "label" in text else Fault("the reply has no label", again=text != "never")


def test_a_repeat_goes_before_new_requests(recorder: Recorder, linked: Connection) -> None:
    """Whatever waits to be sent for the first time, a repeat is not behind all of it."""
    recorder.latency = 0.05
    recorder.script = lambda number, _: GOOD if number else refusal(500)
    send(linked, Ledger(), 40, concurrency=2)
    prompts = [arrival.prompt for arrival in recorder.arrivals]
    assert prompts.count("r0") == 2
    assert prompts.index("r0", 1) <= 5


def test_an_unusable_reply_is_asked_for_again(recorder: Recorder, linked: Connection) -> None:
    """A reply that the check refuses is repeated; what it cost is not forgotten."""
    recorder.script = first_then(Say(body=chat_reply("hm")))
    ledger = Ledger()
    send(linked, ledger, 3, check=fault_unless_label)
    for outcome in ledger.outcomes.values():
        assert outcome.error is None
        assert outcome.attempts == 2
        assert outcome.discarded == (chat_reply("hm"),)


def test_a_reply_that_stays_unusable_is_kept_with_its_reason(
    recorder: Recorder, linked: Connection
) -> None:
    """After the rechecks the last reply is there, with what is wrong with it."""
    recorder.script = lambda number, _: Say(body=chat_reply(f"hm {number}"))
    ledger = Ledger()
    summary = send(linked, ledger, 1, check=fault_unless_label, rechecks=2)
    assert (summary.done, summary.failed, summary.sent) == (0, 1, 3)
    outcome = ledger.outcomes["r0"]
    assert str(outcome.error) == "The reply has no label."
    assert outcome.body == chat_reply("hm 2")
    assert outcome.discarded == (chat_reply("hm 0"), chat_reply("hm 1"))
    assert outcome.again


def test_a_fault_that_repeating_cannot_mend(recorder: Recorder, linked: Connection) -> None:
    """Where the check says so, the first reply is the last."""
    recorder.script = lambda *_: Say(body=chat_reply("never"))
    ledger = Ledger()
    assert send(linked, ledger, 1, check=fault_unless_label).sent == 1
    assert not ledger.outcomes["r0"].again


def test_a_check_that_fails_loses_no_reply(recorder: Recorder, linked: Connection) -> None:
    """The reply is paid for: it is kept, with the check's exception as the reason."""

    def check(_: dict[str, Any]) -> None:
        raise ZeroDivisionError("oops")

    ledger = Ledger()
    assert send(linked, ledger, 1, check=check).failed == 1
    assert ledger.outcomes["r0"].body == GOOD.body
    assert "ZeroDivisionError: oops" in ledger.errors["r0"]


# Settings that can never work


@pytest.mark.parametrize(("said", "kind"), [
    (refusal(401, "Unauthorized"), errors.AuthenticationError),
    (refusal(403, "Forbidden"), errors.AuthenticationError),
    (refusal(404, "no Route matched"), errors.NotFoundError),
    (refusal(400, "Invalid model: x", code="1500"), errors.InvalidRequestError),
    (Say(301, b"", {"location": "https://elsewhere.example"}), errors.InvalidRequestError),
])  # fmt: skip
def test_settings_that_cannot_work_end_the_run_at_once(
    recorder: Recorder, linked: Connection, said: Say, kind: type[Exception]
) -> None:
    """One clear error in place of a thousand, and no request counts as sent."""
    recorder.script = lambda *_: said
    ledger = Ledger()
    with pytest.raises(kind):
        send(linked, ledger, 1000, concurrency=4)
    assert len(recorder.arrivals) <= 8
    assert set(attempts(recorder).values()) == {1}
    assert all(outcome.undone for outcome in ledger.outcomes.values())
    assert ledger.uncertain == set()


def test_a_key_that_stops_working_ends_the_run(recorder: Recorder, linked: Connection) -> None:
    """Answers before it are kept; later requests are as if never sent."""
    recorder.script = lambda number, _: GOOD if number < 10 else refusal(401)
    ledger = Ledger()
    with pytest.raises(errors.AuthenticationError):
        send(linked, ledger, 100, concurrency=1)
    assert sum(outcome.error is None for outcome in ledger.outcomes.values()) == 10
    assert not ledger.errors


def test_a_filter_that_refuses_one_request_ends_nothing(
    recorder: Recorder, linked: Connection
) -> None:
    """Once the settings have worked, a 403 or 404 is about its own request."""
    recorder.script = lambda _, arrival: refusal(403) if arrival.prompt == "r5" else GOOD
    ledger = Ledger()
    summary = send(linked, ledger, 30, concurrency=1)
    assert (summary.done, summary.failed) == (29, 1)


def test_the_same_refusal_from_the_first_on_ends_the_run(
    recorder: Recorder, linked: Connection
) -> None:
    """Twenty requests refused for one reason and none answered: it is the settings."""
    recorder.script = lambda *_: refusal(422, "temperature must be below 1.5")
    ledger = Ledger()
    with pytest.raises(errors.InvalidRequestError, match=r"temperature"):
        send(linked, ledger, 1000, concurrency=4)
    assert 20 <= len(recorder.arrivals) <= 28


@pytest.mark.parametrize("reason", ["the same", "another each time"])
def test_many_refused_rows_end_nothing_where_settings_have_worked(
    recorder: Recorder, linked: Connection, reason: str
) -> None:
    """With other reasons, or where it worked before, every request gets its own error."""
    recorder.script = lambda number, _: refusal(
        422, "Too long" if reason == "the same" else f"{number} is too long"
    )
    ledger = Ledger()
    summary = send(linked, ledger, 50, concurrency=4, proven=reason == "the same")
    assert summary.failed == 50


def test_nobody_at_the_address(recorder: Recorder) -> None:
    """A server that was never reached ends the run with ServerUnreachable."""
    recorder.close()
    linked = Connection(resolve(api_key="k", server_url=recorder.url))
    ledger = Ledger()
    throttle = Throttle(4, first_rest=20)
    with pytest.raises(errors.ServerUnreachable, match="Check server_url"):
        # Two rests are longer than the patience with a server that never answered.
        quick(throttle)
        send(linked, ledger, 100, throttle=throttle)
    assert not ledger.errors
    assert ledger.uncertain == set()  # nothing ever left


def quick(throttle: Throttle) -> None:
    """Let the breaker believe that it rested."""
    opens = throttle._open_breaker

    def at_once(now: float) -> None:
        opens(now)
        throttle._rest_until = now

    throttle._open_breaker = at_once  # type: ignore[method-assign]


def test_a_server_that_stays_broken_ends_the_run(recorder: Recorder, linked: Connection) -> None:
    """After long rests in vain a RunError says so, with the last reason; done is kept."""
    recorder.script = lambda number, _: GOOD if number < 5 else refusal(503, "Down for now")
    ledger = Ledger()
    throttle = Throttle(4, first_rest=50)
    quick(throttle)
    with pytest.raises(errors.RunError, match="Down for now") as caught:
        send(linked, ledger, 1000, throttle=throttle, attempts=50)
    assert "run the same call again" in str(caught.value)
    assert sum(outcome.error is None for outcome in ledger.outcomes.values()) == 5


def test_a_server_that_asks_for_hours_ends_the_run(recorder: Recorder, linked: Connection) -> None:
    """The error says when to come back; nothing is sent until then."""
    recorder.script = lambda number, _: refusal(429, retry_after="7200") if number == 10 else GOOD
    ledger = Ledger()
    with pytest.raises(errors.RateLimitError, match="120 minutes") as caught:
        send(linked, ledger, 100, concurrency=1)
    assert caught.value.retry_after is not None
    assert len(recorder.arrivals) == 11
    assert not ledger.errors


@pytest.mark.parametrize("status", [200, 422, 500])
def test_a_key_that_the_server_quotes_is_blanked(recorder: Recorder, status: int) -> None:
    """An answer that repeats the request's headers does not carry the key into errors."""
    recorder.script = lambda _, arrival: Say(status, arrival.headers["authorization"].encode())
    linked = Connection(resolve(api_key="s3cret-0123456789", server_url=recorder.url))
    ledger = Ledger()
    send(linked, ledger, 1, attempts=1)
    assert "Bearer [key]" in ledger.errors["r0"]
    assert "s3cret" not in repr(ledger.outcomes)


def test_a_key_of_one_letter_harms_no_reply(recorder: Recorder) -> None:
    """Only what is shown of a failure is blanked; replies stay byte for byte."""
    linked = Connection(resolve(api_key="o", server_url=recorder.url))
    ledger = Ledger()
    send(linked, ledger, 1)
    assert ledger.outcomes["r0"].body == GOOD.body


# Pauses and limits


def test_retry_after_is_never_violated(recorder: Recorder, linked: Connection) -> None:
    """Between an answer with Retry-After and its time, no request arrives at all."""
    recorder.latency = 0.01
    recorder.script = lambda number, _: (
        refusal(429, retry_after="1") if number in {20, 300} else GOOD
    )
    send(linked, Ledger(), 600, concurrency=8)
    pauses = [at for at, said in recorder.answered if said.status == 429]
    assert len(pauses) == 2
    for told in pauses:
        # What was on its way when the answer was written crossed it on the wire.
        during = [a.at for a in recorder.arrivals if told + 0.2 < a.at < told + 1.0]
        assert during == []


def test_a_pause_asked_for_during_a_commit_is_kept(recorder: Recorder, linked: Connection) -> None:
    """A request that is being written down when Retry-After comes waits until its time."""
    recorder.latency = 0.1
    recorder.script = lambda number, _: GOOD if number else refusal(429, retry_after="1")
    ledger = Ledger()

    async def slowly(begins: Sequence[str], ends: Sequence[Outcome]) -> None:
        await asyncio.sleep(0.3 if "late" in begins else 0)
        await ledger.commit(begins, ends)

    async def two() -> AsyncIterator[Outgoing]:
        yield request("early")
        await asyncio.sleep(0.05)  # the answer to the early one comes amid the late one's commit
        yield request("late")

    engine = sender(linked, ledger, concurrency=2, commit=slowly)
    linked.portal.call(engine.send, two())
    told = recorder.answered[0][0]
    assert all(arrival.at > told + 0.99 for arrival in recorder.arrivals[1:])
    assert len(recorder.arrivals) == 3


def test_no_more_is_uncertain_than_may_be_under_way(recorder: Recorder, linked: Connection) -> None:
    """Whenever a kill comes, at most as many are written down without an end as may fly."""
    ledger = Ledger()
    most = 0

    async def counting(begins: Sequence[str], ends: Sequence[Outcome]) -> None:
        nonlocal most
        await ledger.commit(begins, ends)
        most = max(most, len(ledger.uncertain))

    engine = sender(linked, ledger, concurrency=7, commit=counting)
    linked.portal.call(engine.send, requests(300))
    assert most == 7


def test_limits_in_headers_prevent_429s(recorder: Recorder, linked: Connection) -> None:
    """With the server's limit known, no more is sent than is left of it."""
    recorder.script = lambda number, _: Say(
        headers={
            "x-ratelimit-limit-req-minute": "30",
            "x-ratelimit-remaining-req-minute": str(max(0, 29 - number)),
        }
    )
    ledger = Ledger()
    engine = sender(linked, ledger, concurrency=4)
    handle = linked.portal.spawn(engine.send, requests(100))
    wait_until(lambda: "30 requests a minute" in engine.pace().waiting)
    time.sleep(0.1)
    assert len(recorder.arrivals) == 30
    engine.stop()
    assert handle.result(10).done == 30


def test_requests_a_minute(recorder: Recorder, linked: Connection) -> None:
    """rpm= holds for the run, whatever the server would allow."""
    engine = sender(linked, Ledger(), concurrency=4, rpm=25)
    handle = linked.portal.spawn(engine.send, requests(100))
    wait_until(lambda: "25 requests a minute" in engine.pace().waiting)
    time.sleep(0.1)
    assert len(recorder.arrivals) == 25
    engine.stop()
    handle.result(10)


# Pause, stop, and a ledger that fails


def test_pause_and_resume(recorder: Recorder, linked: Connection) -> None:
    """While paused nothing starts; afterwards all is sent."""
    ledger = Ledger()
    engine = sender(linked, ledger, concurrency=2)
    recorder.script = lambda number, _: engine.pause() or GOOD if number == 20 else GOOD
    handle = linked.portal.spawn(engine.send, requests(60))
    wait_until(lambda: engine.pace().waiting == "paused" and engine.pace().in_flight == 0)
    arrived = len(recorder.arrivals)
    assert arrived < 30
    time.sleep(0.1)
    assert len(recorder.arrivals) == arrived
    engine.resume()
    assert handle.result(20).done == 60


def test_stop_keeps_what_is_under_way(recorder: Recorder, linked: Connection) -> None:
    """Requests under way may end; nothing else was sent, and nothing is in doubt."""
    recorder.latency = 0.1
    ledger = Ledger()
    engine = sender(linked, ledger, concurrency=5)
    recorder.script = lambda number, _: engine.stop(grace=20) or GOOD if number == 22 else GOOD
    summary = linked.portal.call(engine.send, requests(1000))
    assert summary.stopped
    assert len(recorder.arrivals) <= 28
    assert summary.done == len(recorder.arrivals)
    assert ledger.uncertain == set()


def test_stop_waits_no_longer_than_its_grace(recorder: Recorder, linked: Connection) -> None:
    """A request that does not end in time stays in doubt: it may be paid for."""
    recorder.latency = 600
    ledger = Ledger()
    engine = sender(linked, ledger, concurrency=5)
    handle = linked.portal.spawn(engine.send, requests(1000))
    wait_until(lambda: len(recorder.arrivals) == 5)
    engine.stop(grace=0.05)
    assert handle.result(10).done == 0
    assert ledger.uncertain == {arrival.prompt for arrival in recorder.arrivals}


def test_a_cancelled_run_commits_what_came(recorder: Recorder, linked: Connection) -> None:
    """Cancelling the task loses no answer that had arrived."""
    recorder.script = lambda number, _: GOOD
    ledger = Ledger()
    engine = sender(linked, ledger, concurrency=3)
    handle = linked.portal.spawn(engine.send, iter(lambda: request(f"{time.monotonic_ns()}"), None))
    wait_until(lambda: len(recorder.arrivals) > 100)
    handle.cancel()
    wait_until(lambda: linked.portal.call(settled, engine))
    assert len(ledger.uncertain) <= 3
    assert len(ledger.outcomes) >= len(recorder.answered) - 3


async def settled(engine: Any) -> bool:
    return engine._journal._task.done() and not engine.unsaved


class FullDisk(Ledger):
    """Fails from some commit on."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    async def commit(self, begins: Sequence[str], ends: Sequence[Outcome]) -> None:
        if len(self.outcomes) >= 20 and ends and self.failures:
            self.failures -= 1
            raise errors.StoreError("The disk is full: free some space.")
        await super().commit(begins, ends)


def test_a_ledger_that_fails_once_loses_nothing(recorder: Recorder, linked: Connection) -> None:
    """The run ends with the ledger's error, after what was under way is written."""
    recorder.latency = 0.02
    ledger = FullDisk(1)
    with pytest.raises(errors.StoreError, match="disk is full"):
        send(linked, ledger, 1000, concurrency=6)
    assert ledger.uncertain == set()
    assert {arrival.prompt for arrival in recorder.arrivals} <= set(ledger.outcomes)


def test_a_ledger_that_stays_broken_leaves_the_answers_to_the_caller(
    recorder: Recorder, linked: Connection
) -> None:
    """What could not be written is in ``unsaved``: every paid answer is somewhere."""
    recorder.latency = 0.02
    ledger = FullDisk(1000)
    engine = sender(linked, ledger, concurrency=6)
    with pytest.raises(errors.StoreError, match="disk is full"):
        linked.portal.call(engine.send, requests(1000))
    held = {outcome.custom_id for outcome in engine.unsaved if not outcome.undone}
    assert {arrival.prompt for arrival in recorder.arrivals} == held | set(ledger.outcomes)
    assert held


def test_memory_stays_flat(recorder: Recorder, linked: Connection) -> None:
    """No list in the engine grows with the number of requests."""

    class Forgetful(Ledger):
        async def commit(self, begins: Sequence[str], ends: Sequence[Outcome]) -> None:
            pass

    recorder.keep = False
    engine = sender(linked, Forgetful(), concurrency=16)
    assert linked.portal.call(engine.send, requests(3000)).done == 3000
    assert not engine._flying
    assert not engine._journal._begins
    assert not engine.unsaved
    assert len(engine._throttle._requests._slots) <= 601


def test_the_body_is_json_of_the_endpoint() -> None:
    """The test's own requests are what the API takes."""
    assert json.loads(request("hi").body)["messages"][0]["content"] == "hi"
