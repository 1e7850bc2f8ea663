"""How good labels are: against gold labels, between two runs, and among several.

Rows are matched by position where two tables have the very same index, by index label where
both have the same labels in another order, and never otherwise. A row without a label counts
as wrong and agrees with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.types import is_hashable

from mistral_nb.errors import InputError, MissingPackage
from mistral_nb.labelling import quality_html
from mistral_nb.labelling.pairing import aligned, column_of, numbered, refuse_other_types

if TYPE_CHECKING:
    from collections.abc import Hashable

    from matplotlib.axes import Axes

__all__ = ["NO_LABEL", "Comparison", "Evaluation", "agreement", "compare", "evaluate"]

NO_LABEL = "(no label)"
"""Heading of the confusion matrix's column for rows without a label."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How well labels fit gold labels; made by :func:`evaluate`.

    Attributes:
        rows: Rows that have a gold label; all figures are about these.
        labelled: Those of them that have a label.
        errors: Those that have none; they count as wrong.
        without_gold: Rows left out because they have no gold label.
        accuracy: Share of right rows, 0 to 1.
        interval: 95 % confidence interval of the accuracy (Wilson).
        macro_f1: Mean F1 of the labels that the gold column uses.
        kappa: Cohen's kappa: 1 is perfect, 0 is chance; NaN where it is undefined.
        per_label: One row a label: precision, recall, f1, support (gold rows) and predicted
            (labelled rows); NaN where there is nothing to divide by.
        confusion: Counts, shape (labels, labels): gold down, predicted across; a last column
            counts the rows without a label, if there are any.
        wrong: The wrong rows, with the table's index, as columns gold and predicted.
    """

    rows: int
    labelled: int
    errors: int
    without_gold: int
    accuracy: float
    interval: tuple[float, float]
    macro_f1: float
    kappa: float
    per_label: pd.DataFrame = field(repr=False)
    confusion: pd.DataFrame = field(repr=False)
    wrong: pd.DataFrame = field(repr=False)

    def most_confused(self, n: int = 10) -> pd.DataFrame:
        """Return the most frequent mistakes.

        Args:
            n: How many.

        Returns:
            Columns gold, predicted, rows and share (of the gold label's rows), the most
            frequent first. Rows without a label are not among them.
        """
        counts = self.confusion.to_numpy()[:, : len(self.confusion)].copy()
        np.fill_diagonal(counts, 0)
        down, across = np.nonzero(counts)
        order = np.argsort(-counts[down, across], kind="stable")[:n]
        down, across = down[order], across[order]
        labels = self.confusion.index
        rows = counts[down, across]
        support = self.confusion.to_numpy().sum(axis=1)
        return pd.DataFrame(
            {
                "gold": labels.take(down),
                "predicted": labels.take(across),
                "rows": rows,
                "share": rows / support[down],
            }
        )

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the confusion matrix; see :func:`mistral_nb.labelling.plots.plot_confusion`.

        Args:
            ax: Matplotlib axes to draw in; None makes a figure of a fitting size.

        Returns:
            The axes.
        """
        from mistral_nb.labelling.plots import plot_confusion

        return plot_confusion(self.confusion, title=quality_html.headline(self), ax=ax)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return quality_html.evaluation(self)


@dataclass(frozen=True, eq=False)
class Comparison:
    """How far two labellings of the same rows agree; made by :func:`compare`.

    Attributes:
        names: What the two are called.
        rows: Rows compared.
        unlabelled: Rows without a label in each.
        agreement: Share of rows with the same label in both, 0 to 1.
        kappa: Cohen's kappa; NaN where it is undefined.
        differs: The rows whose labels differ: the other columns of the first table, then both
            labels and, where gold was given, gold and right (whose label it was).
        judged: Rows that have a gold label; 0 without gold.
        accuracy: Share of the judged rows that each has right, 0 to 1.
        right_only: Judged rows that only the first, and only the second, has right.
        p_value: McNemar's exact test: how probable so uneven a split of those rows is if both
            were equally good; NaN without gold.
    """

    names: tuple[str, str]
    rows: int
    unlabelled: tuple[int, int]
    agreement: float
    kappa: float
    differs: pd.DataFrame = field(repr=False)
    judged: int = 0
    accuracy: tuple[float, float] = (float("nan"), float("nan"))
    right_only: tuple[int, int] = (0, 0)
    p_value: float = float("nan")

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return quality_html.comparison(self)


def evaluate(table: pd.DataFrame, gold: Any, predicted: Hashable = "label") -> Evaluation:
    """Measure labels against gold labels.

    Args:
        table: Labelled rows, shape (rows, columns).
        gold: Name of the column with the right labels, or the labels themselves: a Series of
            the same rows or a list in the table's order. Rows whose gold label is missing are
            left out and counted.
        predicted: Name of the column with the labels to judge; with a schema of several
            columns, evaluate them one by one.

    Returns:
        The figures, which also show as a table in a notebook.

    Raises:
        InputError: A column is missing or there is more than one of its name, the indexes do
            not match, no row has a gold label, or the two columns hold labels of different
            types (``1`` and ``"1"``).
        MissingPackage: scikit-learn is not installed.
    """
    metrics = _scikit_learn()
    answers = column_of(table, predicted, "predicted")
    truth = column_of(table, gold, "gold")
    (true, said), labels = numbered(truth, answers)
    judged = true >= 0
    if not judged.any():
        raise InputError("There is no row with a gold label, so nothing can be evaluated.")
    refuse_other_types(labels, true[judged], said[judged], "gold", repr(predicted))
    used = np.union1d(true[judged], said[judged & (said >= 0)])
    size = len(used)
    true, said = np.searchsorted(used, true), np.where(said < 0, size, np.searchsorted(used, said))
    y, p = true[judged], said[judged]
    index = pd.Index([labels[code] for code in used], dtype=object, name="gold")
    counts = metrics.confusion_matrix(y, p, labels=range(size + 1))[:size]
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        y, p, labels=range(size), zero_division=np.nan
    )
    right = int((y == p).sum())
    wrong = judged & (true != said)
    missing = int((p == size).sum())
    return Evaluation(
        rows=len(y),
        labelled=len(y) - missing,
        errors=missing,
        without_gold=len(table) - len(y),
        accuracy=right / len(y),
        interval=_interval(right, len(y)),
        macro_f1=float(f1[support > 0].mean()),
        kappa=_kappa(y, p),
        per_label=pd.DataFrame(
            {
                "precision": precision,
                "recall": recall,
                "f1": f1,
                "support": support,
                "predicted": counts[:, :size].sum(axis=0),
            },
            index=index.rename("label"),
        ),
        confusion=_confusion(counts, index, missing),
        wrong=pd.DataFrame(
            {"gold": truth[wrong], "predicted": answers[wrong]}, index=table.index[wrong]
        ),
    )


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    column: Hashable = "label",
    gold: Any = None,
    *,
    names: tuple[str, str] = ("a", "b"),
) -> Comparison:
    """Compare two labellings of the same rows, for instance by two models or prompts.

    Args:
        a: Labelled rows, shape (rows, columns).
        b: The same rows labelled otherwise.
        column: Name of the label column in both.
        gold: Right labels, as for :func:`evaluate`; a name is a column of ``a``.
        names: What to call the two.

    Returns:
        Agreement, the rows that differ and, with gold, who was right.

    Raises:
        InputError: As for :func:`evaluate`; also if there are no rows.
        MissingPackage: scikit-learn is not installed.
    """
    _scikit_learn()
    first = column_of(a, column, "column")
    second = aligned(column_of(b, column, "column"), a.index, "the second table")
    truth = None if gold is None else column_of(a, gold, "gold")
    if not len(a):
        raise InputError("There are no rows to compare.")
    if names[0] == names[1]:
        names = (f"{names[0]} (1)", f"{names[1]} (2)")
    columns = [first, second] if truth is None else [first, second, truth]
    codes, labels = numbered(*columns)
    x, y = codes[:2]
    refuse_other_types(labels, x, y, *names)
    differ = x != y
    named = [each for each in (column, gold) if each is not None and is_hashable(each)]
    differs = a[differ].drop(columns=named)
    for name, labelling in zip(names, (first, second), strict=True):
        differs[f"{column}_{name}"] = labelling[differ]
    result: dict[str, Any] = {}
    if truth is not None:
        result = _judge(codes, names)
        differs["gold"] = truth[differ]
        differs["right"] = result.pop("right")[differ]
    # A missing label is a category of its own on each side: it never agrees.
    kappa = _kappa(np.where(x < 0, len(labels), x), np.where(y < 0, len(labels) + 1, y))
    return Comparison(
        names=names,
        rows=len(a),
        unlabelled=(int((x < 0).sum()), int((y < 0).sum())),
        agreement=float(((x == y) & (x >= 0)).mean()),
        kappa=kappa,
        differs=differs,
        **result,
    )


def agreement(*tables: pd.DataFrame | pd.Series[Any], column: Hashable = "label") -> pd.Series[Any]:
    """Say for each row which share of several labellings gives its most frequent label.

    Args:
        *tables: Labelled tables, or columns of labels, of the same rows.
        column: Name of the label column in the tables.

    Returns:
        Shares from 0 (nobody has a label) to 1 (all have the same), with the first one's index.

    Raises:
        InputError: Nothing was given, or indexes do not match.
    """
    if not tables:
        raise InputError("Give at least one labelled table to measure agreement.")
    index = tables[0].index
    columns = [
        aligned(each if isinstance(each, pd.Series) else column_of(each, column, "column"), index)
        for each in tables
    ]
    codes = np.stack(numbered(*columns)[0])
    most = np.zeros(len(index), dtype=np.int64)
    for each in codes:
        most = np.maximum(most, np.where(each >= 0, (codes == each).sum(axis=0), 0))
    return pd.Series(most / len(tables), index=index, name="agreement")


def _confusion(counts: Any, index: pd.Index[Any], missing: int) -> pd.DataFrame:
    labels = list(index)
    if not missing:
        counts = counts[:, :-1]
    else:
        name = NO_LABEL
        while name in labels:
            name += " "
        labels = [*labels, name]
    return pd.DataFrame(
        counts, index=index, columns=pd.Index(labels, dtype=object, name="predicted")
    )


def _judge(codes: list[np.ndarray[Any, Any]], names: tuple[str, str]) -> dict[str, Any]:
    """Say who was right, from the numbered labels of both and of gold."""
    from scipy.stats import binomtest

    x, y, truth = codes
    judged = truth >= 0
    if not judged.any():
        raise InputError("There is no row with a gold label, so nobody can be judged.")
    right_x, right_y = (x == truth) & judged, (y == truth) & judged
    only_x, only_y = int((right_x & ~right_y).sum()), int((right_y & ~right_x).sum())
    discordant = only_x + only_y
    right = np.full(len(x), "neither", dtype=object)
    for rows, word in (
        (right_x, names[0]),
        (right_y, names[1]),
        (right_x & right_y, "both"),
        (~judged, None),
    ):
        right[rows] = word
    return {
        "judged": int(judged.sum()),
        "accuracy": (float(right_x[judged].mean()), float(right_y[judged].mean())),
        "right_only": (only_x, only_y),
        "p_value": float(binomtest(only_x, discordant).pvalue) if discordant else 1.0,
        "right": right,
    }


def _kappa(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    if len(np.union1d(x, y)) == 1:  # all the same label: chance agrees as well
        return float("nan")
    return float(_scikit_learn().cohen_kappa_score(x, y))


def _interval(right: int, rows: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    found = binomtest(right, rows).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def _scikit_learn() -> Any:
    """Return scikit-learn's metrics, imported when first needed: it is large."""
    try:
        from sklearn import metrics
    except ImportError as error:
        raise MissingPackage(
            "Measuring the quality of labels", "scikit-learn", "quality"
        ) from error
    return metrics
