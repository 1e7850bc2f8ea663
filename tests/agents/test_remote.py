"""Requests: entries as the server takes them back, and which refusals mean that it forgot."""

from __future__ import annotations

from typing import Any

import pytest
from mistralai.client import models
from pydantic import TypeAdapter

from mistral_nb.agents import remote
from mistral_nb.agents.entries import Entry
from mistral_nb.agents.tools import tool
from mistral_nb.errors import InvalidRequestError, NotFoundError, ServerError
from tests.contract.schema import component, faults

ASKED = Entry("message.input", "local-1", {"role": "user", "content": "hi"})
CALL = Entry(
    "function.call",
    "fc_1",
    {
        "id": "fc_1",
        "tool_call_id": "c1",
        "name": "f",
        "arguments": '{"a": 1}',
        "model": "m",
        "changed_arguments": {"a": 2},
        "unheard_of": True,
    },
)
RESULT = Entry("function.result", "local-2", {"tool_call_id": "c1", "result": ""})
EXECUTION = Entry("tool.execution", "t", {"name": "web_search", "arguments": "{}", "info": {}})
HANDOFF = Entry(
    "agent.handoff",
    "h",
    {
        "previous_agent_id": "a",
        "previous_agent_name": "A",
        "next_agent_id": "b",
        "next_agent_name": "B",
    },
)
CHUNKS = [
    {"type": "text", "text": "see"},
    {"type": "hologram"},
    {"type": "tool_reference", "tool": "web_search", "title": "t"},
]
PICTURE = Entry(
    "message.input",
    "local-3",
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "see"},
            {"type": "image_url", "image_url": "data:image/png;base64,aa"},
            {"type": "document_url", "document_url": "https://x.test/a", "document_name": "a"},
        ],
    },
)
ANSWER = Entry("message.output", "msg_1", {"role": "assistant", "content": CHUNKS, "id": "msg_1"})


def look(city: str, days: int = 1) -> str:
    """Look at the weather."""
    return city * days


def state(entry: Entry, state: Any, **data: Any) -> Entry:
    return Entry(entry.type, entry.id, {**entry.data, **data}, state)


def test_all_kinds_of_entry_go_back() -> None:
    """Only with the fields and chunks that the API knows; the SDK agrees."""
    inputs = remote.as_inputs([ASKED, CALL, RESULT, EXECUTION, HANDOFF, ANSWER])
    assert [entry["type"] for entry in inputs] == [
        "message.input",
        "function.call",
        "function.result",
        "tool.execution",
        "agent.handoff",
        "message.output",
    ]
    assert inputs[1] == {
        "type": "function.call",
        "tool_call_id": "c1",
        "name": "f",
        "arguments": '{"a": 1}',
    }
    assert [chunk["type"] for chunk in inputs[-1]["content"]] == ["text", "tool_reference"]
    TypeAdapter(models.ConversationInputs).validate_python(inputs)


SETUPS = [
    remote.Setup(model="mistral-small-latest"),
    remote.Setup(
        model="mistral-small-latest",
        instructions="Be brief.",
        tools=({"type": "web_search"}, tool(look).as_wire()),
        args={"temperature": 0.1, "max_tokens": 5},
    ),
    remote.Setup(agent="ag_1", agent_version="stable"),
]


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.key)
def test_a_start_is_what_the_api_describes(setup: remote.Setup) -> None:
    """The description and the SDK both know the body, with a history of every kind."""
    inputs = remote.as_inputs([ASKED, CALL, RESULT, EXECUTION, HANDOFF, ANSWER, PICTURE])
    body = remote.start(setup, inputs).body
    assert faults(body, component("ConversationStreamRequest")) == []
    models.ConversationStreamRequest.model_validate(body)
    assert faults({**body, "inputs": [{"type": "moon"}]}, component("ConversationStreamRequest"))


def test_going_on_is_what_the_api_describes() -> None:
    """Appending, confirming and restarting as well."""
    inputs = remote.as_inputs([ASKED])
    said = [{"tool_call_id": "c1", "confirmation": "allow"}]
    for ask, name, kind in (
        (remote.append("conv", inputs), "Append", models.ConversationAppendStreamRequest),
        (remote.append("conv", [], said), "Append", models.ConversationAppendStreamRequest),
        (remote.restart("c", "m", inputs), "Restart", models.ConversationRestartStreamRequest),
    ):
        assert faults(ask.body, component(f"Conversation{name}StreamRequest")) == []
        kind.model_validate(ask.body)


def test_calls_without_a_result_get_one() -> None:
    """After the calls of their response, before what follows."""
    second = state(CALL, "stopped", tool_call_id="c2")
    inputs = remote.as_inputs([ASKED, CALL, second, ASKED])
    assert [(e["type"], e.get("tool_call_id")) for e in inputs] == [
        ("message.input", None),
        ("function.call", "c1"),
        ("function.call", "c2"),
        ("function.result", "c1"),
        ("function.result", "c2"),
        ("message.input", None),
    ]
    assert inputs[3]["result"] == remote.NOT_RUN


@pytest.mark.parametrize(
    "entry",
    [
        Entry("moderation.checked", "local-3", {"raw": {}}),
        state(CALL, "stopped", arguments='{"a": '),
        state(CALL, "waiting", confirmation_status="pending"),
        state(CALL, "done", confirmation_status="allowed"),
        state(EXECUTION, "stopped"),
        state(HANDOFF, "stopped"),
        state(HANDOFF, "done", next_agent_id=None),
        state(ANSWER, "stopped", content=""),
        state(ANSWER, "stopped", content=[{"type": "hologram"}]),
    ],
    ids=repr,
)
def test_what_the_server_cannot_take_is_left_out(entry: Entry) -> None:
    """Unknown events, cut calls, calls that ran over there, halves of anything."""
    assert remote.as_inputs([ASKED, entry]) == remote.as_inputs([ASKED])


@pytest.mark.parametrize(
    ("error", "append", "restart"),
    [
        (NotFoundError("", status_code=404), True, True),
        (InvalidRequestError("", status_code=400, code="3001"), True, True),
        (InvalidRequestError("", status_code=400, code="1500"), False, True),
        (ServerError("", status_code=500), False, False),
    ],
    ids=str,
)
def test_a_loss_is_told_from_a_refusal(error: Exception, append: bool, restart: bool) -> None:
    """404 and missing results mean starting again; a start that fails has failed."""
    setup = remote.Setup(model="m")
    assert remote.is_lost(remote.append("conv", []), error) is append
    assert remote.is_lost(remote.restart("conv", "msg", []), error) is restart
    assert not remote.is_lost(remote.start(setup, []), error)


def test_a_setup_is_the_same_after_the_file() -> None:
    """Written and read back, it has the same key; any change is another."""
    setup = remote.Setup(
        model="m", instructions="a", tools=({"type": "web_search"},), args={"n": 1}
    )
    again = remote.Setup.from_json(setup.as_json())
    assert (again, again.key) == (setup, setup.key)
    assert remote.Setup(model="m").key != setup.key
    assert remote.Setup.from_json({"model": "m", "later": 1}) == remote.Setup(model="m")
