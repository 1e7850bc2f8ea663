"""Starting a run in a process of its own, and holding what came of it against what was paid."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

from mistral_nb.client import Connection
from mistral_nb.events import EventBus
from mistral_nb.labelling import resume
from mistral_nb.settings import resolve
from tests.faults.run_victim import IN_FLIGHT, NAME, SHARD_ROWS, start, table

if TYPE_CHECKING:
    from pathlib import Path

    from mistral_nb.labelling import Run
    from mistral_nb.simulator import Simulator


def victim(simulator: Simulator, home: Path, rows: int, mode: str, *limit: int) -> Any:
    """Start a process that labels, for a `with`."""
    command = [sys.executable, "-m", "tests.faults.run_victim", simulator.url, str(home)]
    command += [str(rows), mode, *map(str, limit)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def started(simulator: Simulator, home: Path, rows: int, mode: str) -> Run:
    """Start its run in this process."""
    return start(simulator.url, str(home), rows, mode)


def taken_up(simulator: Simulator, home: Path) -> Run:
    """Go on with its run in this process."""
    connection = Connection(resolve("key", simulator.url, home=home))
    return resume(connection, EventBus(connection.portal), NAME)


def assert_whole(
    run: Run, simulator: Simulator, rows: int, mode: str, *, patience: float, left: int
) -> None:
    """Every row is answered; repeats are at most what flew whenever the run was left.

    Args:
        run: The run that ends it.
        simulator: Counts what it was paid for.
        rows: Rows of the table.
        mode: The run's engine.
        patience: Seconds to wait for the end.
        left: How often the run was left before.
    """
    df = run.result(patience)
    assert df["text"].tolist() == table(rows)["text"].tolist()
    assert df["label"].notna().all()
    assert df["_error"].isna().all()
    stats = simulator.stats()
    if mode == "batch":
        assert stats["jobs_created"] == -(-rows // SHARD_ROWS)
        assert (stats["batch_rows"], stats["batch_rows_repeated"]) == (rows, 0)
        return
    listed = run.report["custom_id"][run.report["kind"] == "uncertain"]
    assert stats["chat_requests"] == rows + stats["chat_repeated"]
    assert stats["chat_repeated"] <= len(listed) <= left * IN_FLIGHT
