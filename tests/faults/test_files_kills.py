"""Laws of crashes: files whose labelling is killed at any step are finished, paid once.

The victim kills itself (SIGKILL) before or after a commit, a request or a rename. `make test`
tries a few steps, `make faults` more.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.simulator import Simulator
    from tests.faults.sizes import Size

VICTIM = Path(__file__).with_name("files_victim.py")
PARTS, ROWS = 4, 15
LAST_STEP, RENAMES = 104, 8
"""About as many steps as the victim takes; the last of them write parts."""


def lives(simulator: Simulator, step: int, folder: Path) -> bool:
    """Run the victim; True if it came to its end."""
    places = map(str, (folder / "home", step, folder / "in", folder / "out"))
    command = [sys.executable, str(VICTIM), simulator.url, *places]
    done = subprocess.run(command, capture_output=True, timeout=100, check=False)
    assert done.returncode in {0, -9}, done.stderr.decode()
    return done.returncode == 0


def test_kills_at_any_step_are_healed(
    make_simulator: Callable[..., Simulator], tmp_path: Path, size: Size
) -> None:
    """Killed again and again, the same command ends with every part whole and paid once."""
    simulator = make_simulator(batch_rate=0)
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for part in range(PARTS):
        texts = [f"where is parcel {part}-{n}" for n in range(ROWS)]
        pd.DataFrame({"text": texts}).to_parquet(source / f"{part}.parquet")
    dice = random.Random(5)
    # From late steps to early ones, since each go begins where the last one ended.
    steps = [
        LAST_STEP - dice.randrange(RENAMES),
        *(dice.randrange(2, 90) for _ in range(size.kills)),
    ]
    for step in sorted(steps, reverse=True):
        lives(simulator, step, tmp_path)
        for path in out.glob("[!.]*"):  # at any moment, a part that is there is whole
            assert pq.read_metadata(path).num_rows == ROWS
    assert lives(simulator, 0, tmp_path)
    for part in range(PARTS):
        made = pd.read_parquet(out / f"{part}.parquet")
        texts = pd.read_parquet(source / f"{part}.parquet")["text"]
        assert made["text"].tolist() == texts.tolist()
        assert made["label"].notna().all()
    assert sorted(path.name for path in out.iterdir()) == [f"{n}.parquet" for n in range(PARTS)]
    stats = simulator.stats()
    assert stats["batch_rows"] == PARTS * ROWS
    assert stats["batch_rows_repeated"] == 0
    assert stats["jobs_created"] == -(-PARTS * ROWS // 20)
