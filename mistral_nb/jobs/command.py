"""The command ``mistral-nb worker``: a worker in the foreground, ended in peace by a signal."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mistral_nb.errors import InputError, MistralNbError
from mistral_nb.portal import wait_interruptibly

if TYPE_CHECKING:
    import argparse

    from mistral_nb.jobs.queue import Queue

__all__ = ["work"]


class _Session(Protocol):
    def queue(self, url: str | None = None, name: str = "jobs", *, lease: float) -> Queue:
        """Open a queue."""


def work(session: _Session, options: argparse.Namespace) -> int:
    """Carry out jobs until SIGINT or SIGTERM; a second one does not wait for jobs under way.

    Args:
        session: Opens the queue.
        options: As ``mistral-nb worker`` has them.

    Returns:
        Exit status 0.

    Raises:
        InputError: The module with handlers cannot be imported.
        MistralNbError: It stopped by itself: the server refuses its key.
    """
    if options.handlers:
        _import(options.handlers)
    queue = session.queue(options.queue, options.name, lease=options.lease)
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("mistral_nb.jobs").setLevel(logging.INFO)
    worker = queue.work(
        options.concurrency, options.limit, on_uncertain=options.on_uncertain, grace=options.grace
    )
    print(f"Working on {queue}; stop with Ctrl-C.", file=sys.stderr, flush=True)
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    worker.when_ended(ending.set)
    wait_interruptibly(ending.wait)
    print(f"Ending: {len(worker.active)} jobs under way.", file=sys.stderr, flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))
    worker.stop()
    queue.close()
    if worker.trouble is not None:
        raise MistralNbError(worker.trouble)
    return 0


def _import(name: str) -> None:
    """Import a module of the folder one is in, as ``python -m`` would."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"The module {name} with handlers cannot be imported: {error}.") from error
