"""Laws of crashes: a batch run killed at any step is finished by the same call, paid once.

The victim kills itself (SIGKILL) before or after a commit or a request.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from mistral_nb.client import Connection
from mistral_nb.events import EventBus
from mistral_nb.labelling import list_runs, resume
from mistral_nb.settings import resolve
from tests.faults.batch_victim import ROWS, SHARD, SHARED_ROWS, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.simulator import Simulator
    from tests.faults.sizes import Size

VICTIM = Path(__file__).with_name("batch_victim.py")
LAST_STEP = 80
"""About as many steps as the victim takes."""


def lives(simulator: Simulator, home: Path, step: int, out: Path) -> bool:
    """Run the victim; True if it came to its end."""
    command = [sys.executable, str(VICTIM), simulator.url, str(home), str(step), str(out)]
    done = subprocess.run(command, capture_output=True, timeout=100, check=False)
    assert done.returncode in {0, -9}, done.stderr.decode()
    return done.returncode == 0


def assert_whole_and_paid_once(df: pd.DataFrame, simulator: Simulator) -> None:
    pd.testing.assert_frame_equal(df[["text", "n"]], table())
    assert df["label"].notna().all()
    assert df["_error"].isna().all()
    stats = simulator.stats()
    assert stats["batch_rows"] == ROWS - SHARED_ROWS
    assert stats["batch_rows_repeated"] == 0
    assert stats["jobs_created"] == -(-(ROWS - SHARED_ROWS) // SHARD)


def resumed(simulator: Simulator, home: Path) -> pd.DataFrame:
    """Finish the run by its name alone, in this process."""
    connection = Connection(resolve("key", simulator.url, home=home))
    return resume(connection, EventBus(connection.portal), "victim").result(60)


def test_a_kill_at_any_step_is_healed(
    make_simulator: Callable[..., Simulator], tmp_path: Path, kill: int, size: Size
) -> None:
    """Killed at one step, the run is finished with every row in place and paid once."""
    simulator = make_simulator(batch_rate=400)
    share = LAST_STEP // (2 * size.kills)
    step = random.Random(kill).randrange(1 + share * kill, 1 + share * (kill + 1))
    home, out = tmp_path / "h", tmp_path / "out.parquet"
    if lives(simulator, home, step, out):
        df = pd.read_parquet(out)
    elif len(list_runs(resolve(home=home))):
        df = resumed(simulator, home)
    else:  # killed before the run was written: nothing had been sent
        assert simulator.stats()["files_uploaded"] == 0
        assert lives(simulator, home, 0, out)
        df = pd.read_parquet(out)
    assert_whole_and_paid_once(df, simulator)


def test_many_kills_are_healed(
    make_simulator: Callable[..., Simulator], tmp_path: Path, size: Size
) -> None:
    """Killed again and again while it goes on, the run still ends whole and paid once."""
    simulator = make_simulator(batch_rate=150)
    dice = random.Random(7)
    home, out = tmp_path / "h", tmp_path / "out.parquet"
    for _ in range(size.kills):
        lives(simulator, home, dice.randrange(4, 30), out)
    assert_whole_and_paid_once(resumed(simulator, home), simulator)
