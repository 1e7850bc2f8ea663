"""Fixtures: the same queue on each engine."""

from __future__ import annotations

import itertools
import shutil
from typing import TYPE_CHECKING

import pytest

from mistral_nb.client import Connection
from mistral_nb.events import EventBus
from mistral_nb.jobs import Queue
from mistral_nb.settings import resolve
from tests.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ENGINES = ["embedded", pytest.param("redis", marks=pytest.mark.redis)]
_numbers = itertools.count()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests; each takes a queue with a name of its own."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty queue on one of the engines."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_server").url)
    return f"sqlite:///{tmp_path / 'queue.sqlite'}"


@pytest.fixture
def offline(home: Path) -> Connection:
    """A connection that no handler of the test uses."""
    return Connection(resolve("a-secret-key", "http://127.0.0.1:9", home=home))


@pytest.fixture
def make_queue(url: str, offline: Connection) -> Iterator[Callable[..., Queue]]:
    """Open the test's queue, as often as one likes: each time as another process would."""
    name = f"test{next(_numbers)}"
    opened: list[Queue] = []

    def make(connection: Connection | None = None, **options: object) -> Queue:
        connection = connection or offline
        options.setdefault("name", name)
        queue = Queue(url, connection=connection, bus=EventBus(connection.portal), **options)
        opened.append(queue)
        return queue

    yield make
    for queue in opened:
        queue.close()


@pytest.fixture
def queue(make_queue: Callable[..., Queue]) -> Queue:
    """An empty queue."""
    return make_queue()
