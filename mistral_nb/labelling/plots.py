"""Pictures of labels: a confusion matrix, and what a run gave, took and cost.

Matplotlib is imported when something is drawn. Every picture has a white ground of its own, so
it reads the same in a dark notebook.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mistral_nb.errors import InputError, MissingPackage
from mistral_nb.labelling.pairing import column_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_confusion", "plot_run"]

INK, QUIET, RIGHT, WRONG = "#1b1f24", "#6b7280", "#2f6fb0", "#d9582b"
SPACIOUS = 20
"""Labels up to which a matrix shows every count in readable type."""
BARS = 20
"""Labels shown at most in a picture of a run, the most frequent first."""
FEW = 6
"""Fewer bars than this leave room free, so as not to be thick."""
UNITS = (("hours", 3600.0), ("minutes", 60.0))
NAME = 40
"""Characters of a label's name shown at most."""


def plot_confusion(confusion: pd.DataFrame, *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw a confusion matrix: right answers blue, mistakes orange, each as a share of its row.

    Args:
        confusion: Counts, gold labels down and predicted labels across; columns beyond the
            labels (rows without a label) come last.
        title: Heading.
        ax: Axes to draw in; None makes a figure whose size fits the number of labels.

    Returns:
        The axes.

    Raises:
        MissingPackage: Matplotlib is not installed.
    """
    pyplot = _pyplot()
    counts = confusion.to_numpy()
    size, across = counts.shape
    spacious = size <= SPACIOUS
    type_size = 9.0 if spacious else 6.0
    if ax is None:
        step = 0.5 if spacious else max(0.15, 9 / size)  # inches a label
        margin = 0.8 + type_size * 0.009 * max(len(_name(label)) for label in confusion.index)
        shape = (max(4.5, step * across + margin), max(4.0, step * size + margin))
        ax = pyplot.figure(figsize=shape, layout="constrained", facecolor="white").add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    diagonal = np.zeros(counts.shape, dtype=bool)
    np.fill_diagonal(diagonal, True)
    # The square root makes a single mistake among forty visible.
    ax.pcolormesh(np.where(diagonal, np.sqrt(shares), np.nan), cmap=_ramp(RIGHT), vmin=0, vmax=1)
    mistakes = np.where(~diagonal & (counts > 0), np.sqrt(shares), np.nan)
    ax.pcolormesh(mistakes, cmap=_ramp(WRONG), vmin=0, vmax=1)
    for row, column in np.argwhere(counts > 0):
        strong = shares[row, column] > 0.5  # noqa: PLR2004 - dark cells need light ink
        ax.text(
            *(column + 0.5, row + 0.5, f"{counts[row, column]:,}"),
            ha="center",
            va="center",
            color="white" if strong else INK,
            fontsize=type_size,
        )
    _frame(ax, confusion, type_size)
    lines = title.replace(" · ", "\n", 1) if spacious else title
    ax.set_title(lines, fontsize=10 if spacious else 13, color=INK, loc="left")
    return ax


def _frame(ax: Axes, confusion: pd.DataFrame, type_size: float) -> None:
    """Name the rows and columns of a matrix, the first at the top."""
    size, across = confusion.shape
    ax.set_xlim(0, across)
    ax.set_ylim(size, 0)
    ax.set_facecolor("white")
    names = [_name(label) for label in confusion.columns]
    turn = 90 if max(map(len, names)) > 3 else 0  # noqa: PLR2004 - what fits a cell
    ax.set_xticks(np.arange(across) + 0.5, names, rotation=turn)
    ax.set_yticks(np.arange(size) + 0.5, map(_name, confusion.index))
    ax.set_xticks(np.arange(across + 1), minor=True)
    ax.set_yticks(np.arange(size + 1), minor=True)
    ax.grid(which="minor", color="#e5e7eb", linewidth=0.4)
    ax.tick_params(which="both", length=0, colors=INK, labelsize=type_size)
    ax.set_aspect("equal")
    ax.set_xlabel("predicted", color=QUIET)
    ax.set_ylabel("gold", color=QUIET)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _distinct(labels: pd.Series[Any]) -> int | None:
    """Count the different labels; None for vectors and objects, which are none."""
    try:
        return int(labels.nunique())
    except (TypeError, NotImplementedError):  # of objects; of Arrow's lists
        return None


def plot_run(
    table: pd.DataFrame,
    label: Hashable = "label",
    *,
    seconds: Any = None,
    jobs: Mapping[str, float] | None = None,
    cost: Mapping[str, float | None] | None = None,
    currency: str = "USD",
    title: str = "",
) -> Figure:
    """Draw what a run gave, took and cost, side by side.

    Args:
        table: Labelled rows, shape (rows, columns).
        label: Name of the label column; one of vectors or objects is left out of the picture.
        seconds: Latency of each answer in seconds: a column's name, a Series or a list of any
            length; None leaves this picture out.
        jobs: Batch job -> seconds it took; None leaves this picture out.
        cost: What is paid for -> its price, for instance input and output tokens; None as a
            price is shown as unknown. None leaves this picture out.
        currency: Of the prices.
        title: Heading.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or there is nothing to draw.
        MissingPackage: Matplotlib is not installed.
    """
    pyplot = _pyplot()
    labels = column_of(table, label, "label")
    distinct = _distinct(labels)
    panels: list[Any] = [] if distinct is None else [lambda ax: _draw_labels(ax, labels)]
    if seconds is not None:
        named = isinstance(seconds, Hashable) and not isinstance(seconds, (pd.Series, tuple))
        times = column_of(table, seconds, "seconds") if named else pd.Series(seconds)
        numbers = pd.to_numeric(times, errors="coerce").dropna().to_numpy(dtype=float)
        panels.append(lambda ax: _draw_seconds(ax, numbers))
    if jobs is not None:
        panels.append(lambda ax: _draw_jobs(ax, jobs))
    if cost is not None:
        panels.append(lambda ax: _draw_cost(ax, cost, currency))
    if not panels:
        raise InputError(f"Column {label!r} holds lists or objects, which cannot be counted.")
    height = max(3.0, 0.8 + 0.24 * min((distinct or 0) + 1, BARS + 1))
    figure: Figure = pyplot.figure(
        figsize=(1.6 + 4.2 * len(panels), height), layout="constrained", facecolor="white"
    )
    for number, draw in enumerate(panels):
        ax = figure.add_subplot(1, len(panels), number + 1)
        draw(ax)
        ax.set_facecolor("white")
        ax.tick_params(length=0, colors=INK, labelsize=9)
        for side in ("top", "right", "left"):
            ax.spines[side].set_visible(False)
        ax.spines["bottom"].set_color("#d1d5db")
    if title:
        figure.suptitle(title, fontsize=11, color=INK, x=0.01, ha="left")
    return figure


def _draw_labels(ax: Axes, labels: pd.Series[Any]) -> None:
    counts = labels.astype(object).value_counts()
    bars = [(_name(name), int(rows), RIGHT) for name, rows in counts.head(BARS).items()]
    if missing := int(labels.isna().sum()):
        bars.append(("(no label)", missing, WRONG))
    _draw_bars(ax, bars, "{:,}".format)
    most = f",\nthe {BARS} most frequent of {len(counts):,}" if len(counts) > BARS else ""
    ax.set_title(f"Labels of {len(labels):,} rows{most}", fontsize=10, color=INK, loc="left")


def _draw_seconds(ax: Axes, seconds: np.ndarray[Any, Any]) -> None:
    ax.set_title("Seconds an answer took", fontsize=10, color=INK, loc="left")
    ax.set_yticks([])
    if not len(seconds):
        ax.text(0.5, 0.5, "not known", color=QUIET, ha="center", transform=ax.transAxes)
        ax.set_xticks([])
        return
    median, late = np.quantile(seconds, [0.5, 0.95])
    ax.hist(seconds, bins=min(40, max(5, round(len(seconds) ** 0.5))), color=RIGHT)
    top = ax.get_ylim()[1]
    ax.set_ylim(0, 1.25 * top)
    for value, words, level in ((median, "half", 1.2), (late, "95 %", 1.08)):
        ax.axvline(value, ymax=level / 1.25, color=INK, linewidth=1)
        ax.annotate(
            f" {words} within {value:.2g} s", (value, level * top), color=INK, fontsize=9, va="top"
        )


def _draw_jobs(ax: Axes, jobs: Mapping[str, float]) -> None:
    slowest = sorted(jobs, key=lambda name: -jobs[name])[:BARS]
    longest = max(jobs.values())
    unit, size = next((each for each in UNITS if longest >= 2 * each[1]), ("seconds", 1.0))
    bars = [(_name(name), jobs[name] / size, RIGHT) for name in jobs if name in slowest]
    _draw_bars(ax, bars, "{:,.1f}".format)
    most = f",\nthe {BARS} slowest of {len(jobs):,}" if len(jobs) > BARS else ""
    ax.set_title(f"{unit.capitalize()} a batch job took{most}", fontsize=10, color=INK, loc="left")


def _draw_cost(ax: Axes, cost: Mapping[str, float | None], currency: str) -> None:
    known = {name: price for name, price in cost.items() if not (price is None or pd.isna(price))}
    bars = [(_name(name), known.get(name), RIGHT) for name in cost]
    _draw_bars(ax, bars, lambda price: f"{price:,.4f}" if price < 1 else f"{price:,.2f}")
    least = "at least " if len(known) < len(cost) else ""
    total = f"{least}{sum(known.values()):,.4f} {currency}" if known else "not known"
    ax.set_title(f"Cost: {total}", fontsize=10, color=INK, loc="left")


def _draw_bars(ax: Axes, bars: list[tuple[str, Any, str]], words: Any) -> None:
    """Draw horizontal bars with their figures; None is said to be unknown."""
    places = range(len(bars))
    ax.barh(places, [value or 0 for _, value, _ in bars], color=[colour for *_, colour in bars])
    for place, (_, value, _) in enumerate(bars):
        text = "unknown" if value is None else words(value)
        ax.annotate(
            *(text, (value or 0, place), (4, 0)),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=QUIET,
        )
    ax.set_yticks(places, [name for name, *_ in bars])
    ax.set_ylim(max(len(bars), FEW) - 0.4, -0.6)
    ax.set_xticks([])
    ax.margins(x=0.18)


def _name(label: Any) -> str:
    text = " ".join(str(label).split())
    text = text if len(text) <= NAME else text[: NAME - 1] + "…"
    return text.replace("$", r"\$")  # else matplotlib reads it as TeX


def _ramp(colour: str) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("mistral_nb", ["#ffffff", colour])


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise MissingPackage("Drawing", "matplotlib", "quality") from error
    return plt
