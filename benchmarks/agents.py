"""CPU per round of a conversation: asking, running a tool, keeping history; beside the SDK alone.

    python benchmarks/agents.py [--rounds 40] [--runs 3]

A round is one request, its streamed answer with one function call, the call of a plain
function, and every entry in SQLite. The model always calls, so a turn takes all its rounds.
Below it the same requests by the SDK, their events only iterated. The simulator is a process
of its own; CPU is that of this whole process, its threads among them.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from mistral_nb.agents.opening import Conversations
from mistral_nb.agents.tools import tool
from mistral_nb.client import Connection
from mistral_nb.events import EventBus
from mistral_nb.settings import resolve

SERVER = """
import tempfile
from mistral_nb.simulator import start_simulator
simulator = start_simulator(tempfile.mkdtemp(), chunk_delay=0)
print(simulator.url, flush=True)
simulator.wait()
"""
LIMIT = 5.0
"""Milliseconds that a round may take."""


def get_weather(city: str) -> str:
    """Look at the weather in a city."""
    return f"sunny in {city}"


def ours(conversations: Conversations, rounds: int) -> float:
    """Return CPU milliseconds a round of a turn of ours."""
    chat = conversations.open(
        tools=[get_weather], approve="always", max_rounds=rounds, tool_choice="any"
    )
    began = time.process_time()
    turn = chat.send("Weather in Paris?").result(120)
    spent = time.process_time() - began
    assert len(turn.tool_calls) == rounds
    return spent / rounds * 1000


async def theirs(connection: Connection, rounds: int) -> float:
    """Return CPU milliseconds a request of the SDK's, for the same requests."""
    conversations = connection.sdk.beta.conversations
    tools: Any = [tool(get_weather).as_wire()]
    remote = call = ""
    began = time.process_time()
    stream = await conversations.start_stream_async(
        model="mistral-small-latest",
        inputs="Weather in Paris?",
        tools=tools,
        completion_args={"tool_choice": "any"},
    )
    for number in range(rounds):
        async for event in stream:
            remote = getattr(event.data, "conversation_id", remote)
            call = getattr(event.data, "tool_call_id", call)
        if number == rounds - 1:
            break
        result = {"type": "function.result", "tool_call_id": call, "result": "sunny in Paris"}
        stream = await conversations.append_stream_async(conversation_id=remote, inputs=[result])
    return (time.process_time() - began) / rounds * 1000


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with (
        subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE) as server,
        tempfile.TemporaryDirectory() as home,
    ):
        assert server.stdout is not None
        url = server.stdout.readline().decode().strip()
        connection = Connection(resolve("bench", url, home=home))
        conversations = Conversations(connection, EventBus(connection.portal))
        ours(conversations, 5)
        connection.portal.call(theirs, connection, 5)
        mine, sdk = [], []
        for _ in range(options.runs):
            mine.append(ours(conversations, options.rounds))
            sdk.append(connection.portal.call(theirs, connection, options.rounds))
        server.terminate()
    own, other = statistics.median(mine), statistics.median(sdk)
    print(f"turns of {options.rounds} rounds, medians of {options.runs} runs, CPU of the process")
    print(f"{'the SDK: request, events iterated':36} {other:6.2f} ms/round")
    print(f"{'ours: with tool, consent, history':36} {own:6.2f} ms/round   (limit {LIMIT:g})")


if __name__ == "__main__":
    main()
