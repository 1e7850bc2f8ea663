"""Laws of the job board's kernel half: what it says of a queue without a browser."""

from __future__ import annotations

import asyncio
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

from mistral_nb.client import Connection
from mistral_nb.errors import JobError
from mistral_nb.events import EventBus
from mistral_nb.jobs import GiveUp, Queue
from mistral_nb.settings import resolve
from mistral_nb.widgets.job_board import PACE_SECONDS, JobBoard, job_board

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def queue(home: Path) -> Iterator[Queue]:
    connection = Connection(resolve("key", "http://127.0.0.1:9", home=home))
    with Queue(connection=connection, bus=EventBus(connection.portal)) as queue:
        yield queue


def settled(queue: Queue) -> JobBoard:
    board = job_board(queue)
    board.settle()
    return board


def test_a_queue_as_text(queue: Queue) -> None:
    """Outside a notebook the board prints the counts and the jobs, failures with their reason."""
    assert str(settled(queue)) == "Queue jobs: no jobs"

    @queue.handler("work")
    async def work(data: Any) -> Any:
        if data is None:
            raise GiveUp("nothing <b>to</b> do")
        return data

    good = queue.add("work", 1, job_id="good").result()
    bad = queue.add("work", job_id="bad").result()
    queue.add("work", 2, job_id="later", delay=60).result()
    with queue.work():
        good.result(20)
        with pytest.raises(JobError):
            bad.result(20)
    board = settled(queue)
    text = str(board)
    assert text.startswith("Queue jobs: 1 delayed, 1 completed, 1 failed")
    assert "nothing <b>to</b> do" in text
    assert [line.split()[0] for line in text.splitlines()[4:]] == ["bad", "later", "good"]
    assert repr(board) == "JobBoard('jobs': 1 delayed, 1 completed, 1 failed)"


def test_static_content_is_harmless(queue: Queue) -> None:
    """Names and errors of jobs are escaped in what stays in the file."""
    queue.add("<script>alert(1)</script>", job_id="x").result()
    html = settled(queue)._static()["text/html"]
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_a_long_queue_is_cut(queue: Queue) -> None:
    """Of many jobs some are listed, and it says of how many."""
    queue.add_many([{"name": "nobody"} for _ in range(40)]).result()
    assert "10 of 40 jobs" in str(settled(queue))


def test_a_notebook_without_widgets_is_kept_up_to_date(tmp_path: Path) -> None:
    """Where no page can show the board, its static content follows the queue."""
    cell = """
        import asyncio, mistral_nb as mnb
        from mistral_nb.widgets import job_board
        job_board.STATIC_EVERY = 0.2
        mnb.connect(api_key="k", server_url="http://127.0.0.1:9", home=HOME)
        queue = mnb.Queue()
        board = mnb.job_board(queue)
        await queue.add("nobody")
        await asyncio.sleep(3)
    """
    source = dedent(cell).replace("HOME", repr(str(tmp_path)))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    (output,) = NotebookClient(notebook, timeout=60).execute().cells[0].outputs
    assert "Queue jobs: 1 queued" in output["data"]["text/plain"]


def test_a_look_under_way_shows_nothing_half(queue: Queue) -> None:
    """Whoever prints the board while it looks at the queue finds every job on it."""
    queue.add_many([{"name": "nobody"}, {"name": "nobody", "delay": 60}]).result()
    queue.add("nobody", job_id="gone").result()
    queue.cancel("gone").result()
    board = settled(queue)
    seen = []

    async def look() -> None:
        looking = asyncio.create_task(board._look())
        while not looking.done():
            seen.append(str(board).count("nobody"))
            await asyncio.sleep(0)

    queue.portal.call(look)
    assert set(seen) == {3}


def test_the_pace_is_of_the_last_minute(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends are counted by the second, and forgotten after a minute."""
    board = settled(queue)
    now = 1_800_000_000.0
    monkeypatch.setattr("mistral_nb.widgets.job_board.time.time", lambda: now)
    board._ends.extend([now - 70, now - 59.5, now - 1.5, now - 1.2, now])
    pace = board._pace()
    assert len(pace) == PACE_SECONDS
    assert (pace[0], pace[-2], pace[-1], sum(pace)) == (1, 2, 1, 4)
