"""Functions that people pass: on the loop if they are asynchronous, else in a thread each."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

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
        Exception: What it raised; a RuntimeError in place of KeyboardInterrupt, SystemExit
            and StopIteration, which would otherwise end more than the function.
    """
    try:
        result = function() if _is_async(function) else await in_thread(function, name)
        return await result if inspect.isawaitable(result) else result
    except (KeyboardInterrupt, SystemExit) as raised:
        raise _contained(raised) from raised


async def in_thread(work: Callable[[], T], name: str) -> T:
    """Run a function in a daemon thread: one that hangs must not keep the process alive.

    Args:
        work: A function without parameters; it sees the caller's context variables.
        name: Name of the thread, as debuggers show it.

    Returns:
        What it returns.

    Raises:
        Exception: What it raised; a RuntimeError in place of KeyboardInterrupt, SystemExit
            and StopIteration, which would otherwise end more than the function.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = copy_context()

    def settle(end: Callable[[Any], None], value: T | Exception) -> None:
        if not future.done():  # else nobody waits any more
            end(value)

    def run() -> None:
        try:
            ended: tuple[Callable[[Any], None], T | Exception]
            ended = future.set_result, context.run(work)
        except BaseException as raised:  # exit() or an interrupt inside a tool ends the tool
            ended = future.set_exception, _contained(raised)
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, *ended)

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


def _contained(raised: BaseException) -> Exception:
    """Return an ordinary error in place of one that would end the loop, or that no future takes."""
    if isinstance(raised, Exception) and not isinstance(raised, StopIteration):
        return raised
    return RuntimeError(in_words(raised))
