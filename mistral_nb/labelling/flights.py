"""What an online run writes down: requests about to be sent, and how they ended.

A row of the table `flight` is a request that was about to be sent and of which no end is
known. After a kill these are the only ones that may have been carried out without an answer
here: they are listed as `uncertain` and sent again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mistral_nb.labelling.ledger import add_attempts
from mistral_nb.labelling.recipe import custom_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mistral_nb.labelling.ledger import Answer, Ledger

__all__ = ["Ended", "Flights"]

UNCERTAIN = (
    "was under way when the run was left: the server may have answered it, and billed it, "
    "without the answer arriving here; it is sent again"
)
_OPEN = (
    "error IS NULL AND twin IS NULL AND NOT EXISTS "
    "(SELECT 1 FROM attempt a WHERE a.row = request.row AND a.number = request.attempts)"
)

Ended = tuple[int, tuple["Answer", ...]]
"""A row and its answers in order, the last one valid; none for a request never carried out."""


class Flights:
    """The part of a ledger that only online runs use; from any thread.

    Args:
        ledger: The run's ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def write(self, begun: Iterable[int], ended: Iterable[Ended]) -> None:
        """Write rows that are about to be sent and rows that ended, all or nothing."""
        ended = list(ended)
        with self._ledger.writing() as db:
            db.executemany(
                "INSERT OR IGNORE INTO flight (row, at) VALUES (?, ?)",
                ((row, time.time()) for row in begun),
            )
            db.executemany("DELETE FROM flight WHERE row = ?", ((row,) for row, _ in ended))
            attempts = []
            for row, answers in ended:
                sql = "SELECT COALESCE(MAX(number), 0) FROM attempt WHERE row = ?"
                last = db.execute(sql, (row,)).fetchone()[0] if answers else 0
                attempts += [(row, last + n, each) for n, each in enumerate(answers, start=1)]
            add_attempts(db, attempts, None, None)
            db.executemany(
                "UPDATE request SET attempts = ? WHERE row = ?",
                ((number, row) for row, number, _ in attempts),  # the last one counts
            )

    def land(self) -> int:
        """List what was under way when the run was left as uncertain; it is open again.

        Returns:
            How many.
        """
        with self._ledger.writing() as db:
            sql = "SELECT f.row, r.digest, r.shard FROM flight f JOIN request r ON r.row = f.row"
            rows = db.execute(f"{sql} ORDER BY f.row").fetchall()
            db.executemany(
                "INSERT INTO finding (shard, kind, custom_id, detail) VALUES (?, ?, ?, ?)",
                (
                    (shard, "uncertain", custom_id(row, digest), f"row {row} {UNCERTAIN}")
                    for row, digest, shard in rows
                ),
            )
            db.execute("DELETE FROM flight")
        return len(rows)

    def open(self, shard: int) -> set[int]:
        """Return the rows of a shard that have no answer."""
        with self._ledger.reading() as db:
            sql = f"SELECT row FROM request WHERE shard = ? AND {_OPEN}"  # noqa: S608 - our own
            return {row for (row,) in db.execute(sql, (shard,))}

    def close(self, answer: Answer) -> None:
        """Give every row without an answer this one, because the run was cancelled."""
        with self._ledger.writing() as db:
            sql = f"SELECT row, attempts + 1 FROM request WHERE {_OPEN}"  # noqa: S608 - our own
            rows: Sequence[tuple[int, int]] = [tuple(each) for each in db.execute(sql)]
            add_attempts(db, ((row, number, answer) for row, number in rows), None, None)
            db.executemany(
                "UPDATE request SET attempts = attempts + 1 WHERE row = ?",
                ((row,) for row, _ in rows),
            )
