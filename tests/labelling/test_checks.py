"""Laws of the schema check: it agrees with the reference implementation."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistral_nb.errors import SchemaError
from mistral_nb.labelling.checks import compile_check

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(-5, 5, allow_nan=False).map(lambda f: round(f, 1)),
    st.text("abz", max_size=4),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
simple = st.one_of(
    st.just({}),
    st.sampled_from(["string", "integer", "number", "boolean", "null", "object", "array"]).map(
        lambda name: {"type": name}
    ),
    st.lists(scalars, min_size=1, max_size=3).map(lambda each: {"enum": each}),
    scalars.map(lambda each: {"const": each}),
    st.integers(-3, 3).map(lambda n: {"minimum": n, "exclusiveMaximum": n + 3}),
    st.integers(0, 3).map(lambda n: {"minLength": n, "maxLength": n + 1}),
    st.integers(0, 2).map(lambda n: {"minItems": n, "maxItems": n + 1}),
    st.just({"type": ["string", "null"], "pattern": "^a"}),
)
schemas = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.builds(
            lambda p, r, extra: {
                "type": "object",
                "properties": p,
                "required": r,
                "additionalProperties": extra,
            },
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            st.lists(st.sampled_from("abc"), max_size=2, unique=True),
            st.one_of(st.booleans(), inner),
        ),
        inner.map(lambda each: {"type": "array", "items": each}),
        st.builds(lambda one, rest: {"prefixItems": [one], "items": rest}, inner, inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: {"anyOf": each}),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: {"allOf": each}),
    ),
    max_leaves=6,
)


@given(schemas, values)
def test_it_agrees_with_jsonschema(schema: dict[str, Any], value: Any) -> None:
    """A value passes exactly when the reference implementation lets it pass."""
    reference = jsonschema.Draft202012Validator(schema)
    assert (compile_check(schema)(value) is None) == reference.is_valid(value)


def test_references_are_followed_and_may_recurse() -> None:
    """A schema that contains itself checks every level."""
    tree = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
                "required": ["kids"],
            }
        },
        "$ref": "#/$defs/node",
    }
    check = compile_check(tree)
    assert check({"kids": [{"kids": []}]}) is None
    assert check({"kids": [{"kids": [{}]}]}) == "kids[0].kids[0]: 'kids' is missing"


def test_the_message_says_where() -> None:
    """What is wrong is told with the path to it."""
    schema = {"properties": {"a": {"properties": {"b": {"type": "integer"}}}}}
    assert compile_check(schema)({"a": {"b": "x"}}) == "a.b: 'x' is no integer"


def test_whole_floats_are_integers_and_huge_ones_are_not() -> None:
    """3.0 is an integer as JSON has it; what no 64 bits hold is not."""
    check = compile_check({"type": "integer"})
    assert check(3.0) is None
    assert check(2**63)
    assert check(True)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/nowhere"},
        {"$ref": "https://example.com/schema"},
        {"type": "text"},
        {"pattern": "("},
    ],
)
def test_a_schema_that_cannot_work_is_refused(schema: dict[str, Any]) -> None:
    """References to nowhere, unknown types and broken patterns are told at once."""
    with pytest.raises(SchemaError):
        compile_check(schema)
