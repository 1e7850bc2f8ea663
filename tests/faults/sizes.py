"""How large the fault tests are: small in `make test`, the full sizes in `make faults`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

__all__ = ["FULL_TIMEOUT", "Size", "size_of"]

FULL_TIMEOUT = 1800
"""Seconds for one test of full size."""


@dataclass(frozen=True)
class Size:
    """How much a fault test does.

    Attributes:
        rows: Rows of a run.
        kills: How often it is killed.
        patience: Seconds for its end.
        jobs: Background jobs in a queue.
        worker_kills: How often a worker of theirs is killed.
        seeds: How many seeds the kills are drawn with.
        refused: Jobs whose every second request is refused.
        block: Seconds that a cell blocks.
        streams: Streams of a relay.
        webhooks: Webhooks to deliver.
    """

    rows: int
    kills: int
    patience: float
    jobs: int
    worker_kills: int
    seeds: int
    refused: int
    block: float
    streams: int
    webhooks: int


SMALL = Size(
    rows=400,
    kills=3,
    patience=60,
    jobs=40,
    worker_kills=2,
    seeds=1,
    refused=24,
    block=10,
    streams=12,
    webhooks=40,
)
FULL = Size(
    rows=5000,
    kills=10,
    patience=900,
    jobs=1000,
    worker_kills=40,
    seeds=3,
    refused=200,
    block=60,
    streams=500,
    webhooks=1000,
)


def size_of(config: pytest.Config) -> Size:
    """Return the sizes asked for."""
    return FULL if config.getoption("--full-faults") else SMALL
