"""Replies as text on stdout."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mistral_nb.events import EventBus
from mistral_nb.streaming import start_stream
from mistral_nb.widgets import show
from tests.replay import Replay, delta, sse

if TYPE_CHECKING:
    from mistral_nb.client import Connection


def test_text_is_printed_before_the_reply_is_given(
    connection: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of the answer is on stdout when result() returns, and nothing else."""
    handle = start_stream(connection, EventBus(connection.portal), "Say hello")
    assert show(handle) is None
    reply = handle.result(20)
    printed = capsys.readouterr().out
    assert printed == reply.text.rstrip("\n") + "\n"


def test_a_script_prints_how_a_reply_ended() -> None:
    """The text and how it ended are on stdout before the error is raised."""
    server = Replay()
    server.pieces = sse(delta("half "), delta("a reply"))
    script = (
        "import mistral_nb as mnb\n"
        f"session = mnb.connect(api_key='k', server_url={server.url!r})\n"
        "try: session.stream('x', show=True).result()\n"
        "except mnb.errors.StreamCut: print('raised')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    server.close()
    assert done.stdout.startswith("half a reply\n[The reply was cut short")
    assert done.stdout.endswith("]\nraised\n")


def test_a_closed_pipe_harms_nothing(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nobody reads the output any more, the reply still arrives."""
    read, write = os.pipe()
    os.close(read)
    broken = os.fdopen(write, "w", buffering=1)
    monkeypatch.setattr(sys, "stdout", broken)
    handle = start_stream(connection, EventBus(connection.portal), "Say hello")
    show(handle)
    assert handle.result(20).finish_reason == "stop"
    monkeypatch.undo()
    with pytest.raises(BrokenPipeError):
        broken.close()
