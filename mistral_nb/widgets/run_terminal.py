"""A run's progress in a terminal: a bar of tqdm on stderr, and one line at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from mistral_nb.labelling.prices import dollars
from mistral_nb.widgets.run_summary import headline

if TYPE_CHECKING:
    from mistral_nb.widgets.run_screen import RunScreen

__all__ = ["TerminalBar"]


class TerminalBar:
    """A bar that counts the rows that have ended.

    Args:
        screen: What is shown of the run.
        out: Where to write.
    """

    def __init__(self, screen: RunScreen, out: TextIO) -> None:
        from tqdm import tqdm

        self._screen = screen
        self._out = out
        total = screen.run.counts["total"] or None
        self._bar = tqdm(total=total, file=out, unit=" rows", dynamic_ncols=True, leave=False)
        self._begun = False

    def update(self) -> None:
        """Show the run as it is now."""
        run, counts = self._screen.run, self._screen.run.counts
        self._bar.total = counts["total"] or None
        self._bar.n = self._screen.ended_rows()
        if not self._begun and run.status == "running":
            self._begun = True  # rows of an earlier time say nothing about the pace
            self._bar.initial = self._bar.n
        self._bar.set_description_str(run.name, refresh=False)
        words = [f"{counts[kind]:,} {kind}" for kind in ("failed", "running") if counts[kind]]
        details = self._screen.details
        if details is not None and details.cost:
            words.append(dollars(details.cost))
        status = self._screen.status()
        words.append(run.message if status == "running" else status)
        self._bar.set_postfix_str(", ".join(filter(None, words)), refresh=False)
        self._bar.refresh()

    def close(self) -> None:
        """Say how it ended."""
        self._bar.close()
        self._out.write(f"{headline(self._screen)}\n")
        self._out.flush()
