"""Shows how a labelling run is going, with its controls, and leaves a static summary."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from mistral_nb import portal as portals
from mistral_nb.errors import MistralNbError
from mistral_nb.widgets.outlet import Outlet
from mistral_nb.widgets.run_screen import OVER, RunScreen
from mistral_nb.widgets.run_summary import summary
from mistral_nb.widgets.run_terminal import TerminalBar

if TYPE_CHECKING:
    from mistral_nb.labelling import Run

__all__ = ["RunView", "show"]

INTERVAL = 0.25
"""Seconds between two looks at the run, and so between two messages."""
READY_LIMIT = 10.0
"""Seconds a front end has to mount the view before static content takes its place."""
STATIC_EVERY = 10.0
"""Seconds between two updates of static content, where no widget can be shown."""

log = logging.getLogger(__name__)


def show(run: Run, *, force: bool = False) -> RunView | None:
    """Show a run until it ends.

    In a notebook this is a view below the cell, with buttons to pause and cancel, replaced by
    a static summary at the end; in a terminal a bar on stderr; in a script whose stderr goes
    elsewhere, nothing.

    Args:
        run: The run.
        force: Show it in a script, too.

    Returns:
        The view, to display again below another cell; None outside notebooks.
    """
    screen = RunScreen(run)
    if portals.in_kernel():
        view = RunView(screen)
        view.display()
        run.shown_by = view
        _Follower(screen, view).start()
        return view
    if force or sys.stderr.isatty():
        _Follower(screen, TerminalBar(screen, sys.stderr)).start()
    return None


class _Display(Protocol):
    """Something that can show a run."""

    def update(self) -> None:
        """Show the run as it is now."""

    def close(self) -> None:
        """Show how it ended; may be called again with more to say."""


class _Follower:
    """Looks at a run now and then, on the portal's loop, and has it shown."""

    def __init__(self, screen: RunScreen, display: _Display) -> None:
        self._screen = screen
        self._display = display
        self._ended = asyncio.Event()
        self._closed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        portals.shared().call_soon(self._begin)

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._follow())
        self._screen.run.finish_with(self._finish)

    async def _finish(self) -> None:
        """Let the view end before the run's result is given: nbclient reads nothing later."""
        self._ended.set()
        await self._closed.wait()

    async def _follow(self) -> None:
        try:
            while not (self._ended.is_set() or self._screen.run.done()):
                self._screen.update()
                self._display.update()
                try:
                    async with asyncio.timeout(INTERVAL):
                        await self._ended.wait()
                except TimeoutError:
                    pass
            whole = await self._screen.last_update()
            self._display.close()
            self._closed.set()
            if not whole and isinstance(self._display, RunView):
                await self._screen.settled()
                self._display.close()
        except Exception:  # the run itself is unharmed, whatever the screen stumbles over
            log.exception("The progress of the run cannot be shown; the run goes on")
        finally:
            self._closed.set()


class RunView:
    """The view of a run in a notebook.

    Args:
        screen: What is shown of the run.
    """

    def __init__(self, screen: RunScreen) -> None:
        self._screen = screen
        self._run = screen.run
        self._portal = portals.shared()
        lost = f"The progress of {self._run.name} was shown here. See mnb.runs()."
        self._outlet = Outlet(self._on_message, "run_view", self._static, lost)
        self._problem = ""
        self._published = time.monotonic()
        self._due: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"RunView({self._run!r})"

    def display(self) -> None:
        """Display the view below the running cell, unless that cell shows it already."""
        self._outlet.display()
        self._portal.call_soon(self._wait_for_pages)

    def _ipython_display_(self) -> None:
        self.display()

    def _static(self) -> dict[str, str]:
        return summary(self._screen)

    # What follows runs on the portal's loop, except for _on_message.

    def _wait_for_pages(self) -> None:
        if self._due is None and self._outlet.live:
            later = asyncio.get_running_loop().call_later
            self._due = later(READY_LIMIT, self._outlet.give_up)

    def update(self) -> None:
        """Send what is new to the browser."""
        if self._outlet.live:
            frame = self._screen.frame()
            if frame is not None:
                self._outlet.send(frame)
        elif time.monotonic() >= self._published + STATIC_EVERY:
            self._published = time.monotonic()
            self._outlet.publish(self._static())

    def close(self) -> None:
        """Leave a static summary; views that stay all the same show the end as well."""
        if self._due is not None:
            self._due.cancel()
        self._outlet.send(self._screen.whole())
        self._outlet.settle()

    def _on_message(self, message: dict[str, Any]) -> None:
        """Take a message of the front end, on whatever thread it comes."""
        act = {"pause": self._run.pause, "go": self._run.unpause, "cancel": self._run.cancel}
        action, problem = message.get("a"), ""
        if action in act:
            try:
                act[action]()
            except MistralNbError as error:
                problem = str(error)
        self._portal.call_soon(self._answer, message, problem)

    def _answer(self, message: dict[str, Any], problem: str) -> None:
        if message.get("a") in {"ready", "resync"}:
            self._outlet.pages.add(message.get("p"))
            if self._run.status not in OVER:
                self._outlet.take_up()
            self._outlet.send(self._screen.whole())
        else:
            frame = self._screen.frame() or {}
            self._outlet.send({**frame, "q": [message.get("p"), message.get("k"), problem]})
