"""Fixtures: those of the simulator's own tests."""

from __future__ import annotations

from tests.simulator.conftest import api, make_api

__all__ = ["api", "make_api"]
