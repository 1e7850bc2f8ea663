"""Law of crashes: killed at random moments, a run loses nothing and repeats only what flew."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from mistral_nb.labelling import list_runs
from mistral_nb.settings import resolve
from mistral_nb.simulator import Faults
from tests.faults.run_victim import IN_FLIGHT
from tests.faults.victims import assert_whole, taken_up, victim

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.simulator import Simulator
    from tests.faults.sizes import Size


def test_kills_online_repeat_only_what_was_under_way(
    make_simulator: Callable[..., Simulator], tmp_path: Path, size: Size
) -> None:
    """Every row is answered in the end; repeats are few, and all listed as uncertain."""
    simulator = make_simulator(faults=Faults(latency=0.02))
    dice = random.Random(11)
    for kill in range(size.kills):
        paid = 1 + int(size.rows * (kill + dice.uniform(0.1, 0.9)) / (size.kills + 1))
        with victim(simulator, tmp_path / "h", size.rows, "online") as process:
            end = time.monotonic() + size.patience
            while simulator.stats()["chat_requests"] < paid:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < end
                time.sleep(0.002)
            process.kill()
    simulator.faults = Faults()
    run = taken_up(simulator, tmp_path / "h")
    assert_whole(run, simulator, size.rows, "online", patience=size.patience, left=size.kills)
    listed = (run.report["kind"] == "uncertain").sum()
    assert 1 <= listed <= size.kills * IN_FLIGHT
    assert "were sent again" in run.message


def test_kills_in_a_batch_create_no_job_twice(
    make_simulator: Callable[..., Simulator], tmp_path: Path, size: Size
) -> None:
    """Whenever it is killed, no job is created twice and no row is paid for twice."""
    seconds_a_life = 2.0
    simulator = make_simulator(batch_rate=size.rows / (size.kills * seconds_a_life))
    dice = random.Random(12)
    kills = 0
    for _ in range(size.kills):
        with victim(simulator, tmp_path / "h", size.rows, "batch") as process:
            time.sleep(dice.uniform(0.8, 0.8 + seconds_a_life))
            assert process.poll() in {None, 0}, process.communicate()
            kills += process.poll() is None
            process.kill()
    assert kills >= size.kills // 2
    simulator.batch_rate = 0
    if not len(list_runs(resolve(home=tmp_path / "h"))):  # killed before there was a run
        with victim(simulator, tmp_path / "h", size.rows, "batch") as process:
            assert process.wait(size.patience) == 0
    run = taken_up(simulator, tmp_path / "h")
    assert_whole(run, simulator, size.rows, "batch", patience=size.patience, left=kills)
