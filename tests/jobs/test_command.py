"""Laws of `mistral-nb worker`: a process that works until it is told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mistral_nb.cli import main
from mistral_nb.errors import InputError
from mistral_nb.jobs.model import Limit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.jobs import Queue
    from mistral_nb.simulator import Simulator

HANDLERS = """
from mistral_nb.jobs import handler

@handler("shout")
def shout(data):
    return data.upper()
"""


@pytest.mark.parametrize("url", ["embedded"], indirect=True)
def test_the_command_works_on_a_queue_and_ends_in_peace(
    make_queue: Callable[..., Queue], url: str, simulator: Simulator, tmp_path: Path
) -> None:
    """Handlers of a module and built-in ones run in the process; SIGTERM ends it with 0."""
    (tmp_path / "my_handlers.py").write_text(HANDLERS)
    queue = make_queue()
    command = [sys.executable, "-m", "mistral_nb", "worker", "--queue", url, "--name", queue.name]
    command += ["--handlers", "my_handlers", "--concurrency", "2", "--limit", "100/1s"]
    environment = {
        **os.environ, "MISTRAL_API_KEY": "a-secret-key", "MISTRAL_SERVER_URL": simulator.url
    }  # fmt: skip
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment
    ) as worker:
        assert queue.add("shout", "hello").result().result(60) == "HELLO"
        reply = queue.add("complete", {"prompt": "Say hello"}).result().result(60)
        worker.send_signal(signal.SIGTERM)
        _, told = worker.communicate(timeout=60)
    assert reply["text"]
    assert simulator.stats()["chat_requests"] == 1
    assert worker.returncode == 0, told
    assert "(shout) completed" in told
    assert "a-secret-key" not in told


@pytest.mark.parametrize("url", ["embedded"], indirect=True)
def test_a_refused_key_ends_the_command(
    make_queue: Callable[..., Queue], url: str, make_simulator: Callable[..., Simulator]
) -> None:
    """A worker that is turned away says why, leaves its job to others and ends with status 1."""
    server = make_simulator(api_keys={"right-key"})
    queue = make_queue()
    job = queue.add("complete", {"prompt": "Say hello"}).result()
    command = [sys.executable, "-m", "mistral_nb", "worker", "--queue", url, "--name", queue.name]
    keys = {"MISTRAL_API_KEY": "wrong-key", "MISTRAL_SERVER_URL": server.url}
    ended = subprocess.run(
        command, env={**os.environ, **keys}, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1, ended.stderr
    assert "refuses its key" in ended.stderr.splitlines()[-1]
    assert "wrong-key" not in ended.stderr
    assert (job.status, job.refresh().result().attempts_made) == ("queued", 0)


def test_a_module_that_is_not_there(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A module that cannot be imported ends the command with a sentence, before any work."""
    assert main(["worker", "--handlers", "no_such_module"]) == 2
    assert "no_such_module with handlers cannot be imported" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("10/1s", Limit(10, 1)),
        ("10/s", Limit(10, 1)),
        ("600/m", Limit(600, 60)),
        ("5/0.5s", Limit(5, 0.5)),
    ],
)
def test_limits_are_read(text: str, limit: Limit) -> None:
    """A limit is a number of starts and a time."""
    assert Limit.parse(text) == limit


@pytest.mark.parametrize("text", ["", "10", "0/s", "10/day", "-1/s", "10/1ss"])
def test_other_limits_are_refused(text: str) -> None:
    """What reads otherwise is refused."""
    with pytest.raises(InputError):
        Limit.parse(text)
