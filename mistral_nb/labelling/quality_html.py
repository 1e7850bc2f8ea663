"""Evaluations and comparisons as a notebook shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mistral_nb.labelling.reports import Line, Part, Table, bundle, count, figure

if TYPE_CHECKING:
    import pandas as pd

    from mistral_nb.labelling.quality import Comparison, Evaluation

__all__ = ["comparison", "evaluation", "headline"]

LABELS = 10
"""Labels shown at most, the worst first."""
MISTAKES = 5
EXAMPLES = 5


def headline(result: Evaluation) -> str:
    """Return the figures of an evaluation in one line."""
    return (
        f"{result.accuracy:.1%} of {count(result.rows)} right · macro F1 {result.macro_f1:.3f}"
        f" · Cohen's kappa {figure(result.kappa)}"
    )


def evaluation(result: Evaluation) -> dict[str, str]:
    """Return the display data of an evaluation.

    Args:
        result: The evaluation.

    Returns:
        MIME type -> data; labels in the HTML are escaped.
    """
    low, high = result.interval
    notes = [f"95 % confidence interval of the accuracy: {low:.1%} to {high:.1%}."]
    if result.errors:
        notes.append(f"{count(result.errors)} without a label counted as wrong.")
    if result.without_gold:
        notes.append(f"{count(result.without_gold)} without a gold label left out.")
    # Of equally bad ones, the frequent come first.
    worst = result.per_label.sort_values(["f1", "support"], ascending=[True, False], kind="stable")
    worst = worst.head(LABELS)
    of = (
        f", the worst {LABELS} of {len(result.per_label)}"
        if len(worst) < len(result.per_label)
        else ""
    )
    parts: list[Part] = [
        Line(headline(result), strong=True),
        Line(" ".join(notes)),
        Table(f"Labels{of}", ["label", *worst.columns], worst.itertuples(name=None)),
    ]
    mistakes = result.most_confused(MISTAKES)
    if len(mistakes):
        rows = mistakes.assign(share=[f"{share:.0%}" for share in mistakes["share"]])
        names = ["gold", "predicted", "rows", "share of gold"]
        mistaken = rows.itertuples(index=False, name=None)
        parts.append(Table("Most confused", names, mistaken, figures=2))
    return bundle(parts)


def comparison(result: Comparison) -> dict[str, str]:
    """Return the display data of a comparison.

    Args:
        result: The comparison.

    Returns:
        MIME type -> data; labels and texts in the HTML are escaped.
    """
    a, b = result.names
    parts: list[Part] = [
        Line(
            f"{a} and {b} agree on {result.agreement:.1%} of {count(result.rows)}"
            f" · Cohen's kappa {figure(result.kappa)}",
            strong=True,
        )
    ]
    for name, missing in zip(result.names, result.unlabelled, strict=True):
        if missing:
            parts.append(Line(f"{name}: {count(missing)} without a label, agreeing with nothing."))
    if result.judged:
        parts.append(_verdict(result))
    if len(result.differs):
        shown = _filled(result.differs.head(EXAMPLES), last=4 if result.judged else 2)
        title = f"Rows that differ ({len(shown):,} of {len(result.differs):,})"
        names = ["", *map(str, shown.columns)]
        parts.append(Table(title, names, shown.itertuples(name=None)))
    return bundle(parts)


def _filled(rows: pd.DataFrame, last: int) -> pd.DataFrame:
    """Return rows without the columns that are empty, but for the last ones; gaps become None."""
    known = rows.notna()
    kept = known.any().to_numpy(copy=True)
    kept[len(kept) - last :] = True
    return rows.astype(object).where(known, None).loc[:, kept]


def _verdict(result: Comparison) -> Line:
    (a, b), (one, two) = result.names, result.accuracy
    only_a, only_b = result.right_only
    chance = f"p = {result.p_value:.2g}" if result.p_value >= 0.001 else "p < 0.001"  # noqa: PLR2004
    return Line(
        f"Against gold ({count(result.judged)}): {a} {one:.1%} right, {b} {two:.1%}. "
        f"Only {a} is right in {only_a:,}, only {b} in {only_b:,} "
        f"(McNemar's exact test: {chance})."
    )
