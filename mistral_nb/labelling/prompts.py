"""Prompts: a template with `{column}` places, or a function of a row, for each row's text.

Templates look like `str.format` but are only ever filled with whole cells: no attribute or
index access, so a column's name is all that counts, even one with dots or spaces in it.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mistral_nb.errors import InputError, TemplateError
from mistral_nb.labelling.labels import encodable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    import pandas as pd

__all__ = ["Filled", "FunctionPrompt", "Prompt", "TemplatePrompt", "Unsent", "compile_prompt"]

_BRACES = "For braces that belong to the text (a JSON example), write {{ and }}."
_CONVERSIONS: dict[str, Callable[[Any], str]] = {"s": str, "r": repr, "a": ascii}
_PARTS = re.compile(r"[^{}]+|\{\{|\}\}|\{(?P<place>[^{}]*)\}|(?P<lone>[{}])")
"""A template's pieces: text, doubled braces, a place, or a brace without its other one."""
_PLACE = re.compile(r"(?P<name>.*?)(?:!(?P<conversion>[^:]*))?(?::(?P<spec>.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Unsent:
    """Stands in for the prompt of a row that cannot be sent, and says why."""

    reason: str


Filled = str | list[dict[str, Any]] | dict[str, Any] | Unsent
"""What is asked of a row: a text, messages, or whole fields of the request's body."""


@dataclass(frozen=True)
class _Place:
    """One `{column}` in a template: where its column is and how a cell becomes text."""

    position: int
    column: Hashable
    conversion: str | None
    spec: str

    def text(self, cell: Any) -> str:
        if self.conversion:
            cell = _CONVERSIONS[self.conversion](cell)
        if self.spec:
            return format(cell, self.spec)
        return str(cell)


class TemplatePrompt:
    """A template that is filled with the cells of a row.

    Args:
        template: Text with `{column}` places.
        columns: All column labels of the table, in order.
        may_be_constant: Whether it may name no column.

    Raises:
        TemplateError: The template is malformed, cannot be sent, or names no column or an
            unknown one.
    """

    def __init__(
        self, template: str, columns: Sequence[Hashable], *, may_be_constant: bool = False
    ) -> None:
        self.template = template
        self._places: list[_Place] = []
        self._pattern = ""  # for the % operator: it fills a row in one step
        by_text = _by_text(columns)
        for part in _PARTS.finditer(template):
            if part["lone"]:
                raise TemplateError(f"The prompt has a {part['lone']} on its own. {_BRACES}")
            if part["place"] is None:
                text = part[0][0] if part[0] in {"{{", "}}"} else part[0]
                self._pattern += text.replace("%", "%%")
            else:
                self._places.append(_place(part["place"], by_text))
                self._pattern += "%s"
        self._formats = any(place.conversion or place.spec for place in self._places)
        if not self._places and not may_be_constant:
            raise TemplateError(
                "The prompt names no column, so every row would get the same one. "
                f"Put a column in braces, e.g. {{{next(iter(by_text), 'text')}}}."
            )

    @property
    def source(self) -> str:
        """The template, as it is written to the ledger."""
        return self.template

    @property
    def constant(self) -> bool:
        """Whether it names no column, so that all rows get the same text."""
        return not self._places

    def fill(self, rows: pd.DataFrame, first: int) -> Iterator[str | Unsent]:
        """Yield one text a row.

        Args:
            rows: Part of the table, shape (rows, columns).
            first: Position of its first row in the whole table.

        Yields:
            The filled template, or Unsent for a row with an empty cell.

        Raises:
            InputError: A format such as `{price:.2f}` does not fit a cell; names the row.
        """
        if self.constant:
            yield from itertools.repeat(self._pattern % (), len(rows))
            return
        cells = [rows.iloc[:, place.position] for place in self._places]
        empty = [column.isna().to_numpy() for column in cells]
        gaps = np.logical_or.reduce(empty).tolist()
        values = zip(*[column.tolist() for column in cells], strict=True)
        for row, (gap, value) in enumerate(zip(gaps, values, strict=True)):
            if gap:
                name = next(c.name for c, mask in zip(cells, empty, strict=True) if mask[row])
                yield Unsent(f"empty value in column {name!r}")
                continue
            try:
                yield self._pattern % (self._formatted(value) if self._formats else value)
            except (ValueError, TypeError) as error:
                raise InputError(
                    f"Row {first + row}: a cell does not fit its format in the prompt: {error}."
                ) from error

    def _formatted(self, cells: tuple[Any, ...]) -> tuple[str, ...]:
        return tuple(place.text(cell) for place, cell in zip(self._places, cells, strict=True))


class FunctionPrompt:
    """A function that makes a prompt from a row, given as a dict of column to cell.

    Args:
        function: Returns a text, a list of messages, or None for a row not to be sent.
        columns: All column labels of the table, in order.

    Raises:
        InputError: Two columns have the same name, so a dict cannot hold a row.
    """

    def __init__(self, function: Callable[[dict[Any, Any]], Any], columns: Sequence[Any]) -> None:
        self._function = function
        twice = sorted({str(name) for name in columns if list(columns).count(name) > 1})
        if twice:
            raise InputError(
                f"Column {twice[0]!r} is there twice, so a row cannot be given to the prompt "
                "function. Rename one of them."
            )
        self._columns = list(columns)

    @property
    def source(self) -> str:
        """The function's name, as it is written to the ledger."""
        name = getattr(self._function, "__qualname__", type(self._function).__name__)
        return f"function {name}"

    def fill(self, rows: pd.DataFrame, first: int) -> Iterator[str | list[dict[str, Any]] | Unsent]:
        """Yield one prompt a row.

        Args:
            rows: Part of the table, shape (rows, columns).
            first: Position of its first row in the whole table.

        Yields:
            What the function returned, or Unsent where it returned None.

        Raises:
            InputError: The function failed or returned something else; names the row.
        """
        lists = [rows.iloc[:, position].tolist() for position in range(len(self._columns))]
        for number, values in enumerate(zip(*lists, strict=True), start=first):
            try:
                made = self._function(dict(zip(self._columns, values, strict=True)))
            except Exception as error:
                raise InputError(
                    f"Row {number}: the prompt function failed: {type(error).__name__}: {error}. "
                    "It gets a dict of column to cell, e.g. lambda row: row['text']. "
                    "Nothing was sent."
                ) from error
            yield _checked(made, number)


class Prompt(Protocol):
    """Makes what is asked of each row."""

    @property
    def source(self) -> str:
        """What the ledger keeps of it."""

    def fill(self, rows: pd.DataFrame, first: int) -> Iterator[Filled]:
        """Yield what is asked of each row; see :meth:`TemplatePrompt.fill`."""


def compile_prompt(
    prompt: Any, columns: Sequence[Hashable], *, may_be_constant: bool = False
) -> Prompt:
    """Check a prompt against the columns of a table.

    Args:
        prompt: Template with `{column}` places, or a function of a row (a dict of column
            to cell) that returns a text or a list of messages.
        columns: All column labels of the table, in order.
        may_be_constant: Whether a template may name no column: something else tells the rows
            apart.

    Returns:
        Something whose `fill` makes the prompt of each row.

    Raises:
        TemplateError: A template that does not fit the table.
        InputError: Neither a template nor a function.
    """
    if isinstance(prompt, str):
        if not encodable(prompt):
            raise TemplateError(
                f"The prompt {prompt!r} holds half a character (of a surrogate pair), which cannot "
                "be sent. Mend its text."
            )
        return TemplatePrompt(prompt, columns, may_be_constant=may_be_constant)
    if callable(prompt):
        return FunctionPrompt(prompt, columns)
    raise InputError(
        "prompt must be a template such as 'Which topic? {text}' or a function of a row, "
        f"not {type(prompt).__name__}."
    )


def _by_text(columns: Sequence[Hashable]) -> dict[str, list[tuple[int, Hashable]]]:
    """Map what can stand in braces to the columns it may mean."""
    found: dict[str, list[tuple[int, Hashable]]] = {}
    for position, column in enumerate(columns):
        found.setdefault(str(column), []).append((position, column))
    return found


def _place(text: str, by_text: dict[str, list[tuple[int, Hashable]]]) -> _Place:
    """Find the column that is meant between two braces; its name may hold : and ! itself."""
    name, conversion, spec = text, None, ""
    if text not in by_text and (parts := _PLACE.fullmatch(text)):
        name, conversion, spec = parts["name"], parts["conversion"], parts["spec"] or ""
    if conversion is not None and conversion not in _CONVERSIONS:
        raise TemplateError(f"{{{name}!{conversion}}}: only !s, !r and !a may follow a column.")
    found = by_text.get(name, [])
    if len(found) > 1:
        raise TemplateError(
            f"The prompt's {{{name}}} fits {len(found)} columns of that name. Rename one of them."
        )
    if not found:
        raise TemplateError(_unknown(name, spec, list(by_text)))
    position, column = found[0]
    return _Place(position, column, conversion, spec)


def _unknown(name: str, spec: str, columns: list[str]) -> str:
    if not name:
        return f"Empty braces in the prompt: name a column in them. {_BRACES}"
    listed = ", ".join(columns[:20]) + (", ..." if len(columns) > 20 else "")  # noqa: PLR2004
    start = f"The prompt names {{{name}}}, but the table has no column {name!r}."
    if spec or not name.replace("_", "").isalnum():
        start += f" {_BRACES}"
    by_case = [column for column in columns if column.casefold() == name.casefold()]
    near = by_case or get_close_matches(name, columns, n=3, cutoff=0.6)
    if near:
        return f"{start} Did you mean {' or '.join(f'{{{each}}}' for each in near)}?"
    return f"{start} It has: {listed or 'no column at all'}."


def _checked(made: Any, row: int) -> str | list[dict[str, Any]] | Unsent:
    if made is None:
        return Unsent("the prompt function returned None")
    if isinstance(made, str):
        return made
    if isinstance(made, list) and made and all(isinstance(each, dict) for each in made):
        return made
    raise InputError(
        f"Row {row}: the prompt function must return a text or a list of messages "
        f"(dicts with role and content), not {type(made).__name__}. Nothing was sent."
    )
