"""Laws of a run's view: it moves while the run goes on, and is static when that has ended."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from jupyter_client.manager import start_new_kernel

from mistral_nb.client import Connection
from mistral_nb.events import EventBus
from mistral_nb.labelling import start_run
from mistral_nb.settings import resolve
from mistral_nb.simulator import Faults, start_simulator
from mistral_nb.widgets import run_view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jupyter_client import BlockingKernelClient, KernelManager

    from mistral_nb.simulator import Simulator

WIDGET = "application/vnd.jupyter.widget-view+json"
SETUP = """
import mistral_nb as mnb, pandas as pd
session = mnb.connect(api_key="k", server_url={url!r}, home={home!r})
df = pd.DataFrame({{"text": [f"where is parcel {{n}}" for n in range(400)]}})
"""
CONCURRENCY = {"batch": None, "online": 2}
LABEL = "run = session.label(df, 'Topic? {text}', labels=['a', 'b'], name=%r, show=True)"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    simulator = start_simulator(batch_rate=600)
    yield simulator
    simulator.stop()


@pytest.fixture(scope="module")
def kernel(
    server: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    folder = str(tmp_path_factory.mktemp("kernel"))
    manager, client = start_new_kernel(cwd=folder)
    reply = client.execute_interactive(SETUP.format(url=server.url, home=folder), timeout=60)
    assert reply["content"]["status"] == "ok", reply
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def execute(client: BlockingKernelClient, code: str) -> str:
    """Send a cell as a notebook does, with its name in the metadata."""
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
    message = client.session.msg("execute_request", content, metadata={"cellId": "cell"})
    client.shell_channel.send(message)
    return str(message["header"]["msg_id"])


def outputs(client: BlockingKernelClient, cell: str) -> list[tuple[str, dict[str, Any]]]:
    """Return all messages of a cell until it is idle."""
    found = []
    while True:
        message = client.get_iopub_msg(timeout=30)
        if message["parent_header"].get("msg_id", cell) != cell:  # frames have no parent
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "status" and content["execution_state"] == "idle":
            return found
        found.append((kind, content))


def test_a_notebook_shows_a_view_that_becomes_static(
    kernel: tuple[KernelManager, BlockingKernelClient], server: Simulator
) -> None:
    """The view moves while the cell waits; then static, escaped text stands in its place."""
    _, client = kernel
    server.batch_rate = 100  # seconds of work, which a busy machine sees in between
    cell = execute(client, f"{LABEL % '<b>x</b>'}\nlen(await run)")
    seen = outputs(client, cell)
    first = next(content for kind, content in seen if kind == "display_data")
    assert WIDGET in first["data"]
    frames = [
        content["data"]["content"]
        for kind, content in seen
        if kind == "comm_msg" and content["data"]["method"] == "custom"
    ]
    ended = [sum(frame["c"][1:4]) for frame in frames if "c" in frame]
    assert ended == sorted(ended)
    assert any(0 < each < 400 for each in ended)
    assert [frame["n"] for frame in frames] == sorted(frame["n"] for frame in frames)
    assert max(len(str(frame)) for frame in frames) < 2_000
    last = [content for kind, content in seen if kind == "update_display_data"][-1]
    assert set(last["data"]) == {"text/html", "text/plain"}
    assert last["transient"] == first["transient"]
    assert "&lt;b&gt;x&lt;/b&gt;: 400 of 400 rows labelled" in last["data"]["text/html"]
    assert [content for kind, content in seen if kind == "execute_result"]
    server.batch_rate = 600


def test_an_interrupted_cell_says_how_to_go_on(
    kernel: tuple[KernelManager, BlockingKernelClient], server: Simulator
) -> None:
    """The stop square ends the wait, not the run: the cell says so, and waits again."""
    manager, client = kernel
    server.batch_rate = None
    jobs = server.stats()["jobs_created"]
    execute(client, "df['text'] += ' today'")
    cell = execute(client, f"{LABEL % 'long'}\nawait run")
    while server.stats()["jobs_created"] == jobs:
        time.sleep(0.02)
    time.sleep(0.3)
    manager.interrupt_kernel()
    seen = outputs(client, cell)
    said = "".join(content["text"] for kind, content in seen if kind == "stream")
    assert "The run 'long' goes on" in said
    assert "mnb.resume('long')" in said
    server.batch_rate = 600
    seen = outputs(client, execute(client, "(await run)['label'].notna().sum()"))
    result = next(content for kind, content in seen if kind == "execute_result")
    assert "400" in result["data"]["text/plain"]
    assert server.stats()["jobs_created"] == jobs + 1


def test_a_notebook_run_by_a_program_gets_static_content(
    kernel: tuple[KernelManager, BlockingKernelClient],
) -> None:
    """Where no page can show a widget none is made: static content comes, and is brought up."""
    _, client = kernel
    cell = client.execute(f"df['text'] += '!'\n{LABEL % 'static'}\nlen(await run)")
    seen = outputs(client, cell)
    first = next(content for kind, content in seen if kind == "display_data")
    last = [content for kind, content in seen if kind == "update_display_data"][-1]
    for content in (first, last):
        assert set(content["data"]) == {"text/html", "text/plain"}
        assert content["transient"] == first["transient"]
    assert "static: 400 of 400 rows labelled" in last["data"]["text/plain"]
    assert not [kind for kind, _ in seen if kind.startswith("comm_")]


def test_a_view_that_nobody_mounts_gives_way(
    kernel: tuple[KernelManager, BlockingKernelClient], server: Simulator
) -> None:
    """If no page greets in time, static content takes the widget's place while the run goes on."""
    _, client = kernel
    server.batch_rate = None
    setup = "from mistral_nb.widgets import run_view\nrun_view.READY_LIMIT = 0.2\ndf['text'] += '?'"
    outputs(client, execute(client, setup))
    execute(client, LABEL % "unseen")
    while (message := client.get_iopub_msg(timeout=30))["msg_type"] != "update_display_data":
        pass
    last = message["content"]
    assert set(last["data"]) == {"text/html", "text/plain"}
    assert "unseen: 0 of 400 rows" in last["data"]["text/plain"]
    server.batch_rate = 600
    seen = outputs(client, execute(client, "run_view.READY_LIMIT = 10\n_ = await run"))
    assert not [content for kind, content in seen if kind == "error"]


def run_shown(
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    stream: io.StringIO,
    mode: str = "batch",
    **options: bool,
) -> str:
    connection = Connection(resolve("k", simulator.url))
    df = pd.DataFrame({"text": [f"text {n}" for n in range(60)]})
    asked = {"prompt": "{text}", "labels": ["a", "b"], "retries": 0, "mode": mode}
    run = start_run(
        connection, EventBus(connection.portal), df, concurrency=CONCURRENCY[mode], **asked
    )
    monkeypatch.setattr(sys, "stderr", stream)
    run_view.show(run, **options)
    run.result(30)
    return stream.getvalue()


def test_a_terminal_gets_a_bar_and_a_last_line(
    make_simulator: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal tqdm counts rows, and the last line sums up, failures included."""
    simulator = make_simulator(batch_rate=100, faults=Faults(batch_row_error_rate=0.3))
    written = run_shown(simulator, monkeypatch, Terminal())
    assert "/60" in written
    assert "running" in written
    assert "failed (see the error column" in written.splitlines()[-1]


def test_a_terminal_is_told_the_cost_as_it_grows(
    make_simulator: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Online, where answers come one by one, the bar has the dollars so far beside it."""
    simulator = make_simulator(faults=Faults(latency=0.1))
    written = run_shown(simulator, monkeypatch, Terminal(), "online")
    bar, last = written.rsplit("\r", 1)
    assert "running, $0.0" in bar
    assert "60 of 60 rows labelled" in last


def test_a_script_gets_nothing_unless_it_asks(
    make_simulator: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where stderr is no terminal nothing is written, but `show=True` writes."""
    simulator = make_simulator(batch_rate=0)
    assert not run_shown(simulator, monkeypatch, io.StringIO())
    assert "60 of 60" in run_shown(simulator, monkeypatch, io.StringIO(), force=True)


def test_the_module_needs_no_notebook() -> None:
    """Importing it loads neither IPython nor ipywidgets."""
    code = (
        "import sys, mistral_nb.widgets.run_view; "
        "print([m for m in ('IPython', 'ipywidgets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
