"""Laws of the batch engine: whatever the server does, paid work is neither lost nor paid twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from mistral_nb import errors
from mistral_nb.client import Connection
from mistral_nb.labelling import forget, resume, start_run
from mistral_nb.labelling.folder import RunFolder
from mistral_nb.labelling.ledger import Ledger
from mistral_nb.settings import resolve
from mistral_nb.simulator import Faults
from tests.labelling.waiting import shards_of, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.events import EventBus
    from mistral_nb.labelling import Run
    from mistral_nb.simulator import Simulator

    Label = Callable[..., Run]

ROWS = 40
TABLE = pd.DataFrame({"text": [f"where is my parcel number {n}" for n in range(ROWS)]})


def whole(df: pd.DataFrame) -> bool:
    return bool(df["label"].notna().all() and df["_error"].isna().all())


def test_shards_are_cut_by_lines_and_run_side_by_side(label: Label, simulator: Simulator) -> None:
    """Many shards, one job each; every row in its place."""
    df = label(TABLE, shard_lines=7).result(30)
    assert whole(df)
    stats = simulator.stats()
    assert (stats["jobs_created"], stats["batch_rows"]) == (6, ROWS)


def test_shards_are_cut_by_bytes(label: Label, simulator: Simulator) -> None:
    """A limit of bytes cuts shards too."""
    assert whole(label(TABLE, shard_bytes=2000).result(30))
    assert simulator.stats()["jobs_created"] > 5


def test_jobs_carry_their_run_and_shard(label: Label, connection: Connection) -> None:
    """A job's metadata names run and shard, and its file has one name for one content."""
    label(TABLE, name="Größe ✓", shard_lines=25).result(30)
    jobs = connection.portal.call(connection.sdk.batch.jobs.list_async).data
    assert sorted(job.metadata["shard"] for job in jobs) == ["0", "1"]
    assert {job.metadata["run"] for job in jobs} == {"Größe ✓"}
    assert len({job.metadata["sha"] for job in jobs}) == 2


@pytest.mark.parametrize(
    "faults",
    [
        Faults(batch_poll_errors=4),
        Faults(batch_poll_error_rate=0.4),
        Faults(error_rate=0.3, error_status=502),
        Faults(rate_limit_rate=0.3, retry_after=0.05),
        Faults(rate_limit_rate=0.3),
        Faults(lost_reply_rate=0.4, seed=5),
        Faults(lost_reply_rate=0.3, error_rate=0.2, rate_limit_rate=0.1, seed=8),
    ],
    ids=["poll-503s", "poll-503-rate", "502s", "429s", "429s-bare", "lost-replies", "storm"],
)
def test_passing_trouble_passes(label: Label, simulator: Simulator, faults: Faults) -> None:
    """5xx, 429 and lost replies anywhere: every row answered, no job created twice."""
    simulator.faults = faults
    assert whole(label(TABLE, shard_lines=14).result(90))
    stats = simulator.stats()
    assert stats["jobs_created"] == 3
    assert (stats["batch_rows"], stats["batch_rows_repeated"]) == (ROWS, 0)


def test_failed_rows_are_sent_once_more(label: Label, simulator: Simulator) -> None:
    """Rows that fail are repeated as often as `retries` says, and only they."""
    simulator.faults = Faults(batch_row_error_rate=0.3, seed=2)
    made = label(TABLE, retries=2).result(30)
    bad = int(made["_error"].notna().sum())
    assert bad > 0
    stats = simulator.stats()
    assert stats["batch_rows"] == ROWS + 2 * bad
    assert stats["jobs_created"] == 3


def test_a_repeat_that_works_heals_the_row(label: Label, simulator: Simulator) -> None:
    """A row that fails at first and then works has its result and no error."""
    simulator.faults = Faults(batch_row_error_rate=0.3, seed=2)
    run = label(TABLE)
    until(lambda: simulator.stats()["jobs_created"] == 2)
    simulator.faults = Faults()
    df = run.result(30)
    assert len(df) == ROWS
    assert df["_error"].notna().sum() <= 12


@pytest.mark.parametrize("outcome", ["FAILED", "TIMEOUT_EXCEEDED"])
def test_a_job_that_ends_early_keeps_what_it_did(
    label: Label, simulator: Simulator, outcome: str
) -> None:
    """What was answered is kept; only the rest is sent again, and only so often."""
    simulator.faults = Faults(batch_outcome=outcome, batch_part=0.5)
    run = label(TABLE, name="x", retries=2)
    df = run.result(30)
    done = df["label"].notna()
    assert done.sum() == ROWS - 5  # half, half of the rest, and half of that
    assert simulator.stats()["batch_rows"] == done.sum()
    assert simulator.stats()["batch_rows_repeated"] == 0
    words = "ran out of time" if outcome == "TIMEOUT_EXCEEDED" else "ended as FAILED"
    assert df.loc[~done, "_error"].str.contains(words).all()
    assert (run.report["kind"] == "missing").sum() == 3


@pytest.mark.parametrize(
    ("faults", "kind", "lost"),
    [
        (Faults(batch_duplicates=3), "duplicate", 0),
        (Faults(batch_unknown=3), "unknown", 0),
        (Faults(batch_missing=3), "missing", 3),
        (Faults(batch_truncated=True), "unreadable", 1),
    ],
    ids=["duplicate", "unknown", "missing", "truncated"],
)
def test_odd_answers_are_reported_and_harm_no_other_row(
    label: Label, simulator: Simulator, faults: Faults, kind: str, lost: int
) -> None:
    """Duplicate, unknown, missing and cut lines are listed; other rows have their own answer."""
    good = label(TABLE, name="good", reuse=False).result(30)
    simulator.faults = faults
    run = label(TABLE, name="odd", reuse=False, retries=0)
    df = run.result(30)
    assert kind in set(run.report["kind"])
    bad = df["_error"].notna()
    assert bad.sum() == lost
    assert df.loc[bad, "_error"].str.contains("gave no answer").all()
    assert df.loc[~bad, "label"].tolist() == good.loc[~bad, "label"].tolist()
    assert "in the answers (see run.report)" in run.message


def test_missing_answers_are_asked_for_again(label: Label, simulator: Simulator) -> None:
    """By default a row whose answer never came is sent once more."""
    simulator.faults = Faults(batch_missing=3)
    run = label(TABLE)
    until(lambda: simulator.stats()["jobs_created"] == 2)
    simulator.faults = Faults()
    assert len(run.result(30)) == ROWS


def test_a_job_in_which_all_rows_fail_is_read(label: Label, simulator: Simulator) -> None:
    """Without an output file the error file alone gives every row its reason."""
    simulator.faults = Faults(batch_row_error_rate=1)
    df = label(TABLE, retries=0).result(30)
    assert df["_error"].str.contains("Internal server error").all()


def test_a_server_gone_for_good_is_told_with_the_way_on(
    label: Label, simulator: Simulator, connection: Connection, bus: EventBus
) -> None:
    """When patience ends, the error says that the job lives and how to go on; nothing is lost."""
    slow(simulator)
    run = label(TABLE, name="x", patience=0.5)
    until(lambda: run.counts["running"] == ROWS)
    simulator.faults = Faults(error_rate=1)
    with pytest.raises(errors.ServerError, match=r"1 batch job.*mnb\.resume\('x'\)"):
        run.result(30)
    assert run.status == "failed"
    simulator.faults = Faults()
    fast(simulator)
    assert whole(resume(connection, bus, "x").result(30))
    assert simulator.stats()["jobs_created"] == 1


def slow(simulator: Simulator) -> None:
    """Let batch jobs wait."""
    simulator.batch_rate = None


def fast(simulator: Simulator) -> None:
    simulator.batch_rate = 0


def test_stopping_only_detaches(
    label: Label, simulator: Simulator, connection: Connection, bus: EventBus
) -> None:
    """`stop()` leaves the job running; resuming takes its answers, nothing is sent again."""
    slow(simulator)
    run = label(TABLE, name="x")
    until(lambda: run.counts["running"] == ROWS)
    run.stop()
    until(run.done)
    assert run.status == "detached"
    assert "cancel" not in str(simulator.stats()["requests"])
    with pytest.raises(errors.RunError, match="may still run"):
        forget(connection.settings, "x")
    fast(simulator)
    assert whole(resume(connection, bus, "x").result(30))
    assert simulator.stats()["jobs_created"] == 1


def test_an_interrupt_only_detaches(
    label: Label, simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C while waiting says how to go on; the run goes on by itself."""
    slow(simulator)
    run = label(TABLE, name="x")
    until(lambda: run.counts["running"] == ROWS)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        run.result(20)
    assert "mnb.resume('x')" in capsys.readouterr().err
    fast(simulator)
    assert whole(run.result(30))
    assert simulator.stats()["jobs_created"] == 1


def test_a_wait_has_its_limit(label: Label, simulator: Simulator) -> None:
    """`result(timeout)` ends the wait, not the run."""
    slow(simulator)
    run = label(TABLE)
    until(lambda: run.counts["running"] == ROWS)
    with pytest.raises(errors.WaitTimeout):
        run.result(0.1)
    fast(simulator)
    assert whole(run.result(30))


def test_cancel_keeps_what_was_done(
    make_simulator: Callable[..., Simulator], bus: EventBus
) -> None:
    """`cancel()` ends the jobs; rows answered until then have their labels, others say why."""
    simulator = make_simulator(batch_rate=40)
    connection = Connection(resolve(api_key="k", server_url=simulator.url))
    run = start_run(connection, bus, TABLE, prompt="{text}", labels=["a", "b"], name="x")
    until(lambda: run.counts["done"] > 0)
    run.cancel()
    df = run.result(30)
    assert run.status == "cancelled"
    open_rows = df["label"].isna()
    assert 0 < open_rows.sum() < ROWS
    assert (df.loc[open_rows, "_error"] == "cancelled before it was answered").all()
    assert "run.retry_failed() sends what has no answer" in run.message
    assert run.report.empty  # a wish that came true is not odd
    again = resume(connection, bus, "x")
    pd.testing.assert_frame_equal(again.result(30), df)
    assert again.status == "cancelled"
    assert simulator.stats()["jobs_created"] == 1


def test_cancel_before_sending_sends_nothing(label: Label, simulator: Simulator) -> None:
    """Cancelled at once, a run has no job and every row says so."""
    run = label(TABLE)
    run.cancel()
    df = run.result(30)
    assert simulator.stats()["jobs_created"] == 0
    assert (df["_error"] == "cancelled before it was answered").all()


def test_a_deleted_job_is_told(label: Label, simulator: Simulator, home: Path) -> None:
    """A job that somebody removed at the server ends the run with its id and the reason."""
    slow(simulator)
    run = label(TABLE, name="x")
    until(lambda: run.counts["running"] == ROWS)
    job = shards_of(home, "x")[0].job_id
    simulator._core.state.db.execute("DELETE FROM jobs WHERE id = ?", (job,))
    with pytest.raises(errors.RunError, match=f"no longer knows the batch job {job}"):
        run.result(30)


@pytest.mark.parametrize("lost", ["job", "answers"])
@pytest.mark.parametrize("way", ["resubmit", "cancel"])
def test_what_is_gone_at_the_server_ends_no_run_for_good(
    label: Label, simulator: Simulator, connection: Connection, bus: EventBus, lost: str, way: str
) -> None:
    """A run whose job or answers are gone can be sent again, or be ended, and be forgotten."""
    slow(simulator)
    run = label(TABLE, name="x")
    until(lambda: run.counts["running"] == ROWS)
    run.stop()
    fast(simulator)
    sdk = connection.sdk
    until(lambda: simulator.stats()["batch_rows"] == ROWS)
    job = connection.portal.call(sdk.batch.jobs.list_async).data[0]
    if lost == "job":
        simulator._core.state.db.execute("DELETE FROM jobs")
    else:
        connection.portal.call(partial(sdk.files.delete_async, file_id=job.output_file))
    with pytest.raises(errors.RunError, match=r"no longer.*resume\('x'\)\.resubmit\(0\)") as told:
        resume(connection, bus, "x").result(30)
    assert "go on at the server" not in str(told.value)
    if way == "resubmit":
        again = resume(connection, bus, "x").resubmit(0)
        assert whole(again.result(30))
        assert "missing" in set(again.report["kind"])
    else:
        ended = resume(connection, bus, "x")
        ended.cancel()
        assert ended.result(30)["_error"].notna().all()
    forget(connection.settings, "x")


def test_a_run_stays_with_its_server(
    label: Label, simulator: Simulator, bus: EventBus, make_simulator: Any
) -> None:
    """An unfinished run is not looked for at another server."""
    slow(simulator)
    run = label(TABLE, name="x")
    until(lambda: run.counts["running"] == ROWS)
    run.stop()
    until(run.done)
    other = Connection(resolve(api_key="k", server_url=make_simulator().url))
    with pytest.raises(errors.RunError, match=r"was sent to .* but this session talks to"):
        resume(other, bus, "x").result(30)


@pytest.mark.parametrize("lost", ["upload", "create"])
def test_a_crash_between_a_step_and_its_record_repeats_nothing(
    label: Label, simulator: Simulator, connection: Connection, bus: EventBus, home: Path, lost: str
) -> None:
    """A step that was taken but not recorded is found at the server, not taken again."""
    slow(simulator)
    run = label(TABLE, name="x")
    until(lambda: run.counts["running"] == ROWS)
    run.stop()
    until(run.done)
    before = {"upload": {"state": "uploading", "file_id": None}, "create": {"state": "creating"}}
    with closing(Ledger(RunFolder.of(home, "x").ledger)) as ledger:
        ledger.update_shard(0, job_id=None, job_status=None, **before[lost])
    if lost == "upload":  # as if the kill had come between upload and create
        simulator._core.state.db.execute("DELETE FROM jobs")
    fast(simulator)
    assert whole(resume(connection, bus, "x").result(30))
    stats = simulator.stats()
    assert stats["files_uploaded"] == 1
    assert stats["jobs_created"] == (2 if lost == "upload" else 1)
    assert stats["batch_rows_repeated"] == 0


def test_a_full_disk_at_download_loses_nothing(
    label: Label, simulator: Simulator, connection: Connection, bus: EventBus, home: Path
) -> None:
    """When answers cannot be written, the error says so and a resume gets them."""
    slow(simulator)
    run = label(TABLE, name="x")
    until(lambda: run.counts["running"] == ROWS)
    answers = RunFolder.of(home, "x").path / "answers"
    answers.rmdir()
    fast(simulator)
    with pytest.raises(errors.StoreError, match=r"wait at the server.*mnb\.resume"):
        run.result(30)
    answers.mkdir()
    assert whole(resume(connection, bus, "x").result(30))
    assert simulator.stats()["batch_rows"] == ROWS


def test_the_loop_stays_free_while_a_run_works(
    make_simulator: Callable[..., Simulator], bus: EventBus
) -> None:
    """While thousands of rows are built, sent, read and merged, the loop answers others."""
    simulator = make_simulator(batch_rate=0)
    connection = Connection(resolve(api_key="k", server_url=simulator.url))
    df = pd.DataFrame({"text": [f"question {n} about my parcel" for n in range(2000)]})
    run = start_run(connection, bus, df, prompt="{text}", labels=["a", "b"])

    async def beat() -> None:
        return None

    beats = 0
    while not run.done():
        connection.portal.call(beat)
        beats += 1
        time.sleep(0.01)
    assert whole(run.result(1))
    assert beats > 20
