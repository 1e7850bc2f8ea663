"""The way out: Markdown, JSON, chat messages, a table; and what goes in beside text."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from mistralai.client import models
from pydantic import TypeAdapter

from mistral_nb.agents.attachments import with_attachments
from mistral_nb.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from mistral_nb.agents.conversation import Conversation
    from mistral_nb.agents.opening import Conversations

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def get_weather(city: str) -> str:
    """Look at the weather."""
    return f"```sunny``` in {city}"


@pytest.fixture
def chat(conversations: Conversations) -> Conversation:
    """A conversation with calls, a source and a picture."""
    made = conversations.open(
        name="notes",
        instructions="Be brief.",
        tools=[get_weather, "web_search"],
        approve="always",
    )
    made.send("Weather in Paris and Rome?").result(10)
    made.send("Search the web for tides").result(10)
    return made


def test_markdown_has_it_all(chat: Conversation) -> None:
    """Who said what, calls with arguments, results fenced, sources linked."""
    text = chat.to_markdown()
    assert text.startswith("# notes\n\n**You:**\n\nWeather in Paris and Rome?")
    assert '**Call of `get_weather`** (done)\n\n```\n{"city": "Paris"}\n```' in text
    assert "````\n```sunny``` in Paris\n````" in text
    assert "](https://example.com/" in text


def test_json_has_all_fields(chat: Conversation) -> None:
    """Turns and entries with the server's ids; it reads back."""
    data = json.loads(chat.to_json())
    assert (data["name"], data["setup"]["instructions"]) == ("notes", "Be brief.")
    assert [len(turn["entries"]) for turn in data["turns"]] == [6, 3]
    assert data["turns"][0]["entries"][1]["name"] == "get_weather"
    assert data["turns"][0]["usage"]["total_tokens"] > 0


def test_messages_are_what_chat_completions_takes(chat: Conversation, wire: Any) -> None:
    """System, user, calls side by side in one message, results, answer; the API accepts them."""
    messages = chat.to_messages()
    roles = [message["role"] for message in messages]
    first = ["system", "user", "assistant", "tool", "tool", "assistant"]
    assert roles == [*first, "user", "assistant"]
    assert len(messages[2]["tool_calls"]) == 2
    TypeAdapter(list[models.ChatCompletionRequestMessage]).validate_python(messages)

    async def go_on() -> str:
        asked = [*messages, {"role": "user", "content": "Say: fine"}]
        reply = await wire.sdk.chat.complete_async(model="mistral-small-latest", messages=asked)
        return reply.choices[0].message.content

    assert wire.portal.call(go_on) == "fine"


def test_a_table_has_a_row_an_entry(chat: Conversation) -> None:
    """Turn numbers from 1, who, text, arguments, state, and the turn's tokens on its last row."""
    table = chat.to_frame()
    assert list(table["turn"]) == [1] * 6 + [2] * 3
    assert list(table["who"])[:2] == ["user", "get_weather"]
    assert table["tokens"].notna().sum() == 2
    assert list(table.columns) == [
        "turn",
        "type",
        "who",
        "text",
        "arguments",
        "state",
        "seconds",
        "tokens",
    ]


def test_an_empty_conversation_has_a_way_out_too(conversations: Conversations) -> None:
    """Nothing was said: a heading, no rows."""
    empty = conversations.open(name="empty")
    assert empty.to_markdown() == "# empty\n"
    assert (empty.to_messages(), len(empty.to_frame())) == ([], 0)


def test_images_go_within_the_message(wire: Any, tmp_path: Path) -> None:
    """From a path, bytes or a named pair: a data address; an address as it is."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    content = with_attachments(wire, "See", [path, PNG, ("b.png", PNG), "https://x.test/c.png"])
    assert content[0] == {"type": "text", "text": "See"}
    assert [chunk["image_url"] for chunk in content[1:]] == [url] * 3 + ["https://x.test/c.png"]
    assert with_attachments(wire, "See", []) == "See"
    assert with_attachments(wire, "", path) == content[1:2]


def test_other_files_are_uploaded(conversations: Conversations, tmp_path: Path) -> None:
    """They go to the Files API, and the message points to them."""
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    turn = conversations.open().send("Say: read", [path]).result(10)
    text, document = turn.entries[0].data["content"]
    assert (text["text"], document["document_name"]) == ("Say: read", "notes.txt")
    assert "/files/" in document["document_url"]
    assert turn.text == "read"


def test_one_attachment_needs_no_list(wire: Any, tmp_path: Path) -> None:
    """A path, bytes, or a name with bytes, as it is."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    in_list = with_attachments(wire, "See", [path])
    assert [with_attachments(wire, "See", each) for each in (path, PNG, ("b.png", PNG))] == [
        in_list
    ] * 3


def test_a_sound_is_no_image(wire: Any) -> None:
    """Sounds begin like some images: they go to the Files API, an image goes with the message."""
    sound, image = (b"RIFF\x24\0\0\0" + kind for kind in (b"WAVEfmt ", b"WEBPVP8 "))
    content = with_attachments(wire, "", [("a.wav", sound), ("a.webp", image)])
    assert [chunk["type"] for chunk in content] == ["document_url", "image_url"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("/no/such/file.png", "cannot be read"),
        (3.5, "float is no attachment"),
        (("a.txt", "words"), "tuple is no attachment.*a name and bytes"),
        (b"", "is empty"),
    ],
)
def test_what_cannot_be_attached_is_said(wire: Any, value: Any, words: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InputError, match=words):
        with_attachments(wire, "See", [value])
