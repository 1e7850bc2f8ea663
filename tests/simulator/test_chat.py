"""Chat completions over HTTP: cut, counted and refused as the API does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.simulator.conftest import MODEL

if TYPE_CHECKING:
    from tests.simulator.conftest import Api

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def test_a_reply_has_the_recorded_fields(api: Api) -> None:
    """id, object, created, model, choices and usage; ids are 32 hexadecimal digits."""
    body = api.chat("2+2?").json()
    assert set(body) == {"id", "object", "created", "model", "choices", "usage"}
    assert len(body["id"]) == 32
    assert int(body["id"], 16)
    choice = body["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "2+2 = 4", "tool_calls": None}
    assert choice["finish_reason"] == "stop"
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_max_tokens_cuts_and_says_so(api: Api) -> None:
    """A reply that is cut has finish_reason length and just so many tokens."""
    body = api.chat("Explain tides", max_tokens=7).json()
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 7
    none = api.chat("Explain tides", max_tokens=0).json()
    assert none["choices"][0]["message"]["content"] == ""


@pytest.mark.parametrize("stop", ["###", ["###", "zzz"]])
def test_stop_ends_the_reply_before_the_sign(api: Api, stop: object) -> None:
    """The stop text and what follows are left out."""
    text = api.chat("Explain tides", stop=stop).json()["choices"][0]["message"]["content"]
    assert "###" not in text
    assert text.startswith("## ")


def test_n_gives_so_many_choices(api: Api) -> None:
    """Each choice has its index, and the prompt is counted once."""
    one = api.chat("Explain tides").json()
    three = api.chat("Explain tides", n=3).json()
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert three["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]
    assert three["usage"]["completion_tokens"] > one["usage"]["completion_tokens"]


def test_the_same_request_gets_the_same_words_and_another_id(api: Api) -> None:
    """Replies repeat, ids do not; and the second prompt is cached."""
    first, second = api.chat("Explain tides " * 20).json(), api.chat("Explain tides " * 20).json()
    assert first["choices"] == second["choices"]
    assert first["id"] != second["id"]
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_a_stream_says_what_the_plain_reply_says(api: Api) -> None:
    """Deltas join to the plain text; usage and finish_reason come last; then [DONE]."""
    plain = api.chat("Explain tides").json()
    *chunks, done = api.stream("Explain tides")
    assert done == b"[DONE]"
    parsed = [orjson.loads(chunk) for chunk in chunks]
    deltas = [chunk["choices"][0]["delta"] for chunk in parsed]
    assert deltas[0] == {"role": "assistant", "content": ""}
    text = "".join(delta["content"] for delta in deltas)
    assert text == plain["choices"][0]["message"]["content"]
    assert [c["choices"][0]["finish_reason"] for c in parsed[:-1]] == [None] * (len(parsed) - 1)
    assert parsed[-1]["choices"][0]["finish_reason"] == "stop"
    assert parsed[-1]["usage"]["completion_tokens"] == plain["usage"]["completion_tokens"]
    assert len(chunks) > 100


def test_thinking_comes_before_the_text(api: Api) -> None:
    """Reasoning models send thinking chunks, then text chunks; plain replies both in a list."""
    body = api.chat("2+2?", model="magistral-medium-latest").json()
    kinds = [part["type"] for part in body["choices"][0]["message"]["content"]]
    assert kinds == ["thinking", "text"]
    chunks = [orjson.loads(c) for c in api.stream("2+2?", model="magistral-medium-latest")[:-1]]
    contents = [chunk["choices"][0]["delta"]["content"] for chunk in chunks[:-1]]
    types = [part["type"] for content in contents for part in content]
    assert types == sorted(types, reverse=True)
    assert set(types) == {"thinking", "text"}
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"


def test_reasoning_effort_turns_thinking_on_and_off(api: Api) -> None:
    """Effort "none" silences a reasoning model, "high" makes another one think."""
    off = api.chat("2+2?", model="magistral-small-latest", reasoning_effort="none").json()
    on = api.chat("2+2?", reasoning_effort="high").json()
    assert isinstance(off["choices"][0]["message"]["content"], str)
    assert isinstance(on["choices"][0]["message"]["content"], list)


def test_a_tool_call_is_streamed_whole_as_recorded(api: Api) -> None:
    """One chunk carries the call, null content and finish_reason tool_calls."""
    chunks = [orjson.loads(c) for c in api.stream("Weather in Paris?", tools=[WEATHER])[:-1]]
    assert len(chunks) == 2
    choice = chunks[1]["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["delta"]["content"] is None
    assert choice["delta"]["tool_calls"][0]["function"] == {
        "name": "get_weather",
        "arguments": '{"city": "Paris"}',
    }


def test_a_tool_call_may_be_streamed_in_pieces(make_api) -> None:
    """With whole_calls off, later pieces have an empty name and more of the arguments."""
    api = make_api(whole_calls=False)
    chunks = [orjson.loads(c) for c in api.stream("Weather in Paris?", tools=[WEATHER])[:-1]]
    calls = [c["choices"][0]["delta"]["tool_calls"][0] for c in chunks[1:-1]]
    assert len(calls) > 1
    assert {call["index"] for call in calls} == {0}
    assert [call["function"]["name"] for call in calls][1:] == [""] * (len(calls) - 1)
    assert "".join(call["function"]["arguments"] for call in calls) == '{"city": "Paris"}'
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("model", ["no-such-model", "mistral-embed"])
def test_an_unknown_model_is_refused_as_the_api_does(api: Api, model: str) -> None:
    """400 with type invalid_model and code 1500; also for models that cannot chat."""
    response = api.chat("hi", model=model)
    assert response.status_code == 400
    assert response.json() == {
        "object": "error",
        "message": f"Invalid model: {model}",
        "type": "invalid_model",
        "param": None,
        "code": "1500",
    }


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "system", "content": "x"}],
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
    ],
)
def test_messages_must_end_with_a_question(api: Api, messages: list) -> None:
    """400 if the last message is nobody's to answer."""
    body = {"model": "mistral-small-latest", "messages": messages}
    response = api.post("/v1/chat/completions", body)
    assert response.status_code == 400
    assert response.json()["type"] == "invalid_request_message_order"


ASKED = {"role": "user", "content": "Say: hi"}
TOLD = {"role": "tool", "content": "Sunny", "name": "get_weather", "tool_call_id": "abcDEF123"}


def calling(*names: str) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": "{}"}
    calls = [{"id": name, "function": function} for name in names]
    return {"role": "assistant", "content": "", "tool_calls": calls}


@pytest.mark.parametrize(
    ("messages", "kind", "words"),
    [
        ([TOLD], "invalid_request_message_order", "Not the same number"),
        ([ASKED, TOLD], "invalid_request_message_order", "role 'tool' after role 'user'"),
        ([ASKED, calling("abcDEF123"), ASKED], "invalid_request_message_order", "Not the same"),
        (
            [ASKED, calling("abcDEF123", "abcDEF124"), TOLD],
            "invalid_request_message_order",
            "Not the same number of function calls and responses",
        ),
        (
            [ASKED, calling("abcDEF123"), TOLD, TOLD, calling("abcDEF125"), TOLD],
            "invalid_request_message_order",
            "Not the same number",
        ),
        ([ASKED, calling("call_1"), TOLD], "invalid_function_call", "Tool call id was call_1"),
    ],
)
def test_tool_calls_need_their_results(api: Api, messages: list, kind: str, words: str) -> None:
    """400 in the API's words for a call without its result, for one too many, and a strange id."""
    reply = api.post("/v1/chat/completions", {"model": MODEL, "messages": messages})
    assert (reply.status_code, reply.json()["type"]) == (400, kind)
    assert words in reply.json()["message"]


@pytest.mark.parametrize(
    "messages",
    [
        [ASKED, calling("abcDEF123", "abcDEF124"), TOLD, TOLD],
        [ASKED, calling("abcDEF123"), TOLD, calling("abcDEF124"), TOLD, ASKED],
        [ASKED, calling("null"), TOLD],
    ],
)
def test_calls_with_their_results_are_answered(api: Api, messages: list) -> None:
    """Several calls at once or one after the other, each with a result."""
    reply = api.post("/v1/chat/completions", {"model": MODEL, "messages": messages})
    assert reply.status_code == 200, reply.text


def test_a_prompt_longer_than_the_context_is_refused(api: Api) -> None:
    """400 that names the prompt's tokens and the model's context."""
    response = api.chat("word " * 40_000, model="labs-mistral-small-creative")
    assert response.status_code == 400
    assert "32768" in response.json()["message"]


def test_chat_is_counted_as_paid_once_each(api: Api) -> None:
    """Stats count answered requests, repeats among them, and tokens; refusals cost nothing."""
    usage = [api.chat(text).json()["usage"]["total_tokens"] for text in ("a", "b", "a")]
    api.chat("x", model="nope")
    stats = api.simulator.stats()
    assert (stats["chat_requests"], stats["chat_repeated"]) == (3, 1)
    assert stats["tokens"] == sum(usage)
    assert stats["requests"]["POST /v1/chat/completions 400"] == 1
