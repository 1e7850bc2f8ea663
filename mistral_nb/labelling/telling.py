"""What a run can be asked while it goes on and after: counts, cost, errors, what is odd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from mistral_nb.labelling.progress import Details, details_of
from mistral_nb.labelling.totals import spent, usage_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from mistral_nb.labelling.folder import RunFolder
    from mistral_nb.labelling.handle import Run
    from mistral_nb.labelling.ledger import Ledger
    from mistral_nb.usage import Usage

__all__ = ["Told"]

GOING_ON = frozenset({"preparing", "running"})
PAUSED = {
    "batch": (
        "Paused: no further batch job is created. Jobs at the server go on and are billed; "
        "their answers are fetched now and then."
    ),
    "queue": "Paused: no further shard goes to the queue; workers end those that are there.",
    "online": "Paused: nothing new is sent; requests under way end.",
}


class Told:
    """A run that tells how it goes.

    Attributes:
        shown_by: The view that shows the run in a notebook, if there is one.
    """

    shown_by: Any = None

    if TYPE_CHECKING:  # what the run itself brings
        _name: str | None
        _model: str
        _mode: str
        _status: str
        _message: str
        _counts: dict[str, int]
        _paused: bool
        _cancel_asked: bool
        _leader: Run | None
        _folder: Callable[[], RunFolder]
        _ledger: Callable[[], AbstractContextManager[Ledger]]

    def __repr__(self) -> str:
        counts = self.counts
        parts = [f"{counts['done']:,} of {counts['total']:,} rows labelled"]
        parts += [f"{counts[kind]:,} {kind}" for kind in ("failed", "running") if counts[kind]]
        about = f" ({self._model})" if self._model else ""
        status = "paused" if self.paused else self.status
        return f"Run {self.name!r}: {status}, {', '.join(parts)}{about}"

    def _ipython_display_(self) -> None:
        """Show the run's view once more, if it has one."""
        if self.shown_by is None:
            raise NotImplementedError  # the repr will do
        self.shown_by._ipython_display_()

    @property
    def name(self) -> str:
        """What the run is called; ``"(preparing)"`` until an unnamed run's content is known."""
        return self._name or "(preparing)"

    @property
    def model(self) -> str:
        """Model that answers; empty until a resumed run was read."""
        return self._leader.model if self._leader else self._model

    @property
    def mode(self) -> str:
        """``"batch"``, ``"online"`` or ``"queue"``."""
        return self._leader.mode if self._leader else self._mode

    @property
    def status(self) -> str:
        """``preparing``, ``running``, ``done``, ``cancelled``, ``detached`` or ``failed``."""
        return self._leader.status if self._leader else self._status

    @property
    def paused(self) -> bool:
        """True after :meth:`pause` and until :meth:`unpause`, while the run goes on."""
        if self._leader:
            return self._leader.paused
        return self._paused and self._status in GOING_ON

    @property
    def cancelling(self) -> bool:
        """True after :meth:`cancel`, until the run has ended."""
        if self._leader:
            return self._leader.cancelling
        return self._cancel_asked and self._status in GOING_ON

    @property
    def message(self) -> str:
        """Last thing worth saying, e.g. that the server does not answer; often empty."""
        if self._leader:
            return self._leader.message
        return PAUSED[self._mode] if self.paused and not self.cancelling else self._message

    @property
    def counts(self) -> dict[str, int]:
        """Rows by status: total, done, failed, running, waiting, and reused among the done."""
        return dict(self._leader.counts if self._leader else self._counts)

    @property
    def usage(self) -> Usage:
        """Tokens billed so far, those of failed and repeated requests included."""
        with self._ledger() as ledger:
            return usage_of(ledger)

    @property
    def cost(self) -> float | None:
        """US dollars so far by list price; None where the model's price is not known."""
        with self._ledger() as ledger:
            return spent(ledger, ledger.run().model)

    @property
    def errors(self) -> pd.DataFrame:
        """The rows without a result: why, after how many attempts, and the last reply, if any.

        Columns: row, error, status (HTTP's), raw (the reply as it came) and attempts (how many
        answers and failures were written down for the row).
        """
        with self._ledger() as ledger:
            rows = [tuple(each) for each in ledger.failures()]
        kinds = {"row": "int64", "error": "string", "status": "Int64", "raw": "string"}
        kinds["attempts"] = "int64"
        return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)

    @property
    def report(self) -> pd.DataFrame:
        """What was odd: duplicate, unknown, missing or unreadable answers, uncertain requests."""
        with self._ledger() as ledger:
            rows = [tuple(each) for each in ledger.findings()]
        return pd.DataFrame(rows, columns=["shard", "kind", "custom_id", "detail"])

    def details(self) -> Details:
        """Read from the ledger what a screen shows: cost, errors by kind, batch jobs.

        Returns:
            What there is by now.

        Raises:
            RunError: The run is not written yet.
        """
        with self._ledger() as ledger:
            return details_of(ledger, self._folder())
