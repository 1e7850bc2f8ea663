"""Laws of bad weather online: every row ends, pauses are kept, kills repeat only what flew."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from mistral_nb.client import Connection
from mistral_nb.settings import resolve
from mistral_nb.simulator import Faults
from tests.faults.online_victim import begun, done
from tests.labelling.sending import Ledger, requests, send, sender
from tests.recorder import Arrival, Recorder, Say, chat_reply, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mistral_nb.simulator import Simulator
    from tests.faults.sizes import Size

CAP = 6
ON_THE_WIRE = 0.25
"""Seconds in which requests may still arrive that crossed an answer on their way."""


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    server = Recorder(latency=0.01)
    yield server
    server.close()


@pytest.fixture
def linked(recorder: Recorder) -> Connection:
    return Connection(resolve(api_key="a-key", server_url=recorder.url, timeout=5))


def storm(share: float, troubles: list[Say], seed: int = 1) -> Callable[[int, Arrival], Say]:
    """Fail a share of all requests, in one way or another; else answer the prompt reversed."""
    dice = random.Random(seed)

    def script(_: int, arrival: Arrival) -> Say:
        if dice.random() < share:
            return dice.choice(troubles)
        return Say(body=chat_reply(arrival.prompt[::-1]))

    return script


def assert_whole(ledger: Ledger, recorder: Recorder, rows: int) -> None:
    """Every row has one outcome, its own, within its attempts."""
    assert set(ledger.outcomes) == {f"r{number}" for number in range(rows)}
    arrivals = Counter(arrival.prompt for arrival in recorder.arrivals)
    for name, outcome in ledger.outcomes.items():
        assert not outcome.undone
        assert outcome.attempts == arrivals[name] <= CAP
        if outcome.error is None:
            assert outcome.body == chat_reply(name[::-1])
        else:
            assert outcome.attempts == CAP


def test_a_storm_of_every_kind(recorder: Recorder, linked: Connection, size: Size) -> None:
    """30 % failing by 429, 500, cut and garbage: all rows end, no pause is violated."""
    troubles = [refusal(429), refusal(500), Say(cut="at once"), Say(cut="body"),
                Say(body=b"<html>"), Say(raw=b"\x00garbage\r\n\r\n"), refusal(503)]  # fmt: skip
    recorder.script = rare_pauses(storm(0.3, troubles))
    ledger = Ledger()
    summary = send(linked, ledger, size.rows, concurrency=32, attempts=CAP)
    assert_whole(ledger, recorder, size.rows)
    assert summary.failed <= size.rows // 50
    assert summary.sent == len(recorder.arrivals)
    pauses = [at for at, said in recorder.answered if "retry-after" in said.headers]
    assert pauses
    for told in pauses:
        during = [a for a in recorder.arrivals if told + ON_THE_WIRE < a.at < told + 1]
        assert during == []


def rare_pauses(script: Callable[[int, Arrival], Say]) -> Callable[[int, Arrival], Say]:
    """Have the server ask for a pause of a second now and then."""
    return lambda number, arrival: (
        refusal(429, retry_after="1") if number % 199 == 150 else script(number, arrival)
    )


def test_every_second_request_refused(recorder: Recorder, linked: Connection, size: Size) -> None:
    """50 % bare 429s: it goes on with many at once, and ends."""
    recorder.script = storm(0.5, [refusal(429)])
    ledger = Ledger()
    engine = sender(linked, ledger, concurrency=32, attempts=CAP)
    summary = linked.portal.call(engine.send, requests(size.rows))
    assert_whole(ledger, recorder, size.rows)
    assert summary.done > 0.9 * size.rows
    assert engine.pace().limit >= 32 // 8


@pytest.mark.parametrize("trouble", [
    pytest.param(refusal(503), id="503"),
    pytest.param(refusal(429), id="429"),
    pytest.param(Say(cut="at once"), id="hang-up"),
])  # fmt: skip
def test_an_outage_fails_no_row(
    recorder: Recorder, linked: Connection, trouble: Say, size: Size
) -> None:
    """While everything fails, the breaker rests: no row uses up its attempts."""
    began: list[float] = []

    def script(number: int, arrival: Arrival) -> Say:
        if number == size.rows // 4:
            began.append(arrival.at)
        if began and arrival.at < began[0] + 2:
            return trouble
        return Say(body=chat_reply(arrival.prompt[::-1]))

    recorder.script = script
    ledger = Ledger()
    summary = send(linked, ledger, size.rows, concurrency=16, attempts=CAP, backoff=0.5)
    assert summary.done == size.rows
    assert_whole(ledger, recorder, size.rows)


def test_the_simulator_in_bad_weather(make_simulator: Callable[..., Simulator], size: Size) -> None:
    """Errors, limits and replies that get lost: every row ends, and is paid at most as told."""
    rows = size.rows
    faults = Faults(
        error_rate=0.1, error_status=502, rate_limit_rate=0.1, lost_reply_rate=0.1, seed=2
    )
    simulator = make_simulator(faults=faults)
    linked = Connection(resolve(api_key="k", server_url=simulator.url, timeout=20))
    ledger = Ledger()
    summary = send(linked, ledger, rows, concurrency=32, attempts=CAP)
    assert set(ledger.outcomes) == {f"r{number}" for number in range(rows)}
    assert max(outcome.attempts for outcome in ledger.outcomes.values()) <= CAP
    assert summary.done >= 0.97 * rows
    assert summary.done <= simulator.stats()["chat_requests"] <= summary.sent


def test_kills_repeat_only_what_was_under_way(
    recorder: Recorder, tmp_path: Path, size: Size
) -> None:
    """After any number of SIGKILLs every row is answered; each kill repeats at most what flew."""
    concurrency, ledger = 8, tmp_path / "ledger"
    command = [sys.executable, "-m", "tests.faults.online_victim"]
    command += [recorder.url, str(ledger), str(size.rows), str(concurrency)]
    dice = random.Random(5)
    kills = 0
    for kill in range(size.kills):
        victim = subprocess.Popen(command)
        target = dice.randint(1, 2 * size.rows // size.kills) + len(recorder.arrivals)
        while victim.poll() is None and len(recorder.arrivals) < target:
            time.sleep(0.001)
        if victim.poll() is None:
            victim.kill()
            kills += 1
            assert len(begun(ledger) - done(ledger)) <= concurrency * (kill + 1)
        victim.wait()
    subprocess.run(command, check=True, timeout=size.patience)
    assert done(ledger) == {f"r{number}" for number in range(size.rows)}
    assert len(recorder.arrivals) - size.rows <= kills * concurrency
    assert kills
