"""A process that labels a table and kills itself at the n-th step: a commit or a request.

Usage: python batch_victim.py SERVER_URL HOME STEP OUT

A step is the moment before or after a commit to the ledger, or before or after a request to
the server. STEP 0 lives to the end and writes the labelled table to OUT as Parquet.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pandas as pd

from mistral_nb.labelling import ledger, start_run
from mistral_nb.session import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS, SHARD, SHARED_ROWS = 120, 50, 10


def table() -> pd.DataFrame:
    """Rows of which some ask the same, with an index that says nothing."""
    texts = [f"where is my parcel number {n % (ROWS - SHARED_ROWS)}" for n in range(ROWS)]
    return pd.DataFrame({"text": texts, "n": range(ROWS)}, index=[n // 2 for n in range(ROWS)])


class Fate:
    """Counts steps, and ends everything at the chosen one."""

    def __init__(self, step: int) -> None:
        self._left = step
        self._lock = threading.Lock()

    def step(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def watch(fate: Fate) -> None:
    """Make every commit to a ledger and every request to the server two steps each."""
    commit, send = ledger.transaction, httpx2.AsyncClient.send

    @contextmanager
    def watched_commit(db: Any) -> Iterator[None]:
        fate.step()
        with commit(db):
            yield
        fate.step()

    async def watched_send(self: Any, *args: Any, **kwargs: Any) -> Any:
        fate.step()
        response = await send(self, *args, **kwargs)
        fate.step()
        return response

    ledger.transaction = watched_commit
    httpx2.AsyncClient.send = watched_send


def main() -> None:
    url, home, step, out = sys.argv[1:]
    watch(Fate(int(step)))
    session = connect("key", url, home=home)
    run = start_run(
        session.connection,
        session.events,
        table(),
        prompt="Which topic? {text}",
        labels=["billing", "delivery", "other"],
        name="victim",
        shard_lines=SHARD,
    )
    run.result(60).to_parquet(out)


if __name__ == "__main__":
    main()
