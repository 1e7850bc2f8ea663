"""Laws of what follows on a run: only what has to be is sent again, and nothing is lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from mistral_nb import errors
from mistral_nb.labelling import batch, resume
from mistral_nb.labelling.folder import RunFolder
from mistral_nb.simulator import Faults
from tests.labelling.waiting import shards_of, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus
    from mistral_nb.labelling import Run
    from mistral_nb.simulator import Simulator

    Label = Callable[..., Run]

ROWS = 40
TABLE = pd.DataFrame({"text": [f"question {n} about my parcel" for n in range(ROWS)]})
FAILING = {"batch": Faults(batch_row_error_rate=0.3), "online": Faults(error_rate=0.3)}


def answered(simulator: Simulator) -> int:
    stats = simulator.stats()
    return stats["batch_rows"] + stats["chat_requests"]


def held(simulator: Simulator, label: Label, **options: Any) -> Run:
    """Start a run whose batch jobs do a part of their rows and then no more."""
    simulator.batch_rate = 25
    run = label(TABLE, name="x", **options)
    until(lambda: simulator.stats()["batch_rows"] >= 5)
    simulator.batch_rate = None
    until(lambda: settled(simulator))
    return run


def settled(simulator: Simulator) -> bool:
    """True once the step that the simulator had begun is over."""
    before = simulator.stats()["batch_rows"]
    time.sleep(0.1)
    return simulator.stats()["batch_rows"] == before


# Failed rows


@pytest.mark.parametrize("mode", ["batch", "online"])
def test_failed_rows_alone_are_sent_again(label: Label, simulator: Simulator, mode: str) -> None:
    """The second handle has the whole table; each row that was good is sent once only."""
    simulator.faults = FAILING[mode]
    first = label(TABLE, mode=mode, name="x", retries=0)
    failed = first.result(30)["_error"].notna().sum()
    assert 0 < failed < ROWS
    before, paid = answered(simulator), first.cost
    simulator.faults = Faults()
    second = first.retry_failed()
    df = second.result(30)
    assert df["_error"].isna().all()
    assert df["text"].tolist() == TABLE["text"].tolist()
    assert second.counts["done"] == ROWS
    assert answered(simulator) - before == failed
    assert second.cost > paid
    assert second.errors.empty


def test_rows_that_fail_again_stay_errors(label: Label, simulator: Simulator) -> None:
    """A row without a good answer keeps the latest reason, and can be sent once more."""
    simulator.faults = Faults(batch_row_error_rate=1)
    run = label(TABLE, retries=0)
    run.result(30)
    run = run.retry_failed()
    assert run.result(30)["_error"].notna().all()
    simulator.faults = Faults()
    assert run.retry_failed().result(30)["_error"].isna().all()
    assert answered(simulator) == 3 * ROWS


def test_without_failed_rows_nothing_is_sent(label: Label, simulator: Simulator) -> None:
    """A run in which all went well has nothing to repeat; rows that cannot be sent stay."""
    df = pd.concat([TABLE, pd.DataFrame({"text": [None]})], ignore_index=True)
    run = label(df)
    run.result(30)
    before = answered(simulator)
    again = run.retry_failed().result(30)
    assert answered(simulator) == before
    assert again["_error"].notna().sum() == 1


def test_cancelled_rows_can_be_sent_after_all(label: Label, simulator: Simulator) -> None:
    """What a cancel left unanswered is an error row like others."""
    run = label(TABLE, name="x")
    run.cancel()
    assert run.result(30)["_error"].notna().all()
    again = run.retry_failed()
    assert again.result(30)["_error"].isna().all()
    assert again.status == "done"
    assert answered(simulator) == ROWS


def test_a_run_that_goes_on_repeats_by_itself(label: Label, simulator: Simulator) -> None:
    """retry_failed is for a run that has ended, and says so."""
    run = held(simulator, label)
    with pytest.raises(errors.RunError, match="still goes on"):
        run.retry_failed()
    simulator.batch_rate = 0
    run.result(30)


@pytest.mark.parametrize("mode", ["batch", "online"])
def test_requests_that_are_lost_are_told(
    label: Label, simulator: Simulator, connection: Connection, bus: EventBus, mode: str
) -> None:
    """A run whose files were cleared away says which, and the two ways on, whatever is done."""
    simulator.faults = Faults(error_rate=1)
    run = label(TABLE, mode=mode, name="x", patience=30)
    until(lambda: run.status == "running")
    run.stop()
    simulator.faults = Faults()
    (RunFolder.of(connection.settings.home, "x").path / "requests" / "0000.jsonl").unlink()
    lost = r"Cannot read the requests in .*0000\.jsonl: No such file.*fresh=True"
    with pytest.raises(errors.StoreError, match=lost):
        resume(connection, bus, "x").result(30)
    if mode == "batch":
        with pytest.raises(errors.StoreError, match=lost):
            resume(connection, bus, "x").move_to_online().result(30)
    again = label(TABLE, mode=mode, name="x", fresh=True)
    assert again.result(30)["_error"].isna().all()


# Jobs that do not move


def test_a_job_can_be_resubmitted(label: Label, simulator: Simulator, home: Path) -> None:
    """The job is cancelled, its answers are kept, and the others go in a new job."""
    run = held(simulator, label)
    done = simulator.stats()["batch_rows"]
    again = run.resubmit(0)
    until(lambda: simulator.stats()["jobs_created"] == 2)
    simulator.batch_rate = 0
    df = again.result(30)
    assert df["_error"].isna().all()
    old, new = shards_of(home, "x")
    assert old.job_status == "CANCELLED"
    assert (old.lines, new.lines) == (ROWS, ROWS - done)
    assert simulator.stats()["batch_rows"] == ROWS
    assert simulator.stats()["batch_rows_repeated"] == 0
    assert run.status == "detached"


def test_a_crash_amid_resubmitting_loses_nothing(
    label: Label,
    simulator: Simulator,
    connection: Connection,
    bus: EventBus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the cancelled job and the new one, a resume sends the rest by itself."""
    run = held(simulator, label)

    def full(*_: Any) -> None:
        raise errors.StoreError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr("mistral_nb.labelling.again.rewrite", full)
        with pytest.raises(errors.StoreError, match=r"mnb\.resume\('x'\)"):
            run.resubmit(0).result(30)
    simulator.batch_rate = 0
    assert resume(connection, bus, "x").result(30)["_error"].isna().all()
    assert simulator.stats()["batch_rows"] == ROWS


def test_only_jobs_that_do_not_move_are_resubmitted_unasked(
    label: Label, simulator: Simulator, connection: Connection, bus: EventBus
) -> None:
    """Without numbers, a job that moved lately stays; the error says what there is."""
    run = held(simulator, label)
    with pytest.raises(errors.RunError, match=r"e\.g\. run\.resubmit\(0\).*: 0 \(0 min\)"):
        run.resubmit().result(30)
    with pytest.raises(errors.RunError, match="Shard 7 of the run 'x' has no batch job"):
        resume(connection, bus, "x").resubmit(7).result(30)
    assert simulator.stats()["jobs_created"] == 1
    simulator.batch_rate = 0
    whole = resume(connection, bus, "x")
    assert whole.result(30)["_error"].isna().all()
    with pytest.raises(errors.RunError, match="nothing to resubmit"):
        whole.resubmit().result(30)


def test_a_job_that_does_not_move_is_told_with_its_age(
    label: Label, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the job, its status, how long, and both ways on; one of them works."""
    monkeypatch.setattr(batch, "STILL", 0.3)
    monkeypatch.setattr("mistral_nb.labelling.again.STILL", 0.3)
    run = held(simulator, label)
    until(lambda: "without progress" in run.message)
    for words in (r"(shard 0) has been RUNNING", "0.0 h", "run.resubmit(0)", "move_to_online()"):
        assert words in run.message
    again = run.resubmit()
    until(lambda: simulator.stats()["jobs_created"] == 2)
    simulator.batch_rate = 0
    assert again.result(30)["_error"].isna().all()


def test_a_job_that_does_not_even_end_is_left_behind(
    label: Label, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while its rows go elsewhere all the same, and the report says what that means."""
    monkeypatch.setattr(batch, "CANCEL_PATIENCE", 0.3)
    run = held(simulator, label)
    monkeypatch.setattr(simulator._core.worker, "_step", lambda *_: False)
    again = run.move_to_online()
    assert again.result(30)["_error"].isna().all()
    assert "what it answers is billed unseen" in again.report["detail"].str.cat()
    assert simulator.stats()["chat_requests"] == ROWS


def test_a_run_can_be_moved_to_online(
    label: Label, simulator: Simulator, connection: Connection, bus: EventBus, home: Path
) -> None:
    """What jobs answered is kept at half the price, the rest comes online at the full one."""
    run = held(simulator, label, shard_lines=25)
    again = run.move_to_online()
    df = again.result(30)
    assert df["_error"].isna().all()
    assert (again.mode, again.status) == ("online", "done")
    stats = simulator.stats()
    assert stats["batch_rows"] + stats["chat_requests"] == ROWS
    assert stats["chat_requests"] > 0
    assert {shard.state for shard in shards_of(home, "x")} == {"done"}
    batch_price = label(TABLE, name="cheap", reuse=False, dry_run=True).high
    assert again.cost > 0
    assert again.cost < 2 * batch_price
    pd.testing.assert_frame_equal(resume(connection, bus, "x").result(30), df)
    with pytest.raises(errors.RunError, match="is online already"):
        again.move_to_online().result(30)


def test_shards_that_were_never_sent_move_too(label: Label, simulator: Simulator) -> None:
    """A run cancelled from its jobs before they were created has all its rows online."""
    simulator.faults = Faults(error_rate=1)
    run = label(TABLE, name="x", patience=30)
    until(lambda: "Trying again" in run.message)
    simulator.faults = Faults()
    run.stop()
    again = run.move_to_online()
    simulator.batch_rate = None
    assert again.result(30)["_error"].isna().all()
    assert simulator.stats()["batch_rows"] + simulator.stats()["chat_requests"] == ROWS


def test_the_next_handle_is_shown_as_the_first_was(label: Label) -> None:
    """Whoever shows runs is given the handle that follows on one."""
    run = label(TABLE.iloc[:2])
    shown: list[Run] = []
    run.present = shown.append
    run.result(30)
    again = run.retry_failed()
    again.result(30)
    assert shown == [again]
