"""Fixtures: a clean home, a simulator of one's own, and connections to it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from mistral_nb.client import Connection
from mistral_nb.settings import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mistral_nb.simulator import Simulator

settings.register_profile("patient", deadline=None)  # no test asserts a time
settings.load_profile("patient")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background jobs begin so; interrupts are tested here and in child processes.
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Recorded replies, the API's own description and real data, beside the checkout."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make faults` ask for its own sizes, and `make matrix` for other versions."""
    parser.addoption(
        "--full-faults",
        action="store_true",
        help="tests/faults with 10 kills of 5,000 rows, and minutes of patience",
    )
    parser.addoption(
        "--lab-python",
        default=sys.executable,
        help="interpreter whose JupyterLab and kernel the browser tests run (make matrix)",
    )


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the toolkit at a fresh folder, with nobody's key and no other test's session."""
    monkeypatch.setattr("mistral_nb.session._default._session", None)
    for name in ("MISTRAL_API_KEY", "MISTRAL_SERVER_URL", "MISTRAL_MODEL"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    monkeypatch.setenv("MISTRAL_NB_HOME", str(folder))
    return folder


@pytest.fixture
def make_simulator(tmp_path: Path) -> Iterator[Callable[..., Simulator]]:
    """Start simulators that are stopped when the test ends."""
    from mistral_nb.simulator import start_simulator

    started: list[Simulator] = []

    def make(**options: object) -> Simulator:
        options.setdefault("home", tmp_path / f"simulator-{len(started)}")
        started.append(start_simulator(**options))
        return started[-1]

    yield make
    for simulator in started:
        simulator.stop()


@pytest.fixture
def simulator(make_simulator: Callable[..., Simulator]) -> Simulator:
    """A fresh simulator on a port of its own."""
    return make_simulator()


@pytest.fixture
def connection(simulator: Simulator) -> Connection:
    """A connection to the test's own simulator."""
    return Connection(resolve(api_key="test-key", server_url=simulator.url, timeout=20))
