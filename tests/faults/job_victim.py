"""A worker in a process of its own, made to be killed.

python -m tests.faults.job_victim QUEUE_URL NAME SERVER_URL HOME LEASE

Besides the built-in handlers it has ``touch``, which writes a line to a file and blocks its loop
for a moment, and ``poison``, which kills the process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from mistral_nb.client import Connection
from mistral_nb.events import EventBus
from mistral_nb.jobs import Queue
from mistral_nb.settings import resolve


def touch(data: dict[str, Any]) -> None:
    """Append the job's number to a file, in one write."""
    with open(data["file"], "a", buffering=1) as file:  # noqa: PTH123
        file.write(f"{data['number']}\n")
    time.sleep(data.get("seconds", 0))


def poison(_: Any) -> None:
    """Take the worker down."""
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Work until killed."""
    url, name, server, home, lease = sys.argv[1:]
    connection = Connection(resolve("key", server, home=home))
    bus = EventBus(connection.portal)
    queue = Queue(url, name, connection=connection, bus=bus, lease=float(lease))
    queue.handler("touch")(touch)
    queue.handler("poison")(poison)
    queue.work(concurrency=5)
    print("working", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
