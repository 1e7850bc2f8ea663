"""Matching the rows of two tables, and numbering their labels alike."""

from __future__ import annotations

from difflib import get_close_matches
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.types import is_hashable

from mistral_nb.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

__all__ = ["aligned", "column_of", "numbered", "position_of", "refuse_other_types"]


def aligned(
    values: pd.Series[Any], index: pd.Index[Any], what: str = "a labelled table"
) -> pd.Series[Any]:
    """Bring a column into the order of an index, or refuse.

    Args:
        values: The column.
        index: The wanted index.
        what: What the column is, for the message.

    Returns:
        The column with the wanted index: as it is where the indexes are equal, reordered
        where both hold the same unique labels.

    Raises:
        InputError: The indexes do not match, so that pairing rows would be a guess.
    """
    if values.index.equals(index):
        return values
    if len(values) != len(index):
        raise InputError(
            f"{_capital(what)} has {len(values):,} rows, the other {len(index):,}. "
            "Select the same rows in both, for instance with other.loc[table.index]."
        )
    if values.index.is_unique and index.is_unique and index.isin(values.index).all():
        return values.reindex(index)
    reason = (
        "have index labels that occur more than once"
        if index.isin(values.index).all()
        else "have different index labels"
    )
    raise InputError(
        f"The rows of the table and of {what} {reason}, so they cannot be matched. If both are "
        "in the same order, use reset_index(drop=True) on each."
    )


def column_of(table: pd.DataFrame, which: Any, role: str) -> pd.Series[Any]:
    """Return a column of a table, or values given for it, with the table's index.

    Args:
        table: The table.
        which: Name of a column, a Series, or values in the table's order: a list, an array,
            or a column of polars or Arrow.
        role: Name of the argument, for the message.

    Returns:
        The column.

    Raises:
        InputError: There is no such column, or more than one, or the rows do not match.
    """
    if isinstance(which, pd.Series):
        return aligned(which, table.index, role)
    which = _values(which, table)
    if isinstance(which, (list, np.ndarray, pd.Index, pd.api.extensions.ExtensionArray)):
        if len(which) != len(table):
            raise InputError(
                f"{role} has {len(which):,} values; the table has {len(table):,} rows."
            )
        return pd.Series(which, index=table.index)
    if not is_hashable(which) or which not in table.columns:
        known = ", ".join(map(repr, table.columns[:20]))
        asked = "a whole table" if isinstance(which, pd.DataFrame) else shorten(repr(which), 80)
        raise InputError(f"{role} is {asked}; the table's columns are {known or 'none'}.")
    found: pd.Series[Any] | pd.DataFrame = table[which]
    if isinstance(found, pd.DataFrame):
        raise InputError(f"The table has {found.shape[1]} columns named {which!r}. Rename one.")
    return found


def _values(which: Any, table: pd.DataFrame) -> Any:
    """Return a column of another library, or a tuple that is no column's name, as a list."""
    if isinstance(which, tuple) and which not in table.columns:
        return list(which)
    for way in ("to_pylist", "to_list"):  # of Arrow; of polars
        if type(which).__module__.partition(".")[0] in {"polars", "pyarrow"} and hasattr(
            which, way
        ):
            return getattr(which, way)()
    return which


def position_of(columns: Sequence[Hashable], name: Any, role: str) -> int:
    """Return where a column is, by its exact label.

    Args:
        columns: All column labels, in order.
        name: The label.
        role: Name of the argument, for the message.

    Raises:
        InputError: There is no such column, or more than one.
    """
    found = [number for number, each in enumerate(columns) if each == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"The table has {len(found)} columns named {name!r}. Rename one.")
    near = get_close_matches(str(name), [str(each) for each in columns], n=1)
    listed = ", ".join(repr(each) for each in columns[:20]) or "none"
    hint = f"Did you mean {near[0]!r}?" if near else f"The table's columns are {listed}."
    raise InputError(f"{role}={name!r} is no column of the table. {hint}")


def numbered(*columns: pd.Series[Any]) -> tuple[list[np.ndarray[Any, Any]], list[Any]]:
    """Number the labels of several columns alike; -1 is a missing one.

    Labels come in the order of the first categorical column, others after them sorted.
    """
    cells = np.concatenate([column.astype(object).to_numpy() for column in columns])
    try:
        codes, found = pd.factorize(cells)
    except TypeError as error:
        raise InputError(
            "A column holds lists or objects, which cannot be compared as labels. "
            "Give a column of texts, numbers or booleans."
        ) from error
    known: dict[Any, int] = {}
    for column in columns:
        if isinstance(column.dtype, pd.CategoricalDtype):
            for category in column.dtype.categories:
                known.setdefault(category, len(known))
    labels = sorted(found, key=lambda each: (known.get(each, len(known)), *_sortable(each)))
    ranks = {label: rank for rank, label in enumerate(labels)}
    rank = np.array([*(ranks[label] for label in found), -1], dtype=np.int64)  # -1 is the last
    return np.split(rank[codes], len(columns)), labels


def refuse_other_types(
    labels: list[Any],
    x: np.ndarray[Any, Any],
    y: np.ndarray[Any, Any],
    name_x: str,
    name_y: str,
) -> None:
    """Refuse two columns that share no label only because their types or spelling differ."""
    one = [labels[code] for code in np.unique(x[x >= 0])]
    two = [labels[code] for code in np.unique(y[y >= 0])]
    if set(one) & set(two):
        return
    texts = {str(label).strip().casefold(): label for label in one}
    for label in two:
        twin = texts.get(str(label).strip().casefold())
        if twin is not None:
            raise InputError(
                f"No label of {name_y} occurs in {name_x}, but {label!r} ({type(label).__name__}) "
                f"and {twin!r} ({type(twin).__name__}) look alike. Make them the same, for "
                "instance with .astype(str), .str.strip() or .str.lower()."
            )


def _sortable(label: Any) -> tuple[bool, Any]:
    """Let numbers be sorted before everything else, which is sorted as text."""
    number = isinstance(label, (int, float))
    return (not number, label if number else str(label))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
