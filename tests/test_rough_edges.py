"""Rough edges: kernels that die or share a home, homes that cannot be used, clocks that jump."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from jupyter_client.manager import start_new_kernel

import mistral_nb as mnb
from mistral_nb.simulator import Faults

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mistral_nb.simulator import Simulator

ROWS, TOGETHER = 40, 4
CELL = f"""
import mistral_nb as mnb, pandas as pd
session = mnb.connect(api_key="k", server_url=URL)
df = pd.DataFrame({{"text": [f"NAME {{n}}" for n in range({ROWS})]}})
run = session.label(df, "{{text}}", labels=["a"], mode="online", concurrency={TOGETHER}, name="NAME")
print(run.result()["label"].notna().sum())
"""
PRIVATE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
"""Runs a shell script that may mount what nobody else sees."""
CANNOT_UNSHARE = (
    shutil.which("unshare") is None
    or subprocess.run([*PRIVATE, "true"], capture_output=True, check=False).returncode != 0
)
own_mounts = pytest.mark.skipif(CANNOT_UNSHARE, reason="needs Linux's unshare and its rights")


class Notebook:
    """A kernel, and cells that are run in it.

    Args:
        simulator: The server that its cells talk to.
    """

    def __init__(self, simulator: Simulator) -> None:
        self._url = simulator.url
        self._manager, self._client = start_new_kernel()

    def start(self, name: str) -> str:
        """Send the labelling cell and do not wait for it."""
        return self._client.execute(CELL.replace("URL", repr(self._url)).replace("NAME", name))

    def outcome(self, message: str) -> str:
        """Wait for a cell's end and return its prints, or its error in one line."""
        said: list[str] = []
        while True:
            output = self._client.get_iopub_msg(timeout=60)
            if output["parent_header"].get("msg_id") != message:
                continue
            content = output["content"]
            if output["msg_type"] == "stream" and content["name"] == "stdout":
                said.append(content["text"])
            if output["msg_type"] == "error":
                said.append(f"{content['ename']}: {content['evalue']}")
            if content.get("execution_state") == "idle":
                return "".join(said).strip()

    def restart(self) -> None:
        """Kill the kernel, as the notebook's Restart does with one that hangs."""
        self._manager.restart_kernel(now=True)
        self._client.wait_for_ready(timeout=60)

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


@pytest.fixture
def notebook(simulator: Simulator) -> Iterator[Notebook]:
    kernel = Notebook(simulator)
    yield kernel
    kernel.close()


def answered(simulator: Simulator, number: int) -> None:
    """Wait until the server was asked so often."""
    deadline = time.monotonic() + 60
    while simulator.stats()["chat_requests"] < number:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_restart_in_mid_run_and_run_all(notebook: Notebook, simulator: Simulator) -> None:
    """After a killed kernel the same cell ends the run; only what flew may be asked twice."""
    simulator.faults = Faults(latency=0.2)
    notebook.start("killed")
    answered(simulator, 3 * TOGETHER)
    notebook.restart()
    asked = simulator.stats()["chat_requests"]
    assert asked < ROWS
    simulator.faults = Faults()
    assert notebook.outcome(notebook.start("killed")) == str(ROWS)
    assert simulator.stats()["chat_requests"] <= ROWS + TOGETHER


def test_two_notebooks_on_one_home(notebook: Notebook, simulator: Simulator) -> None:
    """The same run is refused while another kernel follows it; nothing is asked twice."""
    other = Notebook(simulator)
    try:
        other.outcome(other.start("first"))
        simulator.faults = Faults(latency=0.3)
        first = notebook.start("both")
        answered(simulator, ROWS + TOGETHER)
        refused = other.outcome(other.start("both"))
        assert refused.startswith("RunError: Another process already follows the run 'both'")
        simulator.faults = Faults()
        second = other.start("mine")
        assert (notebook.outcome(first), other.outcome(second)) == (str(ROWS), str(ROWS))
        assert other.outcome(other.start("both")) == str(ROWS)
        assert notebook.outcome(notebook.start("mine")) == str(ROWS)
    finally:
        other.close()
    assert simulator.stats()["chat_requests"] == 3 * ROWS


@pytest.mark.parametrize("name", ["with a space", 'it\'s "quoted"', "ünï 名", "50%25#a?b&c;d"])
def test_a_home_of_any_name(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Runs, conversations and jobs are kept in a folder whatever it is called."""
    home = tmp_path / name
    monkeypatch.setenv("MISTRAL_NB_HOME", str(home))
    session = mnb.connect(api_key="k", server_url=simulator.url)
    df = pd.DataFrame({"text": ["x"]})
    session.label(df, "{text}", labels=["a"], name="kept").result()
    session.conversation(name="kept").send("Reply with exactly: yes").result()
    with session.queue() as queue:
        job = queue.add("complete", {"messages": "Reply with exactly: yes"})
        with queue.work():
            job.result().result(60)
    assert session.runs()["name"].tolist() == ["kept"]
    assert {path.name for path in home.iterdir()} >= {"runs", "queues", "conversations.sqlite"}


USE = """
import sys, mistral_nb as mnb, pandas as pd
session = mnb.connect(api_key="k", server_url=sys.argv[1])
print(session.stream("Reply with exactly: hi", show=False).result().text)
df = pd.DataFrame({"text": ["x"]})
for use in (
    lambda: session.label(df, "{text}", labels=["a"], name="new").result(),
    lambda: session.resume("old").result(),
    lambda: session.conversation(name="c").send("hi").result(),
    lambda: session.queue().add("complete", {}).result(),
):
    try:
        use()
    except mnb.errors.MistralNbError as error:
        print(type(error).__name__, error)
"""


@own_mounts
@pytest.mark.parametrize(
    ("mount", "why"),
    [
        (
            'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"',
            "Read-only|readonly|unable to open",
        ),
        (
            'mount -t tmpfs -o size=300k none "$0" && head -c 1M /dev/zero > "$0"/fill;',
            "full|No space",
        ),
    ],
    ids=["read-only", "full"],
)
def test_a_home_that_cannot_be_written(
    simulator: Simulator, home: Path, mount: str, why: str
) -> None:
    """Streams go on; all that must be kept says why it cannot be, and what to do."""
    session = mnb.connect(api_key="k", server_url=simulator.url, home=home)
    df = pd.DataFrame({"text": ["x"]})
    session.label(df, "{text}", labels=["a"], name="old").result()
    command = [*PRIVATE, f'{mount} exec "$@"' if mount.endswith(";") else f'{mount} && exec "$@"']
    command += [str(home), sys.executable, "-c", USE, simulator.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    said = done.stdout.splitlines()
    assert said[0] == "hi", done.stderr
    assert len(said) == 5, done.stdout
    for line in said[1:]:
        assert line.startswith(("StoreError", "InputError", "RunError")), line
    assert sum("MISTRAL_NB_HOME" in line or "free some space" in line for line in said) >= 3
    assert "Traceback" not in done.stderr
    assert pd.Series(said[1:]).str.contains(why).sum() >= 3, said


@own_mounts
def test_a_user_without_a_home_directory(simulator: Simulator) -> None:
    """Where the system knows no home, the error names the setting; with it, all works."""
    script = (
        "import sys, mistral_nb as mnb\n"
        "print(mnb.connect(api_key='k', server_url=sys.argv[1]).stream("
        "'Reply with exactly: hi', show=False).result().text)"
    )
    command = ["unshare", "--user", "--map-user=54321", sys.executable, "-c", script, simulator.url]
    gone = {"HOME", "XDG_DATA_HOME", "MISTRAL_NB_HOME"}
    env = {name: value for name, value in os.environ.items() if name not in gone}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert "SettingsError: No folder for local files is known" in done.stderr
    assert "Set MISTRAL_NB_HOME" in done.stderr
    env["MISTRAL_NB_HOME"] = "/nowhere"
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "hi\n"


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0], ids=["ahead", "back"])
def test_the_clock_jumps_by_a_day(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """Replies, runs and jobs under way end well, and no duration is negative."""
    real, ahead = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    simulator.faults = Faults(latency=0.1)
    session = mnb.connect(api_key="k", server_url=simulator.url)
    df = pd.DataFrame({"text": [f"{n}" for n in range(20)]})
    handle = session.stream("Explain tides", show=False)
    online = session.label(df, "{text}", labels=["a"], mode="online", concurrency=2, name="o")
    batch = session.label(df, "{text}", labels=["b"], name="b")
    with session.queue() as queue, queue.work():
        job = queue.add("complete", {"messages": "Explain tides"}).result()
        time.sleep(0.3)
        ahead = jump
        late = queue.add("complete", {"messages": "Reply with exactly: late"}).result()
        assert job.result(60)
        assert late.result(60)
    assert handle.result(60).finish_reason == "stop"
    for run in (online, batch):
        assert run.result(60)["label"].notna().all()
    assert handle.result().seconds >= 0
    assert "-" not in str(session.runs()["status"].tolist())
    assert (simulator.stats()["chat_repeated"], simulator.stats()["batch_rows_repeated"]) == (0, 0)
