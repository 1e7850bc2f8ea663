"""A process that labels a table online, made to be killed at any moment.

Usage: python online_run_victim.py SERVER_URL HOME ROWS CONCURRENCY
"""

from __future__ import annotations

import sys

import pandas as pd

from mistral_nb.labelling import start_run
from mistral_nb.session import connect


def table(rows: int) -> pd.DataFrame:
    """Rows that ask for different things."""
    return pd.DataFrame({"text": [f"where is my parcel number {number}" for number in range(rows)]})


def main() -> None:
    """Label it; say so on stdout."""
    url, home, rows, concurrency = sys.argv[1:]
    session = connect("key", url, home=home)
    run = start_run(
        session.connection,
        session.events,
        table(int(rows)),
        prompt="Which topic? {text}",
        labels=["billing", "delivery", "other"],
        mode="online",
        concurrency=int(concurrency),
        name="victim",
    )
    print(len(run.result(100)))


if __name__ == "__main__":
    main()
