"""Laws of result schemas: whatever form they come in, one format, one check, typed columns."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any, Literal

import orjson
import pandas as pd
import pytest
from pydantic import BaseModel, Field, RootModel, field_validator
from typing_extensions import TypedDict

from mistral_nb.errors import InputError, SchemaError
from mistral_nb.labelling.schemas import Invalid, Schema, compile_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.labelling import Run


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Person(BaseModel):
    name: str
    age: int | None = None


class Ticket(BaseModel):
    topic: Literal["billing", "delivery"]
    mood: Mood
    urgent: bool
    score: float = Field(ge=0, le=1)
    tags: list[str] = []
    author: Person
    second: Person | None = None


class Tree(BaseModel):
    value: int
    child: Tree | None = None


def kinds(schema: Schema | None) -> dict[str, str]:
    assert schema is not None
    return {column.name: column.kind for column in schema.columns}


def test_a_model_becomes_typed_flat_columns() -> None:
    """Enums become categories, nested models columns with dots, lists objects."""
    assert kinds(compile_schema(Ticket)) == {
        "topic": "category",
        "mood": "category",
        "urgent": "boolean",
        "score": "number",
        "tags": "object",
        "author.name": "string",
        "author.age": "integer",
        "second.name": "string",
        "second.age": "integer",
    }


def test_the_format_is_strict_and_the_sdks_own() -> None:
    """Every object in the response_format forbids other properties."""
    from mistralai.client.models import ResponseFormat
    from mistralai.extra import response_format_from_pydantic_model

    made = compile_schema(Ticket).response_format
    assert made == response_format_from_pydantic_model(Ticket)
    assert made["json_schema"]["strict"] is True
    assert made["json_schema"]["schema"]["$defs"]["Person"]["additionalProperties"] is False
    ResponseFormat.model_validate(made)


@pytest.mark.parametrize(
    "given",
    [
        ["a", "b"],
        ("a", "b"),
        {"b", "a"},
        pd.Series(["a", "b"]),
        pd.Series(["a", "b", "a"]).unique(),
        (each for each in "ab"),
        Literal["a", "b"],
        enum.Enum("Labels", {"x": "a", "y": "b"}),
    ],
    ids=["list", "tuple", "set", "series", "array", "generator", "literal", "enum"],
)
def test_labels_come_in_many_forms(given: Any) -> None:
    """Lists, sets, Series, Literals and Enums all become one categorical column."""
    schema = compile_schema(labels=given)
    assert schema.columns[0].name == "label"
    assert schema.columns[0].categories == ("a", "b")
    assert schema.parse('{"label":"a"}') == ("a",)
    with pytest.raises(Invalid, match="allowed"):
        schema.parse('{"label":"c"}')


def test_an_answer_may_spell_a_label_in_another_case() -> None:
    """Case and spaces around do not matter where only one label can be meant."""
    schema = compile_schema(labels=["Refund", "straße", "STRASSE", "ok", "OK"], column="topic")
    for made in (schema, Schema.restore(schema.record())):
        assert made.parse('{"label":" refund\\n"}') == ("Refund",)
        assert made.read('{"label":"REFUND"}') == ("Refund",)
        assert made.fault('{"label":"refund"}') is None
        assert made.parse('{"label":"OK"}') == ("OK",)
        for answer in ("Ok", "Straße", "refunds", ""):
            assert "allowed" in made.fault(f'{{"label":"{answer}"}}')


def test_a_models_own_values_are_met_exactly() -> None:
    """What a pydantic model or a JSON schema says is not softened."""

    class Topic(BaseModel):
        label: Literal["refund"]

    for schema in (Topic, Topic.model_json_schema()):
        assert "allowed" in compile_schema(schema).fault('{"label":"Refund"}')


def test_labels_as_schema_and_another_name() -> None:
    """`schema=[...]` means labels; `column=` renames the only column, not the request."""
    renamed = compile_schema(["a", "b"], column="intent")
    assert renamed.columns[0].name == "intent"
    assert renamed.response_format == compile_schema(labels=["a", "b"]).response_format


@dataclasses.dataclass
class Pair:
    one: int
    two: str = "x"


class Typed(TypedDict):
    one: int
    two: str


JSON = {
    "type": "object",
    "properties": {"one": {"type": "integer"}, "two": {"type": "string", "default": "x"}},
    "required": ["one"],
}


@pytest.mark.parametrize(
    "given",
    [Pair, Typed, JSON, {"type": "json_schema", "json_schema": {"name": "n", "schema": JSON}}],
)
def test_other_forms_are_the_same(given: Any) -> None:
    """Dataclasses, TypedDicts and JSON schemas give the same columns."""
    schema = compile_schema(given)
    assert kinds(schema) == {"one": "integer", "two": "string"}
    assert schema.parse('{"one":1,"two":"y"}') == (1, "y")


def test_left_out_fields_get_their_default() -> None:
    """A field with a default may be missing in the reply, with or without the model."""
    schema = compile_schema(Pair)
    assert schema.parse('{"one":1}') == (1, "x")
    assert Schema.restore(schema.record()).parse('{"one":1}') == (1, "x")


def test_a_kept_schema_is_the_same_schema() -> None:
    """What the ledger keeps makes the same columns and the same check."""
    schema = compile_schema(Ticket)
    again = Schema.restore(schema.record())
    assert again.columns == schema.columns
    assert again.response_format == schema.response_format
    reply = '{"topic":"billing","mood":"bad","urgent":true,"score":0.5,"author":{"name":"A"}}'
    assert again.parse(reply) == schema.parse(reply)
    for wrong in ("{}", "[]", "no", '{"topic":"billing"}', reply.replace("0.5", "2")):
        with pytest.raises(Invalid):
            again.parse(wrong)
        with pytest.raises(Invalid):
            schema.parse(wrong)


def test_the_models_own_validators_have_their_say() -> None:
    """What a validator refuses is invalid, what it changes is changed."""

    class Strict(BaseModel):
        word: str

        @field_validator("word")
        @classmethod
        def lower(cls, value: str) -> str:
            if value == "no":
                raise ValueError("not that one")
            return value.lower()

    schema = compile_schema(Strict)
    assert schema.parse('{"word":"YES"}') == ("yes",)
    with pytest.raises(Invalid, match=r"word: .*not that one"):
        schema.parse('{"word":"no"}')


def test_a_model_that_contains_itself_ends() -> None:
    """Recursion becomes one column of objects instead of endless columns."""
    schema = compile_schema(Tree)
    assert kinds(schema) == {"value": "integer", "child": "object"}
    assert schema.parse('{"value":1,"child":{"value":2}}')[0] == 1


def test_null_is_allowed_where_the_model_says_so() -> None:
    """`int | None` takes null and is a column of integers all the same."""
    schema = compile_schema(Person)
    assert schema.parse('{"name":"A","age":null}') == ("A", None)
    with pytest.raises(Invalid):
        schema.parse('{"name":null}')


class Callback(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    thing: type("Opaque", (), {})


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (Callback, "Callback cannot be turned into a JSON schema"),
        (object(), r"schema for <object object at \w+>\. Give its fields types"),
        (RootModel[list[int]], "object with properties"),
        ({"type": "array", "items": {}}, "object with properties"),
        ({"type": "object"}, "object with properties"),
        ({"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}, "#/nowhere"),
        (
            {"properties": {"a.b": {}, "a": {"type": "object", "properties": {"b": {}}}}},
            "two columns",
        ),
        (42, "schema must be a pydantic model"),
        ({"properties": {"a": object()}}, "not JSON"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_schema_that_cannot_work_is_refused(schema: Any, words: str) -> None:
    """What has no JSON schema, or no columns, is refused with its name and the reason."""
    with pytest.raises(SchemaError, match=words):
        compile_schema(schema)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([], "empty"),
        (["a", "a"], "twice"),
        ("ab", "list of names"),
        ([1.5], "texts"),
        ([" "], "texts"),
        (["a", None], r"not None\. Of a column with gaps, take its \.dropna\(\)\.unique\(\)"),
        (["a", "\ud83d"], "half a character"),
    ],
)
def test_labels_that_cannot_work_are_refused(labels: Any, words: str) -> None:
    """No labels, double ones, a bare text and odd types are refused."""
    with pytest.raises(InputError, match=words):
        compile_schema(labels=labels)


def test_one_of_the_two() -> None:
    """Both schema and labels, or a name for several columns, are refused; neither is free text."""
    with pytest.raises(InputError, match="not both"):
        compile_schema(Ticket, ["a"])
    with pytest.raises(SchemaError, match="prefix="):
        compile_schema(Ticket, column="x")
    assert compile_schema() is None


class Outer(BaseModel):
    who: Person
    tags: list[str]
    ok: bool


def test_nested_values_stay_objects_by_choice() -> None:
    """flatten=False: one column for each field, of whole objects; kept in the ledger's record."""
    text = '{"who":{"name":"Ann","age":3},"tags":["a"],"ok":true}'
    schema = compile_schema(Outer, flatten=False)
    assert schema is not None
    assert [(each.name, each.kind) for each in schema.columns] == [
        ("who", "object"), ("tags", "object"), ("ok", "boolean"),
    ]  # fmt: skip
    again = Schema.restore(orjson.loads(orjson.dumps(schema.record())))
    for each in (schema, again):
        assert each.parse(text) == ({"name": "Ann", "age": 3}, ["a"], True)
        assert "who.age" in (each.fault('{"who":{"name":"A","age":"x"},"tags":[],"ok":true}') or "")
    flat = compile_schema(Outer)
    assert flat is not None
    assert [each.name for each in flat.columns] == ["who.name", "who.age", "tags", "ok"]
    assert flat.response_format == schema.response_format


def test_records_of_older_ledgers_are_flat() -> None:
    """A record without the choice is of the time when there was none."""
    schema = compile_schema(Outer)
    assert schema is not None
    record = schema.record()
    del record["flatten"]
    assert Schema.restore(record).columns == schema.columns


@pytest.mark.parametrize("mode", ["batch", "online"])
def test_what_never_fits_ends_as_an_error_with_its_text(
    label: Callable[..., Run], simulator: Any, mode: str
) -> None:
    """Asked for again (once in a batch, twice online), each attempt counted and paid."""

    class Never(BaseModel):
        label: Literal["a", "b"]

        @field_validator("label")
        @classmethod
        def refuse(cls, value: str) -> str:
            raise ValueError("never")

    df = pd.DataFrame({"text": ["x", None]})
    run = label(df, "Which? {text}", schema=Never, mode=mode)
    done = run.result()
    attempts = {"batch": 2, "online": 3}[mode]
    assert done["label"].isna().all()
    assert "never" in done["_error"].iloc[0]
    assert run.errors["attempts"].tolist() == [attempts, 0]
    assert orjson.loads(run.errors["raw"].iloc[0])["label"] in {"a", "b"}
    assert pd.isna(run.errors["raw"].iloc[1])
    stats = simulator.stats()
    assert stats["chat_requests"] + stats["batch_rows"] == attempts
