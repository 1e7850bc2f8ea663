"""The rule-based model answers believably, and the same request always alike."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mistral_nb.simulator.model import answer
from mistral_nb.simulator.prose import essay, topic

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather for a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search_orders",
        "description": "Find the orders of a customer.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
    },
}


def say(prompt: str, *before: dict[str, Any], **options: Any) -> str:
    messages = [*before, {"role": "user", "content": prompt}]
    return answer({"messages": messages, **options}).text


def calls(prompt: str, **options: Any) -> list[tuple[str, dict[str, Any]]]:
    messages = [{"role": "user", "content": prompt}]
    made = answer({"messages": messages, "tools": [SEARCH, WEATHER], **options}).calls
    assert all(len(call_id) == 9 and call_id.isalnum() for call_id, _, _ in made)
    return [(name, json.loads(arguments)) for _, name, arguments in made]


@pytest.mark.parametrize(
    ("prompt", "reply"),
    [
        ("2+2?", "2+2 = 4"),
        ("What is 12 * 3.5?", "12 * 3.5 = 42"),
        ("Reply with exactly: cache probe one.", "cache probe one."),
        ("Say: hi\nthere", "hi\nthere"),
        ("Classify as spam or ham.\n\nText: you won a free prize", "spam"),
        ("Answer with exactly one of: yes, no. Will it say yes?", "yes"),
    ],
)
def test_short_questions_get_short_answers(prompt: str, reply: str) -> None:
    """Sums, echoes and labels in a prompt are answered to the point."""
    assert say(prompt) == reply


def test_a_sum_that_cannot_be_done_is_no_failure() -> None:
    """Division by zero and huge powers just get some answer."""
    assert say("1/0?")
    assert say("9" * 100 + "*" + "9" * 15)


def test_labels_may_stand_in_the_system_prompt() -> None:
    """Instructions of the system message count when the user's have none."""
    system = {"role": "system", "content": "Answer with one word: refund, greeting or other."}
    assert say("I want a refund please, it cost too much", system) == "refund"


def test_an_explanation_is_markdown_of_every_kind() -> None:
    """A heading, a list, bold, code, a table, math and a quotation; a few hundred words."""
    text = say("Explain how asyncio works")
    for sign in ("## ", "1. ", "**", "```python", "| way |", "$n$", "> "):
        assert sign in text
    assert 150 < len(text.split()) < 600
    assert "asyncio" in text


def test_the_same_seed_writes_the_same_essay() -> None:
    """Essays differ by prompt and by seed, and by nothing else."""
    assert essay("Explain tides", 1) == essay("Explain tides", 1)
    assert len({essay("Explain tides", seed) for seed in range(6)}) > 1
    assert say("Explain tides", random_seed=1) == say("Explain tides", random_seed=1)


@pytest.mark.parametrize(
    ("prompt", "about"),
    [
        ("Explain asyncio in Python.", "asyncio in Python"),
        ("Please tell me about the <b>sea</b>", "the bsea/b"),
        ("", "this"),
    ],
)
def test_the_topic_is_a_few_harmless_words(prompt: str, about: str) -> None:
    """The subject is woven into Markdown, so it carries no markup of its own."""
    assert topic(prompt) == about


def test_a_json_schema_is_obeyed() -> None:
    """The reply is JSON with the schema's properties, its enum chosen by the words."""
    schema = {"type": "object", "properties": {"intent": {"enum": ["top_up", "lost_card"]}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    text = say("Which intent? I lost my card", response_format=form)
    assert json.loads(text) == {"intent": "lost_card"}


def test_json_mode_uses_the_keys_that_the_prompt_names() -> None:
    """json_object without a schema gives an object with the quoted keys."""
    form = {"type": "json_object"}
    text = say('Return JSON with "title" and "summary". Text: Rain fell.', response_format=form)
    assert set(json.loads(text)) == {"title", "summary"}
    assert set(json.loads(say("2+2?", response_format=form))) == {"answer"}


@pytest.mark.parametrize(
    "text", ["\n" * 200_000, "Aa, " * 50_000, "a" * 300_000, "a." * 100_000, "9" * 50_000]
)
def test_a_long_strange_text_is_answered_at_once(text: str) -> None:
    """Nothing that is looked for takes the square of a text's length (which would be minutes)."""
    fields = {"city": {"type": "string"}, "email": {"type": "string"}, "n": {"type": "number"}}
    schema = {"type": "object", "properties": fields}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert say(text)
    assert set(json.loads(say(text, response_format=form))) == set(fields)
    assert calls(text, tool_choice="any")


def test_the_tool_whose_words_match_is_called() -> None:
    """Name and description decide which tool; the arguments come from the text."""
    assert calls("What's the weather in Paris?") == [("get_weather", {"city": "Paris"})]
    assert calls("Find my orders")[0][0] == "search_orders"
    assert calls("Sing a song") == []


def test_two_cities_are_two_calls_unless_forbidden() -> None:
    """Parallel calls are made where the text names several things."""
    both = calls("Weather in Paris and Rome?")
    assert [arguments["city"] for _, arguments in both] == ["Paris", "Rome"]
    assert len(calls("Weather in Paris and Rome?", parallel_tool_calls=False)) == 1


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("none", []),
        ("any", ["search_orders"]),
        ("required", ["search_orders"]),
        ({"type": "function", "function": {"name": "get_weather"}}, ["get_weather"]),
    ],
)
def test_tool_choice_is_obeyed(choice: object, names: list[str]) -> None:
    """None forbids, any and required force, and a name settles it."""
    made = [name for name, _ in calls("Tell a joke", tool_choice=choice)]
    assert len(made) == len(names)
    if not isinstance(choice, str):
        assert made == names


def test_after_a_tool_result_it_answers_from_it() -> None:
    """The result's text is in the reply, and no tool is called again."""
    messages = [
        {"role": "user", "content": "What's the weather in Paris?"},
        {"role": "assistant", "content": "", "tool_calls": []},
        {"role": "tool", "content": "Sunny, 22C", "tool_call_id": "a"},
    ]
    made = answer({"messages": messages, "tools": [WEATHER]})
    assert made.calls == ()
    assert "Sunny, 22C" in made.text
    messages.append({"role": "tool", "content": "Windy", "tool_call_id": "b"})
    both = answer({"messages": messages, "tools": [WEATHER]}).text
    assert "- Sunny, 22C\n- Windy" in both


def test_a_reasoning_model_thinks_first() -> None:
    """Thoughts come beside the text, not within it."""
    made = answer({"messages": [{"role": "user", "content": "2+2?"}]}, reasoning=True)
    assert made.text == "2+2 = 4"
    assert "2+2" in made.thinking


def test_a_prefix_is_continued() -> None:
    """The reply begins with an assistant message that asks to be continued."""
    messages = [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "The result: ", "prefix": True},
    ]
    assert answer({"messages": messages}).text == "The result: 2+2 = 4"
