"""The simulator that foreign clients speak to, and the world they find: offline, nobody's key.

The clients live in an environment of their own (`scripts/setup foreign`), whose Python runs
this folder: `make foreign`. Elsewhere the modules are skipped, which `.ci/run` does not allow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.foreign.asking import OFFLINE

if TYPE_CHECKING:
    from pathlib import Path

    from mistral_nb.simulator import Simulator


@pytest.fixture(autouse=True)
def offline(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the simulator is asked for anything: no prices, tokenizers or traces."""
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def server(make_simulator: Any) -> Simulator:
    """A simulator that answers as fast as it can."""
    return make_simulator(chunk_delay=0, batch_rate=0)
