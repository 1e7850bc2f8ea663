"""Memory: every entry in the file, reopened in a new kernel, and lost by no server."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from mistral_nb.agents.branches import Node
from mistral_nb.agents.entries import Turn
from mistral_nb.errors import InputError, ServerError, StoreError
from mistral_nb.simulator import Faults
from tests.agents.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.agents.conversation import Conversation
    from mistral_nb.agents.opening import Conversations
    from mistral_nb.agents.registry import Agents
    from mistral_nb.simulator import Simulator


def get_weather(city: str) -> str:
    """Look at the weather."""
    return f"sunny in {city}"


def test_a_new_kernel_has_all_of_it(kernel: Callable[[], Conversations]) -> None:
    """Same name, same turns: entries, states, pictures, usage, setup."""
    draws = (b"\x89PNG\r\n\x1a\nrest",)

    def draw_map(city: str) -> bytes:
        """Draw a map."""
        return draws[0]

    options: dict[str, Any] = {"instructions": "Be brief.", "temperature": 0.2}
    first = kernel().open("mistral-large-latest", name="trip", tools=[draw_map], **options)
    first.approve = "always"
    first.send("Draw a map of Paris").result(10)
    first.send("Say: thanks").result(10)
    second = kernel().open(name="trip")
    assert second is not first
    assert second.turns == first.turns
    assert second.setup == first.setup
    assert (second.model, second.instructions) == ("mistral-large-latest", "Be brief.")
    assert second.turns[0].tool_calls[0].result.media[0].data == draws[0]
    assert second.send("Say: more").result(10).text == "more"
    assert [turn.question for turn in second.turns][-1] == "Say: more"


def test_entries_are_written_as_they_arrive(kernel: Callable[[], Conversations]) -> None:
    """While a turn still goes on, another reader finds its beginning in the file."""
    release = threading.Event()

    def get_weather(city: str) -> str:
        """Look at the weather."""
        release.wait(20)
        return "sunny"

    chat = kernel().open(name="trip", tools=[get_weather], approve="always")
    handle = chat.send("Weather in Paris?")
    until(lambda: len(handle.turn.entries) > 1 and handle.turn.entries[1].state == "running")
    chat.history.flush()  # the writer's thread may be a moment behind
    (turn,) = kernel().open(name="trip").turns
    assert [entry.type for entry in turn.entries] == ["message.input", "function.call"]
    assert (turn.status, turn.entries[1].state) == ("stopped", "stopped")
    release.set()
    handle.result(10)


def test_a_name_is_open_once(conversations: Conversations) -> None:
    """Two panels on one conversation share it; what is asked for anew is changed."""
    first = conversations.open(name="notes")
    second = conversations.open(name="notes", instructions="Be kind.", approve="never")
    assert second is first
    assert (first.instructions, first.approve, first.model) == (
        "Be kind.",
        "never",
        "mistral-small-latest",
    )


def test_conversations_are_listed(conversations: Conversations, agents: Agents) -> None:
    """The latest first, with who, how many turns and the first words; unnamed ones too."""
    conversations.open(name="notes").send("Say: one").result(10)
    agent = agents.create("Desk")
    conversations.open(agent=agent).send("Say: two").result(10)
    table = conversations.listing()
    assert list(table.index) == ["chat-1", "notes"]
    assert list(table["turns"]) == [1, 1]
    assert table.loc["notes", "first message"] == "Say: one"
    assert table.loc["chat-1", "who"] == agent.id
    assert conversations.open().name == "chat-2"


def test_deleting_forgets_here_and_there(
    conversations: Conversations, chat: Conversation, server: Simulator
) -> None:
    """Neither the file nor the server has it then."""
    chat.send("Say: one").result(10)
    chat.delete()
    assert conversations.listing().empty
    assert chat.turns == ()
    deleted = "DELETE /v1/conversations/{conversation_id} 204"
    assert server.stats()["requests"][deleted] == 1


def test_what_the_server_does_not_delete_is_kept(
    conversations: Conversations,
    chat: Conversation,
    server: Simulator,
    forget: Callable[[], list[str]],
) -> None:
    """Else nobody could delete it there any more; what the server has lost is deleted here."""
    chat.send("Say: one").result(10)
    server.faults = Faults(error_rate=1, error_status=503)
    with pytest.raises(ServerError):
        chat.delete()
    assert list(conversations.listing().index) == ["notes"]
    assert [turn.text for turn in chat.turns] == ["one"]
    server.faults = Faults()
    forget()
    chat.delete()
    assert conversations.listing().empty


def test_a_lost_conversation_goes_on(
    chat: Conversation, forget: Callable[[], list[str]], wire: Any
) -> None:
    """The server forgets between turns: the next one goes through, with the whole history."""
    chat.send("Say: one").result(10)
    chat.send("Say: two").result(10)
    assert len(forget()) == 1
    with chat.bus.stream("conversation:*") as events:
        assert chat.send("Say: three").result(10).text == "three"
        assert "recovered" in {record.reason for record in events.drain()}
    assert [turn.text for turn in chat.turns] == ["one", "two", "three"]
    assert said_to(wire) == ["Say: one", "one", "Say: two", "two", "Say: three", "three"]
    assert chat.send("Say: four").result(10).text == "four"


def said_to(wire: Any) -> list[str]:
    """Return what the server's only conversation holds."""

    async def read() -> list[str]:
        conversations = wire.sdk.beta.conversations
        (found,) = await conversations.list_async()
        history = await conversations.get_history_async(conversation_id=found.id)
        return [entry.content for entry in history.entries]

    return wire.portal.call(read)


def test_a_conversation_lost_in_mid_turn_goes_on(
    conversations: Conversations, forget: Callable[[], list[str]]
) -> None:
    """The server forgets while a tool runs: its result still reaches the model."""

    def get_weather(city: str) -> str:
        """Look at the weather."""
        forget()
        return f"sunny in {city}"

    chat = conversations.open(tools=[get_weather], approve="always")
    turn = chat.send("Weather in Paris?").result(10)
    assert (turn.status, turn.text) == ("done", "Here is what I found: sunny in Paris")
    assert len(turn.tool_calls) == 1


def test_a_conversation_lost_while_it_waits_for_consent_asks_again(
    conversations: Conversations, forget: Callable[[], list[str]]
) -> None:
    """A call on the server's side is gone with it: the model asks for it once more."""
    search = {"type": "web_search", "tool_configuration": {"requires_confirmation": ["web_search"]}}
    chat = conversations.open(tools=[search])
    with chat.attach():
        handle = chat.send("Search the web for tides")
        (consent,) = until(lambda: handle.pending)
        forget()
        consent.approve()
        (again,) = until(lambda: handle.pending)
        assert again is not consent
        again.approve()
        turn = handle.result(10)
    assert turn.status == "done"
    assert turn.citations


def test_a_lost_conversation_of_every_kind_of_entry_goes_on(
    conversations: Conversations, agents: Agents, forget: Callable[[], list[str]]
) -> None:
    """Handoffs, executions, calls and results are taken back by the server."""
    finance = agents.create(
        "Finance agent", description="money, weather", tools=[get_weather, "web_search"]
    )
    desk = agents.create("Front desk", handoffs=[finance])
    chat = conversations.open(agent=desk, tools=None, approve="always", name="all")
    chat.rules = conversations.open(agent=finance, approve="always").rules
    chat.send("Ask finance about my invoice").result(10)
    chat.send("Look at the weather in Paris").result(10)
    chat.send("Search the web for tides").result(10)
    kinds = {entry.type for turn in chat.turns for entry in turn.entries}
    assert kinds >= {"agent.handoff", "function.call", "function.result", "tool.execution"}
    forget()
    assert chat.send("Say: still here").result(10).text == "still here"


def test_what_the_server_refuses_otherwise_is_no_loss(
    chat: Conversation, server: Simulator
) -> None:
    """A 500 is an error, not a reason to start again with the whole history."""
    chat.send("Say: one").result(10)
    server.faults = Faults(error_rate=1)
    with pytest.raises(Exception, match="500"):
        chat.send("Say: two").result(10)
    assert "POST /v1/conversations 200" in server.stats()["requests"]
    assert server.stats()["conversation_requests"] == 1


def test_other_tools_start_again_with_the_history(
    kernel: Callable[[], Conversations], server: Simulator
) -> None:
    """A conversation cannot change its tools on the server: the next turn begins a new one."""
    kernel().open(name="trip").send("Say: one").result(10)
    chat = kernel().open(name="trip", tools=[get_weather], approve="always")
    assert chat.send("Weather in Paris?").result(10).text == "Here is what I found: sunny in Paris"
    assert server.stats()["requests"]["POST /v1/conversations 200"] == 2
    assert [turn.question for turn in chat.turns] == ["Say: one", "Weather in Paris?"]


def test_two_kernels_do_not_mix_their_turns(kernel: Callable[[], Conversations]) -> None:
    """Each goes on from what it shows; the other's turn is a branch beside it."""
    here, there = kernel().open(name="notes"), None
    here.send("Say: one").result(10)
    there = kernel().open(name="notes")
    there.send("Say: from there").result(10)
    mine = here.send("Say: from here").result(10)
    assert [turn.text for turn in here.turns] == ["one", "from here"]
    assert len(here.siblings(mine)) == 2


def test_what_is_written_is_written_at_the_end_of_a_turn(chat: Conversation, home: Path) -> None:
    """Who has the result may close the kernel: the file has it."""
    chat.send("Say: one").result(10)
    with closing(sqlite3.connect(home / "conversations.sqlite")) as db:
        rows = db.execute("SELECT type, state FROM entries ORDER BY part").fetchall()
        status = db.execute("SELECT status FROM turns").fetchall()
    assert rows == [("message.input", "done"), ("message.output", "done")]
    assert status == [("done",)]


def test_an_error_that_no_file_can_hold_is_mended(chat: Conversation) -> None:
    """Half a character in a server's words must not end the thread that writes."""
    turn = Turn("turn-x", "notes", status="failed", error="bad \ud800")
    chat.history.keep_turn(Node(turn), turn)
    chat.history.flush()
    kept = chat.history.load("notes")
    assert kept is not None
    assert kept.nodes[0].turn.error == "bad ?"


def test_a_file_of_somebody_elses_is_refused(home: Path, conversations: Conversations) -> None:
    """With its path and what to do."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "conversations.sqlite").write_text("not a database, but long enough to look at" * 9)
    with pytest.raises(StoreError, match=r"conversations\.sqlite.*move it away"):
        conversations.open(name="notes")


def test_a_model_can_be_the_answers_form(conversations: Conversations) -> None:
    """A pydantic class as response_format: the answer is JSON that fits it."""

    class Weather(BaseModel):
        city: str
        degrees: int

    chat = conversations.open(response_format=Weather)
    text = chat.send("It has 22 degrees in Paris").result(10).text
    assert Weather.model_validate_json(text) == Weather(city="Paris", degrees=22)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", 3])
def test_a_name_is_a_line_of_text(conversations: Conversations, name: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(InputError, match="line of text"):
        conversations.open(name=name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperatur": 1}, "temperatur is no option.*temperature"),
        ({"tool": []}, "tool is no option.*Did you mean tools"),
        ({"model": "m", "agent": "ag_1"}, "not both"),
        ({"max_rounds": -1}, "max_rounds must be a whole number from 1"),
        ({"tool_timeout": -1}, "number of seconds above 0"),
        ({"approve": "perhaps"}, "'ask', 'always', 'never'"),
    ],
)
def test_wrong_options_are_refused(conversations: Conversations, options: dict, words: str) -> None:
    """At once, with the name of the option."""
    with pytest.raises(InputError, match=words):
        conversations.open(**options)
