"""Laws of steering a run and asking how it goes: pause, go on, words, who no longer follows."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from mistral_nb import errors
from mistral_nb.labelling import resume
from mistral_nb.simulator import Faults
from tests.labelling.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus
    from mistral_nb.labelling import Run
    from mistral_nb.records import RunProgress
    from mistral_nb.simulator import Simulator

TABLE = pd.DataFrame({"text": [f"where is parcel {number}" for number in range(60)]})


def test_a_pause_online_starts_nothing(label: Callable[..., Run], simulator: Simulator) -> None:
    """What is under way ends, nothing else is sent, and the run goes on where it was."""
    simulator.faults = Faults(latency=0.05)
    run = label(TABLE, mode="online", concurrency=4, name="x")
    until(lambda: run.counts["done"] > 4)
    run.pause()
    until(lambda: run.paused and not run.counts["running"])
    sent = simulator.stats()["chat_requests"]
    time.sleep(0.3)
    assert simulator.stats()["chat_requests"] == sent < 60
    assert run.status == "running"
    assert "requests under way end" in run.message
    assert ": paused, " in repr(run)
    run.unpause()
    assert run.result(30)["label"].notna().all()
    assert not run.paused
    assert "60 of 60" in run.message


def test_a_pause_in_batch_mode_creates_no_job(
    label: Callable[..., Run], simulator: Simulator
) -> None:
    """Paused at once no job is created; after a pause, jobs at the server went on."""
    simulator.batch_rate = None
    run = label(TABLE, name="x")
    run.pause()
    until(lambda: run.status == "running")
    time.sleep(0.3)
    assert simulator.stats()["jobs_created"] == 0
    run.unpause()
    until(lambda: run.counts["running"] == 60)
    run.pause()
    until(lambda: run.paused)
    assert "Jobs at the server go on and are billed" in run.message
    simulator.batch_rate = 0
    until(lambda: simulator.stats()["batch_rows"] == 60)
    assert not run.done()
    run.unpause()  # wakes the slowed polls
    assert run.result(20)["label"].notna().all()
    assert simulator.stats()["jobs_created"] == 1


def test_a_paused_run_can_be_cancelled(label: Callable[..., Run], simulator: Simulator) -> None:
    """Cancel needs no unpause: nothing is sent, and every row says why it has no label."""
    for mode in ("batch", "online"):
        run = label(TABLE, mode=mode, name=mode, reuse=False)
        run.pause()
        until(lambda run=run: run.status == "running")
        run.cancel()
        df = run.result(20)
        assert run.status == "cancelled"
        assert not run.paused
        assert (df["_error"] == "cancelled before it was answered").all()
    assert simulator.stats()["jobs_created"] == 0


def test_listeners_hear_of_a_pause(
    label: Callable[..., Run], simulator: Simulator, bus: EventBus
) -> None:
    """A pause and its end are published with their words."""
    simulator.faults = Faults(latency=0.05)
    heard: list[RunProgress] = []
    told = threading.Event()

    def listen(record: RunProgress) -> None:
        heard.append(record)
        if record.message.startswith("Paused"):
            told.set()

    bus.on("run:progress", listen)
    run = label(TABLE, mode="online", concurrency=2, name="x")
    until(lambda: run.counts["done"] > 0)
    run.pause()
    assert told.wait(20)
    run.unpause()
    run.result(30)
    until(lambda: heard[-1].counts["done"] == 60)
    assert not heard[-1].message.startswith("Paused")


def test_a_second_handle_steers_the_first(
    label: Callable[..., Run], simulator: Simulator, connection: Connection, bus: EventBus
) -> None:
    """Two handles of one run in a process are one run: what one is told the other tells."""
    simulator.faults = Faults(latency=0.05)
    run = label(TABLE, mode="online", concurrency=2, name="x")
    until(lambda: run.counts["done"] > 0)
    second = resume(connection, bus, "x")
    until(lambda: second.status == "running")
    second.pause()
    until(lambda: run.paused)
    assert second.paused
    assert (second.model, second.mode) == (run.model, "online")
    run.unpause()
    until(lambda: not second.paused)
    second.cancel()
    until(lambda: run.status == "cancelled")
    second.result(20)


def test_who_no_longer_follows_says_so(label: Callable[..., Run], simulator: Simulator) -> None:
    """A detached handle cannot pause: it names the way; a finished run needs no pause."""
    simulator.batch_rate = None
    run = label(TABLE, name="x")
    until(lambda: run.counts["running"] == 60)
    run.stop()
    until(run.done)
    for verb in ("pause", "unpause", "cancel"):
        with pytest.raises(errors.RunError, match=rf"mnb.resume\('x'\).{verb}\(\)"):
            getattr(run, verb)()
    simulator.batch_rate = 0
    ended = label(TABLE, name="x")
    ended.result(20)
    ended.pause()
    assert not ended.paused
