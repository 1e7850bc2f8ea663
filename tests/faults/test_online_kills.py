"""Law of crashes online: killed at any moment, a run loses and repeats only what was under way.

`make test` labels a few hundred rows; MISTRAL_NB_STORM sets how many, MISTRAL_NB_KILLS how
often the victim is killed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mistral_nb.client import Connection
from mistral_nb.events import EventBus
from mistral_nb.labelling import resume
from mistral_nb.settings import resolve
from mistral_nb.simulator import Faults
from tests.faults.online_run_victim import table

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.simulator import Simulator

VICTIM = Path(__file__).with_name("online_run_victim.py")
ROWS = int(os.environ.get("MISTRAL_NB_STORM", "400"))
KILLS = int(os.environ.get("MISTRAL_NB_KILLS", "3"))
IN_FLIGHT = 8


def killed_at(paid: int, simulator: Simulator, home: Path) -> None:
    """Run the victim until the server was paid for so many requests, and kill it."""
    command = [sys.executable, str(VICTIM), simulator.url, str(home), str(ROWS), str(IN_FLIGHT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as victim:
        end = time.monotonic() + 60
        while simulator.stats()["chat_requests"] < paid:
            assert victim.poll() is None, victim.stderr.read().decode()
            assert time.monotonic() < end
            time.sleep(0.002)
        victim.kill()


def test_kills_repeat_only_what_was_under_way(
    make_simulator: Callable[..., Simulator], tmp_path: Path
) -> None:
    """Every row is answered in the end; repeats are few, and all listed as uncertain."""
    simulator = make_simulator(faults=Faults(latency=0.02))
    dice = random.Random(11)
    home = tmp_path / "h"
    for number in range(KILLS):
        share = (number + dice.uniform(0.1, 0.9)) / (KILLS + 1)
        killed_at(1 + int(ROWS * share), simulator, home)
    simulator.faults = Faults()
    connection = Connection(resolve("key", simulator.url, home=home))
    run = resume(connection, EventBus(connection.portal), "victim")
    df = run.result(60)
    assert df["text"].tolist() == table(ROWS)["text"].tolist()
    assert df["label"].notna().all()
    assert df["_error"].isna().all()
    listed = run.report["custom_id"][run.report["kind"] == "uncertain"]
    stats = simulator.stats()
    assert stats["chat_requests"] == ROWS + stats["chat_repeated"]
    assert stats["chat_repeated"] <= len(listed)
    assert 1 <= len(listed) <= KILLS * IN_FLIGHT
    assert "were sent again" in run.message
