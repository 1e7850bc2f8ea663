"""Shows a reply while it arrives, and leaves static output when it has ended."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from mistral_nb import portal as portals
from mistral_nb.replies import current_cell
from mistral_nb.widgets.frames import Screen
from mistral_nb.widgets.outlet import Outlet
from mistral_nb.widgets.settle import bundle
from mistral_nb.widgets.terminal import print_reply

if TYPE_CHECKING:
    from mistral_nb.streaming import StreamHandle

__all__ = ["StreamView", "show"]

INTERVAL = 0.05
"""Seconds between frames: chunks that arrive meanwhile go together."""
READY_LIMIT = 2.0
"""Seconds a front end has to mount the view before plain HTML updates take its place."""
RETRY_LIMIT = 60.0
"""Seconds a failed reply keeps its Retry button before it becomes static."""
GROWTH = 1.3
"""Without a live view, the output is resent when the reply has grown by this factor."""

log = logging.getLogger(__name__)


def show(handle: StreamHandle, *, settle: bool = True) -> StreamView | None:
    """Show a reply as it arrives.

    In a notebook this is a live view below the cell; where no widget can be shown, HTML that
    is updated now and then; in a terminal or script, text on stdout.

    Args:
        handle: The reply.
        settle: Replace the live view by static output when the reply has ended. False keeps
            the view, which then ends with its kernel.

    Returns:
        The view, to display again elsewhere or to reach the handle of a retry; None in a
        terminal.
    """
    if not portals.in_kernel():
        print_reply(handle)
        return None
    view = StreamView(handle, settle=settle)
    view.start()
    return view


class StreamView:
    """The view of one reply in a notebook.

    Args:
        handle: The reply.
        settle: Replace the live view by static output at the end.

    Attributes:
        handle: The reply; after Retry, that of the latest try.
    """

    def __init__(self, handle: StreamHandle, *, settle: bool = True) -> None:
        self.handle = handle
        self._portal = portals.shared()
        self._screen = Screen(handle.model)
        self._keep = not settle
        lost = "A reply was arriving here. Run the cell again."
        self._outlet = Outlet(self._on_message, "stream_view", self._static, lost)
        self._next_frame = 0.0
        self._shown_length = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"StreamView({self.handle!r})"

    def start(self) -> None:
        """Display the view below the running cell and begin to follow the reply."""
        self._ipython_display_()
        self.handle.shown_in = current_cell()
        self._portal.call_soon(self._begin)

    def _ipython_display_(self) -> None:
        """Display the view once more, unless it is what this cell has shown already."""
        self._outlet.display()

    def _static(self) -> dict[str, str]:
        return bundle(self._screen, self.handle.text)

    # What follows runs on the portal's loop, except for _on_message.

    def _begin(self) -> None:
        if self._outlet.live:
            asyncio.get_running_loop().call_later(READY_LIMIT, self._give_up_waiting)
        self._follow(self.handle)

    def _follow(self, handle: StreamHandle) -> None:
        """Show a reply from its first event to its last."""
        ended = asyncio.Event()
        relay = asyncio.get_running_loop().create_task(self._relay(handle, ended))
        self._tasks.add(relay)  # the loop itself holds tasks only weakly
        relay.add_done_callback(self._tasks.discard)

        async def finish() -> None:
            ended.set()
            await relay

        # Who awaits the reply in a cell gets it when it is settled: nbclient reads no message
        # that comes after the cell's end.
        handle.finish_with(finish)

    async def _relay(self, handle: StreamHandle, ended: asyncio.Event) -> None:
        """Bring the reply's events to the screen, a frame at a time."""
        try:
            with handle.events() as events:
                while self._screen.ending is None:
                    await events.wait()
                    await self._pause(ended)
                    self._screen.take(events.drain())
                    self._show_news()
            self._end()
        except Exception:  # the reply itself is unharmed, whatever a view stumbles over
            log.exception("The live view failed; the reply goes on")
            self._outlet.live = False
            self._outlet.publish({"text/plain": handle.text})

    async def _pause(self, ended: asyncio.Event) -> None:
        """Wait until the next frame is due; the reply's end is not kept waiting."""
        try:
            async with asyncio.timeout_at(self._next_frame):
                await ended.wait()
        except TimeoutError:
            pass

    def _show_news(self) -> None:
        """Send what is new to the browser."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        if self._outlet.live:
            frame = self._screen.frame()
            if frame is None:
                return
            self._outlet.send(frame)
        elif (length := len(self.handle.text)) > GROWTH * self._shown_length:
            self._shown_length = length
            self._screen.frame()
            self._outlet.publish(self._static())
        # A frame that took long to render makes the next one wait longer.
        self._next_frame = clock() + max(INTERVAL, 4 * (clock() - begun))

    def _end(self) -> None:
        """Leave the view as it is for a while if something can be done there; else settle."""
        ending = self._screen.ending
        assert ending is not None
        if not self._outlet.live or not (self._keep or ending.may_retry):
            self._settle()
        elif self._outlet.pages and not self._keep and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RETRY_LIMIT, self._settle)

    def _settle(self) -> None:
        """Replace the live view by static output in the notebook's document."""
        self._screen.frame()
        self._outlet.settle()

    def _give_up_waiting(self) -> None:
        """Without a front end's sign of life, go on with static output."""
        if self._outlet.pages or not self._outlet.live:
            return
        if self._screen.ending is not None:
            self._settle()
        else:
            self._outlet.give_up()

    def _on_message(self, message: dict[str, Any]) -> None:
        """Take a message of the front end, on whatever thread it comes."""
        action = message.get("a")
        if action == "stop":
            self.handle.stop()
        elif action in {"ready", "resync", "check", "copy", "retry"}:
            self._portal.call_soon(self._answer, message)

    def _answer(self, message: dict[str, Any]) -> None:
        if message["a"] == "copy":
            self._outlet.send({"copy": self.handle.text, "p": message.get("p")})
            return
        if message["a"] == "retry":
            self._try_again()
            return
        if message["a"] == "check" and message.get("n") == self._screen.number:
            return
        page = message.get("p")
        if page is not None:
            if page in self._outlet.pages:
                return
            self._outlet.pages.add(page)
            if self._screen.ending is None:
                self._outlet.take_up()
            elif self._outlet.live:
                self._end()
        self._outlet.send(self._screen.whole())

    def _try_again(self) -> None:
        """Send the request once more and show the reply in the same place."""
        if self._screen.ending is None:  # a second click
            return
        handle = self.handle.retry()
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._outlet.live = None, True
        self.handle = handle
        self._screen = Screen(handle.model, self._screen.number + 1)
        self._outlet.send(self._screen.whole())
        self._follow(handle)
