"""Law of webhooks: though workers are killed and receivers fail, each is delivered or listed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import anyio
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from mistral_nb.serving import ServedApp
from mistral_nb.webhooks import WebhookNotifier, delivery, new_secret, verify
from mistral_nb.webhooks.targets import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.requests import Request

    from mistral_nb.jobs import Queue
    from tests.faults.sizes import Size

SECRET = new_secret()
WORKERS = 2
FAILURES = (429, 500, 503, 400)
LEASE = 1.5


class FlakyReceiver:
    """Verifies; refuses 30 % of what it has not taken yet, and takes its time.

    Attributes:
        url: Its address.
        arrivals: Ids of all requests.
        taken: Ids that it took, as a receiver that knows repeats would.
    """

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self.arrivals: list[str] = []
        self.taken: set[str] = set()
        app = Starlette(routes=[Route("/", self._take, methods=["POST"])])
        self._served = ServedApp(app, name="flaky-receiver")
        self.url = self._served.url

    async def _take(self, request: Request) -> Response:
        event = verify(request.headers, await request.body(), SECRET)
        assert event.id is not None
        self.arrivals.append(event.id)
        if event.id not in self.taken and self._dice.random() < 0.3:
            return Response(status_code=self._dice.choice(FAILURES))
        self.taken.add(event.id)
        await anyio.sleep(0.02)  # a worker that is killed now does not know
        return Response()

    def stop(self) -> None:
        """Stop listening."""
        self._served.stop()


@pytest.fixture
def receiver(seed: int) -> Iterator[FlakyReceiver]:
    """A receiver of the seed's luck."""
    receiver = FlakyReceiver(seed)
    yield receiver
    receiver.stop()


@pytest.fixture
def start(url: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start `mistral-nb worker` processes; what still runs at the end is killed."""
    started: list[subprocess.Popen[bytes]] = []
    env = {**os.environ, "MISTRAL_API_KEY": "key", "MISTRAL_SERVER_URL": "http://127.0.0.1:9"}
    env |= {"MISTRAL_NB_HOME": str(tmp_path / "home"), "MISTRAL_NB_WEBHOOK_SECRET": SECRET}
    env |= {"MISTRAL_NB_WEBHOOK_ALLOW": "127.0.0.1"}

    def start(queue: Queue) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "mistral_nb", "worker", "--queue", url]
        command += ["--name", queue.name, "--lease", str(LEASE)]
        started.append(subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.timeout(300)
def test_failures_and_killed_workers(
    make_queue: Callable[..., Queue],
    start: Callable[..., subprocess.Popen[bytes]],
    receiver: FlakyReceiver,
    monkeypatch: pytest.MonkeyPatch,
    size: Size,
    seed: int,
) -> None:
    """Each webhook is delivered, once after taking repeats out, or a dead letter: none is lost."""
    monkeypatch.setattr(delivery, "in_kernel", lambda: True)  # the schedule of seconds
    dice, many = random.Random(seed), size.webhooks
    queue = make_queue(lease=LEASE)
    notifier = WebhookNotifier(SECRET, queue=queue, allow=LOOPBACK)
    sent = {notifier.notify(receiver.url, "row.done", number).id for number in range(many)}
    workers = [start(queue) for _ in range(WORKERS)]
    for kill in range(size.kills):
        wanted = many * (kill + dice.random()) / size.kills
        wait_until(lambda wanted=wanted: len(receiver.arrivals) >= wanted)
        number = dice.randrange(WORKERS)
        workers[number].kill()
        workers[number] = start(queue)

    def ended() -> int:
        counts = queue.counts().result()
        return counts["completed"] + counts["failed"]

    wait_until(lambda: ended() == many, size.patience)
    delivered = {job.id for job in queue.jobs("completed", limit=many).result()}
    dead = {job.id for job in queue.jobs("failed", limit=many).result()}
    assert delivered == receiver.taken
    assert delivered | dead == sent
    assert not delivered & dead
    assert dead
    assert len(receiver.arrivals) > many
    for job_id in dead:  # each can be sent again, and has kept its id
        assert queue.replay(job_id).result()
    wait_until(lambda: len(receiver.taken) >= len(delivered) + len(dead) // 2, size.patience)
    assert receiver.taken <= sent


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
