"""Plain functions beside the loop: each in a daemon thread of its own."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["contained", "in_thread"]


def contained(raised: BaseException) -> RuntimeError:
    """Return an ordinary error in place of one that would end a thread or a loop."""
    return RuntimeError(f"{type(raised).__name__}: {raised}".rstrip(": "))


async def in_thread(work: Callable[[], Any], name: str) -> Any:
    """Run a function in a daemon thread: one that hangs must not keep the process alive.

    Args:
        work: A function without parameters; it sees the caller's context variables.
        name: Name of the thread, as debuggers show it.

    Returns:
        What it returns.

    Raises:
        Exception: What it raised; a RuntimeError in place of KeyboardInterrupt and
            SystemExit, which would otherwise end more than the function.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = copy_context()

    def settle(result: Any, error: Exception | None) -> None:
        if future.done():  # nobody waits any more
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = context.run(work)
        except Exception as raised:
            error = raised
        except BaseException as raised:  # exit() or an interrupt inside a tool ends the tool
            error = contained(raised)
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:  # the loop was closed meanwhile
            return

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future
