"""A reply as plain text on stdout while it arrives, for terminals and scripts."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, TextIO

import anyio.to_thread

from mistral_nb.events import ChatChunk, ChatComplete, ChatError, EventStream
from mistral_nb.widgets.endings import ending_of

if TYPE_CHECKING:
    from mistral_nb.streaming import StreamHandle

__all__ = ["print_reply"]


def print_reply(handle: StreamHandle) -> None:
    """Print a reply as it arrives; it is all there before ``handle.result()`` returns.

    Args:
        handle: The reply.
    """
    # A thread of its own, since a pipe that nobody reads must not hold up the loop.
    arguments = (handle.events(), sys.stdout)
    printer = threading.Thread(target=_print_all, args=arguments, daemon=True)
    printer.start()
    handle.finish_with(lambda: anyio.to_thread.run_sync(printer.join, abandon_on_cancel=True))


def _print_all(events: EventStream, out: TextIO) -> None:
    """Write the pieces of the answer, and how it ended unless it simply did."""
    before = ""
    try:
        for event in events:
            if isinstance(event, ChatChunk):
                if event.kind == "text":
                    _write(out, event.content)
                    before = event.content or before
                elif event.kind == "tool" and event.tool_name:
                    _write(out, f"\n[{event.tool_name}] {event.content}")
                    before = event.content
                elif event.kind == "tool":
                    _write(out, event.content)
                out.flush()
            elif isinstance(event, ChatComplete | ChatError):
                ending = ending_of(event)
                words = " ".join(ending.panel) or ending.footer
                end = "" if ending.state == "done" else f"\n[{words}]"
                newline = "" if before.endswith("\n") and not end else "\n"
                _write(out, f"{end}{newline}")
                out.flush()
    except (OSError, ValueError):  # the pipe is closed: nobody reads any more
        events.close()


def _write(out: TextIO, text: str) -> None:
    """Write a text; a console that knows few characters shows a ? for each of the others."""
    try:
        out.write(text)
    except UnicodeEncodeError as error:
        out.write(text.encode(error.encoding, "replace").decode(error.encoding))
