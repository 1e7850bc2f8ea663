"""A place below cells: a live widget at first, and static content once that has ended."""

from __future__ import annotations

import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

from mistral_nb.replies import current_cell
from mistral_nb.widgets.channel import Channel, front_end_may_show_widgets

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.widgets.frames import Frame

__all__ = ["Outlet"]

KEPT = 20
"""Settled outlets whose widgets stay open, for pages that do not know of the settled output:
one loaded again in mid-stream, or from a file that was saved then."""

_settled: deque[Channel] = deque()


class Outlet:
    """One output in a notebook, which may be displayed below several cells.

    Args:
        on_message: Called with each message of the widget's browser half, on any thread.
        name: Name of the widget's static files.
        static: Returns the content without a widget, as MIME type -> data.
        lost: Text beside the widget, for who opens the file while it is live.

    Attributes:
        live: True while the widget is what is shown.
        pages: Pages whose widget has greeted.
    """

    def __init__(
        self,
        on_message: Callable[[dict[str, Any]], object],
        name: str,
        static: Callable[[], dict[str, str]],
        lost: str,
    ) -> None:
        self._id = f"mistral-nb-{uuid.uuid4().hex}"
        self._static = static
        self._lost = lost
        self._channel = Channel(on_message, name) if front_end_may_show_widgets() else None
        self._shown_in: set[object] = set()
        self.live = self._channel is not None
        self.pages: set[object] = set()

    def display(self) -> None:
        """Display it below the running cell, unless that cell shows it already."""
        if current_cell() in self._shown_in:
            return
        self._shown_in.add(current_cell())
        self.publish(self._content(), update=False)

    def _content(self) -> dict[str, Any]:
        if self.live and self._channel is not None:
            return {**self._channel.bundle(), "text/plain": self._lost}
        return self._static()

    def publish(self, data: dict[str, Any], *, update: bool = True) -> None:
        """Put content in all places of this output, or in a new one."""
        from IPython.display import display

        display(data, raw=True, display_id=self._id, update=update)

    def send(self, frame: Frame) -> None:
        """Send a frame to every view of the widget, if there is one."""
        if self._channel is not None:
            self._channel.send(frame)

    def give_up(self) -> bool:
        """Go on without the widget if no page has greeted; True if that is so now."""
        if self.live and not self.pages:
            self.live = False
            self.publish(self._content())
        return not self.live

    def take_up(self) -> None:
        """Show the widget after all: a page has greeted late."""
        if not self.live:
            self.live = True
            self.publish(self._content())

    def settle(self) -> None:
        """Replace the widget by the static content in the notebook's document."""
        self.live = False
        self.publish(self._static())
        if self._channel is not None and self._channel not in _settled:
            _settled.append(self._channel)
        while len(_settled) > KEPT:
            _settled.popleft().close()
