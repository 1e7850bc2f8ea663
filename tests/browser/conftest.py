"""Fixtures: one JupyterLab and one Chromium for all browser tests, a page for each file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.browser.lab import CHROMIUM, LabPage, LabServer, launch
from tests.browser.scripted import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, and name the check that a smoke test is (make matrix)."""
    for item in items:
        if "tests/browser" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)
            for mark in item.iter_markers("smoke"):
                item.user_properties.append(("check", mark.args[0]))


# The package's scope, not the session's: while Playwright runs, its event loop counts as
# running in the main thread, and other tests could not use asyncio.run.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The system's Chromium, started once."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def scripted() -> Iterator[ScriptedServer]:
    """A server whose replies the tests write themselves."""
    server = ScriptedServer()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def lab_server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    scripted: ScriptedServer,
) -> Iterator[LabServer]:
    """A JupyterLab server, started once."""
    python = request.config.getoption("--lab-python")
    if python == sys.executable:
        pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")
    env = {"SCRIPTED_URL": scripted.url}
    server = LabServer(tmp_path_factory.mktemp("lab"), env, python)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def module_page(lab_server: LabServer, browser: Browser) -> Iterator[LabPage]:
    """A page that the tests of one file share: JupyterLab takes seconds to load."""
    page = LabPage(lab_server, browser)
    yield page
    page.close()


@pytest.fixture
def lab(module_page: LabPage) -> Iterator[LabPage]:
    """The shared page; the test fails if it logs an error or asks for anything outside."""
    module_page.problems.clear()
    yield module_page
    assert module_page.problems == []


@pytest.fixture
def fresh_lab(lab_server: LabServer, browser: Browser) -> Iterator[LabPage]:
    """A page of the test's own, held to the same."""
    page = LabPage(lab_server, browser)
    yield page
    page.close()
    assert page.problems == []
