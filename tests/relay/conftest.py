"""A relay on its own port, in front of the simulator."""

from __future__ import annotations

import pytest

from mistral_nb.events import EventBus
from mistral_nb.jobs import Queue
from mistral_nb.relay import Relay

TOKEN = "a token for tests only"


@pytest.fixture
def queue(connection, simulator):
    simulator.chunk_delay = 0.001
    with Queue(name="relayed", connection=connection, bus=EventBus(connection.portal)) as queue:
        yield queue


@pytest.fixture
def make_relay(queue):
    relays = []

    def make(of=queue, **options):
        relays.append(Relay(of, **{"token": TOKEN, **options}))
        return relays[-1]

    yield make
    for relay in relays:
        relay.stop()


@pytest.fixture
def relay(make_relay):
    return make_relay()
