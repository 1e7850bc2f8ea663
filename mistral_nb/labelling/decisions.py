"""What a person decided about labels: an append-only log in SQLite, one entry a decision.

| column | what it holds                                                                       |
|--------|-------------------------------------------------------------------------------------|
| field  | the label column                                                                    |
| row    | hash of the row's index label and text, and its number among identical rows         |
| place  | position of the row in the table then: where to look first                          |
| action | accepted, corrected, skipped, or undone: the row is as if it was never looked at    |
| label  | the label decided on, as JSON                                                       |
| was    | the label that was proposed, as JSON                                                |
| at     | Unix time                                                                           |

The latest entry of a row counts. A row is known by what it is, not only by where it is: a
sample or another order of the same table finds its decisions again, another table does not.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from mistral_nb.store import open_store, storage_errors

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Action", "Decision", "DecisionLog", "RowKeys", "as_json"]

Action = Literal["accepted", "corrected", "skipped", "undone"]

_MIGRATIONS = (
    """
    CREATE TABLE decision (
        id INTEGER PRIMARY KEY, field TEXT NOT NULL, row TEXT NOT NULL, place INTEGER NOT NULL,
        action TEXT NOT NULL, label TEXT, was TEXT, at REAL NOT NULL
    );
    CREATE INDEX decision_of ON decision (field, row)
    """,
)


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision about one row.

    Attributes:
        row: The row's key.
        place: Position of the row in the table.
        action: What was done.
        label: The label decided on, as JSON; None if skipped or undone.
        was: The label proposed, as JSON; None if there was none.
    """

    row: str
    place: int
    action: Action
    label: str | None = None
    was: str | None = None


class DecisionLog:
    """The log of one label column.

    Args:
        path: SQLite file; None keeps nothing.
        field: Name of the label column.

    Raises:
        StoreError: The file cannot be opened.
    """

    def __init__(self, path: Path | None, field: str) -> None:
        self.path = path
        self._field = field
        self._db = None if path is None else open_store(path, _MIGRATIONS)

    def add(self, decision: Decision) -> None:
        """Write a decision; it is on disk when this returns.

        Raises:
            StoreError: It cannot be written.
        """
        if self._db is None or self.path is None:
            return
        each = (decision.row, decision.place, decision.action, decision.label, decision.was)
        with storage_errors(self.path):
            self._db.execute(
                "INSERT INTO decision (field, row, place, action, label, was, at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (self._field, *each, time.time()),
            )

    def latest(self) -> list[Decision]:
        """Return the decision that counts for each row, in the order they were taken."""
        if self._db is None or self.path is None:
            return []
        with storage_errors(self.path):
            rows = self._db.execute(
                "SELECT row, place, action, label, was FROM decision WHERE id IN "
                "(SELECT MAX(id) FROM decision WHERE field = ? GROUP BY row) ORDER BY id",
                (self._field,),
            ).fetchall()
        return [Decision(*row) for row in rows if row["action"] != "undone"]

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()


class RowKeys:
    """The keys of a table's rows, computed when asked for.

    Args:
        texts: The column that is read in the review, with the table's index.
    """

    def __init__(self, texts: pd.Series[Any]) -> None:
        self._texts = texts
        self._nth: Any = None
        if not texts.index.is_unique:
            parts = {"index": texts.index.factorize()[0], "text": texts.astype(str).to_numpy()}
            self._nth = pd.DataFrame(parts).groupby(["index", "text"]).cumcount().to_numpy()

    def key(self, place: int) -> str:
        """Return the key of the row at a position."""
        nth = 0 if self._nth is None else self._nth[place]
        return _hash(self._texts.index[place], nth, self._texts.iloc[place])

    def find(self, decisions: list[Decision]) -> dict[int, Decision]:
        """Find the rows of decisions.

        Args:
            decisions: Decisions about this or another table, in order.

        Returns:
            Position -> decision, in that order, of the rows that this table has.
        """
        size = len(self._texts)
        places = {
            each.row: each.place
            for each in decisions
            if each.place < size and self.key(each.place) == each.row
        }
        if len(places) < len(decisions):  # the table is another one, or in another order
            nth = repeat(0) if self._nth is None else self._nth
            rows = zip(self._texts.index, nth, self._texts, strict=False)
            places = {_hash(*row): place for place, row in enumerate(rows)}
        return {places[each.row]: each for each in decisions if each.row in places}


def _hash(label: Any, nth: int, text: Any) -> str:
    whole = f"{as_json(label)}\0{nth}\0{text}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(whole, digest_size=16).hexdigest()


def as_json(label: Any) -> str:
    """Return a label or index label as JSON, alike for numpy's and Python's own types."""
    if isinstance(label, tuple):
        label = [part.item() if hasattr(part, "item") else part for part in label]
    elif hasattr(label, "item"):
        label = label.item()
    return json.dumps(label, default=str)
