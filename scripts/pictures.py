"""Take the README's animated pictures in a real JupyterLab: a reply, a labelled table, a consent.

python scripts/pictures.py
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.film import Film  # noqa: E402 - the folder above is not on the path
from tests.browser.lab import LabPage, LabServer, launch  # noqa: E402 - the harness of the tests

if TYPE_CHECKING:
    from collections.abc import Iterable

    from playwright.sync_api import Browser, Locator

IMAGES = ROOT / "docs" / "images"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
LARGEST = 600_000
"""Bytes of an animated picture, at most."""
SIZE = {"width": 900, "height": 724}
"""Of the page; the notebook fills nearly all of it."""
SLOWER = """\
import os, pathlib
from mistral_nb.simulator import Faults, shared_simulator
simulator = shared_simulator(pathlib.Path(os.environ["MISTRAL_NB_HOME"]) / "simulator")
simulator.chunk_delay, simulator.faults = 0.05, Faults(latency=1.2)"""
"""So that a busy machine still catches every step; the film runs at a usual pace."""
SHARPNESS = 1.5
"""Pixels of the picture for one of the page, for screens with small ones."""
LETTERS = range(20, 560, 30)
"""Lengths of the reply that are filmed; then Stop is pressed."""
ROWS = range(0, 340, 35)
"""Numbers of answered rows that are filmed."""
STREAM = """\
import mistral_nb as mnb

session = mnb.connect()
reply = session.stream("Explain back-pressure to a web developer")"""
LABEL = """\
import pandas as pd

tickets = pd.read_csv("support_tickets.csv")
topics = sorted(tickets["category"].unique())
labelled = await session.label(
    tickets, "Which topic? {text}", labels=topics, name="tickets", mode="online"
)
labelled.loc[73:78, ["text", "category", "label"]]"""
CHAT = '''\
def close_ticket(ticket: str) -> str:
    """Close a ticket for good."""
    return f"{ticket} is closed"

mnb.chat_panel(name="desk", tools=[close_ticket])'''
ALONE = """() => {
    const {shell} = window.jupyterapp;
    shell.collapseLeft();
    shell.collapseRight();
    shell.mode = "single-document";
}"""
"""Nothing beside the notebook."""
PLAIN = """
.jp-cell-toolbar, .cm-cursorLayer, .jp-Notebook-footer { display: none !important; }
.jp-WindowedPanel-outer { border: 1px solid #8c959f88; overflow: hidden !important; }
"""
"""Nothing in it that blinks, or that only an author needs; an edge around it."""
NOTEBOOK = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer"


def reply_scene(page: LabPage, film: Film) -> None:
    """A reply streams below its cell, and is stopped."""
    page.open("reply", [STREAM])
    film.shoot(1500)
    _run(page)
    view = page.view(0)
    view.wait_for()
    _follow(page, film, LETTERS, view, "node => node.innerText.length")
    stop = view.get_by_role("button", name="Stop")
    stop.hover()
    film.shoot(500)
    stop.click()
    view.wait_for(state="detached")
    page.page.mouse.move(0, 0)
    film.shoot(2000)


def label_scene(page: LabPage, film: Film) -> None:
    """A table is labelled: the run's view counts rows, then the rows are there."""
    page.open("label", [LABEL])
    film.shoot(1500)
    _run(page)
    view = page.output(0).locator(".mnb-run")
    view.wait_for()
    bar = view.get_by_role("progressbar")
    _follow(page, film, ROWS, bar, "node => Number(node.ariaValueNow)")
    page.output(0).locator("table.dataframe").wait_for()
    film.shoot(3000)


def chat_scene(page: LabPage, film: Film) -> None:
    """A model asks to run a function; a person approves."""
    page.open("chat", [CHAT])
    _run(page)
    panel = page.output(0).locator(".mnb-chat")
    box = panel.get_by_label("Message")
    box.wait_for()
    film.shoot(1200)
    for words in ("Close ", "ticket ", '"T0002"'):
        box.press_sequentially(words)
        film.shoot(300)
    box.press("Enter")
    approve = panel.get_by_role("button", name="Approve")
    approve.wait_for()
    film.shoot(2000)
    approve.hover()
    film.shoot(500)
    approve.click()
    panel.locator('.mnb-chat-turn[data-state="done"]').wait_for()
    page.page.mouse.move(0, 0)
    film.shoot(3000)


def _run(page: LabPage) -> None:
    """Run the cell, and stay in it."""
    page.cell(0).locator(".cm-content").click()
    page.page.keyboard.press("Control+Enter")


def _follow(page: LabPage, film: Film, marks: Iterable[int], view: Locator, count: str) -> None:
    """Take a frame whenever a view's count passes a mark: the same steps on any machine."""
    for mark in marks:
        # A view that has gone, as its work is done, has passed every mark.
        done = f"nodes => nodes.every(node => ({count})(node) >= {mark})"
        page.eventually(lambda done=done: view.evaluate_all(done), f"{mark} are there")
        film.shoot(110)


def film_in(theme: str, browser: Browser) -> Film:
    """Film every scene in one theme, with a JupyterLab and a home folder of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = LabServer(Path(folder), {})
        try:
            shutil.copy(ROOT / "data" / "support_tickets.csv", server.root)
            page = LabPage(server, browser, device_scale_factor=SHARPNESS)
            page.page.set_viewport_size(SIZE)
            page.page.emulate_media(reduced_motion="reduce")
            page.open("prepare", [SLOWER])
            page.theme(theme)
            page.page.evaluate(ALONE)
            page.page.add_style_tag(content=PLAIN)
            page.run(0)
            assert not page.output(0).count(), page.output(0).inner_text()
            film = Film(page.page.locator(NOTEBOOK))
            for scene in (reply_scene, label_scene, chat_scene):
                scene(page, film)
            page.close()
        finally:
            server.stop()
    return film


def main() -> None:
    """Film once for each theme; a picture that is too large is an error."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        for name, theme in THEMES.items():
            path = IMAGES / f"first-screen-{name}.gif"
            film_in(theme, browser).save(path)
            size = path.stat().st_size
            print(f"{path.relative_to(ROOT)}: {size // 1000} kB")
            if size > LARGEST:
                sys.exit(f"That is more than {LARGEST // 1000} kB.")
        browser.close()


if __name__ == "__main__":
    main()
