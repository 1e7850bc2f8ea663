"""Law of the shared format: Node's BullMQ 5 adds jobs that we do, and does jobs that we add."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb.errors import JobError
from mistral_nb.events import EventBus
from mistral_nb.jobs import JobContext, Queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mistral_nb.client import Connection
    from tests.redis_server import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]
PEER = Path(__file__).with_name("peer.cjs")
BULLMQ = "bullmq@5"


@pytest.fixture(scope="module")
def modules(request: pytest.FixtureRequest) -> Path:
    """Node's BullMQ, installed from npm once and kept in pytest's cache."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = Path(request.config.cache.mkdir("node-bullmq-5"))
    found = folder / "node_modules"
    if not (found / "bullmq" / "package.json").exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(
            [*command, "--prefix", str(folder), BULLMQ],
            capture_output=True, text=True, check=False, timeout=150,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"npm cannot install {BULLMQ}: {done.stderr.strip()[-200:]}")
    return found


@pytest.fixture
def queue(redis_server: RedisServer, offline: Connection, request: Any) -> Iterator[Queue]:
    bus = EventBus(offline.portal)
    with Queue(redis_server.url, request.node.name, connection=offline, bus=bus) as queue:
        yield queue


def peer(mode: str, queue: Queue, server: RedisServer, modules: Path) -> subprocess.Popen[str]:
    words = [mode, "127.0.0.1", str(server.port), queue.name, str(modules)]
    pipe = subprocess.PIPE
    return subprocess.Popen(["node", str(PEER), *words], stdout=pipe, stderr=pipe, text=True)


def test_node_adds_and_we_work(queue: Queue, redis_server: RedisServer, modules: Path) -> None:
    """Priorities, delays, attempts and ids of a Node producer hold; it gets our results."""

    @queue.handler("from-node")
    async def from_node(data: dict[str, int], context: JobContext) -> dict[str, Any]:
        if context.attempt <= data["fails"]:
            raise RuntimeError("not yet")
        return {"n": data["n"], "attempt": context.attempt}

    with queue.work(), peer("produce", queue, redis_server, modules) as node:
        said, wrong = node.communicate(timeout=120)
    assert node.returncode == 0, wrong
    told = json.loads(said)
    attempts = [1, 1, 1, 3, 1]
    assert told["results"] == [{"n": n, "attempt": each} for n, each in enumerate(attempts)]
    assert "No handler here is named 'unheard-of'" in told["error"]
    job = queue.get("from-node").result()
    assert job is not None
    assert job.result(20) == {"n": 4, "attempt": 1}


def test_we_add_and_node_works(queue: Queue, redis_server: RedisServer, modules: Path) -> None:
    """A Node worker sees our data and options; its progress, results and errors come back."""
    with peer("work", queue, redis_server, modules) as node:
        assert node.stdout is not None
        assert node.stdout.readline() == "working\n"
        job = queue.add("for-node", {"n": 21}, job_id="ours", priority=2, delay=0.2).result()
        names = [record.name for record in job.events()]
        bad = queue.add("for-node", {"fails": True}, attempts=2, backoff=0.02).result()
        with pytest.raises(JobError, match="Node says no") as failed:
            bad.result(60)
        node.terminate()
        node.communicate(timeout=60)
    assert job.result(20) == {"twice": 42, "priority": 2}
    assert names[0] == "job:delayed"
    assert names[-2:] == ["job:progress", "job:completed"]
    assert failed.value.status == "failed"
    assert bad.refresh().result().attempts_made == 2
