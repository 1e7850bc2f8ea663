"""What a run's labels are worth: its methods to evaluate, compare and plot them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mistral_nb.errors import InputError
from mistral_nb.labelling.natives import as_pandas
from mistral_nb.labelling.plan import restore
from mistral_nb.labelling.progress import job_seconds
from mistral_nb.labelling.sources import FrameSource, KeptFrame
from mistral_nb.labelling.totals import cost_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from contextlib import AbstractContextManager

    import pandas as pd

    from mistral_nb.labelling.ledger import Ledger
    from mistral_nb.labelling.merge import Names
    from mistral_nb.labelling.plan import Plan
    from mistral_nb.labelling.quality import Comparison, Evaluation
    from mistral_nb.labelling.schemas import Schema
    from mistral_nb.labelling.sources import Target

__all__ = ["Judged", "labellings"]


def labellings(others: Any, column: str) -> dict[str, Any]:
    """Return other labellings of the same rows by name, with tables in the place of runs.

    Args:
        others: Runs, or a dict of name to run, table or column of labels.
        column: The result column that is meant of each run; its end is waited for.

    Raises:
        InputError: They are something else, or a run has no such column.
    """
    if isinstance(others, (list, tuple)) and all(isinstance(each, Judged) for each in others):
        others = {each.name: each for each in others}
    if not isinstance(others, Mapping):
        raise InputError(
            "others must be a list of runs, or a dict of name to run, table or column of labels, "
            f"not {type(others).__name__}."
        )
    return {
        str(name): each._rows(column)[0] if isinstance(each, Judged) else each  # noqa: SLF001
        for name, each in others.items()
    }


class Judged:
    """A run whose labels can be judged once it is done."""

    if TYPE_CHECKING:  # what the run itself brings
        name: property
        result: Callable[..., pd.DataFrame]
        _plan: Plan | None
        _target: Target | None
        _ledger: Callable[[], AbstractContextManager[Ledger]]

    @property
    def columns(self) -> list[str]:
        """Names of the columns that the run adds, without that of the errors."""
        _, names = self._shape()
        return list(names.names)

    def evaluate(self, gold: Any, column: str | None = None) -> Evaluation:
        """Compare the labels with known right ones; waits for the run to end.

        Args:
            gold: The right labels: name of a column of the table, a Series or a list.
            column: The result column to judge; needed only where there are several.

        Returns:
            Accuracy, macro-F1, Cohen's kappa, a table per label and the confusion matrix.

        Raises:
            InputError: Gold does not fit the rows, or several columns leave a choice.
        """
        from mistral_nb.labelling.quality import evaluate

        table, column = self._rows(column, gold)
        return evaluate(table, gold, column)

    def compare(self, other: Judged, column: str | None = None, gold: Any = None) -> Comparison:
        """Compare the labels with those of another run of the same rows.

        Args:
            other: The other run, of another model or prompt.
            column: The result column to compare, in both.
            gold: Right labels, to say which run had more of them.

        Returns:
            Agreement, kappa and the rows that differ.

        Raises:
            InputError: ``other`` is no run, the rows do not match, or several columns leave a
                choice.
        """
        from mistral_nb.labelling.quality import compare

        if not isinstance(other, Judged):
            raise InputError(
                f"other must be a run, as mnb.label gives it, not {type(other).__name__}. To "
                "measure labels that are at hand already, use run.evaluate(gold=...)."
            )
        ours, column = self._rows(column, gold)
        theirs, _ = other._rows(column)
        return compare(ours, theirs, column, gold, names=(self.name, other.name))

    def plot(self, column: str | None = None) -> Any:
        """Draw how often each label was given, what took how long, and what it cost.

        Online the time is that of each answer; of a run in batch mode, that of each batch
        job from its creation until its answers were here.

        Args:
            column: The result column to draw; needed only where there are several.

        Returns:
            A matplotlib Figure.

        Raises:
            InputError: Several columns leave a choice.
            MissingPackage: Matplotlib is not installed; the message says how to install it.
        """
        from mistral_nb.labelling.plots import plot_run

        table, column = self._rows(column)
        with self._ledger() as ledger:
            seconds, jobs = ledger.seconds(), job_seconds(ledger.shards())
            cost = cost_parts(ledger, ledger.run().model)
        return plot_run(
            table,
            column,
            seconds=seconds or None,
            jobs=jobs or None,
            cost=cost or {"all": None},
            title=self.name,
        )

    def to_review(
        self, column: str | None = None, text: Hashable | None = None
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Return what a review of the labels needs; waits for the run to end.

        Args:
            column: The result column to review; needed only where there are several.
            text: The column to read; None takes that with the longest texts that went in.

        Returns:
            The labelled table as a pandas one, and the names of its columns: ``label``,
            ``error`` (why a row has none) and ``text``.

        Raises:
            InputError: Several columns leave a choice, or the table has no rows, no texts, or is
                not in memory.
        """
        from mistral_nb.labelling.reviews import longest_text, with_categories

        result = self.result()
        if not isinstance(self._target, (FrameSource, KeptFrame)):
            raise InputError(
                f"The result of {self.name!r} is not one table in memory. Read a part of it with "
                "pandas and give that to mistral_nb.widgets.review.review(table, store=FILE)."
            )
        table = as_pandas(result)
        if not len(table):
            raise InputError("The table has no rows, so there is nothing to review.")
        column = self.one_column(column)
        schema, names = self._shape()
        if schema is not None:
            kind = dict(zip(names.names, schema.columns, strict=True))[column]
            if kind.kind == "category":
                table = with_categories(table, column, kind.categories)
        if text is None:
            text = longest_text(table, but=[*names.names, names.error])
        return table, {"label": column, "error": names.error, "text": text}

    def _shape(self) -> tuple[Schema | None, Names]:
        """Return what reads the replies and how the result columns are called."""
        if self._plan is not None:
            return self._plan.schema, self._plan.names
        with self._ledger() as ledger:
            schema, names, _ = restore(ledger.run())
        return schema, names

    def _rows(self, column: str | None, gold: Any = None) -> tuple[pd.DataFrame, str]:
        """Wait for the run's end; bring a result column, and gold, into memory."""
        result = self.result()
        column = self.one_column(column)
        names = dict.fromkeys([column, gold] if isinstance(gold, str) else [column])
        assert self._target is not None
        return self._target.read(result, list(names)), column

    def one_column(self, column: str | None = None) -> str:
        """Return the result column meant: the one named, or the only one.

        Args:
            column: Its name; None where there is only one.

        Raises:
            InputError: There are several and none was named, or there is none of that name.
        """
        columns = self.columns
        if column is None and len(columns) == 1:
            return columns[0]
        if column not in columns:
            has = "several result columns" if column is None else f"no {column!r}"
            raise InputError(
                f"The run {self.name!r} has {has}: choose with column= one of {', '.join(columns)}."
            )
        return column
