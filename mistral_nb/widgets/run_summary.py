"""The static form of a run's view, which stays in the notebook file: safe HTML and plain text.

Words of rows, errors and servers are escaped, and MathJax finds nothing in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mistral_nb.labelling.prices import dollars
from mistral_nb.labelling.reports import Line, Part, Table, bundle, count
from mistral_nb.widgets.run_screen import OVER, clock

if TYPE_CHECKING:
    from mistral_nb.widgets.run_screen import RunScreen

__all__ = ["cost_words", "headline", "progress_line", "summary"]

KINDS = (
    ("answered", "--jp-success-color1,#388e3c"),
    ("reused", "--jp-success-color2,#81c784"),
    ("failed", "--jp-error-color1,#d32f2f"),
    ("running", "--jp-brand-color1,#1976d2"),
)
"""Kinds of rows in a bar, and their colours."""
TRACK = "background:var(--jp-layout-color3,#e0e0e0);border-radius:3px;overflow:hidden"
MARGIN = 0.995
"""Share of all rows from which on a projected cost would say nothing new."""


class _Bar:
    """A bar by kind of row; where styles are stripped nothing is left of it."""

    text = ""

    def __init__(self, screen: RunScreen) -> None:
        counts = screen.run.counts
        counts["answered"] = counts["done"] - counts["reused"]
        total = max(1, counts["total"])
        pieces = "".join(
            f'<span style="width:{100 * counts[kind] / total:.2f}%;background:var({colour})">'
            "</span>"
            for kind, colour in KINDS
            if counts[kind]
        )
        self.html = (
            f'<div style="display:flex;height:8px;max-width:40em;margin:0.3em 0;{TRACK}">'
            f"{pieces}</div>"
        )


def summary(screen: RunScreen) -> dict[str, str]:
    """Describe a run for a notebook file, whether it has ended or not.

    Args:
        screen: What is shown of it.

    Returns:
        MIME type -> data.
    """
    parts: list[Part] = [Line(headline(screen), strong=True), _Bar(screen), Line(_facts(screen))]
    details = screen.details
    if details is not None and details.failures:
        rows = [
            (each.rows, one.error, one.row, one.asked)
            for each in details.failures
            for one in each.examples[:1]
        ]
        more = f"; {details.others:,} more rows have other errors" if details.others else ""
        title = f"Errors by kind{more}. All of them: run.errors"
        parts.append(Table(title, ["rows", "error", "e.g. row", "it asked"], rows))
    found = bundle(parts)
    return {**found, "text/plain": "\n".join(filter(None, (each.text for each in parts)))}


def headline(screen: RunScreen) -> str:
    """Say how a run ended or how far it is, in one line."""
    run = screen.run
    if run.status == "detached":
        return f"{run.name}: no longer followed; go on with mnb.resume({run.name!r})."
    if run.status in OVER:
        return f"{run.name}: {run.message or run.status}"
    return progress_line(screen)


def progress_line(screen: RunScreen) -> str:
    """Describe a run that goes on, in one line."""
    run, counts = screen.run, screen.run.counts
    parts = [f"{run.name}: {counts['done']:,} of {count(counts['total'])}"]
    kinds = ("failed", "running", "waiting", "reused")
    parts += [f"{counts[kind]:,} {kind}" for kind in kinds if counts[kind]]
    if screen.left is not None:
        parts.append(f"about {clock(screen.left)} left")
    if screen.status() != "running":
        parts.append(screen.status())
    if run.message:
        parts.append(run.message)
    return " · ".join(parts)


def _facts(screen: RunScreen) -> str:
    run, details = screen.run, screen.details
    parts = [run.model, f"{run.mode} mode", f"followed for {clock(screen.seconds)}"]
    if details is None:
        return " · ".join(filter(None, parts))
    if details.jobs:
        shard = "shard" if run.mode == "queue" else "batch job"
        ended = sum(job.state == "done" for job in details.jobs)
        more = f", {ended:,} of them ended" if ended < len(details.jobs) else ""
        parts.append(count(len(details.jobs), shard) + more)
    if run.status not in {"done", "cancelled"}:  # else the headline says it
        parts += [f"{details.usage.total_tokens:,} tokens", cost_words(screen)]
    return " · ".join(filter(None, parts))


def cost_words(screen: RunScreen) -> str:
    """Say what a run costs so far, and in the end as far as that can be told."""
    details = screen.details
    if details is None:
        return ""
    if details.cost is None:
        return "cost unknown (no price or no token counts)"
    words = f"{dollars(details.cost)} so far"
    if details.projected is not None and details.cost < MARGIN * details.projected:
        words += f", about {dollars(details.projected)} in all"
    return words
