"""Functions as tools: schema, names, validation, and clear words where it cannot be."""

from __future__ import annotations

import asyncio
import datetime as dt  # noqa: TC003 - tools read their annotations
import functools
import threading
from typing import Annotated, Any, Literal

import pandas as pd  # noqa: TC002
import pytest
from mistralai.client import models
from pydantic import BaseModel, Field

from mistral_nb.agents.tools import Tool, ToolSet, tool
from mistral_nb.errors import InputError


class Order(BaseModel):
    product: str
    count: int = 1


def stock(product: str, size: Literal["S", "L"] = "S", limit: int | None = None) -> int:  # noqa: D417
    """Say how many are left.

    Looks at the shelf.

    Args:
        product: What is looked for,
            by its name.
        size (str): Which size.

    Returns:
        A number.
    """
    return len(product) + (limit or 0) + (size == "L")


class Shop:
    """A shop."""

    def __init__(self, name: str) -> None:
        self.name = name

    def open_at(self, day: dt.date) -> str:
        """Say when it opens."""
        return f"{self.name} {day:%A}"

    def __call__(self, word: str) -> str:
        """Say a word."""
        return word


def call(made: Tool, **arguments: Any) -> Any:
    return asyncio.run(made.call(made.bind(arguments)))


def test_signature_and_docstring_become_the_schema() -> None:
    """Types, defaults, choices and descriptions; the text before Args is the description."""
    made = tool(stock)
    assert made.name == "stock"
    assert made.description == "Say how many are left.\n\nLooks at the shelf."
    assert made.parameters == {
        "type": "object",
        "additionalProperties": False,
        "required": ["product"],
        "properties": {
            "product": {"type": "string", "description": "What is looked for, by its name."},
            "size": {
                "type": "string",
                "enum": ["S", "L"],
                "default": "S",
                "description": "Which size.",
            },
            "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        },
    }


def test_the_sdk_knows_the_tools() -> None:
    """What goes on the wire is a FunctionTool of the SDK's."""
    wire = tool(stock).as_wire()
    made = models.FunctionTool.model_validate(wire)
    assert made.function.name == "stock"


def test_arguments_become_what_the_annotations_say() -> None:
    """Dates and models are made from JSON; what is left out keeps the function's default."""

    def order(orders: list[Order], day: dt.date, note: str = "none") -> str:
        return f"{orders[0].product} {orders[0].count} {day:%d} {note}"

    assert call(tool(order), orders=[{"product": "a"}], day="2026-03-07") == "a 1 07 none"
    assert call(tool(stock), product="ab", limit=3) == 5


def test_field_and_annotated_are_heard() -> None:
    """Bounds and descriptions of pydantic are part of the schema and are checked."""

    def buy(count: Annotated[int, Field(gt=0, description="How many.")]) -> int:
        return count

    made = tool(buy)
    assert made.parameters["properties"]["count"] == {
        "type": "integer",
        "exclusiveMinimum": 0,
        "description": "How many.",
    }
    with pytest.raises(InputError, match="greater than 0"):
        made.bind({"count": 0})


def test_methods_partials_and_callables_are_tools() -> None:
    """Bound parts are not the model's business; the name is the inner function's."""
    shop = Shop("Fox")
    assert call(tool(shop.open_at), day="2026-03-07") == "Fox Saturday"
    part = tool(functools.partial(stock, size="L"))
    assert (part.name, sorted(part.parameters["properties"])) == ("stock", ["limit", "product"])
    assert call(part, product="ab") == 3
    first = tool(functools.partial(stock, "abc"))
    assert (sorted(first.parameters["properties"]), call(first)) == (["limit", "size"], 3)
    assert tool(shop).name == "shop"
    assert call(tool(shop), word="hi") == "hi"


def test_asynchronous_functions_run_on_the_loop_and_others_beside_it() -> None:
    """A plain function has a thread of its own, a coroutine function the loop's."""
    threads: list[int] = []

    async def here() -> None:
        threads.append(threading.get_ident())

    def there() -> None:
        threads.append(threading.get_ident())

    call(tool(here))
    call(tool(there))
    assert threads[0] == threading.get_ident() != threads[1]


def test_parameters_may_have_any_name() -> None:
    """Names that pydantic keeps for itself, and positional-only ones, work."""

    def odd(_x: int, /, json: str, schema: str, model_config: str = "c") -> str:
        return f"{_x}{json}{schema}{model_config}"

    assert call(tool(odd), _x=1, json="a", schema="b") == "1abc"


def test_a_default_that_no_json_can_carry_is_left_out() -> None:
    """The parameter is optional all the same."""
    marker = object()

    def find(text: str, options: Any = marker) -> bool:
        return options is marker

    made = tool(find)
    assert made.parameters["required"] == ["text"]
    assert call(made, text="a") is True


def test_wrong_arguments_are_explained_to_the_model() -> None:
    """What is wrong, where, and what the parameters are; unknown ones are refused."""
    made = tool(stock)
    with pytest.raises(InputError, match=r"product: Field required.*'|product.*parameters"):
        made.bind({})
    with pytest.raises(InputError, match="colour: Extra inputs"):
        made.bind({"product": "a", "colour": "red"})
    with pytest.raises(InputError, match="must be a JSON object, not 'no json'"):
        made.bind("no json")


def no_annotation(city):
    return city


def var_args(*cities: str) -> None:
    """Take many."""


def var_kwargs(**options: str) -> None:
    """Take any."""


def yields(n: int):
    """Count."""
    yield n


def takes_table(table: pd.DataFrame) -> None:
    """Take a table."""


def unknown_name(x: Nowhere) -> None:  # noqa: F821
    """Name a type that is not there."""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (no_annotation, "parameter city has no annotation.*city: str"),
        (var_args, r"takes \*cities: .*Name every parameter"),
        (var_kwargs, r"takes \*\*options: .*Name every parameter"),
        (yields, "yields, but a model is told one result: return a list"),
        (takes_table, "no JSON can carry.*Use str"),
        (unknown_name, "annotation cannot be read.*Nowhere"),
        (lambda x: x, "cannot be called '<lambda>'.*name="),
        (3, "must be a function or a connector"),
    ],
)
def test_what_cannot_be_a_tool_says_why(function: Any, words: str) -> None:
    """Each with the parameter and what to write instead."""
    with pytest.raises(InputError, match=f"(?s){words}"):
        tool(function)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"approve": "allways"}, "approve must be 'ask', 'always', 'never'"),
        ({"timeout": 0}, "timeout must be a number of seconds above 0"),
        ({"timeout": "9"}, "timeout must be a number of seconds above 0"),
        ({"name": "two words"}, "cannot be called 'two words'"),
    ],
)
def test_options_of_a_tool_are_checked(options: dict, words: str) -> None:
    """When it is made, not when a model calls it."""
    with pytest.raises(InputError, match=words):
        tool(stock, **options)


def test_a_tool_of_a_tool_has_other_options() -> None:
    """Such as a name or a consent of its own for a tool of an MCP server; the first stays."""
    first = tool(stock)
    second = tool(first, name="shelf", approve="never", timeout=3)
    assert (second.name, second.approve, second.timeout) == ("shelf", "never", 3)
    assert second.as_wire()["function"]["name"] == "shelf"
    assert (first.name, first.approve) == ("stock", None)
    assert call(second, product="ab") == 2
    assert tool(first) is first


def test_names_that_collide_are_refused() -> None:
    """Two tools of one name cannot be told apart; a name of its own helps."""
    with pytest.raises(InputError, match=r"Two tools are called 'stock'.*name="):
        ToolSet([stock, stock])
    with pytest.raises(InputError, match="Two tools are called 'web_search'"):
        ToolSet(["web_search", tool(stock, name="web_search")])
    both = ToolSet([stock, tool(stock, name="stock_again")])
    assert sorted(both.own) == ["stock", "stock_again"]


def test_connectors_are_passed_on() -> None:
    """By name, as the API's object, or as the SDK's model."""
    library = {"type": "document_library", "library_ids": ["a"]}
    found = ToolSet(["web_search", library, models.ImageGenerationTool()])
    assert found.connectors == [{"type": "web_search"}, library, {"type": "image_generation"}]
    assert found.own == {}


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        (["web_serach"], "no connector 'web_serach'.*web_search"),
        ([{"name": "x"}], "needs a type"),
        (stock, "must be a list"),
        ("web_search", "must be a list"),
    ],
)
def test_what_is_no_list_of_tools_is_refused(tools: Any, words: str) -> None:
    """A typing error in a connector, or one tool in place of a list, is said."""
    with pytest.raises(InputError, match=words):
        ToolSet(tools)
