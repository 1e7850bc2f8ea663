"""Functions that people pass: on the loop if they are asynchronous, else in a thread each."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["called", "in_thread", "in_words", "inner"]


def inner(function: Callable[..., Any]) -> Any:
    """Return the function whose name, docstring and annotations count."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


async def called(function: Callable[[], Any], name: str) -> Any:
    """Call a function that may be asynchronous; a plain one leaves the loop free.

    Args:
        function: A function without parameters (a partial, if it has some).
        name: Name of the thread of a plain one, as debuggers show it.

    Returns:
        What it returns, awaited if it can be.

    Raises:
        Exception: What it raised; a RuntimeError in place of KeyboardInterrupt and
            SystemExit, which would otherwise end more than the function.
    """
    try:
        result = function() if _is_async(function) else await in_thread(function, name)
        return await result if inspect.isawaitable(result) else result
    except (KeyboardInterrupt, SystemExit) as raised:  # either would end the loop
        raise _contained(raised) from raised


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
            error = _contained(raised)
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:  # the loop was closed meanwhile
            return

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future


def _is_async(function: Callable[..., Any]) -> bool:
    target = inner(function)
    return inspect.iscoroutinefunction(target) or (
        not inspect.isroutine(target)
        and inspect.iscoroutinefunction(getattr(type(target), "__call__", None))  # noqa: B004
    )


def in_words(error: BaseException) -> str:
    """Return an error's kind and words; a class of a stranger's may have none, or fail to."""
    try:
        words = str(error)
    except Exception:
        words = ""
    return f"{type(error).__name__}: {words}".rstrip(": ")


def _contained(raised: BaseException) -> RuntimeError:
    """Return an ordinary error in place of one that would end a thread or a loop."""
    return RuntimeError(in_words(raised))
