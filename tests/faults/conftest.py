"""The sizes of fault tests, and the fixtures of the job queue's tests, for its faults as well."""

from __future__ import annotations

import pytest

from tests.faults.sizes import FULL_TIMEOUT, Size, size_of
from tests.jobs.conftest import make_queue, offline, redis_server, url

__all__ = ["make_queue", "offline", "redis_server", "url"]


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Size:
    """How much to do."""
    return size_of(request.config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that takes the number of a kill, or a seed, one run for each."""
    if "kill" in metafunc.fixturenames:
        metafunc.parametrize("kill", range(2 * size_of(metafunc.config).kills))
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(size_of(metafunc.config).seeds))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give full sizes the time they take, and leave out what needs them."""
    if config.getoption("--full-faults"):
        for item in items:
            item.add_marker(pytest.mark.timeout(FULL_TIMEOUT))
    else:
        items[:] = [item for item in items if item.get_closest_marker("full") is None]
