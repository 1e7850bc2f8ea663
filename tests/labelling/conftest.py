"""What labelling tests share: a bus, and labelling in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb.client import Connection
from mistral_nb.events import EventBus
from mistral_nb.labelling import Run, start_run
from mistral_nb.settings import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from mistral_nb.simulator import Simulator


@pytest.fixture
def simulator(make_simulator: Callable[..., Simulator]) -> Simulator:
    """A simulator that works on batches as fast as it can."""
    return make_simulator(batch_rate=0)


@pytest.fixture
def connection(simulator: Simulator) -> Connection:
    """A connection to it that does not wait long."""
    return Connection(resolve(api_key="test-key", server_url=simulator.url, timeout=5))


@pytest.fixture
def bus(connection: Connection) -> EventBus:
    """An event bus of one's own."""
    return EventBus(connection.portal)


@pytest.fixture
def label(connection: Connection, bus: EventBus) -> Callable[..., Run]:
    """Start a run with the least of arguments."""

    def start(df: pd.DataFrame, prompt: Any = "Which topic? {text}", **options: Any) -> Run:
        if "schema" not in options:
            options.setdefault("labels", ["billing", "delivery", "other"])
        return start_run(connection, bus, df, prompt=prompt, **options)

    return start
