"""Reviewing labels row by row: which row comes next, and what was decided about each."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_object_dtype

from mistral_nb.errors import InputError
from mistral_nb.labelling.decisions import Decision, DecisionLog, RowKeys, as_json
from mistral_nb.labelling.pairing import aligned, column_of, numbered
from mistral_nb.labelling.quality import agreement as agreement_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from pathlib import Path

    from mistral_nb.labelling.decisions import Action

    Codes = np.ndarray[Any, np.dtype[np.int64]]

__all__ = ["Worklist", "longest_text", "with_categories"]

MOST_LABELS = 1000
"""More different labels than this are not labels to choose from."""
REASONS = ("Low agreement", "Differs from another run", "Differs from gold", "No label")
"""Why a row comes early, the most urgent last."""


class Worklist:
    """The rows to review, in the order in which they are worth looking at.

    Rows without a label come first, then those whose label is not the gold label or another
    run's, then those with low agreement, then the rest. Every method may be called from any
    thread; every decision is on disk when the method returns.

    Args:
        table: Labelled rows, shape (rows, columns).
        text: Name of the column that is read.
        label: Name of the label column.
        labels: Labels to choose from; None takes those of the categories or the column.
        gold: Right labels where they are known: a column's name, a Series or a list.
        others: Name -> other labellings of the same rows (tables with that label column, or
            columns of labels).
        agreement: How sure the label is, 0 to 1: a column's name, a Series or a list; None
            computes it from ``others``.
        where: Rows to review: a boolean column, list or Series, an expression for
            ``DataFrame.eval``, or a function of the table that gives one; None takes all.
        store: SQLite file for the decisions; None keeps them in memory.

    Attributes:
        labels: Labels to choose from; the methods speak of them by number.
        strangers: Decisions in the store that are about rows of another table.

    Raises:
        InputError: A column is missing, rows do not match, or there are too many labels.
        StoreError: The store cannot be opened.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        text: Hashable,
        label: Hashable = "label",
        labels: Sequence[Any] | None = None,
        gold: Any = None,
        others: Mapping[str, pd.DataFrame | pd.Series[Any]] | None = None,
        agreement: Any = None,
        where: Any = None,
        store: Path | None = None,
    ) -> None:
        self.source = table
        self.label = label
        self.texts = column_of(table, text, "text")
        self._lock = threading.RLock()
        answers = column_of(table, label, "label")
        columns = {"": answers}
        if gold is not None:
            columns["gold"] = column_of(table, gold, "gold")
        for name, other in (others or {}).items():
            if not isinstance(other, (pd.DataFrame, pd.Series)):
                raise InputError(
                    f"others[{name!r}] must be a labelled table or a column of labels, not "
                    f"{type(other).__name__}."
                )
            column = other if isinstance(other, pd.Series) else column_of(other, label, "label")
            columns[f"run {name}"] = aligned(column, table.index, f"the run {name!r}")
        self.labels, codes = _choices(list(columns.values()), labels)
        self._codes = dict(zip(columns, codes, strict=True))
        self._json = [as_json(each) for each in self.labels]
        self._unknown = (self._codes[""] < 0) & answers.notna().to_numpy()
        self._answers = answers
        self._agreement = _agreement(table, agreement, answers, list(columns.items()))
        self._urgency = self._urgencies()
        chosen = _selected(table, where)
        self._queued = np.zeros(len(table), dtype=bool)
        self._queued[chosen] = True
        # The last key counts first.
        keys = (chosen, self._agreement[chosen], -self._urgency[chosen])
        self._order = chosen[np.lexsort(keys)]
        self._next = 0
        self._again: list[int] = []  # rows to show before the next one, the first last
        self._keys = RowKeys(self.texts)
        self._log = DecisionLog(store, str(label))
        kept = self._log.latest()
        self._decisions = self._keys.find(kept)
        self.strangers = len(kept) - len(self._decisions)

    @property
    def saved(self) -> bool:
        """True if decisions outlive the process."""
        return self._log.path is not None

    def __len__(self) -> int:
        return len(self._order)

    # What is to be reviewed

    def ahead(self, count: int = 1) -> list[int]:
        """Return the positions of the next rows to review, the current one first."""
        with self._lock:
            found = self._again[::-1][:count]
            while self._next < len(self._order) and self._done(self._order[self._next]):
                self._next += 1
            at = self._next
            while len(found) < count and at < len(self._order):
                place = int(self._order[at])
                if not self._done(place) and place not in found:
                    found.append(place)
                at += 1
            return found

    def _done(self, place: int) -> bool:
        return int(place) in self._decisions

    def proposed(self, place: int) -> int:
        """Return the number of the row's label; -1 if it has none that can be chosen."""
        return int(self._codes[""][place])

    def opinions(self, place: int) -> list[tuple[str, int]]:
        """Return what gold ("gold") and other runs (by name) say about a row, where they do."""
        return [
            (name.removeprefix("run "), int(codes[place]))
            for name, codes in self._codes.items()
            if name and codes[place] >= 0
        ]

    def reason(self, place: int) -> str:
        """Return why a row comes early; empty if it comes in its turn."""
        urgency = int(self._urgency[place])
        if not urgency:
            return ""
        if self._unknown[place]:
            return f"Not a label to choose from: {self._answers.iloc[place]}"
        reason = REASONS[urgency - 1]
        share = self._agreement[place]
        known = urgency < len(REASONS) and share < 1
        return f"{reason}, agreement {share:.0%}" if known else reason

    def decision(self, place: int) -> Decision | None:
        """Return what was decided about a row."""
        return self._decisions.get(place)

    def counts(self) -> dict[str, int]:
        """Count the rows to review: total, done, accepted, corrected, skipped."""
        with self._lock:
            taken = [self._status(p) for p in self._decisions if self._queued[p]]
        actions = {each: taken.count(each) for each in ("accepted", "corrected", "skipped")}
        return {"total": len(self), "done": len(taken), **actions}

    # What is decided

    def decide(self, place: int, choice: int | None) -> None:
        """Give a row its label, or skip it.

        Args:
            place: Position of the row.
            choice: Number of the label; None skips the row.

        Raises:
            InputError: There is no such row or label.
            StoreError: The decision cannot be written; then nothing has changed.
        """
        if not 0 <= place < len(self.source):
            raise InputError(f"The table has no row at position {place}.")
        if choice is not None and not 0 <= choice < len(self.labels):
            raise InputError(f"There is no label number {choice}.")
        with self._lock:
            was = self.proposed(place)
            action: Action = "accepted" if choice == was else "corrected"
            self._record(
                place,
                "skipped" if choice is None else action,
                None if choice is None else self._json[choice],
                None if was < 0 else self._json[was],
            )
            if place in self._again:
                self._again.remove(place)

    def undo(self) -> int | None:
        """Take the last decision back; its row is the current one again.

        Returns:
            The row's position, or None if there is nothing to undo.
        """
        with self._lock:
            place = next((p for p in reversed(self._decisions) if self._queued[p]), None)
            if place is None:
                return None
            self._record(place, "undone", None, None)
            self._again.append(place)
            return place

    def revisit_skipped(self) -> None:
        """Put the skipped rows in front of the rest, in their order."""
        with self._lock:
            skipped = {p for p, each in self._decisions.items() if each.action == "skipped"}
            skipped -= set(self._again)
            self._again[:0] = [int(p) for p in self._order[::-1] if int(p) in skipped]

    def _record(self, place: int, action: Action, label: str | None, was: str | None) -> None:
        decision = Decision(self._keys.key(place), place, action, label, was)
        self._log.add(decision)
        self._decisions.pop(place, None)  # so that the latest is the last
        if action != "undone":
            self._decisions[place] = decision

    def _status(self, place: int) -> str:
        """Say what a decision is for the labels as they are now: a later run may have changed."""
        decision = self._decisions[place]
        if decision.label is None:
            return "skipped"
        was = self.proposed(place)
        return "accepted" if was >= 0 and self._json[was] == decision.label else "corrected"

    def corrections(self) -> list[tuple[int, Any, Any]]:
        """Return position, label as proposed and label decided on of the corrected rows."""
        with self._lock:
            return [
                (place, self._answers.iloc[place], self._value(decision))
                for place, decision in self._decisions.items()
                if self._queued[place] and self._status(place) == "corrected"
            ]

    def table(self) -> pd.DataFrame:
        """Return the table with what was decided.

        Returns:
            The table with two more columns, ``<label>_reviewed`` (the label accepted or
            corrected, else missing) and ``review`` (accepted, corrected, skipped or missing;
            called ``<label>_review`` if the table has a column ``review``).
        """
        with self._lock:
            status = {place: self._status(place) for place in self._decisions}
            values = {p: self._value(d) for p, d in self._decisions.items() if d.label is not None}
        reviewed = np.full(len(self.source), None, dtype=object)
        for place, value in values.items():
            reviewed[place] = value
        states = np.full(len(self.source), None, dtype=object)
        for place, each in status.items():
            states[place] = each
        name = "review" if "review" not in self.source.columns else f"{self.label}_review"
        return self.source.assign(
            **{
                f"{self.label}_reviewed": _like(self._answers, reviewed),
                name: pd.Categorical(states, ["accepted", "corrected", "skipped"]),
            }
        )

    def _value(self, decision: Decision) -> Any:
        if decision.label in self._json:
            return self.labels[self._json.index(decision.label)]
        return None if decision.label is None else json.loads(decision.label)

    def _urgencies(self) -> Codes:
        """Say how urgent each row is: 4 no label, 3 not gold, 2 not another's, 1 unsure, 0."""
        own = self._codes[""]
        urgency = np.where(self._agreement < 1, 1, 0)
        for name, codes in self._codes.items():
            if name:
                differs = (codes >= 0) & (codes != own)
                urgency[differs] = np.maximum(urgency[differs], 3 if name == "gold" else 2)
        urgency[own < 0] = 4
        return urgency


def longest_text(table: pd.DataFrame, but: Sequence[Hashable] = ()) -> Hashable:
    """Return the name of the column with the longest texts at the table's head.

    Args:
        table: The table, shape (rows, columns).
        but: Names of columns that are not meant.

    Raises:
        InputError: No column holds texts.
    """
    lengths = {}
    for place, name in enumerate(table.columns):
        texts = [cell for cell in table.iloc[:100, place] if isinstance(cell, str)]
        if texts and name not in but:
            lengths[name] = sum(map(len, texts)) / len(texts)
    if not lengths:
        raise InputError("The table has no column of texts to read: give text=.")
    return max(lengths, key=lambda name: lengths[name])


def with_categories(table: pd.DataFrame, label: str, categories: Sequence[Any]) -> pd.DataFrame:
    """Return a table whose labels know all that there are to choose from.

    Other libraries' categories are those that occur, in the order in which they do.

    Args:
        table: The table; it is not changed.
        label: Name of the label column.
        categories: All labels.
    """
    if isinstance(table[label].dtype, pd.CategoricalDtype):
        return table
    return table.assign(**{label: pd.Categorical(table[label].astype(object), categories)})


def _choices(
    columns: list[pd.Series[Any]], labels: Sequence[Any] | None
) -> tuple[list[Any], list[Codes]]:
    """Return the labels to choose from, and each column as numbers of them."""
    if isinstance(labels, (str, bytes)):
        raise InputError(f"labels must be a list of labels to choose from, not {labels!r}.")
    codes, found = numbered(*columns)
    if labels is None:
        dtype = columns[0].dtype
        declared = [False, True] if is_bool_dtype(dtype) else []
        if isinstance(dtype, pd.CategoricalDtype):
            declared = list(dtype.categories)
        choices = list(dict.fromkeys([*declared, *found]))
    else:
        choices = list(dict.fromkeys(labels))
    if not choices:
        raise InputError("There is no label to choose from: give labels=[...].")
    if len(choices) > MOST_LABELS:
        raise InputError(
            f"The column has {len(choices):,} different values, too many to choose from. "
            "Give labels=[...], or review another column."
        )
    number = {label: n for n, label in enumerate(choices)}
    renumber = np.array([*(number.get(label, -1) for label in found), -1], dtype=np.int64)
    return choices, [renumber[each] for each in codes]


def _agreement(
    table: pd.DataFrame,
    given: Any,
    answers: pd.Series[Any],
    columns: list[tuple[str, pd.Series[Any]]],
) -> np.ndarray[Any, np.dtype[np.float64]]:
    if given is not None:
        shares = pd.to_numeric(column_of(table, given, "agreement"), errors="coerce")
    else:
        runs = [column for name, column in columns if name.startswith("run ")]
        shares = agreement_of(answers, *runs) if runs else pd.Series(1.0, index=table.index)
    return shares.fillna(1.0).to_numpy(dtype=float)


def _selected(table: pd.DataFrame, where: Any) -> Codes:
    """Return the positions of the rows to review."""
    if where is None:
        return np.arange(len(table))
    mask: Callable[[pd.DataFrame], Any] | Any = where
    if callable(where):
        mask = where(table)
    elif isinstance(where, str) and where not in table.columns:
        try:
            mask = table.eval(where)
        except Exception as error:
            raise InputError(f"where={where!r} cannot be evaluated: {error}.") from error
    column = column_of(table, mask, "where")
    if not is_bool_dtype(column.dtype):
        raise InputError("where must say True or False for each row.")
    return np.flatnonzero(column.fillna(False).to_numpy(dtype=bool))


def _like(column: pd.Series[Any], values: np.ndarray[Any, Any]) -> Any:
    """Give values a column's dtype, or the nearest that can hold them and their gaps."""
    dtype: Any = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        more = [v for v in dict.fromkeys(values) if v is not None and v not in dtype.categories]
        return pd.Categorical(values, [*dtype.categories, *more], ordered=dtype.ordered)
    if is_object_dtype(dtype):
        return values
    found = pd.Series(values, index=column.index)
    # Plain integers and booleans have no missing value.
    plain = isinstance(dtype, np.dtype) and dtype.kind != "f"
    return found.convert_dtypes() if plain else found.astype(dtype)
