"""Stop, wherever the cell is: the reader's own stream ends, on the server's side as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.lab import ASK

if TYPE_CHECKING:
    from tests.browser.lab import LabPage
    from tests.browser.scripted import Script, ScriptedServer

WAYS = {
    "finished": "reply = session.stream('x', model={model!r})",
    "awaiting": "reply = await session.stream('x', model={model!r})",
    "blocking": "reply = session.stream('x', model={model!r}).result()",
    "iterating": "parts = [*session.stream('x', model={model!r})]",
}
NESTED = """import asyncio
mistral_nb.allow_nested_run()
async def main():
    return await session.stream('x', model={model!r})
reply = asyncio.run(main())"""
BUSY = "Stop while a cell runs"
END = "text = reply.text if 'reply' in globals() else ''.join(parts)\nprint('text:', text.strip())"


def begin(
    lab: LabPage, scripted: ScriptedServer, name: str, cell: str, kernel: str = "shared"
) -> Script:
    """Run a cell whose reply never ends, up to the first visible word."""
    script = scripted.add(name, ["Words. "], hold=True)
    cells = [f"{ASK}\nglobals().pop('reply', None)\n{cell.format(model=name)}", END]
    lab.open(name, cells, kernel)
    lab.start(0)
    lab.view(0).get_by_text("Words.").wait_for()
    assert script.open == 1
    return script


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(way, marks=pytest.mark.smoke("Stop" if way == "finished" else BUSY))
        for way in WAYS
    ],
)
def test_button(lab: LabPage, scripted: ScriptedServer, way: str) -> None:
    """The Stop button ends the reply whether its cell has ended, awaits, blocks or iterates."""
    if way != "finished":
        lab.need_subshells()
    script = begin(lab, scripted, f"button-{way}", WAYS[way])
    lab.view(0).get_by_role("button", name="Stop").click()
    lab.eventually(lambda: script.closed_at, "the server sees the connection close")
    lab.output(0).get_by_text("Stopped").wait_for()
    lab.wait_done(0)
    lab.run(1)
    if way != "finished":
        assert lab.printed(1) == "text: Words."


def test_button_in_a_nested_run(lab: LabPage, scripted: ScriptedServer) -> None:
    """Stop works while textbook code with asyncio.run waits, and the partial reply is returned."""
    # asyncio is patched for good: a kernel of its own.
    script = begin(lab, scripted, "nested", "import mistral_nb\n" + NESTED, kernel="nested")
    lab.view(0).get_by_role("button", name="Stop").click()
    lab.eventually(lambda: script.closed_at, "the server sees the connection close")
    lab.wait_done(0)
    lab.run(1)
    assert lab.printed(1) == "text: Words."


def test_escape(lab: LabPage, scripted: ScriptedServer) -> None:
    """Escape in the view stops the reply."""
    script = begin(lab, scripted, "escape", WAYS["finished"])
    lab.view(0).focus()
    lab.page.keyboard.press("Escape")
    lab.eventually(lambda: script.closed_at, "the server sees the connection close")
    lab.output(0).get_by_text("Stopped").wait_for()


@pytest.mark.smoke("interrupt")
@pytest.mark.parametrize("way", ["awaiting", "blocking", "iterating"])
def test_interrupt(lab: LabPage, scripted: ScriptedServer, way: str) -> None:
    """The notebook's own interrupt gives the cell its partial reply, and no traceback."""
    script = begin(lab, scripted, f"interrupt-{way}", WAYS[way] + "\nprint('after')")
    lab.interrupt()
    lab.eventually(lambda: script.closed_at, "the server sees the connection close")
    lab.wait_done(0)
    assert "after" in lab.printed(0)
    lab.run(1)
    assert lab.printed(1) == "text: Words."
    assert all(output["output_type"] != "error" for output in lab.outputs(0))


def test_before_the_first_chunk(lab: LabPage, scripted: ScriptedServer) -> None:
    """Stop is there while the server has not answered yet."""
    script = scripted.add("slow", ["Never seen."], delay=600)
    lab.open("slow", [f"{ASK}\n(await session.stream('x', model='slow')).finish_reason"])
    lab.start(0)
    lab.view(0).get_by_text("Waiting for slow").wait_for()
    lab.view(0).get_by_role("button", name="Stop").click()
    lab.wait_done(0)
    assert lab.printed(0) == "'stopped'"
    lab.eventually(lambda: script.closed_at, "the server sees the connection close")


def test_stop_reaches_its_own_stream_only(lab: LabPage, scripted: ScriptedServer) -> None:
    """Of two streams in one cell, Stop ends the one it belongs to."""
    scripts = [scripted.add(f"pair-{n}", [f"Words {n}. "], hold=True) for n in (0, 1)]
    cell = "pair = [session.stream('x', model=f'pair-{n}') for n in (0, 1)]"
    lab.open("pair", [f"{ASK}\n{cell}"])
    lab.start(0)
    views = [lab.view(0).filter(has_text=f"Words {n}.") for n in (0, 1)]
    for view in views:
        view.wait_for()
    views[1].get_by_role("button", name="Stop").click()
    lab.eventually(lambda: scripts[1].closed_at, "the second is closed")
    lab.output(0).get_by_text("Stopped").wait_for()
    assert scripts[0].open == 1
    assert scripts[0].closed_at == []
    views[0].get_by_role("button", name="Stop").click()
    lab.eventually(lambda: scripts[0].closed_at, "the first is closed")


def test_keys_do_not_reach_the_notebook(lab: LabPage, scripted: ScriptedServer) -> None:
    """Keys pressed in the view are no shortcuts: no cell is added, deleted or merged."""
    begin(lab, scripted, "keys", WAYS["finished"])
    cells = lab.notebook.locator(".jp-Cell").count()
    button = lab.view(0).get_by_role("button", name="Copy")
    for key in ("a", "b", "d", "d", "x", "Shift+M", "y"):
        button.focus()
        lab.page.keyboard.press(key)
    assert lab.notebook.locator(".jp-Cell").count() == cells
    lab.page.keyboard.press("Tab")
    assert lab.page.evaluate("() => document.activeElement.textContent") == "Stop"
    outline = "() => getComputedStyle(document.activeElement).outlineStyle"
    assert lab.page.evaluate(outline) == "solid"
    lab.page.keyboard.press("Enter")
    lab.output(0).get_by_text("Stopped").wait_for()
