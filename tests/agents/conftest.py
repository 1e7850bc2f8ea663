"""Fixtures: conversations with a fast simulator of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from mistral_nb.agents.opening import Conversations
from mistral_nb.agents.registry import Agents
from mistral_nb.client import Connection
from mistral_nb.events import EventBus
from mistral_nb.settings import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mistral_nb.agents.conversation import Conversation
    from mistral_nb.agents.turns import TurnHandle
    from mistral_nb.simulator import Simulator

__all__ = ["until"]


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until something is true, and return it."""
    import time

    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if found := condition():
            return found
        time.sleep(0.005)
    raise AssertionError(f"Not so after {seconds} s")


@pytest.fixture
def server(make_simulator: Any) -> Simulator:
    """A simulator without pauses."""
    return make_simulator(chunk_delay=0)


@pytest.fixture
def wire(server: Simulator) -> Connection:
    """A connection to it."""
    return Connection(resolve(api_key="test-key", server_url=server.url, timeout=10))


@pytest.fixture
def kernel(wire: Connection) -> Callable[[], Conversations]:
    """Make what a new kernel has: conversations that know only the file."""

    def start() -> Conversations:
        return Conversations(wire, EventBus(wire.portal))

    return start


@pytest.fixture
def conversations(kernel: Callable[[], Conversations]) -> Conversations:
    """The conversations of one kernel."""
    return kernel()


@pytest.fixture
def chat(conversations: Conversations) -> Conversation:
    """A conversation with a model that has no tools."""
    return conversations.open(name="notes")


@pytest.fixture
def agents(wire: Connection) -> Agents:
    """The agents of the server."""
    return Agents(wire)


@pytest.fixture
def forget(server: Simulator) -> Callable[[], list[str]]:
    """Make the server lose all conversations."""

    def lose() -> list[str]:
        return httpx2.post(f"{server.url}/simulator/forget", json={}).json()["forgotten"]

    return lose


@pytest.fixture
def asked(chat: Conversation) -> Iterator[Callable[[TurnHandle], Any]]:
    """Be the person at the screen: return what a turn asks, once it does."""
    with chat.attach():
        yield lambda handle: until(lambda: handle.pending)
