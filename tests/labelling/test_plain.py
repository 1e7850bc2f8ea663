"""Laws of plain models: skipping pydantic changes no verdict and no value."""

from __future__ import annotations

import dataclasses
import datetime as dt  # noqa: TC003 - pydantic looks it up
from enum import Enum
from typing import Annotated, Any, Literal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)

from mistral_nb.labelling.plain import is_plain
from mistral_nb.labelling.schemas import Invalid, Schema, compile_schema


class Ticket(BaseModel):
    """Has one of every kind that is plain."""

    topic: Literal["billing", "delivery", 3]
    urgent: bool
    reason: str = Field(min_length=2, max_length=30, description="Why.")
    people: int | None = None
    score: float = Field(default=0.5, ge=0, le=1)
    words: list[str] = []
    sides: list[Literal["left", "right"]] = Field(default=[], max_length=2)


@dataclasses.dataclass
class Place:
    """A plain dataclass."""

    city: str
    number: int = 3


class Alias(BaseModel):
    a: str = Field(alias="b")


class Date(BaseModel):
    a: dt.date


class Validator(BaseModel):
    a: str

    @field_validator("a")
    @classmethod
    def check(cls, value: str) -> str:
        return value.upper()


class Before(BaseModel):
    a: Annotated[str, BeforeValidator(str.lower)]


class Whole(BaseModel):
    a: str

    @model_validator(mode="after")
    def check(self) -> Whole:
        return self


class Serialised(BaseModel):
    a: str

    @field_serializer("a")
    def turned(self, value: str) -> str:
        return value[::-1]


class Later(BaseModel):
    a: str

    def model_post_init(self, _: Any) -> None:
        self.a = "later"


class Stripped(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)
    a: str


class StrippedField(BaseModel):
    a: Annotated[str, StringConstraints(strip_whitespace=True)]


class Nested(BaseModel):
    a: Ticket


class Factory(BaseModel):
    a: list[str] = Field(default_factory=list)


class Computed(BaseModel):
    a: int

    @computed_field
    def b(self) -> int:
        return self.a + 1


class Shown(BaseModel):
    a: str = Field(json_schema_extra={"pattern": "x"})


class Colour(Enum):
    RED = "red"


class Choice(BaseModel):
    a: Colour


class Floats(BaseModel):
    a: list[float]


class Own(BaseModel):
    a: str

    @classmethod
    def __get_pydantic_json_schema__(cls, *_: Any) -> dict[str, Any]:
        return {"type": "object", "properties": {"a": {}}}


@pytest.mark.parametrize("model", [Ticket, Place])
def test_plain(model: Any) -> None:
    """Flat models of texts, numbers, choices and lists of texts are plain."""
    assert is_plain(TypeAdapter(model))


@pytest.mark.parametrize(
    "model",
    [Alias, Date, Validator, Before, Whole, Serialised, Later, Stripped, StrippedField, Nested,
     Factory, Computed, Shown, Choice, Floats, Own, int, dict[str, int]],
)  # fmt: skip
def test_not_plain(model: Any) -> None:
    """A model with code or conversions of its own, or one not known to have none, is not."""
    assert not is_plain(TypeAdapter(model))


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(-1, 2), st.sampled_from([2**63, 2.0]),
    st.sampled_from(["billing", "delivery", "left", "", "x", "a text", "y" * 31]),
    st.lists(st.sampled_from(["left", "up", 1, None]), max_size=3),
)  # fmt: skip
REPLIES = st.fixed_dictionaries(
    {
        "topic": st.sampled_from(["billing", 3, True, None]),
        "urgent": st.booleans(),
        "reason": VALUES,
    },
    optional={"people": VALUES, "score": VALUES, "words": VALUES, "sides": VALUES, "other": VALUES},
)


@given(REPLIES)
def test_nothing_is_lost_by_not_asking_pydantic(reply: dict[str, Any]) -> None:
    """Whatever the reply: what the JSON schema accepts, pydantic does, with the same values."""
    schema = compile_schema(Ticket)
    assert schema is not None
    adapter = TypeAdapter(Ticket)
    text = orjson.dumps(reply).decode()
    try:
        values = schema.parse(text)
    except Invalid:
        return
    made = adapter.dump_python(adapter.validate_json(text), mode="json")
    assert values == tuple(column.value(made) for column in schema.columns)


def test_a_validator_still_has_its_say() -> None:
    """A model that is not plain goes through pydantic: its values are what it made of them."""
    schema = compile_schema(Validator)
    assert isinstance(schema, Schema)
    assert schema.parse('{"a": "x"}') == ("X",)
