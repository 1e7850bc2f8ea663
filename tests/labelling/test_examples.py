"""Few-shot examples: labelled rows become turns that a reply could have been."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import orjson
import pandas as pd
import pytest
from pydantic import BaseModel

from mistral_nb.errors import InputError, TemplateError
from mistral_nb.labelling.asked import Asked

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.labelling import Run

LABELLED = pd.DataFrame(
    {"text": ["lost parcel", "charged twice"], "label": ["delivery", "billing"]}
)


class Person(BaseModel):
    name: str
    age: int | None = None


class Report(BaseModel):
    who: Person
    topics: list[str]
    mood: Literal["good", "bad"]


def messages(examples: Any, prompt: Any = "Topic? {text}", **asked: Any) -> list[dict[str, Any]]:
    """Return the messages of a row whose text is "x"."""
    columns = ["text", "image"]
    question = Asked(prompt, examples=examples, **asked).question(columns, "m")
    (filled,) = question.prompt.fill(
        pd.DataFrame({"text": ["x"], "image": ["https://e.org/x.png"]}), 0
    )
    return orjson.loads(question.recipe.body(filled))["messages"]


def answers(found: list[dict[str, Any]]) -> list[Any]:
    return [orjson.loads(each["content"]) for each in found if each["role"] == "assistant"]


def test_rows_become_questions_with_answers() -> None:
    """After the system prompt, before the row: the same prompt, the JSON a reply would be."""
    found = messages(LABELLED, labels=["billing", "delivery"], system="Be brief.")
    assert found == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Topic? lost parcel"},
        {"role": "assistant", "content": '{"label":"delivery"}'},
        {"role": "user", "content": "Topic? charged twice"},
        {"role": "assistant", "content": '{"label":"billing"}'},
        {"role": "user", "content": "Topic? x"},
    ]


def test_lists_of_dicts_do_too() -> None:
    """A table or its records: the same turns."""
    asked = {"labels": ["billing", "delivery"]}
    records = LABELLED.to_dict(orient="records")
    assert messages(records, **asked) == messages(LABELLED, **asked)


def test_free_text_is_given_as_it_is() -> None:
    """Without a schema the right reply is a text, in `reply` or the column that was chosen."""
    found = messages([{"text": "a", "reply": "b"}])
    assert found[1] == {"role": "assistant", "content": "b"}
    assert messages([{"text": "a", "said": "b"}], column="said")[1]["content"] == "b"


def test_nested_answers_come_from_flat_or_whole_columns() -> None:
    """`who.name` columns and a `who` column of dicts lead to the same answer."""
    flat = pd.DataFrame(
        {"text": ["t"], "who.name": ["Ann"], "who.age": pd.array([None], "Int64"), "mood": ["bad"]}
    )
    flat["topics"] = [np.array(["a", "b"])]
    whole = [
        {"text": "t", "who": {"name": "Ann", "age": None}, "topics": ["a", "b"], "mood": "bad"}
    ]
    wanted = {"who": {"name": "Ann", "age": None}, "topics": ["a", "b"], "mood": "bad"}
    for flatten in (True, False):
        assert answers(messages(whole, schema=Report, flatten=flatten)) == [wanted]
    assert answers(messages(flat, schema=Report)) == [wanted]


def test_numpy_values_become_plain_ones() -> None:
    """Whole numbers, booleans and categories of a table are those of JSON."""

    class Row(BaseModel):
        count: int
        sure: bool
        kind: Literal["a", "b"]

    table = pd.DataFrame({"text": ["t"], "count": [3], "sure": [True], "kind": ["a"]})
    table["kind"] = table["kind"].astype("category")
    assert answers(messages(table, schema=Row)) == [{"count": 3, "sure": True, "kind": "a"}]


def test_images_of_examples_go_along() -> None:
    """An example's own image stands beside its text."""
    rows = [{"text": "a", "image": "https://e.org/1.png", "label": "cat"}]
    found = messages(rows, labels=["cat", "dog"], images="image")
    assert [part["type"] for part in found[0]["content"]] == ["text", "image_url"]
    assert found[0]["content"][1]["image_url"] == "https://e.org/1.png"
    assert found[2]["content"][1]["image_url"] == "https://e.org/x.png"


def test_prompt_functions_get_the_examples_too() -> None:
    """Messages of a function keep their order; a system message comes first, once."""

    def ask(row: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"role": "system", "content": "S"}, {"role": "user", "content": row["text"]}]

    found = messages([{"text": "a", "reply": "b"}], ask)
    assert [each["role"] for each in found] == ["system", "user", "assistant", "user"]
    assert [each["content"] for each in found] == ["S", "a", "b", "x"]


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ([], "examples is empty"),
        (["a"], "list of dicts"),
        ("text", "table in memory, or a list of dicts"),
        ([{"text": "a"}], "no column with the right answers: 'label'"),
        ([{"text": "a", "label": "weather"}], "Example 0: .*not one of the allowed"),
        ([{"text": "a", "label": "billing"}, {"text": "a"}], "Example 1: .*'label' is missing"),
        ([{"text": None, "label": "billing"}], "Example 0: empty value in column 'text'"),
        ([{"text": "half \ud800", "label": "billing"}], "system= or examples= cannot be sent"),
        ([{"txt": "a", "label": "billing"}], "examples: The prompt names"),
    ],
)  # fmt: skip
def test_examples_that_cannot_be_are_refused(examples: Any, words: str) -> None:
    """With the example's number and what is wrong, before anything is sent."""
    with pytest.raises((InputError, TemplateError), match=words):
        messages(examples, labels=["billing", "delivery"])


def test_examples_are_part_of_what_is_asked(label: Callable[..., Run]) -> None:
    """Other examples are another question: nothing is taken over, and a name is refused."""
    df = pd.DataFrame({"text": ["parcel"]})
    first = label(
        df, "Topic? {text}", labels=["billing", "delivery"], examples=LABELLED, name="few"
    )
    assert first.result()["label"].tolist() == ["delivery"]
    with pytest.raises(InputError, match="its examples are other ones"):
        label(
            df, "Topic? {text}", labels=["billing", "delivery"], examples=LABELLED[:1], name="few"
        ).result()
    again = label(df, "Topic? {text}", labels=["billing", "delivery"], examples=LABELLED)
    again.result()
    assert again.counts["reused"] == 1
    other = label(df, "Topic? {text}", labels=["billing", "delivery"], examples=LABELLED[:1])
    other.result()
    assert other.counts["reused"] == 0
