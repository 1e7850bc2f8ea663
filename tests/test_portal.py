"""The loop thread and the handles on it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import anyio
import pytest

from mistral_nb import portal as portals
from mistral_nb.errors import WaitTimeout
from mistral_nb.portal import Handle, run


def handle_of(value: object, after: float = 0.0) -> Handle[object]:
    async def work() -> object:
        await anyio.sleep(after)
        if isinstance(value, Exception):
            raise value
        return value

    return Handle(portals.shared(), work)


def test_one_portal_per_process() -> None:
    """Every thread gets the same loop."""
    found = []
    thread = threading.Thread(target=lambda: found.append(portals.shared()))
    thread.start()
    thread.join()
    assert found == [portals.shared()]


def test_result_from_a_thread_and_from_any_loop() -> None:
    """The same handle answers a blocking wait and awaits on two different loops."""
    handle = handle_of("answer")

    async def wait() -> object:
        return await handle

    assert handle.result(5) == "answer"
    assert asyncio.run(wait()) == "answer"
    assert asyncio.run(wait()) == "answer"


def test_a_wait_has_a_limit_and_the_work_goes_on() -> None:
    """result(timeout) raises WaitTimeout, and the work still ends by itself."""
    handle = handle_of("late", after=0.3)
    with pytest.raises(WaitTimeout, match="goes on"):
        handle.result(0.01)
    assert handle.result(5) == "late"


@pytest.mark.parametrize("timeout", [float("inf"), 1e12])
def test_a_limit_beyond_any_clock_is_no_limit(timeout: float) -> None:
    """A longer wait than the system can tell the time of has simply no end."""
    assert handle_of("answer", after=0.05).result(timeout) == "answer"


def test_no_wait_is_long_where_signals_cannot_end_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, a wait is made of short ones, and ends with the result or the limit."""
    monkeypatch.setattr(portals, "BEAT", 0.02)
    assert handle_of("answer", after=0.1).result() == "answer"
    with pytest.raises(WaitTimeout, match="goes on"):
        handle_of("late", after=0.5).result(0.07)
    steps: list[float | None] = []
    assert not portals.wait_interruptibly(steps.append, 0.0)
    assert not portals.wait_interruptibly(steps.append, 0.05)
    assert portals.wait_interruptibly(lambda step: len(steps) > 20 or steps.append(step))
    assert max(step for step in steps if step is not None) <= 0.02
    assert None not in steps


def test_a_timeout_raised_by_the_work_is_the_works_own() -> None:
    """TimeoutError from the work is not mistaken for the end of the wait."""
    with pytest.raises(TimeoutError, match="inner") as caught:
        handle_of(TimeoutError("inner")).result(5)
    assert not isinstance(caught.value, WaitTimeout)


def test_a_cancelled_waiter_leaves_the_work_alone() -> None:
    """Cancelling one await does not cancel what others wait for."""
    handle = handle_of("shared", after=0.2)

    async def main() -> object:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle._await(), 0.01)
        return await handle

    assert asyncio.run(main()) == "shared"


def test_stop_cancels() -> None:
    """A stopped handle raises CancelledError to whoever waits."""
    handle = handle_of("never", after=60)
    handle.stop()
    with pytest.raises(asyncio.CancelledError):
        handle.result(5)


def test_waiting_on_the_loop_for_the_loop_is_refused() -> None:
    """A blocking wait on the portal's own thread raises instead of hanging."""
    handle = handle_of("x", after=0.2)

    async def wait_wrongly() -> object:
        return handle.result(5)

    with pytest.raises(RuntimeError, match="await handle"):
        portals.shared().call(wait_wrongly)


def test_work_on_the_loop_can_start_more_of_it() -> None:
    """A coroutine on the portal's loop starts a handle and awaits it there."""

    async def outer() -> object:
        return await handle_of("inner")

    assert run(outer(), 5) == "inner"


def test_run_returns_the_result_of_a_coroutine_inside_a_running_loop() -> None:
    """mnb.run works where asyncio.run would raise 'event loop is already running'."""

    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    async def cell() -> int:
        return run(work())

    assert asyncio.run(cell()) == 7


def test_run_with_a_limit_cancels_the_work() -> None:
    """mnb.run(timeout) raises WaitTimeout and the coroutine sees its cancellation."""
    cancelled = threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(WaitTimeout):
        run(work(), timeout=0.05)
    assert cancelled.wait(5)


def test_the_interpreter_exits_while_work_goes_on() -> None:
    """An unfinished handle does not keep the process alive, nor print a traceback."""
    code = (
        "import anyio\nfrom mistral_nb.portal import Handle, shared\n"
        "async def work(): await anyio.sleep(600)\n"
        "h = Handle(shared(), work)\nprint('out')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert (done.stdout, done.stderr) == ("out\n", "")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork on this system")
def test_a_forked_process_gets_a_loop_of_its_own() -> None:
    """After a fork the child's work runs instead of waiting for a thread that is not there."""
    code = (
        "import os\nfrom mistral_nb.portal import run\n"
        "async def work(): return 3\n"
        "assert run(work()) == 3\n"
        "pid = os.fork()\n"
        "assert run(work(), 10) == 3\n"
        "if not pid: os._exit(5)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout == "5\n"
