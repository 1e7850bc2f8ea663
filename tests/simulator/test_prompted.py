"""Schemas that stand in a prompt, as clients without a response_format write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mistral_nb.simulator.model import answer
from mistral_nb.simulator.prompted import prompted_form

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
}
EXAMPLE = '{"properties": {"foo": {"type": "array"}}}'
FACT = "It has 22 degrees in Paris"
PARIS = {"city": "Paris", "degrees": 22}


def said(*messages: tuple[str, str], **options: Any) -> str:
    told = [{"role": role, "content": text} for role, text in messages]
    return answer({"messages": told, **options}).text


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("form", [{}, {"response_format": {"type": "json_object"}}])
def test_instructions_are_followed(indent: int | None, form: dict[str, Any]) -> None:
    """A schema in the system message shapes the reply, in JSON mode and without it."""
    rules = f"Always respond with JSON that matches:\n{json.dumps(SCHEMA, indent=indent)}\n"
    assert json.loads(said(("system", rules), ("user", FACT), **form)) == PARIS


def test_the_last_schema_counts() -> None:
    """An example before it is not what is asked for."""
    prompt = f"{FACT}\nReturn JSON. For the schema {EXAMPLE} a list is right. The schema:\n"
    assert json.loads(said(("user", prompt + json.dumps(SCHEMA)))) == PARIS


def test_a_schema_that_cannot_be_followed_is_passed_over() -> None:
    """A prompt is never refused for what stands in it: the reply is then in words."""
    huge = {"properties": {"a": {"type": "string", "minLength": 10**12}}}
    assert said(("user", f"Say something. Return JSON: {json.dumps(huge)}"))


def test_a_code_block_is_given_where_asked_for() -> None:
    """Fenced where the prompt says so, plain where the API promises JSON."""
    prompt = f"{FACT}\nReturn it in a ```json block as {json.dumps(SCHEMA)}"
    fenced = said(("user", prompt))
    assert fenced.startswith("```json\n{")
    assert fenced.endswith("}\n```")
    form = {"response_format": {"type": "json_object"}}
    assert json.loads(said(("user", prompt), **form)) == PARIS


def test_a_correction_keeps_the_subject() -> None:
    """Words on the form alone leave the subject to the question before."""
    rules = f"Answer in JSON: {json.dumps(SCHEMA)}"
    wrong = ("assistant", "Paris!"), ("user", "Correct your JSON.")
    assert json.loads(said(("system", rules), ("user", FACT), *wrong)) == PARIS


def test_tool_results_are_the_subject() -> None:
    """After a tool's result, the object is filled from it."""
    rules = f"Answer in JSON: {json.dumps(SCHEMA)}"
    told = [
        {"role": "system", "content": rules},
        {"role": "user", "content": "The weather?"},
        {"role": "tool", "content": "It is 22 degrees in Paris"},
    ]
    assert json.loads(answer({"messages": told}).text) == PARIS


@pytest.mark.parametrize(
    "prompt",
    [
        f"What does this schema say? {json.dumps(SCHEMA)}",
        f"What is wrong with this JSON? {json.dumps(SCHEMA)}",
        'Answer in JSON: {"properties": 3}',
        'Answer in JSON: {"properties": {',
        "Answer in JSON, please.",
    ],
)
def test_talk_of_schemas_is_talk(prompt: str) -> None:
    """Without a schema, or without a wish for an answer of its form, nothing is filled in."""
    assert prompted_form([{"role": "user", "content": prompt}]) is None


def test_braces_without_end_are_given_up() -> None:
    """A hostile prompt of braces costs no more than a look at some of them."""
    prompt = 'Answer in JSON: "properties"' + "{" * 500_000 + json.dumps(SCHEMA)
    assert prompted_form([{"role": "user", "content": prompt}]) is None
