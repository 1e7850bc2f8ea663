"""A real JupyterLab and a real Chromium for tests, benchmarks and pictures."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import nbformat
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from playwright.sync_api import (
        Browser,
        ConsoleMessage,
        Error,
        Locator,
        LocatorAssertions,
        Page,
        Request,
        WebSocket,
    )

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
IDLE = ".jp-Notebook-ExecutionIndicator[data-status=idle]"
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
CONNECT = 'mnb.connect(api_key="test-key", server_url=os.environ["SCRIPTED_URL"])'
ASK = f"""\
import os
import mistral_nb as mnb
from mistral_nb.widgets import stream_view
stream_view.READY_LIMIT = 60.0  # the page of a busy machine is slow, not absent
scripted = globals().get("scripted") or {CONNECT}
session = scripted
"""
"""First lines of a cell: a session with the scripted server, whatever an earlier test left."""
STEP = 60.0
"""Longest wait for one step, in seconds: two cores may be busy with other tests."""


class LabServer:
    """A JupyterLab server with its own home, settings, notebooks and token.

    Args:
        folder: Empty folder for all of that.
        env: Environment variables for the kernels.
        python: Interpreter whose JupyterLab and kernel are run; this one by default.
    """

    def __init__(self, folder: Path, env: dict[str, str], python: str = sys.executable) -> None:
        self.root = folder / "notebooks"
        self.log = folder / "lab.log"
        self.token = secrets.token_hex(16)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.root.mkdir(parents=True)
        self._write_settings(folder / "settings")
        self._kernels: dict[str, str] = {}
        places = {
            "HOME": folder / "home",
            "JUPYTER_CONFIG_DIR": folder / "config",
            "JUPYTER_DATA_DIR": folder / "data",
            "JUPYTER_RUNTIME_DIR": folder / "runtime",
            "JUPYTERLAB_SETTINGS_DIR": folder / "settings",
            "JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces",
            "IPYTHONDIR": folder / "ipython",
            "MISTRAL_NB_HOME": folder / "mistral_nb",
        }
        for place in places.values():
            place.mkdir(parents=True, exist_ok=True)
        clean = {name: value for name, value in os.environ.items() if "MISTRAL" not in name}
        command = [
            python,
            *("-m", "jupyterlab", "--no-browser", "--allow-root"),
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={self.root}",
            # The page then offers `window.jupyterapp`, to open and save notebooks quickly.
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.extension_manager=readonly",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env={**clean, **{name: str(place) for name, place in places.items()}, **env},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._answers, "JupyterLab answers", limit=180)

    @staticmethod
    def _write_settings(folder: Path) -> None:
        settings = {
            "apputils-extension/notification": {
                "fetchNews": "false",
                "checkForUpdates": False,
                "doNotDisturbMode": True,
            },
            "docmanager-extension/plugin": {"autosave": False},
            # A busy machine's kernel answers late: its completions still count.
            "completer-extension/manager": {"providerTimeout": 1000 * STEP},
        }
        for name, values in settings.items():
            file = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"JupyterLab did not start:\n{self.log.read_text()[-3000:]}")
        try:
            self.api("GET", "status")
        except OSError:
            return False
        return True

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Call the server's REST API and return the decoded reply."""
        request = urllib.request.Request(
            f"{self.url}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=STEP) as response:
            return json.loads(response.read() or b"null")

    def write(self, name: str, cells: Sequence[str]) -> str:
        """Write a notebook of code cells.

        Args:
            name: File name without the extension; numbered if it is taken.
            cells: Source of each code cell.

        Returns:
            The notebook's path on the server.
        """
        path = f"{name}.ipynb"
        for number in range(2, 1000):
            if not (self.root / path).exists():
                break
            path = f"{name}-{number}.ipynb"
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(notebook, self.root / path)
        return path

    def kernel(self, name: str) -> str:
        """Return the id of a kernel that notebooks share; a start takes seconds."""
        alive = {each["id"] for each in self.api("GET", "kernels")}
        if self._kernels.get(name) not in alive:
            self._kernels[name] = self.api("POST", "kernels", {"name": "python3", "path": ""})["id"]
        return self._kernels[name]

    def forget_kernels(self) -> None:
        """Have later notebooks get new kernels: a failed test may have left one at work."""
        self._kernels.clear()

    def read(self, path: str) -> nbformat.NotebookNode:
        """Read a notebook back from disk."""
        return nbformat.read(self.root / path, as_version=4)

    def stop(self) -> None:
        """End every kernel and the server."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class LabPage:
    """One browser page with JupyterLab, and the notebook that is open in it.

    Attributes:
        page: Playwright's page.
        problems: Console errors, page errors and requests off this machine.
        received: Bytes of every websocket message from the server, with its time.
    """

    def __init__(self, server: LabServer, browser: Browser, **options: Any) -> None:
        self.server = server
        self.problems: list[str] = []
        self.received: list[tuple[float, int]] = []
        self.path = ""
        context = browser.new_context(viewport={"width": 1100, "height": 900}, **options)
        context.set_default_timeout(STEP * 1000)
        self.page: Page = context.new_page()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", self._on_page_error)
        self.page.on("request", self._on_request)
        self.page.on("websocket", self._on_websocket)
        context.route(lambda url: not is_local(url), lambda route: route.abort())

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not _is_labs_own(message.text):
            self.problems.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _on_page_error(self, error: Error) -> None:
        text = error.stack or str(error)
        if not _is_labs_own(text):
            self.problems.append(f"page error: {text}")

    def _on_request(self, request: Request) -> None:
        if not is_local(request.url):
            self.problems.append(f"request left the machine: {request.url}")

    def _on_websocket(self, socket: WebSocket) -> None:
        socket.on(
            "framereceived",
            lambda payload: self.received.append((time.perf_counter(), len(payload))),
        )

    def visit(self, path: str) -> None:
        """Load JupyterLab anew with a notebook, as a person with a link would."""
        self.path = path
        self.page.goto(f"{self.server.url}/lab/tree/{quote(path)}?token={self.server.token}&reset")
        self.wait_idle()

    def open(self, name: str, cells: Sequence[str], kernel: str = "shared") -> None:
        """Write a notebook and open it, in the page as it is once JupyterLab is loaded.

        Args:
            name: Name of its file.
            cells: Source of each code cell.
            kernel: Notebooks that name the same kernel share it.
        """
        path = self.server.write(name, cells)
        kernel_id = {"id": self.server.kernel(kernel)}
        session = {"path": path, "name": path, "type": "notebook", "kernel": kernel_id}
        self.server.api("POST", "sessions", session)
        self.clear()
        self.path = path
        # JupyterLab must have heard of the session, or it asks which kernel to use.
        self.page.evaluate(
            """async path => {
                const {commands, serviceManager: {sessions}} = window.jupyterapp;
                while (![...sessions.running()].some(each => each.path === path)) {
                    await sessions.refreshRunning();
                }
                const panel = await commands.execute("docmanager:open", {path});
                await panel.sessionContext.ready;
            }""",
            path,
        )
        self.wait_idle()

    def clear(self) -> None:
        """Save and close what is open; load JupyterLab if it is not there yet."""
        if not self.path:
            self.page.goto(f"{self.server.url}/lab?token={self.server.token}&reset")
            self.page.wait_for_function("() => window.jupyterapp?.restored.then(() => true)")
        self.page.evaluate(
            """async () => {
                const {commands, serviceManager: {sessions}, shell} = window.jupyterapp;
                await sessions.ready;
                if (shell.currentWidget?.context) await commands.execute("docmanager:save");
                for (const widget of [...shell.widgets("main")]) {
                    // An output that comes after the save would have it ask what to do.
                    if (widget.context) widget.context.model.dirty = false;
                    widget.close();
                }
            }"""
        )

    def reopen(self, *, kernel: bool = False) -> None:
        """Close the notebook and open its file again, with its kernel or with none."""
        self.page.evaluate(
            """async ([path, kernel]) => {
                const {commands, shell} = window.jupyterapp;
                for (const widget of [...shell.widgets("main")]) {
                    // What came after the save would have it ask what to do.
                    if (widget.context) widget.context.model.dirty = false;
                    widget.close();
                }
                const none = {shouldStart: false, autoStartDefault: false};
                const kernelPreference = kernel ? {} : none;
                await commands.execute("docmanager:open", {path, options: {}, kernelPreference});
            }""",
            [self.path, kernel],
        )
        self.notebook.wait_for()

    def wait_idle(self) -> None:
        """Wait until the open notebook's kernel is ready and idle."""
        self.page.locator(f".jp-NotebookPanel:not(.lm-mod-hidden) {IDLE}").wait_for()

    def need_subshells(self) -> None:
        """Skip the test where a running cell keeps the kernel from hearing any widget."""
        if not self._subshells:
            pytest.skip("needs JupyterLab 4.4 and ipykernel 7: the kernel's subshells")

    @cached_property
    def _subshells(self) -> bool:
        if not self.path:
            self.open("subshells", ["1"])
        current = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
        return bool(self.page.evaluate(f"() => {current}.supportsSubshells === true"))

    @property
    def notebook(self) -> Locator:
        """The notebook in front."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook")

    def cell(self, number: int) -> Locator:
        """One cell, counted from 0."""
        return self.notebook.locator(".jp-Cell").nth(number)

    def output(self, number: int) -> Locator:
        """The outputs of one cell (its source may hold the same words)."""
        return self.cell(number).locator(".jp-OutputArea-output")

    def view(self, number: int) -> Locator:
        """The live view in a cell's output."""
        return self.output(number).locator(".mnb")

    def start(self, number: int) -> None:
        """Run a cell and do not wait for it."""
        # Its count from an earlier run would say that it has ended already.
        self.page.evaluate(
            """number => {
                const {model} = window.jupyterapp.shell.currentWidget.content.widgets[number];
                model.executionCount = null;
            }""",
            number,
        )
        self.cell(number).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")

    def run(self, number: int) -> None:
        """Run a cell and wait for its end."""
        self.start(number)
        self.wait_done(number)

    def wait_done(self, number: int) -> None:
        """Wait until a cell shows its execution count: it has ended."""
        prompt = self.cell(number).locator(".jp-InputPrompt")
        wait_until(
            lambda: re.fullmatch(r"\[\d+\]:", prompt.inner_text().strip()) is not None,
            f"cell {number} ends",
            page=self.page,
        )

    def printed(self, number: int) -> str:
        """Return a cell's last output as text, once JupyterLab has drawn it."""
        output = self.output(number).last
        expect(output).to_have_text(re.compile(r"\S"))
        return output.inner_text().strip()

    def interrupt(self) -> None:
        """Press the notebook's own stop square."""
        self.page.locator(
            '.jp-NotebookPanel:not(.lm-mod-hidden) [data-command="notebook:interrupt-kernel"]'
        ).first.click()

    def save(self) -> nbformat.NotebookNode:
        """Save the notebook and read the file back."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        return self.server.read(self.path)

    def outputs(self, number: int) -> list[nbformat.NotebookNode]:
        """Return a cell's outputs as the saved file holds them."""
        return list(self.save().cells[number].outputs)

    def eventually(self, check: Callable[[], object], what: str, limit: float = STEP) -> None:
        """Wait until a check of the page holds."""
        wait_until(check, what, limit=limit, page=self.page)

    def theme(self, name: str) -> None:
        """Change JupyterLab's theme, e.g. "JupyterLab Dark"."""
        self.page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name
        )
        wanted = "false" if "Dark" in name else "true"
        self.page.locator(f'body[data-jp-theme-light="{wanted}"]').wait_for(state="attached")
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")

    @contextmanager
    def counting(self) -> Iterator[Callable[[], int]]:
        """Count the websocket bytes that arrive inside the block."""
        first = len(self.received)
        yield lambda: sum(size for _, size in self.received[first:])

    def close(self) -> None:
        """Close the page and its browser context."""
        self.page.context.close()


def wait_until(
    check: Callable[[], object], what: str, *, limit: float = STEP, page: Page | None = None
) -> None:
    """Wait until ``check`` holds; Playwright's events are served meanwhile."""
    end = time.monotonic() + limit
    while not check():
        if time.monotonic() > end:
            raise AssertionError(f"Not within {limit:g} s: {what}")
        if page is None:
            time.sleep(0.05)
        else:
            page.wait_for_timeout(20)


def expect(element: Locator) -> LocatorAssertions:
    """Return Playwright's assertions about an element: they wait until they hold."""
    from playwright import sync_api

    sync_api.expect.set_options(timeout=1000 * STEP)
    return sync_api.expect(element)


def pieces(text: str, size: int) -> list[str]:
    """Cut a text into chunks of ``size`` characters."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def is_local(url: str) -> bool:
    """Return True for what never leaves this machine."""
    parts = urlsplit(url)
    return parts.scheme in {"blob", "data", "about"} or parts.hostname == "127.0.0.1"


def launch(playwright: Any) -> Browser:
    """Start the system's Chromium."""
    assert CHROMIUM is not None
    return playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


def _is_labs_own(text: str) -> bool:
    """Return True for what JupyterLab says without us.

    A notebook or a kernel that goes away makes it do so; a widget that closes while its page is
    loaded again; and its splash screen, which two may take away (its timer is all there is of a
    stack then).
    """
    splash = "removeChild" in text and "jlab_core" in text and text.count("\n    at ") == 1
    return splash or any(
        words in text
        for words in (
            "before replies were done",
            "null (reading 'kernel')",
            "Comm not found for comm id",
        )
    )


def free_port() -> int:
    """Return a port that nobody listens on, and that no connection is given meanwhile."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)  # below those that systems give out themselves
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
