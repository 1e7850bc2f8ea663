"""Reviewing labels in a notebook with the keyboard, row by row; the kernel's half.

The browser's half is `static/review.js`. It shows one row and knows the next few, so that it
never waits; a decision counts as saved when the kernel has written it down and answered.
"""

from __future__ import annotations

import logging
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pandas as pd

from mistral_nb import portal
from mistral_nb.errors import InputError, MistralNbError
from mistral_nb.labelling.pairing import column_of
from mistral_nb.labelling.reports import Line, Part, Table, bundle, count
from mistral_nb.labelling.reviews import Worklist, longest_text
from mistral_nb.replies import current_cell
from mistral_nb.widgets.channel import Channel, front_end_may_show_widgets

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence
    from pathlib import Path

__all__ = ["Review", "review"]

AHEAD = 5
"""Rows the browser knows: the current one and the next ones."""
TEXT_LIMIT = 3_000
"""Characters of a row's text sent at first."""
WHOLE_LIMIT = 5_000_000
"""Characters sent when the whole text is asked for."""
CELL_LIMIT = 300
"""Characters of other cells."""
EXAMPLES = 20
"""Corrections shown in the static summary."""

log = logging.getLogger(__name__)


def review(
    table: pd.DataFrame,
    *,
    text: Hashable | None = None,
    label: Hashable = "label",
    labels: Sequence[Any] | None = None,
    gold: Any = None,
    others: Mapping[str, pd.DataFrame | pd.Series[Any]] | None = None,
    agreement: Any = None,
    where: Any = None,
    store: Path | None = None,
    context_columns: Sequence[Hashable] = (),
    error: Hashable = "_error",
) -> Review:
    """Review labels row by row: accept, correct or skip each with a key.

    Rows without a label come first, then those that differ from gold or from other runs, then
    those with low agreement, then the rest.

    Args:
        table: Labelled rows, shape (rows, columns).
        text: Name of the column to read; None takes the one with the longest texts.
        label: Name of the label column.
        labels: Labels to choose from; None takes those of the categories or the column.
        gold: Right labels where they are known: a column's name, a Series or a list.
        others: Name -> other labellings of the same rows (tables, or columns of labels).
        agreement: How sure each label is, 0 to 1: a column's name, a Series or a list; None
            computes it from ``others``.
        where: Rows to review: a boolean column, list or Series, an expression such as
            ``"label == 'spam'"``, or a function of the table; None takes all.
        store: SQLite file that keeps the decisions; the same call goes on where it was. None
            keeps them in memory only.
        context_columns: Names of other columns to show beside the text.
        error: Name of the column that says why a row has no label, if there is one.

    Returns:
        The review; ``review.table`` has the result at any time.

    Raises:
        InputError: A column is missing, rows do not match, or there are too many labels.
        StoreError: The store cannot be opened.
    """
    worklist = Worklist(
        table,
        text=longest_text(table, (label, error)) if text is None else text,
        label=label,
        labels=labels,
        gold=gold,
        others=others,
        agreement=agreement,
        where=where,
        store=store,
    )
    if isinstance(context_columns, str):
        context_columns = [context_columns]
    context = {str(name): column_of(table, name, "context_columns") for name in context_columns}
    errors = column_of(table, error, "error") if error in table.columns else None
    made = Review(worklist, context, errors)
    if portal.in_kernel():
        made._ipython_display_()  # at once, as everything live here
    return made


class Review:
    """A review of labels; made by :func:`review`.

    What the keys do can be done from code as well; a view on screen follows.

    Args:
        worklist: The rows, and what was decided about them.
        context: Other columns to show, by name.
        errors: Why rows have no label.
    """

    def __init__(
        self,
        worklist: Worklist,
        context: Mapping[str, pd.Series[Any]],
        errors: pd.Series[Any] | None = None,
    ) -> None:
        self._work = worklist
        self._context = context
        self._errors = errors
        self._lock = threading.RLock()
        self._display_id = f"mistral-nb-{uuid.uuid4().hex}"
        self._channel: Channel | None = None
        self._settled = False
        self._pages: set[object] = set()
        self._sent: set[int] = set()
        self._shown_in: set[object] = set()

    def __repr__(self) -> str:
        return f"Review({self._progress()})"

    @property
    def table(self) -> pd.DataFrame:
        """The table with the columns ``<label>_reviewed`` and ``review``.

        The first holds the label accepted or corrected, the second says accepted, corrected
        or skipped; both are missing where nothing was decided.
        """
        return self._work.table()

    @property
    def counts(self) -> dict[str, int]:
        """Rows by state: total, done, accepted, corrected, skipped."""
        return self._work.counts()

    @property
    def worklist(self) -> Worklist:
        """The rows and what was decided about them, for reviews on another screen."""
        return self._work

    @property
    def row(self) -> pd.Series[Any] | None:
        """The current row of the table; None when all are done."""
        ahead = self._work.ahead()
        return self._work.source.iloc[ahead[0]] if ahead else None

    def why_none(self, place: int) -> str:
        """Return why a row has no label; empty where it has one, or where that is not known.

        Args:
            place: Position of the row.
        """
        return "" if self._errors is None else _plain(self._errors.iloc[place])

    def accept(self) -> None:
        """Accept the current row's label.

        Raises:
            InputError: There is no current row, or it has no label.
        """
        place = self._current()
        proposed = self._work.proposed(place)
        if proposed < 0:
            raise InputError("The current row has no label to accept: correct or skip it.")
        self._decide(place, proposed)

    def correct(self, label: Any) -> None:
        """Give the current row another label.

        Args:
            label: The right one, of those to choose from.

        Raises:
            InputError: There is no current row, or no such label to choose from.
        """
        if label not in self._work.labels:
            known = ", ".join(map(repr, self._work.labels[:20]))
            raise InputError(f"{label!r} is not one of the labels to choose from: {known}.")
        self._decide(self._current(), self._work.labels.index(label))

    def skip(self) -> None:
        """Leave the current row undecided."""
        self._decide(self._current(), None)

    def undo(self) -> None:
        """Take the last decision back."""
        self._work.undo()
        self._answer({})

    def settle(self) -> None:
        """Replace the live view by a static summary that stays in the notebook file."""
        with self._lock:
            self._settled = True
            if self._shown_in:
                self._publish(self._static(), update=True)

    def _current(self) -> int:
        ahead = self._work.ahead()
        if not ahead:
            raise InputError("All rows are reviewed; undo() takes the last decision back.")
        return ahead[0]

    def _decide(self, place: int, choice: int | None) -> None:
        self._work.decide(place, choice)
        self._answer({})

    # On screen

    def _ipython_display_(self) -> None:
        """Show the review, unless this cell has shown it already."""
        with self._lock:
            if current_cell() in self._shown_in:
                return
            self._shown_in.add(current_cell())
            data: dict[str, Any] = self._static()
            if not self._settled and front_end_may_show_widgets():
                if self._channel is None:
                    self._channel = Channel(self._on_message, "review")
                data |= self._channel.bundle()
            self._publish(data)

    def _publish(self, data: dict[str, Any], *, update: bool = False) -> None:
        from IPython.display import display

        display(data, raw=True, display_id=self._display_id, update=update)

    def _static(self) -> dict[str, str]:
        """Return the summary that needs no kernel."""
        parts: list[Part] = [Line(f"Review of {self._work.label}: {self._progress()}", strong=True)]
        more = (
            "The same call goes on from here." if self._work.saved else "Nothing is kept on disk."
        )
        parts.append(Line(more))
        corrections = self._work.corrections()
        if corrections:
            shown = corrections[-EXAMPLES:]
            of = f", the latest {EXAMPLES} of {len(corrections):,}" * (
                len(shown) < len(corrections)
            )
            rows = [
                (
                    self._name(place),
                    self._text(place, CELL_LIMIT)[0] or None,
                    _plain(was) or None,
                    now,
                )
                for place, was, now in shown
            ]
            parts.append(Table(f"Corrections{of}", ["row", "text", "was", "now"], rows))
        return bundle(parts)

    def _progress(self) -> str:
        counts = self._work.counts()
        said = [f"{counts[each]:,} {each}" for each in ("accepted", "corrected", "skipped")]
        return f"{counts['done']:,} of {count(counts['total'])}, {', '.join(said)}"

    # What follows may run on a thread of ipykernel's while a cell runs: nothing is printed.

    def _on_message(self, message: dict[str, Any]) -> None:
        problem = ""
        try:
            with self._lock:
                self._act(message)
        except MistralNbError as error:
            problem = str(error)
        except Exception:
            log.exception("A message of the review could not be handled")
            problem = "The kernel could not do this; its log says why."
        self._answer(message, problem)

    def _act(self, message: dict[str, Any]) -> None:
        action = message.get("a")
        if action == "ready":
            self._pages.add(message.get("v"))
            self._sent.clear()
        elif action == "label":
            self._work.decide(int(message["i"]), int(message["c"]))
        elif action == "skip":
            self._work.decide(int(message["i"]), None)
        elif action == "undo":
            self._work.undo()
        elif action == "again":
            self._work.revisit_skipped()
        elif action == "finish":
            self.settle()
        elif action == "gone" and self._settled and len(self._pages) <= 1 and self._channel:
            # Another page, loaded after the cell ran, does not know the display id: its view
            # stays, and with it the widget.
            self._channel.close()

    def _answer(self, message: dict[str, Any], problem: str = "") -> None:
        """Tell every view what comes next, and which of its actions this answers."""
        with self._lock:
            if self._channel is None:
                return
            action = message.get("a")
            frame: dict[str, Any] = {"v": message.get("v"), "n": message.get("n")}
            if problem:
                frame["x"] = problem
            if action == "whole":
                place = int(message["i"])
                frame["f"] = [place, *self._text(place, WHOLE_LIMIT)]
            if action == "ready":
                frame["s"] = {
                    "field": str(self._work.label),
                    "labels": [_wire(label, CELL_LIMIT) for label in self._work.labels],
                    "saved": self._work.saved,
                    "strangers": self._work.strangers,
                }
            ahead = self._work.ahead(AHEAD)
            frame["q"] = ahead
            frame["r"] = {
                str(place): self._row(place) for place in ahead if place not in self._sent
            }
            frame["c"] = self._work.counts()
            self._sent = set(ahead)
            self._channel.send(frame)

    def _row(self, place: int) -> dict[str, Any]:
        """Return what the browser shows of a row."""
        text, length = self._text(place, TEXT_LIMIT)
        return {
            "k": self._name(place),
            "t": text,
            "m": length,
            "l": self._work.proposed(place),
            "o": self._work.opinions(place),
            "y": self._work.reason(place),
            "d": _wire(self.why_none(place), CELL_LIMIT),
            "c": [
                [_wire(name, CELL_LIMIT), _wire(column.iloc[place], CELL_LIMIT)]
                for name, column in self._context.items()
            ],
        }

    def _name(self, place: int) -> str:
        return _wire(self._work.source.index[place], CELL_LIMIT)

    def _text(self, place: int, limit: int) -> tuple[str, int]:
        """Return a row's text, cut, and the length of the whole."""
        whole = _plain(self._work.texts.iloc[place])
        return _wire(whole, limit), len(whole)


def _plain(value: Any) -> str:
    """Return a cell as text; a missing one is empty."""
    return "" if pd.api.types.is_scalar(value) and pd.isna(value) else str(value)


def _wire(value: Any, limit: int) -> str:
    """Return a value as text that can be sent: cut, and without halves of surrogate pairs."""
    text = _plain(value)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
