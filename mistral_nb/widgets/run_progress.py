"""Shows how a labelling run is going: a bar in a notebook or terminal, and one line at its end."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import uuid
from html import escape
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from mistral_nb import portal as portals
from mistral_nb.widgets.channel import front_end_may_show_widgets
from mistral_nb.widgets.settle import QUIET

if TYPE_CHECKING:
    from mistral_nb.labelling import Run

__all__ = ["show"]

INTERVAL = 0.25
"""Seconds between two looks at the run."""
MARGIN = 0.02
"""Share of the work after which the time left can be guessed."""

log = logging.getLogger(__name__)


def show(run: Run, *, force: bool = False) -> None:
    """Show a run's progress until it ends.

    In a notebook this is a bar below the cell, replaced by one static line at the end; in a
    terminal a bar on stderr; in a script whose stderr goes elsewhere, nothing.

    Args:
        run: The run.
        force: Show it in a script, too.
    """
    bar: _Bar
    if portals.in_kernel():
        bar = _NotebookBar(run)
    elif force or sys.stderr.isatty():
        bar = _TerminalBar(run, sys.stderr)
    else:
        return
    _Follower(run, bar).start()


class _Bar(Protocol):
    """Something that can show a run."""

    def update(self, seconds: float) -> None:
        """Show the run as it is now, ``seconds`` after its start."""

    def close(self) -> None:
        """Show how it ended."""


class _Follower:
    """Looks at a run now and then, on the portal's loop, and has a bar show it."""

    def __init__(self, run: Run, bar: _Bar) -> None:
        self._run = run
        self._bar = bar
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        portals.shared().call_soon(self._begin)

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._follow())
        self._run.finish_with(self._finish)

    async def _finish(self) -> None:
        """Let the bar end before the run's result is given: nbclient reads nothing later."""
        self._ended.set()
        assert self._task is not None
        await self._task

    async def _follow(self) -> None:
        begun = time.monotonic()
        try:
            while not (self._ended.is_set() or self._run.done()):
                self._bar.update(time.monotonic() - begun)
                try:
                    async with asyncio.timeout(INTERVAL):
                        await self._ended.wait()
                except TimeoutError:
                    pass
            self._bar.close()
        except Exception:  # the run itself is unharmed, whatever the screen stumbles over
            log.exception("The progress of the run cannot be shown; the run goes on")


class _NotebookBar:
    """A bar of ipywidgets, and static HTML in its place at the end."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._id = f"mistral-nb-{uuid.uuid4().hex}"
        self._box: Any = None
        self._shown = ""
        if front_end_may_show_widgets():
            from ipywidgets import HTML, FloatProgress, HBox, Layout

            self._progress = FloatProgress(min=0, max=1, layout=Layout(width="12em"))
            self._text = HTML()
            self._box = HBox([self._progress, self._text])
            mime = "application/vnd.jupyter.widget-view+json"
            view = {"model_id": self._box.model_id, "version_major": 2, "version_minor": 0}
            lost = f"The progress of {run.name} was shown here. See mnb.runs()."
            self._publish({mime: view, "text/plain": lost}, update=False)
        else:
            self._publish(self._static(), update=False)

    def update(self, seconds: float) -> None:
        text = _line(self._run, seconds)
        if self._box is not None and text != self._shown:
            self._shown = text
            self._progress.value = _share(self._run.counts)
            self._text.value = f'<span style="{QUIET}">{escape(text)}</span>'

    def close(self) -> None:
        self._publish(self._static(), update=True)
        if self._box is not None:
            for widget in (*self._box.children, self._box):
                widget.close()

    def _static(self) -> dict[str, str]:
        text = _last_line(self._run)
        alarm = self._run.status == "failed" or self._run.counts["failed"]
        mark = "⚠ " if alarm else ""
        return {"text/html": f'<p style="{QUIET}">{mark}{escape(text)}</p>', "text/plain": text}

    def _publish(self, data: dict[str, Any], *, update: bool) -> None:
        from IPython.display import display

        display(data, raw=True, display_id=self._id, update=update)


class _TerminalBar:
    """A bar of tqdm."""

    def __init__(self, run: Run, out: TextIO) -> None:
        from tqdm import tqdm

        self._run = run
        self._out = out
        total = run.counts["total"] or None
        self._bar = tqdm(total=total, file=out, unit=" rows", dynamic_ncols=True, leave=False)

    def update(self, seconds: float) -> None:  # noqa: ARG002 - tqdm has its own clock
        counts = self._run.counts
        self._bar.total = counts["total"] or None
        self._bar.n = counts["done"] + counts["failed"]
        self._bar.set_description_str(self._run.name, refresh=False)
        kinds = [f"{counts[kind]:,} {kind}" for kind in ("failed", "running") if counts[kind]]
        self._bar.set_postfix_str(", ".join([*kinds, self._run.message][:3]), refresh=False)
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()
        self._out.write(f"{_last_line(self._run)}\n")
        self._out.flush()


def _share(counts: dict[str, int]) -> float:
    return (counts["done"] + counts["failed"]) / max(1, counts["total"])


def _line(run: Run, seconds: float) -> str:
    """Describe a run that goes on, in one line."""
    counts = run.counts
    parts = [f"{run.name}: {counts['done']:,} of {counts['total']:,} rows"]
    kinds = ("failed", "running", "waiting", "reused")
    parts += [f"{counts[kind]:,} {kind}" for kind in kinds if counts[kind]]
    share = _share(counts)
    left = f", about {_clock(seconds * (1 - share) / share)} left" if MARGIN < share < 1 else ""
    parts.append(f"{_clock(seconds)}{left}")
    if run.message:
        parts.append(run.message)
    return " · ".join(parts)


def _last_line(run: Run) -> str:
    """Describe how a run ended, or that it goes on without us."""
    if run.status == "detached":
        return f"{run.name}: no longer followed; go on with mnb.resume({run.name!r})."
    if run.status in {"preparing", "running"}:
        return f"{run.name}: {run.status}."
    return f"{run.name}: {run.message or run.status}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
