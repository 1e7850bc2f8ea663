"""3,080 real bank queries through the Batch API of the simulator, from call to merged table.

python benchmarks/batch_end_to_end.py [TABLE.csv [LABELS.json]]

The table needs a column `text`; without one the package's own tickets are repeated to 3,080
rows. The simulator runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson
import pandas as pd

import mistral_nb as mnb

ROWS = 3080
DATA = Path(__file__).resolve().parents[1] / "data"


def load() -> tuple[pd.DataFrame, list[str]]:
    """Return the table and its labels."""
    paths = [Path(each) for each in sys.argv[1:]]
    if paths:
        df = pd.read_csv(paths[0])
        if len(paths) > 1:
            return df, orjson.loads(paths[1].read_bytes())
    else:
        df = pd.read_csv(next(DATA.glob("*.csv"))).dropna(subset=["text"])
        df = pd.concat([df] * (ROWS // len(df) + 1), ignore_index=True).iloc[:ROWS]
        df["text"] = [f"{number}: {text}" for number, text in enumerate(df["text"])]
    return df, sorted(df["category"].dropna().unique())


def main() -> None:
    df, labels = load()
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "mistral_nb.simulator", "--port", "0", "--home", home]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as simulator:
            assert simulator.stdout is not None
            url = next(word for word in simulator.stdout.readline().split() if "http" in word)
            try:
                session = mnb.connect("key", url, home=home)
                start = time.perf_counter()
                run = session.label(df, "Which intent? {text}", labels=labels, show=False)
                made = run.result(120)
                seconds = time.perf_counter() - start
                start = time.perf_counter()
                session.label(df, "Which intent? {text}", labels=labels, show=False).result()
                again = time.perf_counter() - start
            finally:
                simulator.terminate()
    good = made["_error"].isna().sum()
    print(
        f"{len(df):,} rows, {good:,} with a label: {seconds:.1f} s ({len(df) / seconds:,.0f} rows/s)"
    )
    print(f"the same call again: {again:.2f} s, nothing sent")


if __name__ == "__main__":
    main()
