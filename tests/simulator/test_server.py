"""The running server: it stops clean, survives a kill, and shares a home with another."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mistral_nb.simulator import Faults, start_simulator
from tests.simulator.conftest import Api, row

if TYPE_CHECKING:
    from collections.abc import Callable


def test_stopping_leaves_nothing_behind() -> None:
    """No thread and no temporary folder outlive stop(), which may be called twice."""
    threads = set(threading.enumerate())
    folders = set(Path(tempfile.gettempdir()).glob("mistral-simulator-*"))
    simulator = start_simulator()
    ours = set(threading.enumerate()) - threads
    assert ours
    folder = simulator._temporary
    assert folder is not None
    assert folder not in folders
    assert folder.exists()
    simulator.stop()
    simulator.stop()
    assert not any(thread.is_alive() for thread in ours)
    assert not folder.exists()


def test_a_killed_process_does_no_row_twice(tmp_path: Path, make_api: Callable[..., Api]) -> None:
    """After SIGKILL in the middle of a job the next process does the rest of its rows."""
    home = tmp_path / "killed"
    command = [sys.executable, "-m", "mistral_nb.simulator", "--home", str(home)]
    with subprocess.Popen(
        [*command, "--batch-rate", "300"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found is not None
            other = make_api(home=home, batch_rate=None)  # holds its own rows back
            other.simulator.stop()
            other.http.base_url = found.group()
            job = other.job([row(n) for n in range(900)])
            while not other.get(f"/v1/batch/jobs/{job['id']}").json()["completed_requests"]:
                time.sleep(0.02)
        finally:
            process.kill()
    api = make_api(home=home)
    ended = api.ended(job)
    assert (ended["status"], ended["succeeded_requests"]) == ("SUCCESS", 900)
    assert len({line["custom_id"] for line in api.lines(ended["output_file"])}) == 900
    stats = api.simulator.stats()
    assert (stats["batch_rows"], stats["batch_rows_repeated"]) == (900, 0)


def test_two_on_one_home_share_the_work(make_api: Callable[..., Api], tmp_path: Path) -> None:
    """A job that two simulators could run is run once."""
    one, two = (make_api(home=tmp_path / "both", batch_rate=2000) for _ in range(2))
    ended = two.ended(one.job([row(n) for n in range(600)]))
    assert ended["succeeded_requests"] == 600
    stats = one.simulator.stats()
    assert (stats["batch_rows"], stats["batch_rows_repeated"]) == (600, 0)


def test_the_same_seed_says_the_same(make_api: Callable[..., Api]) -> None:
    """Same seed and request, same choices; another seed, other words."""
    said = [make_api(seed=seed).chat("Explain tides").json()["choices"] for seed in (1, 1, 2)]
    assert said[0] == said[1]
    assert said[0] != said[2]


def test_faults_can_be_set_over_http(api: Api) -> None:
    """POST /simulator/faults sets them, those left out are off, unknown ones are refused."""
    assert api.post("/simulator/faults", {"error_rate": 1}).json()["error_rate"] == 1
    assert api.chat("a").status_code == 500
    assert api.post("/simulator/faults", {"nonsense": 1}).status_code == 422
    assert api.post("/simulator/faults", {"error_rate": 2}).status_code == 422
    assert api.simulator.faults == Faults(error_rate=1)
    api.post("/simulator/faults", {})
    assert api.chat("a").status_code == 200
    assert api.get("/simulator/stats").json() == api.simulator.stats()


def test_faults_set_over_http_begin_anew(api: Api) -> None:
    """A count among the faults counts again when the faults are set again."""
    job = api.ended(api.job([row(1)]))
    for _ in range(2):
        api.post("/simulator/faults", {"batch_poll_errors": 1})
        seen = [api.get(f"/v1/batch/jobs/{job['id']}").status_code for _ in range(2)]
        assert seen == [503, 200]


def test_web_pages_may_not_steer_it(api: Api) -> None:
    """The control endpoints refuse requests that a browser marks with an origin."""
    headers = {"origin": "http://evil.test"}
    assert api.http.post("/simulator/faults", json={}, headers=headers).status_code == 403
