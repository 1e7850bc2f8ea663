"""The one event loop of the package, in its own thread, and the handles to work on it.

A notebook's own loop is busy whenever a cell runs, so nothing of ours runs there. Work is
started on the portal's loop and a :class:`Handle` is given back at once.
"""

from __future__ import annotations

import asyncio
import atexit
import builtins
import inspect
import math
import os
import signal
import sys
import threading
import time
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from anyio.from_thread import start_blocking_portal

from mistral_nb.errors import InputError, WaitTimeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator
    from types import FrameType

__all__ = [
    "Handle",
    "Portal",
    "allow_nested_run",
    "in_ipython",
    "in_kernel",
    "interrupts",
    "run",
    "shared",
    "wait_for",
    "wait_interruptibly",
]

T = TypeVar("T")
CLOSE_LIMIT = 2.0
"""Seconds the interpreter's exit may wait for the loop thread."""
BEAT = 0.2 if os.name == "nt" else None
"""Longest wait for a lock at a time, in seconds: on Windows no signal ends one."""


def wait_interruptibly(
    wait: Callable[[float | None], object], timeout: float | None = None
) -> bool:
    """Wait so that Ctrl-C and the notebook's interrupt end the wait on every system.

    Args:
        wait: Waits for so many seconds, or without an end for None, and returns something
            true if what it waits for has come, as ``threading.Event.wait`` does.
        timeout: Longest wait in all, in seconds; None has no end.

    Returns:
        True if it has come, False if the time is up.
    """
    end = math.inf if timeout is None else time.monotonic() + timeout
    while True:
        left = max(0.0, end - time.monotonic())
        last = left <= (BEAT or threading.TIMEOUT_MAX)
        if wait(left if last else BEAT):
            return True
        if last:
            return False


class Portal:
    """An event loop in a thread of its own (anyio's blocking portal).

    Args:
        name: Name of the thread, as debuggers show it.
    """

    def __init__(self, name: str = "mistral-nb") -> None:
        self._context = start_blocking_portal("asyncio", name=name)
        self._portal = self._context.__enter__()
        self.loop: asyncio.AbstractEventLoop = self._portal.call(_running_loop)
        self._thread_id: int = self._portal.call(_thread_id)
        self._closing: list[Callable[[], Awaitable[object]]] = []
        self._started: set[Future[Any]] = set()

    def spawn(self, work: Callable[..., Awaitable[T]], *args: object) -> Future[T]:
        """Start a coroutine function on the loop, from any thread, its own included."""

        async def start() -> T:
            return await work(*args)

        future = asyncio.run_coroutine_threadsafe(start(), self.loop)
        self._started.add(future)  # the loop itself holds its tasks only weakly
        future.add_done_callback(self._started.discard)
        return future

    def call(self, work: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run a coroutine function on the loop and wait for its result.

        Raises:
            RuntimeError: Called on the loop's own thread, where it would wait for ever.
        """
        self.refuse_own_thread()
        future = self.spawn(work, *args)
        wait_for(future)
        return future.result()

    def call_soon(self, function: Callable[..., object], *args: object) -> None:
        """Run a plain function on the loop soon; harmless once the loop is closed."""
        try:
            self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            if not self.loop.is_closed():
                raise

    def on_close(self, work: Callable[[], Awaitable[object]]) -> None:
        """Have ``work`` awaited on the loop just before it stops."""
        self._closing.append(work)

    def on_own_thread(self) -> bool:
        """Return True on the loop's own thread."""
        return threading.get_ident() == self._thread_id

    def refuse_own_thread(self) -> None:
        """Raise RuntimeError on the loop's thread, where a blocking wait is a deadlock."""
        if self.on_own_thread():
            raise RuntimeError(
                "This would wait for the toolkit's own loop on that loop. "
                "Inside a listener or tool, use 'await handle' instead of 'handle.result()'."
            )

    def close(self) -> None:
        """Run the closing work, cancel what is left, and end the thread."""

        async def finish() -> None:
            for work in reversed(self._closing):
                with suppress(Exception):  # at exit nobody is left to tell
                    await asyncio.wait_for(work(), CLOSE_LIMIT)

        def close() -> None:
            try:
                self.call(finish)
                self._context.__exit__(None, None, None)  # cancels what is left, joins
            except RuntimeError:
                return

        # The wait has a limit: an exit must not hang on a thread that is stuck.
        closer = threading.Thread(target=close, daemon=True)
        try:
            closer.start()
        except RuntimeError:  # as the interpreter ends, Python 3.12 starts no thread
            wait_for(self.spawn(finish), CLOSE_LIMIT)
            return
        closer.join(CLOSE_LIMIT)


def wait_for(future: Future[Any], timeout: float | None = None) -> bool:
    """Wait for a future so that an interrupt ends the wait; the future goes on.

    Args:
        future: Of work on a portal.
        timeout: Longest wait in seconds; None has no end.

    Returns:
        True if it is done, False if the time is up.
    """
    return future.done() or wait_interruptibly(
        lambda seconds: wait_for_futures([future], seconds).done, timeout
    )


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def _thread_id() -> int:
    return threading.get_ident()


_shared: tuple[int, Portal] | None = None
_shared_lock = threading.Lock()


def shared() -> Portal:
    """Return the process's portal, started at first use (and again after a fork)."""
    global _shared  # noqa: PLW0603 - one loop thread per process is the point
    with _shared_lock:
        if _shared is None or _shared[0] != os.getpid():
            _shared = (os.getpid(), Portal())
            atexit.register(_shared[1].close)
        return _shared[1]


def run(awaitable: Awaitable[T], timeout: float | None = None) -> T:
    """Run a coroutine from a cell and return its result: no ``asyncio.run`` needed.

    Args:
        awaitable: A coroutine or other awaitable.
        timeout: Longest wait in seconds; None waits until it ends or is interrupted.

    Returns:
        What the awaitable returns.

    Raises:
        InputError: It cannot be awaited.
        WaitTimeout: It did not end in time; it is cancelled.
    """
    if not inspect.isawaitable(awaitable):
        raise InputError(
            "mnb.run takes a coroutine, such as work() of an `async def work()`, "
            f"not {type(awaitable).__name__}."
        )

    async def work() -> T:
        return await awaitable

    handle = Handle(shared(), work)
    try:
        return handle.result(timeout)
    except WaitTimeout as error:
        handle.stop()
        raise WaitTimeout(
            f"Not finished after {timeout:g} s, so it was cancelled. Give more seconds, or none."
        ) from error
    except BaseException:
        handle.stop()
        raise


def allow_nested_run() -> None:
    """Let textbook code with ``asyncio.run(...)`` work unchanged in a notebook cell.

    It patches asyncio (nest-asyncio2, the kept fork) so that a running loop can run again
    inside itself. Prefer ``await`` at the top of a cell, or :func:`run`: while a nested
    loop runs, the kernel answers nothing else.
    """
    import nest_asyncio2

    nest_asyncio2.apply()


def in_kernel() -> bool:
    """Return True in a Jupyter kernel (not in a plain IPython terminal)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def in_ipython() -> bool:
    """Return True in a Jupyter kernel or an IPython terminal, where a cell's output shows."""
    return in_kernel() or hasattr(builtins, "__IPYTHON__")


class Handle(Generic[T]):
    """Work that goes on in the background; await it, wait for it, or ignore it.

    Args:
        portal: The loop the work runs on.
        work: Coroutine function that does it.
    """

    def __init__(self, portal: Portal, work: Callable[[], Awaitable[T]]) -> None:
        self._portal = portal
        self._future: Future[T] = portal.spawn(work)

    def __repr__(self) -> str:
        if not self.done():
            state = "running"
        elif self._future.cancelled():
            state = "stopped"
        else:
            error = self._future.exception()
            state = "done" if error is None else f"failed: {error}"
        return f"{type(self).__name__}({state})"

    def done(self) -> bool:
        """Return True once there is a result or an error."""
        return self._future.done()

    def stop(self) -> None:
        """Ask the work to end now; callable from any thread, more than once."""
        self._future.cancel()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result.

        Args:
            timeout: Longest wait in seconds; None waits until the end.

        Returns:
            The result.

        Raises:
            WaitTimeout: The time is up; the work itself goes on.
        """
        self._portal.refuse_own_thread()
        try:
            return self._wait(timeout)
        except KeyboardInterrupt:
            if not self._interrupted():
                raise
            return self._wait(CLOSE_LIMIT)

    def _wait(self, timeout: float | None) -> T:
        if not wait_for(self._future, timeout):
            raise WaitTimeout(
                f"Not finished after {timeout:g} s; it goes on. "
                "Call result() again, await it, or stop() it."
            )
        try:
            return self._future.result()
        except FutureCancelledError:
            raise asyncio.CancelledError("The work was stopped.") from None

    def _interrupted(self) -> bool:
        """React to an interrupt of a waiting cell; True if a result will follow at once."""
        return False

    def __await__(self) -> Generator[Any, None, T]:
        return self._await().__await__()

    async def _await(self) -> T:
        # Shielded: a cancelled waiter must not cancel work that others wait for too.
        waiter = asyncio.shield(asyncio.wrap_future(self._future))
        with interrupts.offered_to(self):
            return await waiter


class _Interrupts:
    """Offers the notebook's interrupt to awaited handles before the kernel sees it.

    ipykernel turns SIGINT during an await into cancelling the whole cell. A handle that
    can end cleanly (a stream) should instead return its partial result to that await.
    """

    def __init__(self) -> None:
        self._offers: list[tuple[Handle[Any], Context]] = []
        self._kernel_handler: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextmanager
    def offered_to(self, handle: Handle[Any]) -> Iterator[None]:
        """Offer interrupts to ``handle`` inside the block (in a kernel's main thread)."""
        if not in_kernel() or threading.current_thread() is not threading.main_thread():
            yield
            return
        if not self._offers:
            self._loop = asyncio.get_running_loop()
            self._kernel_handler = signal.signal(signal.SIGINT, self._on_interrupt)
        # In its cell's context, what a handle prints goes below its cell.
        offer = (handle, copy_context())
        self._offers.append(offer)
        try:
            yield
        finally:
            self._offers.remove(offer)
            if not self._offers:
                signal.signal(signal.SIGINT, self._kernel_handler)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        taken = [context.run(handle._interrupted) for handle, context in self._offers]  # noqa: SLF001
        if not all(taken) and callable(self._kernel_handler):
            self._kernel_handler(number, frame)
            if self._loop is not None:  # which sleeps on until something wakes it
                self._loop.call_soon_threadsafe(int)


interrupts = _Interrupts()
"""The process's one place that offers SIGINT to handles."""
