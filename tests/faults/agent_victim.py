"""A kernel that is killed in mid-turn: holds a conversation and says when its tool runs."""

from __future__ import annotations

import sys
import time

from mistral_nb.agents.opening import Conversations
from mistral_nb.client import Connection
from mistral_nb.events import EventBus
from mistral_nb.settings import resolve


def read_table(name: str) -> str:
    """Read a table."""
    print("running", flush=True)
    time.sleep(60)
    return name


def main() -> None:
    """Send two messages; the second one's tool never returns."""
    url, home = sys.argv[1:]
    connection = Connection(resolve("key", url, home=home))
    conversations = Conversations(connection, EventBus(connection.portal))
    chat = conversations.open(name="victim", tools=[read_table], approve="always")
    chat.send("Say: one").result(20)
    chat.send("Read the table Sales").result(60)


if __name__ == "__main__":
    main()
