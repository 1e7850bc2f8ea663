"""Values made for a schema are valid against it and say what the text says."""

from __future__ import annotations

import contextlib
import enum
from datetime import date  # noqa: TC003 - pydantic needs it at run time
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from mistral_nb.simulator.encoding import encoded
from mistral_nb.simulator.filling import fill
from mistral_nb.simulator.validation import ApiProblem

TEXT = (
    'My name is Ada Lovelace, I paid 42.50 euros on 2026-03-04 for "two tickets" to Paris. '
    "Write to ada@example.org or see https://example.org/x. It was awful, I want a refund!"
)


class Mood(enum.Enum):
    good = "good"
    bad = "bad"


class Address(BaseModel):
    city: str
    zip: Annotated[str, Field(pattern=r"^\d{5}$")]


class Node(BaseModel):
    name: str
    children: list[Node] = []


class Everything(BaseModel):
    intent: Literal["refund", "greeting", "card_arrival"]
    mood: Mood
    stars: Annotated[int, Field(ge=1, le=5)]
    level: Literal[1, 2, 3]
    confidence: Annotated[float, Field(ge=0, le=1)]
    amount: float
    even: Annotated[int, Field(multiple_of=2, gt=3, lt=100)]
    below: Annotated[float, Field(lt=-1)]
    urgent: bool
    tags: Annotated[list[Literal["refund", "ticket", "travel"]], Field(min_length=1, max_length=2)]
    words: Annotated[list[str], Field(min_length=4)]
    pair: tuple[int, str]
    when: date
    address: Address
    addresses: list[Address]
    note: str | None
    either: int | Address
    short: Annotated[str, Field(max_length=5)]
    long: Annotated[str, Field(min_length=400)]
    code: Annotated[str, Field(pattern=r"^[A-Z]{3}-\d{4}$")]
    fixed: Literal["only"]
    free: dict[str, Any]
    tree: Node


def test_a_model_with_everything_is_filled() -> None:
    """What pydantic writes as JSON schema is obeyed: ranges, patterns, refs, unions, recursion."""
    schema = Everything.model_json_schema()
    value = fill(schema, TEXT)
    jsonschema.validate(value, schema)
    Everything.model_validate(value)


def test_values_come_from_the_text() -> None:
    """Labels, moods, names, dates, addresses and numbers are taken from the words."""
    schema = {
        "type": "object",
        "properties": {
            "intent": {"enum": ["greeting", "refund", "card_arrival"]},
            "stars": {"type": "integer", "minimum": 1, "maximum": 5},
            "amount": {"type": "number"},
            "city": {"type": "string"},
            "email": {"type": "string"},
            "url": {"type": "string"},
            "date": {"type": "string", "format": "date"},
            "is_refund": {"type": "boolean"},
            "is_praise": {"type": "boolean"},
        },
    }
    value = fill(schema, TEXT)
    assert value["intent"] == "refund"
    assert value["stars"] == 1
    assert value["amount"] == 42.5
    assert value["city"] == "Paris"
    assert value["email"] == "ada@example.org"
    assert value["url"].startswith("https://example.org/x")
    assert value["date"] == "2026-03-04"
    assert value["is_refund"] is True
    assert value["is_praise"] is False


@pytest.mark.parametrize(
    ("text", "expected"), [("My code is AB-1", None), ("Ring 42 people", 42.0)]
)
def test_an_optional_value_without_evidence_is_null(text: str, expected: float | None) -> None:
    """Null is chosen where the text offers nothing of the kind."""
    schema = {"anyOf": [{"type": "number", "minimum": 20}, {"type": "null"}]}
    value = fill(schema, text)
    assert value == expected or (expected is None and value is not None and value >= 20)
    assert fill({"anyOf": [{"type": "number"}, {"type": "null"}]}, "nothing here") is None


TWO = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
LIST = {
    "type": "object",
    "properties": {"numbers": {"type": "array", "items": {"type": "number"}}},
}
DICE = {
    "type": "object",
    "properties": {
        "dice": {"type": "integer", "minimum": 1, "maximum": 6},
        "sides": {"type": "integer", "minimum": 2, "maximum": 100},
    },
}
BOX = {"type": "object", "properties": {"width": {"type": "number"}, "height": {"type": "number"}}}


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        (TWO, "add 2 and 3", [2, 3]),
        (TWO, "subtract 7 from -4", [7, -4]),
        (TWO, "on 2026-03-04 add 5 and 6", [5, 6]),
        (TWO, "double 4", [4, 4]),
        (BOX, "a box of width 3 and height 4.5", [3, 4.5]),
        (BOX, "height: 4, width is 3", [3, 4]),
        (BOX, "height of 4 and 3 wide", [3, 4]),
        (BOX, "a box, 4 height and 3 width", [3, 4]),
        (TWO, "add(2,3)", [2, 3]),
        (TWO, "subtract: 5-3", [5, 3]),
        (TWO, "add 1,200 and 300", [1200, 300]),
        (BOX, "12.50 by 3,75", [12.5, 3.75]),
        (DICE, "roll 3 dice with 20 sides", [3, 20]),
        (DICE, "roll dice: 2, 12", [2, 12]),
        (LIST, "the mean of 2, 4 and 9", [[2, 4, 9]]),
        (LIST, "numbers: [10,20,-30]", [[10, 20, -30]]),
    ],
)
def test_numbers_go_to_the_parameters_in_order(
    schema: dict[str, Any], text: str, expected: list[Any]
) -> None:
    """Each number is taken once, by the parameter it is named for or by the next in order."""
    assert list(fill(schema, text).values()) == expected


def test_a_scale_is_no_place_for_any_number() -> None:
    """Stars are given by the mood of a text, unless it says how many."""
    stars = {"type": "integer", "minimum": 1, "maximum": 5}
    schema = {"type": "object", "properties": {"stars": stars}}
    assert fill(schema, "I bought 2 pairs, great!") == {"stars": 5}
    assert fill(schema, "I bought 2 pairs. 4 stars, great!") == {"stars": 4}


def test_a_list_of_labels_takes_all_that_fit() -> None:
    """An array of enum values holds every value the text speaks for, once."""
    schema = {
        "type": "array",
        "items": {"enum": ["refund", "ticket", "weather"]},
        "uniqueItems": True,
        "maxItems": 3,
    }
    assert sorted(fill(schema, TEXT)) == ["refund", "ticket"]


def test_the_same_seed_fills_alike() -> None:
    """Nothing is left to chance but the seed."""
    schema = Everything.model_json_schema()
    assert fill(schema, TEXT, 3) == fill(schema, TEXT, 3)


@pytest.mark.parametrize("schema", [{}, {"type": "object"}, True, None, {"$ref": "#/nowhere"}])
def test_a_schema_that_says_nothing_is_no_failure(schema: object) -> None:
    """Odd schemas give some value."""
    fill(schema, TEXT)


def test_a_schema_that_refers_to_itself_only_ends() -> None:
    """An endless reference is cut, not followed for ever."""
    assert fill({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, TEXT) is not None
    assert fill({"allOf": [{"$ref": "#"}] * 9}, TEXT) is not None


def bounds(low: int = 0, high: int = 4) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high)).map(sorted).map(tuple)


def strings() -> st.SearchStrategy[dict[str, Any]]:
    sized = bounds(0, 40).map(lambda b: {"type": "string", "minLength": b[0], "maxLength": b[1]})
    formats = st.sampled_from(["date", "date-time", "email", "uri", "uuid"])
    return st.one_of(sized, formats.map(lambda f: {"type": "string", "format": f}))


def numbers() -> st.SearchStrategy[dict[str, Any]]:
    kinds = st.sampled_from(["integer", "number"])
    return st.tuples(kinds, bounds(-50, 50)).map(
        lambda pair: {"type": pair[0], "minimum": pair[1][0], "maximum": pair[1][1]}
    )


def leaves() -> st.SearchStrategy[dict[str, Any]]:
    words = st.lists(
        st.sampled_from(["refund", "ticket", "Paris", "x", "y"]), min_size=1, unique=True
    )
    return st.one_of(
        strings(),
        numbers(),
        st.just({"type": "boolean"}),
        words.map(lambda values: {"enum": values}),
        st.just({"const": 3}),
        st.just({"type": ["string", "null"]}),
    )


def grow(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    arrays = st.tuples(inner, bounds(0, 4)).map(
        lambda pair: {
            "type": "array",
            "items": pair[0],
            "minItems": pair[1][0],
            "maxItems": pair[1][1],
        }
    )
    names = st.sampled_from(["name", "city", "stars", "note", "email", "is_refund"])
    objects = st.dictionaries(names, inner, max_size=4).map(
        lambda props: {
            "type": "object",
            "properties": props,
            "required": list(props)[:2],
            "additionalProperties": False,
        }
    )
    unions = inner.map(lambda schema: {"anyOf": [schema, {"type": "null"}]})
    return st.one_of(arrays, objects, unions)


@settings(max_examples=150, deadline=None)
@given(st.recursive(leaves(), grow, max_leaves=8), st.text(max_size=60))
def test_any_schema_of_these_keywords_is_obeyed(schema: dict[str, Any], text: str) -> None:
    """Whatever the schema and the text, the value is valid."""
    jsonschema.validate(fill(schema, text), schema)


KEYWORDS = st.sampled_from(
    [
        "type",
        "enum",
        "const",
        "anyOf",
        "allOf",
        "$ref",
        "properties",
        "required",
        "items",
        "minItems",
        "maxItems",
        "uniqueItems",
        "prefixItems",
        "minLength",
        "maxLength",
        "pattern",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "multipleOf",
        "format",
        "$defs",
    ]
)
ODD: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.sampled_from(["#", "#/$defs/a", "string", "object", "array", "integer", "[", "a{9}"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYWORDS, inner)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYWORDS, ODD))
def test_what_is_no_schema_is_refused_or_filled(schema: dict[str, Any]) -> None:
    """Keywords with any value lead to a JSON value or to a 400, never to an endless loop."""
    with contextlib.suppress(ApiProblem):
        encoded(fill(schema, TEXT))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "minItems": 10**9},
        {"type": "string", "minLength": 10**12},
        {"type": "string", "pattern": "^a{999999999}$"},
        {"type": "string", "pattern": "("},
        {"type": "integer", "multipleOf": -1, "minimum": 5},
        {"type": "number", "multipleOf": 1e999},
        {"properties": {name: {"$ref": "#"} for name in "abcdefghij"}},
    ],
)
def test_a_schema_out_of_all_proportion_is_refused(schema: dict[str, Any]) -> None:
    """What would take all memory or all day is a 400."""
    with pytest.raises(ApiProblem) as caught:
        fill(schema, TEXT)
    assert caught.value.status == 400
    assert str(caught.value).startswith("The JSON schema cannot be used: ")
