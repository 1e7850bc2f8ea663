"""Take the README's picture: a reply that is streaming, beside a labelled table, in JupyterLab."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.lab import LabPage, LabServer, launch  # noqa: E402 - the harness of the tests

PICTURE = ROOT / "docs" / "images" / "first-screen.png"
LARGEST = 150_000
BEGUN = 450
"""Characters of the reply that are on screen when the picture is taken."""
STREAM = """\
import mistral_nb as mnb

session = mnb.connect()
%%
reply = session.stream("Explain back-pressure to a web developer")
"""
LABEL = """\
import pandas as pd
import mistral_nb as mnb

tickets = pd.read_csv("support_tickets.csv")
topics = sorted(tickets["category"].unique())
pd.set_option("display.max_colwidth", 34)
%%
labelled = await mnb.label(
    tickets, "Which topic? {text}", labels=topics, name="tickets"
)
%%
labelled.loc[73:80, ["text", "category", "label"]]
"""
OPEN_BESIDE = """async path => {
    const {commands, serviceManager: {sessions}} = window.jupyterapp;
    while (![...sessions.running()].some(each => each.path === path)) {
        await sessions.refreshRunning();
    }
    const panel = await commands.execute(
        "docmanager:open", {path, options: {mode: "split-right"}}
    );
    await panel.sessionContext.ready;
}"""
RUN_ALL = "() => void window.jupyterapp.commands.execute('notebook:run-all-cells')"
PATIENCE = 90_000
"""Longest wait for a kernel, in milliseconds."""
QUIET = """() => {
    const app = window.jupyterapp;
    app.shell.collapseLeft();
    app.shell.collapseRight();
}"""


def take(server: LabServer, page: LabPage) -> None:
    """Arrange both notebooks, run the right one, and shoot while the left one streams."""
    shutil.copy(ROOT / "data" / "support_tickets.csv", server.root)
    beside = server.write("label", _cells(LABEL))
    session = {"path": beside, "name": beside, "type": "notebook"}
    server.api("POST", "sessions", {**session, "kernel": {"name": "python3"}})
    page.open("stream", _cells(STREAM))
    page.page.evaluate(QUIET)
    page.page.evaluate(OPEN_BESIDE, beside)
    panels = page.page.locator(".jp-NotebookPanel")
    left, right = panels.filter(has_text="session.stream"), panels.filter(has_text="mnb.label")
    page.page.evaluate(RUN_ALL)
    right.locator(".jp-OutputArea-output table").wait_for(timeout=PATIENCE)
    left.locator(".cm-content").first.click()
    page.page.evaluate(RUN_ALL)
    left.locator(".mnb").wait_for(timeout=PATIENCE)
    page.eventually(lambda: len(left.locator(".mnb").inner_text()) > BEGUN, "the reply grows")
    page.page.screenshot(path=PICTURE)


def _cells(text: str) -> list[str]:
    return [cell.strip() for cell in text.split("%%")]


def main() -> None:
    """Start JupyterLab and Chromium, take the picture, check its size."""
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = LabServer(Path(folder), {})
        try:
            with sync_playwright() as playwright:
                browser = launch(playwright)
                page = LabPage(server, browser)
                page.page.set_viewport_size({"width": 1360, "height": 700})
                take(server, page)
                browser.close()
        finally:
            server.stop()
    size = PICTURE.stat().st_size
    print(f"{PICTURE.relative_to(ROOT)}: {size // 1000} kB")
    if size > LARGEST:
        sys.exit(f"That is more than {LARGEST // 1000} kB.")


if __name__ == "__main__":
    main()
