"""The transcript that stays in the notebook file: whole, safe, and with its source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import mistral_nb as mnb
from mistral_nb.agents.branches import Node
from mistral_nb.agents.entries import Entry, Media, Turn
from mistral_nb.agents.opening import Conversations
from mistral_nb.errors import InputError
from mistral_nb.events import EventBus
from mistral_nb.widgets.chat_panel import ChatPanel
from mistral_nb.widgets.chat_screen import ChatScreen
from mistral_nb.widgets.chat_static import bundle

if TYPE_CHECKING:
    from mistral_nb.agents.conversation import Conversation
    from mistral_nb.client import Connection
    from mistral_nb.simulator import Simulator

BAD = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'


@pytest.fixture
def chat(connection: Connection) -> Conversation:
    """A conversation with a model."""
    return Conversations(connection, EventBus(connection.portal)).open(name="notes")


def html_of(chat: Conversation, *entries: Entry, **more: Any) -> str:
    """Return the transcript of one turn."""
    turn = Turn("turn-1", chat.name, None, entries, "done", **more)
    chat._tree.add(Node(turn))
    chat.head = turn.id
    screen = ChatScreen(chat)
    screen.frame()
    return bundle(screen)["text/html"]


def test_a_transcript_has_its_source(chat: Conversation) -> None:
    """HTML for the eye, Markdown for programs; no widget."""
    chat.send("Reply with exactly: **good** news").result(10)
    screen = ChatScreen(chat)
    screen.frame()
    data = bundle(screen)
    assert set(data) == {"text/html", "text/plain"}
    assert "<strong>good</strong>" in data["text/html"]
    assert data["text/plain"] == chat.to_markdown()


def test_before_the_first_message(chat: Conversation) -> None:
    """An empty conversation says so."""
    assert "has not begun" in bundle(ChatScreen(chat))["text/html"]


def test_every_kind_of_entry_is_there(chat: Conversation) -> None:
    """Calls with results, handoffs, thinking, sources, files and failures are all told."""
    chunks = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "It is **4**."},
        {
            "type": "tool_reference",
            "tool": "web_search",
            "title": "Sums",
            "url": "https://a.test/s",
        },
        {"type": "tool_file", "tool": "code", "file_id": "f", "file_name": "plot.png"},
    ]
    handoff = {"previous_agent_name": "Desk", "next_agent_name": "Finance"}
    call = {"tool_call_id": "c", "name": "add", "arguments": '{"a": 2}'}
    html = html_of(
        chat,
        Entry("message.input", "0", {"content": "Two\nlines"}),
        Entry("agent.handoff", "1", handoff),
        Entry("function.call", "2", call, "denied"),
        Entry("function.result", "3", {"tool_call_id": "c", "result": "no"}),
        Entry("message.output", "4", {"content": chunks}),
        error="It broke.",
    )
    for words in ("Two<br>lines", "Desk hands over to Finance", "denied", "<summary>Thinking"):
        assert words in html
    assert "https://a.test/s" in html
    assert "File: plot.png" in html
    assert "It broke." in html


def test_seconds_are_told_where_there_are_some(chat: Conversation) -> None:
    """A call that took no time to speak of is just done."""
    call = {"tool_call_id": "c", "name": "add", "arguments": "{}"}
    assert ">done<" in html_of(chat, Entry("function.call", "1", call, "done", 0.01))
    assert "done in 1.5 s" in html_of(chat, Entry("function.call", "1", call, "done", 1.5))


def test_pictures(chat: Conversation) -> None:
    """A picture that is here is shown; one from elsewhere is a link that loads nothing."""
    data = {"tool_call_id": "c", "name": "plot", "arguments": "{}"}
    urls = ("data:image/png;base64,AA", "https://a.test/p.png", "data:image/svg+xml;base64,AA")
    content = [{"type": "image_url", "image_url": url} for url in urls]
    html = html_of(
        chat,
        Entry("function.call", "1", data),
        Entry("function.result", "2", {**data, "result": ""}, media=(Media("image/png", b"p"),)),
        Entry("message.output", "3", {"content": content}),
    )
    assert html.count("<img") == 2
    assert 'src="https' not in html
    assert 'src="data:image/svg' not in html


def test_hostile_texts(chat: Conversation) -> None:
    """Wherever it stands, an attack is text."""
    call = {"tool_call_id": BAD, "name": BAD, "arguments": BAD}
    reference = {"type": "tool_reference", "tool": BAD, "title": BAD, "url": f"javascript:{BAD}"}
    file = {"type": "tool_file", "tool": BAD, "file_id": BAD, "file_name": BAD}
    image = {"type": "image_url", "image_url": f'data:image/png,"{BAD}'}
    names = {"previous_agent_name": BAD, "next_agent_name": BAD}
    html = html_of(
        chat,
        Entry("message.input", "0", {"content": BAD}),
        Entry("function.call", "1", call),
        Entry("function.result", "2", {**call, "result": BAD}),
        Entry("agent.handoff", "3", names),
        Entry(BAD, "4", {BAD: BAD}),
        Entry(
            "message.output",
            "5",
            {"content": [{"type": "text", "text": BAD}, reference, file, image]},
        ),
        error=BAD,
        model=BAD,
    )
    assert "<script" not in html
    assert "<img src=x" not in html
    assert 'href="javascript' not in html


def test_a_conversation_opens_its_own_panel(simulator: Simulator, chat: Conversation) -> None:
    """`chat.panel()` is `mnb.chat_panel(chat)`; without a session there is no screen."""
    session = mnb.connect("key", simulator.url)
    made = session.conversation()
    panel = made.panel()
    assert isinstance(panel, ChatPanel)
    assert panel.chat is made
    with pytest.raises(InputError, match="has a panel"):
        chat.panel()


def test_a_panel_of_no_conversation_is_refused(simulator: Simulator) -> None:
    """A name alone is no conversation; the message says how to pass it."""
    with pytest.raises(InputError, match=r"not 'notes'; by a name it is chat_panel\(name="):
        mnb.connect("key", simulator.url).chat_panel("notes")  # type: ignore[arg-type]


def test_a_panel_outside_a_notebook(chat: Conversation, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no notebook, showing a panel prints the transcript."""
    chat.send("Reply with exactly: printed").result(10)
    panel = ChatPanel(chat)
    panel._ipython_display_()
    assert "printed" in capsys.readouterr().out
    assert repr(panel) == "ChatPanel('notes', 1 turns)"
