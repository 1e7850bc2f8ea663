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
    from mistral_nb.agents.results import ToolResult

COUNTER = Path(__file__).with_name("mcp_counter.py")
ODD = Path(__file__).with_name("mcp_odd.py")


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


def test_its_errors_are_told(counter: McpServer, conversations: Conversations) -> None:
    """A tool that fails over there has failed here, with its words."""
    chat = conversations.open(tools=[counter], approve="always")
    (use,) = chat.send('Fail always with the text "broken"').result(20).tool_calls
    assert (use.name, use.state) == ("fail_always", "failed")
    assert "Error executing tool fail_always" in use.text


@pytest.fixture(scope="module")
def odd() -> Iterator[McpServer]:
    """A server with odd habits, in a process of its own."""
    with mcp_server([sys.executable, str(ODD)]) as made:
        yield made


def called(server: McpServer, name: str) -> ToolResult:
    """Call a tool as a turn does."""
    (made,) = (tool for tool in server if tool.name == name)
    return server._portal.call(made.call, {})


def test_tools_of_all_pages_are_there(odd: McpServer) -> None:
    """A server may list its tools in pages."""
    assert [tool.name for tool in odd] == ["draw_dot", "make_noise", "leave_now"]


@pytest.mark.parametrize("name", ["draw_dot", "make_noise"])
def test_pictures_are_for_the_person(odd: McpServer, name: str) -> None:
    """Text and pictures arrive, what else there is is named; noise in between does no harm."""
    result = called(odd, name)
    first, picture, broken, sound = result.text.splitlines()
    assert (first, "picture (PNG" in picture, sound) == ("Here:", True, "[audio; not shown]")
    assert "no picture" in broken
    assert [media.mime for media in result.media] == ["image/png"]


def test_a_server_that_dies_says_so() -> None:
    """The call in whose middle it died ends at once, and so does every later one."""
    with mcp_server([sys.executable, str(ODD)]) as server:
        for name in ("leave_now", "draw_dot"):
            with pytest.raises(MistralNbError, match=r"mcp_odd\.py has ended\. Open it again"):
                called(server, name)


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
