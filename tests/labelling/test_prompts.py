"""Laws of prompts: whole cells only, clear words for what does not fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mistral_nb.errors import InputError, TemplateError
from mistral_nb.labelling.prompts import Unsent, compile_prompt


def filled(prompt: object, df: pd.DataFrame) -> list[object]:
    return list(compile_prompt(prompt, list(df.columns)).fill(df, 0))


TABLE = pd.DataFrame({"text": ["one", "two"], "n": [1, 2]})


def test_a_template_is_filled_with_cells() -> None:
    """Each place takes its column's cell, several times and in any order."""
    assert filled("{n}: {text}, {text}!", TABLE) == ["1: one, one!", "2: two, two!"]


def test_doubled_braces_are_text() -> None:
    """A JSON example in doubled braces is left alone."""
    assert filled('{{"label": "x"}} for {text}', TABLE)[0] == '{"label": "x"} for one'


def test_cells_keep_braces_and_percent_signs() -> None:
    """A cell is never read as a template itself."""
    df = pd.DataFrame({"text": ["{n} {0.__class__} %s {{"]})
    assert filled("<{text}>", df) == ["<{n} {0.__class__} %s {{>"]


def test_formats_and_conversions_work() -> None:
    """`{price:.2f}` and `{text!r}` do what str.format does."""
    df = pd.DataFrame({"text": ["a'b"], "price": [1.239]})
    assert filled("{text!r} {price:.2f} {price!s:>6}", df) == ['"a\'b" 1.24  1.239']


@pytest.mark.parametrize(
    "name", ["a.b", "a[0]", "with space", "colon:here", "Why?!", "a!b:c", "class", "ünï", "0"]
)
def test_any_column_name_can_be_named(name: str) -> None:
    """Dots, brackets, spaces, colons and exclamation marks in a name are part of the name."""
    assert filled(f"<{{{name}}}>", pd.DataFrame({name: ["x"]})) == ["<x>"]


def test_columns_need_not_be_texts() -> None:
    """A column labelled with a number is named by that number."""
    assert filled("<{0}>", pd.DataFrame([["x"]])) == ["<x>"]


@pytest.mark.parametrize("access", ["{text.__class__}", "{text[0]}", "{n.real}"])
def test_nothing_inside_a_cell_can_be_reached(access: str) -> None:
    """Attribute and index access is an unknown column."""
    with pytest.raises(TemplateError, match="no column"):
        compile_prompt(access, list(TABLE.columns))


def test_a_missing_column_names_near_ones() -> None:
    """The error names the column and what was probably meant."""
    with pytest.raises(TemplateError, match=r"'txt'.*Did you mean \{text\}"):
        compile_prompt("{txt}", ["text", "n"])
    with pytest.raises(TemplateError, match=r"Did you mean \{Text\}"):
        compile_prompt("{text}", ["Text"])
    with pytest.raises(TemplateError, match="It has: a, b"):
        compile_prompt("{zzz}", ["a", "b"])


@pytest.mark.parametrize(
    "template",
    ['{"label": "x"} {text}', "{text} {", "{text} }", "{} {text}", "{text:{text}}", "{{text}"],
)
def test_lone_braces_get_advice(template: str) -> None:
    """A JSON example in single braces, or unmatched ones, lead to the way to write them."""
    with pytest.raises(TemplateError, match=r"write \{\{ and \}\}"):
        compile_prompt(template, ["text"])


def test_half_a_character_is_refused() -> None:
    """A template that no request can hold is refused before anything is built."""
    with pytest.raises(TemplateError, match="half a character"):
        compile_prompt("{text} \ud83d", ["text"])


def test_a_prompt_without_a_column_is_refused() -> None:
    """The same prompt for every row is surely a mistake."""
    with pytest.raises(TemplateError, match=r"names no column.*\{text\}"):
        compile_prompt("Which topic?", ["text"])


def test_a_name_there_twice_is_refused_only_where_it_is_used() -> None:
    """Two columns of one name harm nobody who names another column."""
    df = pd.DataFrame([["a", "b", "c"]], columns=["x", "x", "y"])
    assert filled("{y}", df) == ["c"]
    with pytest.raises(TemplateError, match="2 columns"):
        compile_prompt("{x}", list(df.columns))


@pytest.mark.parametrize("empty", [None, np.nan, pd.NA, pd.NaT])
def test_an_empty_cell_is_not_sent(empty: object) -> None:
    """A row with an empty cell says which column is empty; its neighbours are sent."""
    df = pd.DataFrame({"text": pd.Series(["a", empty, "c"], dtype=object)})
    assert filled("{text}", df) == ["a", Unsent("empty value in column 'text'"), "c"]


def test_other_cells_become_their_text() -> None:
    """Numbers, dates and lists are written as Python writes them; an empty text is a text."""
    df = pd.DataFrame({"text": pd.Series([1, 2.5, True, [1, "x"], pd.Timestamp("2024-01-02"), ""])})
    expected = ["1", "2.5", "True", "[1, 'x']", "2024-01-02 00:00:00", ""]
    assert filled("{text}", df) == expected


def test_a_format_that_does_not_fit_names_the_row() -> None:
    """`{text:.2f}` on a text fails with the row's number, before anything is sent."""
    df = pd.DataFrame({"text": pd.Series([1.0, "x"], dtype=object)})
    with pytest.raises(InputError, match="Row 1"):
        filled("{text:.2f}", df)


def test_a_function_gets_each_row_as_a_dict() -> None:
    """A function makes a text or messages of a row; None leaves the row out."""
    messages = [{"role": "user", "content": "two"}]

    def prompt(row: dict[str, object]) -> object:
        return {1: row["text"], 2: messages}[row["n"]]

    assert filled(prompt, TABLE) == ["one", messages]
    assert filled(lambda _: None, TABLE)[0] == Unsent("the prompt function returned None")


def test_a_failing_function_names_the_row() -> None:
    """An exception in a prompt function tells the row and how a row looks."""
    with pytest.raises(InputError, match=r"Row 0.*AttributeError.*row\['text'\]"):
        filled(lambda row: row.text, TABLE)
    with pytest.raises(InputError, match=r"Row 0.*not int"):
        filled(lambda row: row["n"], TABLE)


def test_other_things_are_no_prompt() -> None:
    """A list or number as prompt is refused with an example."""
    with pytest.raises(InputError, match="Which topic"):
        compile_prompt(["{text}"], ["text"])
