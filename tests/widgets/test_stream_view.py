"""The view where there is no browser: nbclient, papermill, and a front end that never answers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import nbformat
import papermill
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

from tests.replay import Replay, delta, sse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
SETUP = "import mistral_nb as mnb\nsession = mnb.connect(api_key='k', server_url={url!r})"
WAYS = [
    "reply = await session.stream('x')",
    "reply = session.stream('x').result()",
    "parts = [*session.stream('x')]",
    "async for part in session.stream('x'): pass",
]


@pytest.fixture
def replay() -> Iterator[Replay]:
    """A server whose reply has two paragraphs."""
    server = Replay()
    server.pieces = sse(delta("One *word*.\n\n"), delta("Two words."), delta("", "stop"), "[DONE]")
    yield server
    server.close()


def notebook(replay: Replay, *cells: str) -> nbformat.NotebookNode:
    """Build a notebook that begins with a session."""
    sources = [SETUP.format(url=replay.url), *cells]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in sources])


def test_settled_when_the_cell_ends(replay: Replay) -> None:
    """In nbclient every way to wait for a reply leaves static output below its own cell."""
    made = NotebookClient(notebook(replay, *WAYS), timeout=60).execute()
    for cell in made.cells[1:]:
        (output,) = cell.outputs
        assert "<em>word</em>" in output["data"]["text/html"]
        assert output["data"]["text/plain"] == "One *word*.\n\nTwo words."
    assert WIDGET_MIME not in json.dumps(made)
    assert "widgets" not in made.metadata


def test_an_error_is_shown_and_raised(replay: Replay) -> None:
    """The view tells it once above one line of error, and no widget waits for a Retry."""
    replay.pieces = sse(delta("Half"))
    made = NotebookClient(notebook(replay, WAYS[0]), timeout=60, allow_errors=True).execute()
    panel, traceback = made.cells[1].outputs
    assert "The reply was cut short" in panel["data"]["text/html"]
    assert traceback["ename"] == "StreamCut"
    assert len(traceback["traceback"]) == 1


def test_an_error_that_comes_before_its_view_is_shown_once(replay: Replay) -> None:
    """However long the view takes to come, no error panel tells the same beside it."""
    replay.pieces = sse(delta("Half"))
    late = (
        "import time\nfrom mistral_nb import widgets\nreal = widgets.show\n"
        "widgets.show = lambda *given, **more: (time.sleep(1), real(*given, **more))"
    )
    client = NotebookClient(notebook(replay, late, WAYS[0]), timeout=60, allow_errors=True)
    outputs = client.execute().cells[2].outputs
    assert sorted(each.output_type for each in outputs) == ["display_data", "error"]


def test_papermill(replay: Replay, tmp_path: Path) -> None:
    """A notebook that papermill runs holds the reply, and no widget state."""
    nbformat.write(notebook(replay, WAYS[0]), tmp_path / "in.ipynb")
    papermill.execute_notebook(
        tmp_path / "in.ipynb", tmp_path / "out.ipynb", kernel_name="python3", progress_bar=False
    )
    made = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert "<em>word</em>" in made.cells[1].outputs[0]["data"]["text/html"]
    assert WIDGET_MIME not in json.dumps(made)
    assert "widgets" not in made.metadata


def test_a_long_reply_is_resent_seldom(replay: Replay) -> None:
    """Without a live view the bytes of all updates stay within a few times the reply's."""
    pieces = [delta(f"Paragraph {number} of many.\n\n") for number in range(1000)]
    replay.pieces = sse(*pieces, delta("", "stop"), "[DONE]")
    client = NotebookClient(notebook(replay, WAYS[0]), timeout=60)
    sizes: list[int] = []
    process = client.process_message

    def counted(message: dict[str, Any], *rest: Any) -> Any:
        if message["msg_type"] == "update_display_data":
            sizes.append(len(json.dumps(message["content"])))
        return process(message, *rest)

    client.process_message = counted
    client.execute()
    assert sum(sizes) < 6 * sizes[-1]


@pytest.fixture
def client() -> Iterator[Any]:
    """A client that looks like JupyterLab but shows no widgets."""
    manager, client = start_new_kernel()
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run_cell(client: Any, code: str) -> None:
    """Send a cell as JupyterLab does, which names it in the request's metadata."""
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
    message = client.session.msg("execute_request", content | {"user_expressions": {}})
    message["metadata"] = {"cellId": "a-notebook-names-it"}
    client.shell_channel.send(message)


def messages(client: Any) -> Iterator[dict[str, Any]]:
    """Yield what the kernel says, for a minute at most."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        yield client.get_iopub_msg(timeout=30)


@pytest.fixture
def slow(replay: Replay) -> str:
    """Cell: ask for a reply that takes four seconds."""
    replay.pieces = sse(*[delta(f"Part {n}. ") for n in range(40)], delta("", "stop"), "[DONE]")
    replay.pause = 0.1
    return f"{SETUP.format(url=replay.url)}\nreply = session.stream('x')"


def test_a_front_end_that_never_answers(slow: str, client: Any) -> None:
    """When no view reports within two seconds, plain HTML takes its place and goes on growing."""
    run_cell(client, f"{slow}\nawait reply")
    shown = []
    for said in messages(client):
        if said["msg_type"] in {"display_data", "update_display_data"}:
            shown.append(said["content"]["data"])
        if said["content"].get("execution_state") == "idle":
            break
    first, *later = shown
    assert WIDGET_MIME in first
    assert len(later) > 1
    assert all(WIDGET_MIME not in data for data in later)
    assert "Part 39." in later[-1]["text/html"]


def test_a_front_end_that_answers_late(replay: Replay, slow: str, client: Any) -> None:
    """A view that reports after the plain HTML has taken its place gets it back, and the whole."""
    replay.pause = 1  # it goes on until the view has reported
    run_cell(client, slow)
    comms, shown, frames = [], [], []
    for said in messages(client):
        content = said["content"]
        if said["msg_type"] == "comm_open" and "_esm" in content["data"]["state"]:
            comms.append(content["comm_id"])
        elif said["msg_type"] == "comm_msg":
            frames.append(content["data"]["content"])
            if shown == [True, False, True]:
                replay.pause = 0
        elif said["msg_type"] in {"display_data", "update_display_data"}:
            shown.append(WIDGET_MIME in content["data"])
            if shown == [True, False]:
                greeting = {"method": "custom", "content": {"a": "ready", "p": "late"}}
                late = {"comm_id": comms[0], "data": greeting}
                client.shell_channel.send(client.session.msg("comm_msg", late))
                frames.clear()
            elif len(shown) > 2 and "Part 39." in str(content["data"]):
                break
    assert shown.count(True) == 2
    assert shown[-1] is False
    assert frames[0]["w"] == 1
    assert "Part 0." in str(frames[0]["t"])
    assert "e" in frames[-1]


def test_importing_the_view_loads_no_widget_library() -> None:
    """Anywidget and ipywidgets are imported when the first view is shown."""
    code = (
        "import sys, mistral_nb.widgets as w\n"
        "print([m for m in ('anywidget', 'ipywidgets', 'IPython') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
