"""MCP servers, started here or reached by HTTP: their tools, their errors, their end."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mistral_nb.agents.servers import McpServer, mcp_server
from mistral_nb.agents.tools import ToolSet
from mistral_nb.errors import InputError, MistralNbError
from mistral_nb.portal import shared
from tests.agents.conftest import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mistral_nb.agents.opening import Conversations

COUNTER = Path(__file__).with_name("mcp_counter.py")


@pytest.fixture(scope="module", params=["stdio", "http"])
def counter(request: pytest.FixtureRequest) -> Iterator[McpServer]:
    """The counter, in a process of its own, by one way or the other."""
    if request.param == "stdio":
        with mcp_server([sys.executable, str(COUNTER)]) as made:
            yield made
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(COUNTER), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers)
        with mcp_server(f"http://127.0.0.1:{port}/mcp", headers={"x-key": "secret"}) as made:
            yield made
    finally:
        process.terminate()
        process.wait(10)


def test_its_tools_are_tools(counter: McpServer) -> None:
    """With descriptions and schemas; names that the API would refuse are made fit."""
    tools = ToolSet([counter])
    assert sorted(tools.own) == ["count_words", "fail_always"]
    made = tools.own["count_words"]
    assert made.description == "Count the words of a text."
    assert made.parameters["required"] == ["text"]
    assert "secret" not in repr(counter)


def test_a_conversation_calls_it(counter: McpServer, conversations: Conversations) -> None:
    """Like a function: consent, result, answer."""
    chat = conversations.open(tools=[counter], approve="always")
    turn = chat.send('Count the words of "one two three"').result(20)
    (use,) = turn.tool_calls
    assert (use.name, use.state) == ("count_words", "done")
    assert use.text.endswith("words")


def test_its_errors_are_told(counter: McpServer) -> None:
    """A tool that fails over there says so in its result."""
    (failing,) = [tool for tool in counter if tool.name == "fail_always"]
    said = counter._portal.call(failing.call, {"text": "broken"})
    assert "Error executing tool fail_always" in said


def test_a_closed_server_says_so(conversations: Conversations) -> None:
    """A call after the end is an error to the model, not a wait; closing twice does no harm."""
    server = mcp_server(f"{sys.executable} {COUNTER}", prefix="my_")
    assert [tool.name for tool in server][:1] == ["my_count_words"]
    server.close()
    server.close()
    chat = conversations.open(tools=[server], approve="always")
    (use,) = chat.send("Count the words of this").result(20).tool_calls
    assert (use.state, "is closed" in use.text) == ("failed", True)


@pytest.mark.parametrize(
    "target", ["/no/such/program", "http://127.0.0.1:9/mcp", [sys.executable, "-c", "1"]]
)
def test_what_is_no_server_says_so(target: object) -> None:
    """A command that is not there, an address nobody answers at, a program that ends."""
    with pytest.raises(MistralNbError, match="did not start"):
        mcp_server(target)  # type: ignore[arg-type]


def test_nothing_is_no_server() -> None:
    """An empty target is refused."""
    with pytest.raises(InputError, match="address or a command"):
        mcp_server("")


def test_the_loop_is_free_afterwards() -> None:
    """Nothing of a closed server's session is left running on the loop."""

    async def tasks() -> int:
        return len(asyncio.all_tasks())

    before = shared().call(tasks)
    with mcp_server([sys.executable, str(COUNTER)]) as server:
        assert shared().call(tasks) > before
    assert server._session.done()
    until(lambda: shared().call(tasks) <= before)
