"""Few-shot examples: labelled rows become questions with their right answers, before each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pandas as pd

from mistral_nb.errors import InputError, TemplateError
from mistral_nb.labelling.prompts import Unsent

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from mistral_nb.labelling.prompts import Prompt
    from mistral_nb.labelling.schemas import Schema

__all__ = ["example_messages"]


def example_messages(
    examples: pd.DataFrame,
    ask: Callable[[Sequence[Hashable]], Prompt],
    schema: Schema | None,
    column: str = "reply",
) -> list[dict[str, Any]]:
    """Turn labelled rows into turns of a conversation.

    Args:
        examples: Rows with the columns that the prompt needs, and the right values in columns
            named as the result's.
        ask: Makes the prompt for a table with such columns.
        schema: What replies must look like; None for free text.
        column: Column with the right reply, where there is no schema.

    Returns:
        A user's and an assistant's message for each row.

    Raises:
        InputError: A row lacks something, or its values do not fit the schema.
    """
    if not len(examples):
        raise InputError("examples is empty: give at least one labelled row, or leave it out.")
    try:
        filled = list(ask(list(examples.columns)).fill(examples, 0))
    except TemplateError as error:
        raise TemplateError(f"examples: {error}") from error
    except InputError as error:
        raise InputError(f"examples: {error}") from error
    names = [column] if schema is None else [each.name for each in schema.columns]
    tops = [] if schema is None else [each.path[0] for each in schema.columns]
    if not any(name in examples.columns for name in [*names, *tops]):
        raise InputError(
            f"examples has no column with the right answers: {', '.join(map(repr, names[:20]))}."
        )
    messages: list[dict[str, Any]] = []
    for number, (asked, cells) in enumerate(
        zip(filled, examples.to_dict(orient="records"), strict=True)
    ):
        if isinstance(asked, Unsent):
            raise InputError(f"Example {number}: {asked.reason}.")
        if isinstance(asked, str):
            asked = [{"role": "user", "content": asked}]  # noqa: PLW2901 - its other form
        if isinstance(asked, dict):
            raise InputError("examples= is for endpoint='chat'.")
        messages += [each for each in asked if each.get("role") != "system"]
        messages.append({"role": "assistant", "content": _answer(cells, schema, column, number)})
    return messages


def _answer(cells: dict[Hashable, Any], schema: Schema | None, column: str, number: int) -> str:
    if schema is None:
        text = cells[column]
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"Example {number}: column {column!r} holds no text.")
        return text
    made: dict[str, Any] = {}
    for each in schema.columns:
        value = _plain(cells.get(each.name))
        top = _plain(cells.get(each.path[0]))
        if value is None and isinstance(top, dict) and len(each.path) > 1:
            made[each.path[0]] = top  # the whole object, in one column
        elif value is not None or each.name in cells:
            _put(made, each.path, value)
    for answer in (made, _without_empty(made)):  # an empty cell may mean: left out
        text = orjson.dumps(answer).decode()
        wrong = schema.fault(text)
        if wrong is None:
            return text
    wrong = str(wrong).replace("the reply", "its answer")
    raise InputError(f"Example {number}: {wrong}. It has {text[:300]}.")


def _put(made: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        made = made.setdefault(key, {})
    made[path[-1]] = value


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty(each) for key, each in value.items() if each is not None}
    return value


def _plain(value: Any) -> Any:
    """Return a cell as JSON has it; None for an empty one."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(each) for each in value]
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value
