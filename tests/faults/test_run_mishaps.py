"""Laws of mishaps amid a run: a full disk, a locked ledger, a second process; nothing is lost."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from mistral_nb import errors, store
from mistral_nb.labelling import list_runs
from mistral_nb.labelling.folder import RunFolder
from mistral_nb.settings import resolve
from mistral_nb.simulator import Faults
from tests.faults.run_victim import NAME
from tests.faults.victims import assert_whole, started, taken_up, victim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mistral_nb.simulator import Simulator

MODES = ("online", "batch")
ROWS = 300


def soon(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def slow(make_simulator: Callable[..., Simulator]) -> Iterator[Simulator]:
    """A simulator that takes its time, in either mode."""
    return make_simulator(faults=Faults(latency=0.05), batch_rate=150)


@pytest.mark.parametrize("mode", MODES)
def test_a_full_disk(slow: Simulator, tmp_path: Path, mode: str) -> None:
    """When the disk is full, the run says so and what to do, and a resume goes on from there."""
    home = tmp_path / "h"
    with victim(slow, home, ROWS, mode, 20_000) as process:
        said, trouble = process.communicate(timeout=60)
    assert process.returncode == 1, (said, trouble)
    assert said.startswith("StoreError: ")
    assert "ree some space" in said
    assert f"mnb.resume({NAME!r})" in said
    assert_whole(taken_up(slow, home), slow, ROWS, mode, patience=60, left=1)


@pytest.mark.parametrize("mode", MODES)
def test_a_locked_ledger(
    slow: Simulator, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When another program holds the ledger, the run says so; its answers wait in memory."""
    monkeypatch.setattr(store, "BUSY_SECONDS", 0.2)
    home = tmp_path / "h"
    run = started(slow, home, ROWS, mode)
    soon(lambda: run.counts["done"] if mode == "online" else run.counts["running"])
    with closing(sqlite3.connect(RunFolder.of(home, NAME).ledger, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(errors.StoreError, match=r"Another process.*mnb\.resume\('victim'\)"):
            run.result(60)
        other.execute("ROLLBACK")
    assert_whole(taken_up(slow, home), slow, ROWS, mode, patience=60, left=0)


@pytest.mark.parametrize("mode", MODES)
def test_a_second_process_is_told(slow: Simulator, tmp_path: Path, mode: str) -> None:
    """While one process follows a run, another that takes it up is told who does."""
    home = tmp_path / "h"
    with victim(slow, home, ROWS, mode) as first:
        soon(lambda: "running" in list_runs(resolve(home=home))["status"].tolist())
        with pytest.raises(errors.RunError, match=f"Another process already.*{first.pid}"):
            taken_up(slow, home).result(60)
        said, _ = first.communicate(timeout=60)
    assert said.strip() == str(ROWS)
    assert_whole(taken_up(slow, home), slow, ROWS, mode, patience=60, left=0)
