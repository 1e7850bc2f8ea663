"""Fixtures: one JupyterLab, one Chromium and one page for all browser tests of a process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.browser.lab import CHROMIUM, LabPage, LabServer, launch
from tests.browser.scripted import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from playwright.sync_api import Browser


FAILED = pytest.StashKey[bool]()
PATIENCE = 300
"""Seconds for one test: a machine with two busy cores takes a minute to open JupyterLab."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, and name the check that a smoke test is (make matrix)."""
    for item in items:
        if "tests/browser" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)
            for mark in item.iter_markers("smoke"):
                item.user_properties.append(("check", mark.args[0]))
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(PATIENCE))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note which test failed: the next one gets a new page and new kernels."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


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


@pytest.fixture(scope="package")
def pages(lab_server: LabServer, browser: Browser) -> Iterator[list[LabPage]]:
    """The page that all tests share, once there is one: JupyterLab takes seconds to load."""
    kept: list[LabPage] = []
    yield kept
    for page in kept:
        page.close()


@pytest.fixture
def lab(
    request: pytest.FixtureRequest, pages: list[LabPage], lab_server: LabServer, browser: Browser
) -> Iterator[LabPage]:
    """The shared page; the test fails if it logs an error or asks for anything outside."""
    if not pages:
        pages.append(LabPage(lab_server, browser))
    page = pages[0]
    page.problems.clear()
    yield page
    if page.problems or request.node.stash[FAILED]:
        pages.remove(page)
        page.close()
        lab_server.forget_kernels()
    assert page.problems == []
