"""Laws of a lost kernel: what was said is in the file, and the conversation goes on from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

from mistral_nb.agents.opening import Conversations
from mistral_nb.client import Connection
from mistral_nb.events import EventBus
from mistral_nb.settings import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.simulator import Simulator

VICTIM = Path(__file__).with_name("agent_victim.py")


def test_a_kill_in_the_middle_of_a_tool_loses_nothing(
    make_simulator: Callable[..., Simulator], tmp_path: Path
) -> None:
    """Kernel and server both lose their memory: the file brings the conversation back."""
    simulator, home = make_simulator(chunk_delay=0), tmp_path / "victim"
    command = [sys.executable, str(VICTIM), simulator.url, str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"running\n"
        victim.kill()
    connection = Connection(resolve("key", simulator.url, home=home))
    chat = Conversations(connection, EventBus(connection.portal)).open(name="victim")
    one, two = chat.turns
    assert (one.status, one.text) == ("done", "one")
    assert (two.status, two.question) == ("stopped", "Read the table Sales")
    assert [(use.name, use.state) for use in two.tool_calls] == [("read_table", "stopped")]
    # The server still waits for the result of that call, and would refuse to go on.
    assert chat.send("Say: two").result(10).text == "two"
    httpx2.post(f"{simulator.url}/simulator/forget", json={})
    assert chat.send("Say: three").result(10).text == "three"
    assert [turn.text for turn in chat.turns] == ["one", "", "two", "three"]
