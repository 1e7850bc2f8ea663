"""The running server: it stops clean, survives a kill, and shares a home with another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from mistral_nb.simulator import Faults, Simulator, shared_simulator, start_simulator
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


def test_the_shared_simulator_is_one_for_all_threads(tmp_path: Path) -> None:
    """However many threads ask first, one is started; after stop() the next ask starts anew."""
    found: list[Simulator] = []
    threads = [
        threading.Thread(target=lambda: found.append(shared_simulator(tmp_path / "shared")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(simulator) for simulator in found}) == 1
    assert shared_simulator(tmp_path / "shared") is found[0]
    found[0].stop()
    again = shared_simulator(tmp_path / "shared")
    assert again is not found[0]
    again.stop()


def test_a_process_with_a_shared_simulator_exits(tmp_path: Path) -> None:
    """Neither an open stream nor a running job keeps the interpreter from ending."""
    script = f"""
import httpx2
from mistral_nb.simulator import Faults, shared_simulator
simulator = shared_simulator({str(tmp_path / "exit")!r})
simulator.faults = Faults(stall_after=1)
client = httpx2.Client(base_url=simulator.url, headers={{"authorization": "Bearer k"}})
body = {{"model": "mistral-small-latest", "messages": [{{"role": "user", "content": "hi"}}]}}
simulator.batch_rate = 1
rows = [{{"custom_id": "1", "body": body}}] * 100
job = {{"endpoint": "/v1/chat/completions", "model": body["model"], "requests": rows}}
assert client.post("/v1/batch/jobs", json=job).status_code == 200
stream = client.stream("POST", "/v1/chat/completions", json=body | {{"stream": True}})
lines = stream.__enter__().iter_lines()
next(lines)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)


def test_importing_it_is_light() -> None:
    """The web server and the tokenizer are loaded when a simulator starts, not before."""
    script = """
import sys
import mistral_nb.simulator
heavy = {"starlette", "uvicorn", "tiktoken", "mistral_common", "pandas", "mistralai"}
sys.exit(bool(heavy & set(sys.modules)))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)


def test_in_the_foreground_it_prints_its_address_and_tidies_up(tmp_path: Path) -> None:
    """The first line holds the address; SIGTERM ends it without a trace."""
    command = [sys.executable, "-m", "mistral_nb.simulator", "--api-key", "sesame"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=env) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found is not None
        for key, status in (("sesame", 200), ("other", 401)):
            headers = {"authorization": f"Bearer {key}"}
            assert httpx2.get(f"{found.group()}/v1/models", headers=headers).status_code == status
        process.terminate()
        assert process.wait(timeout=10) == 0
        assert process.stderr.read() == ""
    assert list(tmp_path.glob("mistral-simulator-*")) == []


def test_a_taken_port_is_an_error_and_leaves_no_thread(make_api: Callable[..., Api]) -> None:
    """Starting a second one on the same port fails at once."""
    api = make_api()
    before = threading.active_count()
    port = int(api.simulator.url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        start_simulator(port=port)
    assert threading.active_count() == before


def test_an_idle_connection_is_not_closed_under_a_request(api: Api) -> None:
    """Who asks again after six seconds is answered on the same connection."""
    port = int(api.simulator.url.rpartition(":")[2])
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as wire:
        for pause in (6, 0):
            wire.request("GET", "/simulator/stats")
            assert wire.getresponse().read()
            assert wire.sock is not None  # else it would open another one
            time.sleep(pause)


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
    said = api.post("/simulator/faults", {"error_rate": "often"}).json()["message"]
    assert said.startswith("error_rate: Input should be a valid number")
    said = api.post("/simulator/script", {"reply": "no list"}).json()["message"]
    assert said == "Input should be a valid array"
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
