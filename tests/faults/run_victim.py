"""A process that labels a table through `label`, made to be killed or to meet a full disk.

Usage: python -m tests.faults.run_victim URL HOME ROWS MODE [BYTES]

Ends with 0 and the number of rows on stdout, or with 1 and the error there. With BYTES, no
file may grow beyond these once the run is on its way: what a full disk does to a program.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pandas as pd

from mistral_nb.errors import MistralNbError
from mistral_nb.labelling import start_run
from mistral_nb.session import connect

if TYPE_CHECKING:
    from mistral_nb.labelling import Run

NAME = "victim"
SHARD_ROWS = 1000
IN_FLIGHT = 8


def table(rows: int) -> pd.DataFrame:
    """Rows that ask for different things."""
    return pd.DataFrame({"text": [f"where is my parcel number {number}" for number in range(rows)]})


def fill_disk(size: int) -> None:
    """Let no file of this process grow beyond so many bytes."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def start(url: str, home: str, rows: int, mode: str) -> Run:
    """Start the run."""
    session = connect("key", url, home=home)
    return start_run(
        session.connection,
        session.events,
        table(rows),
        prompt="Which topic? {text}",
        labels=["billing", "delivery", "other"],
        mode=mode,
        name=NAME,
        shard_lines=SHARD_ROWS,
        **({"concurrency": IN_FLIGHT} if mode == "online" else {}),
    )


def main() -> int:
    """Label it."""
    url, home, rows, mode, *limit = sys.argv[1:]
    run = start(url, home, int(rows), mode)
    if limit:
        while not run.counts["running"] and not run.counts["done"]:
            time.sleep(0.005)
        fill_disk(int(limit[0]))
    try:
        print(len(run.result(900)))
    except MistralNbError as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
