"""The notebook's interrupt, in a real kernel: a clean partial reply, never a lost one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from jupyter_client.manager import start_new_kernel

from tests.replay import STALL, Replay, delta, sse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_client import BlockingKernelClient, KernelManager

SETUP = """
import mistral_nb as mnb
session = mnb.connect(api_key="k", server_url={url!r}, timeout=60)
"""


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    server = Replay()
    server.pieces = sse(delta("half "), delta("a reply"), STALL)
    yield server
    server.close()


@pytest.fixture(scope="module")
def kernel(
    replay: Replay, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    manager, client = start_new_kernel(cwd=str(tmp_path_factory.mktemp("kernel")))
    client.execute_interactive(SETUP.format(url=replay.url), timeout=30)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def interrupted(
    kernel: tuple[KernelManager, BlockingKernelClient], replay: Replay, code: str
) -> dict[str, object]:
    """Run a cell, interrupt it once its stream is under way, and return the shell's reply."""
    manager, client = kernel
    replay.gone.clear()
    asked = len(replay.requests)
    said: list[str] = []
    message = client.execute(code)
    deadline = time.monotonic() + 20
    while len(replay.requests) == asked and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    manager.interrupt_kernel()
    reply = client.get_shell_msg(timeout=20)
    while reply["parent_header"].get("msg_id") != message:
        reply = client.get_shell_msg(timeout=20)
    while True:
        output = client.get_iopub_msg(timeout=20)
        if output["parent_header"].get("msg_id") != message:
            continue
        if output["msg_type"] == "stream":
            said.append(output["content"]["text"])
        if output["content"].get("execution_state") == "idle":
            break
    return {**reply["content"], "said": "".join(said)}


@pytest.mark.parametrize(
    "wait",
    [
        "reply = await handle",
        "reply = handle.result()",
        "texts = list(handle); reply = handle.result()",
        "texts = [t async for t in handle]; reply = await handle",
        "import asyncio; (reply, other) = await asyncio.gather(handle, mnb.stream('2', show=False))",
    ],
)
def test_an_interrupt_gives_the_partial_reply(
    kernel: tuple[KernelManager, BlockingKernelClient], replay: Replay, wait: str
) -> None:
    """However a cell waits, the interrupt ends it with what has come, and closes the line."""
    code = f"handle = mnb.stream('hi', show=False)\n{wait}\nprint(repr(reply))"
    result = interrupted(kernel, replay, code)
    assert result["status"] == "ok", result
    assert result["said"] == "Reply('half a reply', finish_reason='stopped')\n"
    assert replay.gone.wait(5)


def test_the_interrupt_still_reaches_other_work(
    kernel: tuple[KernelManager, BlockingKernelClient], replay: Replay
) -> None:
    """A cell that awaits something of its own is cancelled as ever."""
    # Short sleeps: ipykernel 7.4 acts on an interrupt only when its loop next wakes.
    code = (
        "import asyncio\nquiet = mnb.stream('hi', show=False)\n"
        "for _ in range(600): await asyncio.sleep(0.1)"
    )
    result = interrupted(kernel, replay, code)
    assert result["status"] == "error"
    assert not replay.gone.is_set()
    _, client = kernel
    client.execute_interactive("quiet.stop()", timeout=10)


def test_mnb_run_is_interrupted(
    kernel: tuple[KernelManager, BlockingKernelClient], replay: Replay
) -> None:
    """mnb.run ends with KeyboardInterrupt and cancels its coroutine."""
    code = (
        "seen = []\n"
        "async def work():\n"
        "    try:\n"
        "        await mnb.stream('hi', show=False)\n"
        "    except BaseException as error:\n"
        "        seen.append(type(error).__name__)\n"
        "        raise\n"
        "mnb.run(work())"
    )
    result = interrupted(kernel, replay, code)
    assert (result["status"], result["ename"]) == ("error", "KeyboardInterrupt")
    _, client = kernel
    said: list[str] = []
    client.execute_interactive(
        "import time; time.sleep(0.3); print(seen)",
        timeout=10,
        output_hook=lambda m: said.append(m["content"].get("text", "")),
    )
    assert "CancelledError" in "".join(said)


def test_textbook_asyncio_run_works_once_allowed(
    kernel: tuple[KernelManager, BlockingKernelClient],
) -> None:
    """asyncio.run in a cell raises as ever, until mnb.allow_nested_run() has been called."""
    _, client = kernel
    said: list[str] = []

    def run(code: str) -> str:
        reply = client.execute_interactive(
            code, timeout=20, output_hook=lambda m: said.append(m["content"].get("text", ""))
        )
        return str(reply["content"]["status"])

    code = "import asyncio\nasync def f(): await asyncio.sleep(0.01); return 'nested'\n"
    assert run(code + "asyncio.run(f())") == "error"
    assert run("mnb.allow_nested_run()") == "ok"
    assert run("print(asyncio.run(f()))") == "ok"
    assert run("await asyncio.sleep(0.01); print('still awake')") == "ok"
    assert "nested" in "".join(said)
    assert "still awake" in "".join(said)
