"""Do what an extra is for, in an environment that has the package with that extra alone.

    python scripts/extras.py EXTRA

``make matrix`` makes the environments. ``none`` is the package without any extra: there the demo
runs, and what needs an extra says which.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

TEXTS = ["My refund is missing", "Where is my parcel?"]
TOPICS = ["refund", "delivery"]
LESSON = Path(__file__).resolve().parents[1] / "notebooks" / "00_quickstart.ipynb"
COUNTER = """
from mcp.server import MCPServer

server = MCPServer("counter")

@server.tool()
def count_words(text: str) -> str:
    '''Count the words of a text.'''
    return str(len(text.split()))

server.run("stdio")
"""


def none() -> None:
    """The demo runs; what needs an extra names it."""
    import mistral_nb as mnb

    command = [sys.executable, "-m", "mistral_nb"]
    subprocess.run([*command, "demo"], check=True)
    refused: dict[str, Callable[[], object]] = {
        "redis": lambda: mnb.Queue("redis://127.0.0.1:9/0"),
        "agents": lambda: mnb.agents.mcp_server(["nobody"]),
        "quality": lambda: labelled().evaluate(gold=TOPICS),
    }
    for extra, use in refused.items():
        said = ""
        try:
            use()
        except mnb.errors.MissingPackage as error:
            said = str(error)
        assert f"mistral-nb[{extra}]" in said, extra
    assert subprocess.run([*command, "lab"], check=False).returncode != 0


def labelled(table: Any = None) -> Any:
    """Label a table of two texts and return the run, which has ended."""
    import pandas as pd

    import mistral_nb as mnb

    df = pd.DataFrame({"text": TEXTS}) if table is None else table
    run = mnb.label(df, "Which topic? {text}", labels=TOPICS, show=False)
    run.result(timeout=60)
    return run


def polars() -> None:
    """A polars table comes back labelled, as a polars table."""
    import polars as pl

    done = labelled(pl.DataFrame({"text": TEXTS})).result()
    assert isinstance(done, pl.DataFrame)
    assert done["label"].to_list() == TOPICS


def dask() -> None:
    """A Dask table is labelled on a cluster of two worker processes."""
    import dask.dataframe as dd
    import pandas as pd
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        frame = dd.from_pandas(pd.DataFrame({"text": TEXTS}), npartitions=2)
        done = labelled(frame).result().compute()
    assert done["label"].tolist() == TOPICS


def redis() -> None:
    """A job goes through a queue in Redis."""
    import mistral_nb as mnb

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tempfile.mkdtemp()
    server = subprocess.Popen(
        [str(shutil.which("redis-server")), "--port", str(port), "--dir", folder, "--save", ""]
    )
    try:
        queue = mnb.Queue(f"redis://127.0.0.1:{port}/0")
        queue.handler("shout")(lambda words: words.upper())
        with queue.work():
            job = queue.add("shout", "hello").result(timeout=60)
            assert job.result(timeout=60) == "HELLO"
        queue.close()
    finally:
        server.terminate()
        server.wait()


def agents() -> None:
    """A conversation calls a tool of an MCP server."""
    import mistral_nb as mnb

    with mnb.agents.mcp_server([sys.executable, "-c", COUNTER]) as counter:
        chat = mnb.conversation(tools=[counter], approve="always")
        turn = chat.send('Count the words of "one two three"').result(timeout=60)
    (call,) = turn.tool_calls
    assert (call.name, call.state) == ("count_words", "done")


def quality() -> None:
    """Labels are measured against a person's, and drawn."""
    import matplotlib as mpl

    mpl.use("agg")
    measured = labelled().evaluate(gold=TOPICS)
    assert measured.accuracy == 1
    assert measured.plot().figure is not None


def lab() -> None:
    """JupyterLab has what the views need, and the first lesson runs."""
    listing = [sys.executable, "-m", "jupyter", "labextension", "list"]
    said = subprocess.run(listing, capture_output=True, text=True, check=True)
    assert {"anywidget", "@jupyter-widgets/jupyterlab-manager"} <= set(
        (said.stdout + said.stderr).split()
    )
    import nbformat
    from nbclient import NotebookClient

    lesson = nbformat.read(LESSON, as_version=4)
    place = {"metadata": {"path": str(LESSON.parent)}}
    asyncio.run(NotebookClient(lesson, timeout=120, resources=place).async_execute())


WAYS: dict[str, Callable[[], None]] = {
    each.__name__: each for each in (none, agents, dask, lab, polars, quality, redis)
}
"""Each extra, and what is done with it."""


if __name__ == "__main__":
    WAYS[sys.argv[1]]()
