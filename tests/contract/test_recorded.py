"""Recorded real replies and the simulator's: the same fields, in the same kinds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import SHARED

if TYPE_CHECKING:
    from tests.simulator.conftest import Api

RECORDED = SHARED / "wire" / "recorded"
# Fields that some recordings have and others lack: an older name, and what a stream pads with.
VARYING = {"num_cached_tokens", "prompt_tokens_details", "logprobs"}


def shape(value: Any) -> Any:
    """Return a value's fields and kinds without its content; lists of one kind are one item."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items() if key not in VARYING}
    if isinstance(value, list):
        shapes: list[Any] = []
        for each in map(shape, value):
            if each not in shapes:
                shapes.append(each)
        return shapes
    return type(value).__name__


def recorded(name: str) -> list[Any]:
    text = (RECORDED / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_a_recorded_request_gets_a_reply_of_the_recorded_shape(api: Api, number: int) -> None:
    """Same fields and kinds, same finish_reason; where the rules allow, the same words."""
    data = json.loads((RECORDED / f"chat-complete-{number}.json").read_text(encoding="utf-8"))
    reply = api.post("/v1/chat/completions", data["request"])
    assert reply.status_code == 200, reply.text
    mine, theirs = reply.json(), data["response"]
    assert shape(mine) == shape(theirs)
    assert mine["choices"][0]["finish_reason"] == theirs["choices"][0]["finish_reason"]
    if number in {4, 5}:
        assert mine["choices"][0]["message"] == theirs["choices"][0]["message"]
        assert mine["usage"]["completion_tokens"] == theirs["usage"]["completion_tokens"]
    if number == 2:
        call, their_call = (r["choices"][0]["message"]["tool_calls"][0] for r in (mine, theirs))
        assert call["function"] == their_call["function"]
        assert len(call["id"]) == len(their_call["id"])


@pytest.mark.parametrize(
    ("name", "prompt", "options"),
    [
        ("chat-text", "Reply with exactly: Hello, world! This is a test response.", {}),
        ("chat-reasoning", "What is 2+2?", {"model": "magistral-medium-latest"}),
        (
            "chat-tool-call",
            "weather in San Francisco",
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "weather",
                            "parameters": {
                                "type": "object",
                                "properties": {"location": {"type": "string"}},
                            },
                        },
                    }
                ]
            },
        ),
    ],
)
def test_a_stream_has_the_shapes_of_the_recorded_one(
    api: Api, name: str, prompt: str, options: dict[str, Any]
) -> None:
    """Every recorded shape of a chunk occurs, the first first and the last last; no other does."""
    mine = [json.loads(chunk) for chunk in api.stream(prompt, **options)[:-1]]
    theirs = recorded(f"{name}.chunks.jsonl")

    def shapes(chunks: list[Any]) -> list[Any]:
        found = shape(chunks)
        for each in found:  # the recorded tool call lacks the index that the API documents
            for call in each["choices"][0]["delta"].get("tool_calls", ()):
                call.pop("index", None)
        return found

    assert shapes(mine) == shapes(theirs)
    assert mine[-1]["choices"][0]["finish_reason"] == theirs[-1]["choices"][0]["finish_reason"]
