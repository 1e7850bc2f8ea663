"""Turns: rounds of asking and running tools, stopping, failing, and exactly one end."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb.agents.tools import tool
from mistral_nb.errors import (
    AuthenticationError,
    InputError,
    NotFoundError,
    StreamCut,
    StreamMalformed,
    StreamRefused,
    StreamStalled,
)
from mistral_nb.records import TurnChunk, TurnComplete, TurnEntry, TurnError, TurnStart
from mistral_nb.simulator import Faults
from tests.agents.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.agents.conversation import Conversation
    from mistral_nb.agents.opening import Conversations
    from mistral_nb.agents.registry import Agents
    from mistral_nb.simulator import Simulator


def get_weather(city: str) -> str:
    """Look at the weather in a city."""
    return f"sunny in {city}"


@pytest.fixture
def with_tools(conversations: Conversations) -> Callable[..., Conversation]:
    """Open a conversation whose tools need no consent."""

    def opened(*tools: Any, **options: Any) -> Conversation:
        return conversations.open(tools=tools, **{"approve": "always", **options})

    return opened


def result_of(chat: Conversation, text: str) -> Any:
    """Return the only tool use of a turn."""
    (use,) = chat.send(text).result(20).tool_calls
    return use


def test_a_turn_is_awaited_iterated_or_waited_for(chat: Conversation) -> None:
    """All three give the same answer, and the handle knows it."""
    handle = chat.send("Say: one two three")
    assert "".join(handle) == "one two three"
    turn = handle.result(5)
    assert (turn.text, turn.question, turn.status) == (handle.text, "Say: one two three", "done")
    assert turn.finish_reason == "stop"
    assert turn.usage == handle.usage == chat.usage

    async def waits() -> tuple[str, list[str]]:
        other = chat.send("Say: four")
        return (await other).text, [piece async for piece in other]

    text, pieces = asyncio.run(waits())
    assert (text, "".join(pieces)) == ("four", "four")


def test_events_have_one_start_and_one_end(with_tools: Callable) -> None:
    """Start, entries and chunks, complete; whoever comes late hears of every entry."""
    chat = with_tools(get_weather)
    handle = chat.send("What is the weather in Paris?")
    records = list(handle.events())
    assert isinstance(records[0], TurnStart)
    assert isinstance(records[-1], TurnComplete)
    assert [type(record) for record in records[1:-1] if record.final] == []
    turn = handle.result(5)
    last = {record.part: record.entry for record in records if isinstance(record, TurnEntry)}
    assert tuple(last[part] for part in sorted(last)) == turn.entries
    said = [r.content for r in records if isinstance(r, TurnChunk) and r.kind == "text"]
    assert "".join(said) == turn.text
    late = list(handle.events())
    assert [record.entry for record in late[1:-1]] == list(turn.entries)


def test_chunks_point_to_their_entry(with_tools: Callable) -> None:
    """A chunk's part is the place of its entry, also for arguments."""
    handle = with_tools(get_weather).send("What is the weather in Paris?")
    parts = {r.kind: r.part for r in handle.events() if isinstance(r, TurnChunk)}
    kinds = [entry.type for entry in handle.result(5).entries]
    assert kinds[parts["tool"]] == "function.call"
    assert kinds[parts["text"]] == "message.output"


def test_calls_run_side_by_side(with_tools: Callable) -> None:
    """Two calls of one response meet; one after the other they would wait for ever."""
    barrier = threading.Barrier(2, timeout=5)

    def get_weather(city: str) -> str:
        """Look at the weather."""
        barrier.wait()
        return f"sunny in {city}"

    turn = with_tools(get_weather).send("Weather in Paris and Rome?").result(10)
    assert [use.text for use in turn.tool_calls] == ["sunny in Paris", "sunny in Rome"]
    assert [use.state for use in turn.tool_calls] == ["done", "done"]


def test_tools_in_order_take_several_rounds(with_tools: Callable, server: Simulator) -> None:
    """The second is called once the first has answered; usage counts every round."""

    def send_mail(person: str) -> str:
        """Send a mail."""
        return f"mail sent to {person}"

    chat = with_tools(get_weather, send_mail)
    turn = chat.send("Get the weather in Paris, then send a mail to Ada").result(10)
    assert [use.name for use in turn.tool_calls] == ["get_weather", "send_mail"]
    assert "mail sent to Paris" in turn.text or "mail sent to Ada" in turn.text
    assert server.stats()["conversation_requests"] == 3
    assert turn.usage is not None
    assert turn.usage.total_tokens == server.stats()["tokens"]


def test_an_error_is_told_to_the_model(with_tools: Callable) -> None:
    """A tool that raises gives the model its words, and the turn goes on."""

    def get_weather(city: str) -> str:
        """Look at the weather."""
        raise ValueError(f"no such place: {city}")

    use = result_of(with_tools(get_weather), "Weather in Paris?")
    assert use.state == "failed"
    assert use.text == "Error in get_weather: ValueError: no such place: Paris"


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, SystemExit, StopIteration, asyncio.CancelledError]
)
@pytest.mark.parametrize("plain", [True, False])
def test_an_interrupted_tool_ends_alone(
    with_tools: Callable, error: type[BaseException], plain: bool
) -> None:
    """What would end a program, or cancel a task, ends the tool; the loop lives on."""

    def fail(city: str) -> str:
        raise error

    async def fail_on_the_loop(city: str) -> str:
        raise error

    broken = tool(fail if plain else fail_on_the_loop, name="get_weather")
    chat = with_tools(broken)
    assert result_of(chat, "Weather in Paris?").state == "failed"
    assert chat.send("Say: alive").result(10).text == "alive"


def test_a_tool_that_hangs_is_left(with_tools: Callable) -> None:
    """After its time the model is told; the turn ends, the thread may go on."""
    release = threading.Event()

    def get_weather(city: str) -> str:
        """Look at the weather."""
        release.wait(20)
        return "late"

    use = result_of(with_tools(get_weather, tool_timeout=0.1), "Weather in Paris?")
    release.set()
    assert (use.state, use.text) == (
        "failed",
        "Error: get_weather did not finish within 0.1 s; it was left alone.",
    )


def test_a_tools_own_time_goes_first(with_tools: Callable) -> None:
    """A tool with more time than the conversation gives uses it."""

    def slow(city: str) -> str:
        time.sleep(0.2)
        return "there"

    chat = with_tools(tool(slow, name="get_weather", timeout=10), tool_timeout=0.01)
    assert result_of(chat, "Weather in Paris?").text == "there"


def test_a_tool_may_print_and_run_a_loop(
    with_tools: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    """Printing is not its result, and a loop of its own stands beside ours."""

    def get_weather(city: str) -> str:
        """Look at the weather."""

        async def ask() -> str:
            await asyncio.sleep(0)
            return f"sunny in {city}"

        print("looking")
        return asyncio.run(ask())

    assert result_of(with_tools(get_weather), "Weather in Paris?").text == "sunny in Paris"
    assert capsys.readouterr().out == "looking\n"


def test_asynchronous_tools_run_on_the_loop(with_tools: Callable) -> None:
    """A coroutine function is awaited; one that starts a loop there fails clearly."""

    async def get_weather(city: str) -> str:
        """Look at the weather."""
        await asyncio.sleep(0)
        return f"rain in {city}"

    async def starts_a_loop(city: str) -> str:
        waiting = asyncio.sleep(0)
        try:
            asyncio.run(waiting)
        finally:
            waiting.close()
        return "never"

    assert result_of(with_tools(get_weather), "Weather in Paris?").text == "rain in Paris"
    broken = with_tools(tool(starts_a_loop, name="get_weather"))
    assert "RuntimeError: asyncio.run() cannot be called" in result_of(broken, "Weather in A?").text


def test_a_result_is_put_into_words_beside_the_loop(with_tools: Callable) -> None:
    """However long that takes, other turns go on; where it fails, the model is told."""
    begun, release = threading.Event(), threading.Event()

    class Slow:
        def __str__(self) -> str:
            begun.set()
            assert release.wait(20)
            return "slow"

    class Mute:
        def __str__(self) -> str:
            raise ValueError("no words")

    def get_weather(city: str) -> Any:
        """Look at the weather."""
        return Slow() if city == "Paris" else Mute()

    chat = with_tools(get_weather)
    handle = chat.send("Weather in Paris?")
    assert begun.wait(10)
    assert with_tools().send("Say: meanwhile").result(10).text == "meanwhile"
    release.set()
    assert [use.text for use in handle.result(10).tool_calls] == ['"slow"']
    use = result_of(chat, "Weather in Rome?")
    assert (use.state, "cannot be told: ValueError: no words" in use.text) == ("failed", True)


def test_ten_megabytes_reach_the_model_cut(with_tools: Callable) -> None:
    """The result that is sent and kept is short, and says how long it was."""

    def get_weather(city: str) -> str:
        """Look at the weather."""
        return city * 2_000_000

    use = result_of(with_tools(get_weather), "Weather in Paris?")
    assert len(use.text) < 51_000
    assert "10,000,000 characters in all" in use.text


def test_a_tool_of_another_kernel_is_an_error_to_the_model(
    conversations: Conversations, kernel: Callable
) -> None:
    """A call of what this kernel was not given is answered with what to do; the turn ends."""
    conversations.open(name="notes", tools=[get_weather]).send("Say: hi").result(10)
    chat = kernel().open(name="notes", approve="always")
    use = result_of(chat, "Weather in Paris?")
    assert use.state == "failed"
    assert use.text == (
        "Error: the tool 'get_weather' was passed in another kernel, and is not here. The user "
        "can pass it again: mnb.conversation(name='notes', tools=[...])."
    )


def test_arguments_that_do_not_fit_are_an_error_to_the_model(with_tools: Callable) -> None:
    """The tool does not run; the model is told what fits."""

    class Strict:
        """Look at the weather."""

        def __call__(self, city: str) -> str:
            raise AssertionError

    made = tool(Strict(), name="get_weather")
    loose = {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}
    made.parameters.clear()
    made.parameters.update(loose)
    use = result_of(with_tools(made), "Weather in Paris?")
    assert use.state == "failed"
    assert "do not fit get_weather: city: Field required" in use.text


def test_rounds_have_a_limit(with_tools: Callable) -> None:
    """A model that calls for ever is cut off; the next message still goes through."""
    chat = with_tools(get_weather, max_rounds=3, tool_choice="any")
    turn = chat.send("Weather in Paris?").result(20)
    assert (turn.status, turn.finish_reason) == ("done", "max_rounds")
    assert [use.state for use in turn.tool_calls] == ["done", "done", "stopped"]
    assert "(max_rounds)" in turn._repr_mimebundle_()["text/html"]
    assert "(max_rounds)" in chat.to_markdown()
    assert chat.send("Weather in Rome?").result(20).status == "done"


def test_stop_keeps_what_has_come(chat: Conversation, server: Simulator) -> None:
    """The text so far stays, the status says stopped, the next turn knows of it."""
    server.chunk_delay = 0.02
    handle = chat.send("Explain tides")
    until(lambda: len(handle.text) > 20)
    handle.stop()
    turn = handle.result(5)
    assert (turn.status, turn.finish_reason) == ("stopped", "stopped")
    assert len(turn.text) > 20
    assert isinstance(list(handle.events())[-1], TurnComplete)
    server.chunk_delay = 0
    assert chat.send("Say: on").result(10).text == "on"
    assert [turn.question for turn in chat.turns] == ["Explain tides", "Say: on"]


def test_stop_in_the_middle_of_a_tool(with_tools: Callable) -> None:
    """The turn ends at once, without the tool's result; the conversation goes on."""
    begun, release = threading.Event(), threading.Event()

    def get_weather(city: str) -> str:
        """Look at the weather."""
        begun.set()
        release.wait(20)
        return "late"

    chat = with_tools(get_weather)
    handle = chat.send("Weather in Paris?")
    assert begun.wait(10)
    handle.stop()
    turn = handle.result(5)
    release.set()
    assert (turn.status, turn.tool_calls[0].state, turn.tool_calls[0].result) == (
        "stopped",
        "stopped",
        None,
    )
    assert chat.send("Say: on").result(10).text == "on"


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (Faults(cut_after=5), StreamCut),
        (Faults(drop_done=True), StreamCut),
        (Faults(malformed_chunk=5), StreamMalformed),
        (Faults(error_chunk=5), StreamRefused),
        (Faults(error_rate=1, error_status=503), Exception),
    ],
    ids=str,
)
def test_a_broken_answer_ends_the_turn_with_what_came(
    chat: Conversation, server: Simulator, faults: Faults, error: type[Exception]
) -> None:
    """One error event, the partial kept, and the next message goes through."""
    server.faults = faults
    handle = chat.send("Explain tides")
    with pytest.raises(error) as caught:
        handle.result(10)
    records = list(handle.events())
    assert isinstance(records[-1], TurnError)
    assert records[-1].turn == chat.turns[0]
    assert (chat.turns[0].status, chat.turns[0].error) == ("failed", str(caught.value))
    if hasattr(caught.value, "partial"):
        assert caught.value.partial.text == chat.turns[0].text != ""
    server.faults = Faults()
    assert chat.send("Say: on").result(10).text == "on"


def test_silence_is_not_waited_for_ever(server: Simulator, home: Any) -> None:
    """After the timeout setting, the turn has stalled."""
    from mistral_nb.session import Session
    from mistral_nb.settings import resolve

    session = Session(resolve(api_key="k", server_url=server.url, timeout=0.5))
    server.faults = Faults(stall_after=3)
    with pytest.raises(StreamStalled, match=r"0\.5 s"):
        session.conversation().send("Explain tides").result(10)


def test_many_calls_at_once_and_one_that_nobody_has(
    with_tools: Callable, server: Simulator
) -> None:
    """Twenty calls of one response all run; of a tool that is not there, the model is told."""
    calls = [{"name": "get_weather", "arguments": {"city": str(n)}} for n in range(20)]
    server.script([{"tools": [*calls, {"name": "drop_tables"}]}, "done"])
    turn = with_tools(get_weather).send("Go").result(20)
    *done, strange = turn.tool_calls
    assert [use.text for use in done] == [f"sunny in {n}" for n in range(20)]
    assert (strange.state, turn.text) == ("failed", "done")
    assert strange.text == "Error: there is no tool 'drop_tables' here. Tools: get_weather."


def test_unknown_events_do_not_disturb(chat: Conversation, server: Simulator) -> None:
    """They are entries of the turn, beside the whole answer."""
    server.faults = Faults(odd_chunks=True)
    turn = chat.send("Say: one two three four five six").result(10)
    assert turn.text == "one two three four five six"
    assert "moderation.checked" in {entry.type for entry in turn.entries}
    server.faults = Faults()
    assert chat.send("Say: on").result(10).text == "on"


def test_messages_queue_behind_a_running_turn(chat: Conversation, server: Simulator) -> None:
    """Sent in a row, answered in a row, each knowing of the one before."""
    server.chunk_delay = 0.01
    first, second, third = (chat.send(f"Say: {word} and more") for word in ("one", "two", "three"))
    until(lambda: chat.running is first)
    assert chat.queued == (second, third)
    assert (first.state, second.state) == ("running", "queued")
    assert [handle.result(20).text for handle in (first, second, third)] == [
        "one and more",
        "two and more",
        "three and more",
    ]
    assert [turn.id for turn in chat.turns] == [h.request_id for h in (first, second, third)]
    assert (chat.running, chat.queued) == (None, ())


def test_stopping_a_conversation_ends_the_queue(chat: Conversation, server: Simulator) -> None:
    """Every turn gets its end; those that waited never reached the server."""
    server.chunk_delay = 0.05
    handles = [chat.send("Explain tides"), chat.send("Say: never")]
    until(lambda: handles[0].text)
    chat.stop()
    assert [handle.result(5).status for handle in handles] == ["stopped", "stopped"]
    assert server.stats()["conversation_requests"] == 1
    assert len(chat.turns) == 1


def test_a_failed_turn_does_not_hold_up_the_queue(chat: Conversation, server: Simulator) -> None:
    """The one behind it goes on."""
    server.chunk_delay = 0.01
    server.faults = Faults(cut_after=30)
    first, second = chat.send("Explain tides"), chat.send("Say: on")
    with pytest.raises(StreamCut):
        first.result(10)
    assert second.result(10).text == "on"


def test_a_deleted_agent_is_said_plainly(conversations: Conversations, agents: Agents) -> None:
    """In mid-conversation: the error says so and what to do, and that way works."""
    agent = agents.create("Desk")
    chat = conversations.open(agent=agent, name="desk")
    chat.send("Say: one").result(10)
    agents.delete(agent)
    with pytest.raises(NotFoundError, match=r"is not there.*name='desk', model="):
        chat.send("Say: two").result(10)
    again = conversations.open("mistral-small-latest", name="desk")
    assert again is chat
    assert again.send("Say: three").result(10).text == "three"
    assert [turn.text for turn in chat.turns] == ["one", "", "three"]


def test_a_wrong_key_is_said_without_the_key(server: Simulator, home: Any) -> None:
    """As everywhere."""
    from mistral_nb.session import Session
    from mistral_nb.settings import resolve

    session = Session(resolve(api_key="wrong-key-123", server_url=server.url))
    with pytest.raises(AuthenticationError) as caught:
        session.conversation().send("hi").result(10)
    assert "wrong-key-123" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "  \n", None, 3])
def test_nothing_is_not_sent(chat: Conversation, text: Any) -> None:
    """An empty message is refused at once."""
    with pytest.raises(InputError, match="nothing to send"):
        chat.send(text)


def test_handoffs_are_part_of_the_turn(conversations: Conversations, agents: Agents) -> None:
    """Who handed over to whom stands between question and answer."""
    finance = agents.create("Finance agent", description="money and invoices")
    desk = agents.create("Front desk", handoffs=[finance])
    turn = conversations.open(agent=desk).send("Ask finance about my invoice").result(10)
    assert [(h.previous, h.next) for h in turn.handoffs] == [("Front desk", "Finance agent")]
    assert [entry.type for entry in turn.entries][1:] == ["agent.handoff", "message.output"]


def test_an_agent_brings_its_tools(conversations: Conversations, agents: Agents) -> None:
    """Functions given to create are run by a conversation with it; others are refused."""
    agent = agents.create("Weather", tools=[get_weather, "web_search"])
    chat = conversations.open(agent=agent, approve="always")
    assert result_of(chat, "Weather in Paris?").text == "sunny in Paris"

    def other() -> None:
        """Do something else."""

    with pytest.raises(InputError, match=r"does not know other.*agents\.update"):
        conversations.open(agent=agent, tools=[other])


def test_files_of_connectors_are_downloaded(conversations: Conversations) -> None:
    """The picture that a connector drew is fetched by its chunk."""
    chat = conversations.open(tools=["image_generation"])
    turn = chat.send("Draw an image of a cat").result(10)
    (file,) = turn.files
    assert (file.tool, file.type) == ("image_generation", "png")
    assert chat.download(file).startswith(b"\x89PNG")
    with pytest.raises(NotFoundError):
        chat.download("00000000-0000-4000-8000-000000000000")


def test_a_reasoning_model_thinks_apart(conversations: Conversations) -> None:
    """Its thoughts are no part of the answer."""
    turn = conversations.open("magistral-small-latest").send("2+2?").result(10)
    assert turn.text == "2+2 = 4"
    assert "2+2" in turn.thinking


def test_text_that_utf8_cannot_carry_is_replaced(chat: Conversation) -> None:
    """Half a character of a pasted text ends no turn."""
    turn = chat.send("Say: a\ud800b").result(10)
    assert (turn.status, turn.text, turn.question) == ("done", "a?b", "Say: a?b")


def test_a_turn_shows_its_answer_without_markup_of_the_models(
    chat: Conversation, server: Simulator
) -> None:
    """Markdown made safe, the error below it; plain text where there is no HTML."""
    shown = chat.send("Say: **bold** <img src=x onerror=alert(1)>").result(10)._repr_mimebundle_()
    assert "<strong>bold</strong>" in shown["text/html"]
    assert "<img" not in shown["text/html"]
    assert shown["text/plain"].startswith("**bold**")
    server.faults = Faults(cut_after=2)
    with pytest.raises(StreamCut):
        chat.send("Explain tides").result(10)
    assert "What had come is kept" in chat.turns[-1]._repr_mimebundle_()["text/html"]
