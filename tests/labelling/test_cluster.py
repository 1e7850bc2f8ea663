"""Laws of Dask frames, on two real worker processes: same rows, same answers, paid once."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from mistral_nb.errors import InputError, RunError
from mistral_nb.labelling import cluster, forget, resume
from mistral_nb.settings import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from distributed import Client

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus
    from mistral_nb.labelling import Run
    from mistral_nb.simulator import Simulator

    Label = Callable[..., Run]

dd = pytest.importorskip("dask.dataframe")
TABLE = pd.DataFrame(
    {"text": [f"where is parcel {n}" for n in range(40)]}, index=range(100, 140)
).rename_axis("id")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two worker processes and a client of them, the current one."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as made,
        Client(made) as client,
    ):
        yield client


@pytest.fixture
def frame(client: Client) -> Any:
    """The table in five partitions."""
    return dd.from_pandas(TABLE, npartitions=5)


def sent(simulator: Simulator) -> int:
    return simulator.stats()["batch_rows"]


def kill_once(flag: Path) -> None:
    """Kill the process, the first time that this is asked for."""
    try:
        flag.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


class DeadlyPrompt:
    """A prompt that kills the worker that fills it, once in each phase."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, row: dict[str, Any]) -> str:
        if row["text"].endswith("parcel 20") and (self._folder / "armed").exists():
            kill_once(self._folder / (self._folder / "armed").read_text())
        return f"Which topic? {row['text']}"

    def arm(self, phase: str) -> None:
        (self._folder / "armed").write_text(phase)

    def killed(self, phase: str) -> bool:
        return (self._folder / phase).exists()


def test_a_frame_comes_back_as_a_frame(label: Label, frame: Any, simulator: Simulator) -> None:
    """Partitions, index and dtypes stay, and each row has what the same row in a table has."""
    plain = label(TABLE, name="pandas").result(30)
    run = label(frame, name="dask", shard_lines=7)
    labelled = run.result(60)
    assert isinstance(labelled, dd.DataFrame)
    assert labelled.npartitions == 5
    assert labelled.divisions == frame.divisions
    made = labelled.compute()
    assert made.dtypes.astype(str).tolist() == labelled.dtypes.astype(str).tolist()
    assert made["label"].dtype == plain["label"].dtype
    pd.testing.assert_frame_equal(made, plain, check_dtype=False)
    assert run.counts["reused"] == len(TABLE) == sent(simulator)
    assert run.evaluate("label").accuracy == 1


def test_a_partition_may_be_empty(label: Label, frame: Any, simulator: Simulator) -> None:
    """A frame that was filtered has partitions without rows: the others have their labels."""
    few = frame[frame["text"].str.endswith("9")]
    made = label(few).result(60).compute()
    assert made["text"].tolist() == [f"where is parcel {n}" for n in (9, 19, 29, 39)]
    assert made["label"].notna().all()
    none = label(frame[frame["text"] == ""]).result(60).compute()
    assert (len(none), none["label"].dtype) == (0, made["label"].dtype)
    assert sent(simulator) == 4


def test_the_same_call_costs_nothing(label: Label, frame: Any, simulator: Simulator) -> None:
    """Labelled again, without a name, the frame gets the same answers and nothing is sent."""
    first = label(frame).result(60).compute()
    again = label(frame).result(60).compute()
    pd.testing.assert_frame_equal(again, first)
    assert simulator.stats()["jobs_created"] == 1


def test_killed_workers_cost_nothing(
    label: Label, frame: Any, client: Client, simulator: Simulator, tmp_path: Path
) -> None:
    """Workers killed while they encode, while jobs run and while they merge: whole, paid once."""
    simulator.batch_rate = None  # jobs are held back
    prompt = DeadlyPrompt(tmp_path)
    prompt.arm("encoding")
    run = label(frame, prompt, shard_lines=15)
    while not simulator.stats()["jobs_created"]:
        assert not run.done()
        time.sleep(0.02)
    assert prompt.killed("encoding")
    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
    simulator.batch_rate = 0
    labelled = run.result(60)
    prompt.arm("merging")
    made = labelled.compute()
    assert prompt.killed("merging")
    assert made["text"].tolist() == TABLE["text"].tolist()
    assert made["label"].notna().all()
    assert sent(simulator) == len(TABLE)
    assert simulator.stats()["batch_rows_repeated"] == 0
    assert simulator.stats()["jobs_created"] == 3


def test_a_run_that_was_left_goes_on(label: Label, frame: Any, simulator: Simulator) -> None:
    """Left while its jobs run, the same call takes the run up; no job is made again."""
    simulator.batch_rate = None
    left = label(frame)
    while not simulator.stats()["jobs_created"]:
        assert not left.done()
        time.sleep(0.02)
    left.stop()
    simulator.batch_rate = 0
    assert label(frame).result(60).compute()["label"].notna().all()
    assert simulator.stats()["jobs_created"] == 1
    assert sent(simulator) == len(TABLE)


@pytest.mark.parametrize("shared", [True, False])
def test_workers_need_not_share_files(
    label: Label, frame: Any, home: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """Results reach workers that see no file of the client; files they do see must stay."""
    if not shared:
        monkeypatch.setattr(cluster, "_sees", lambda _: False)
    labelled = label(frame, name="x").result(60)
    forget(resolve(home=home), "x")
    if shared:
        with pytest.raises(RunError, match="the run was forgotten, or this worker does not see"):
            labelled.compute()
    else:
        assert labelled.compute()["label"].notna().all()


def test_a_frame_of_chance_is_noticed(label: Label, frame: Any) -> None:
    """Answers are never put beside rows other than those that were asked about."""
    unsteady = frame.map_partitions(_shuffled, meta=frame._meta)
    labelled = label(unsteady, name="chance").result(60)
    with pytest.raises(RunError, match="Does the frame depend on chance"):
        labelled.compute()


def _shuffled(df: pd.DataFrame) -> pd.DataFrame:
    return df.sample(frac=1, random_state=time.perf_counter_ns() % 2**32)


def test_failures_of_workers_are_told(label: Label, frame: Any, simulator: Simulator) -> None:
    """A prompt that fails names row and partition; a frame that fails, its reason."""
    with pytest.raises(InputError, match="Partition 0: Row 0: the prompt function failed: KeyErr"):
        label(frame, lambda row: row["nope"]).result(60)
    broken = frame.map_partitions(_broken, meta=frame._meta)
    with pytest.raises(RunError, match="requests of partition 0: ValueError: no such luck"):
        label(broken, name="broken").result(60)
    assert simulator.stats()["jobs_created"] == 0


def _broken(df: pd.DataFrame) -> pd.DataFrame:
    raise ValueError("no such luck")


def test_a_frame_is_not_kept(
    label: Label, frame: Any, connection: Connection, bus: EventBus
) -> None:
    """Resuming by name says to call label with the frame again."""
    label(frame, name="x").result(60)
    with pytest.raises(RunError, match="call label with it again"):
        resume(connection, bus, "x").result(30)


def test_without_a_cluster_threads_do_it(
    label: Label, frame: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a client of a cluster, Dask's own threads read and merge."""
    monkeypatch.setattr(cluster, "_client", lambda: None)
    labelled = label(frame, name="x").result(60)
    made = labelled.compute(scheduler="threads")
    assert made["text"].tolist() == TABLE["text"].tolist()
    assert made["label"].notna().all()
