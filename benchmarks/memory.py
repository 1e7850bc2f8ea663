"""A large table through the Batch API: how long, and how much memory on top of the table.

    python benchmarks/memory.py [ROWS]

100,000 rows unless told otherwise; 1,000,000 take a while. The simulator runs in a process of
its own. Memory is read twice a second: what is told is its peak in each phase on top of the
table, and what is left of it at the end beside the size of the result's own columns.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE = "The parcel that I ordered on Monday came without the cable and I would like to know why. "
LABELS = ["billing", "delivery", "returns", "other"]
PHASES = ("preparing", "running", "merging")


def held() -> float:
    """Return the memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


class Watch(threading.Thread):
    """Notes the most memory of each phase, and when it was over."""

    def __init__(self, run: object, before: float) -> None:
        super().__init__(daemon=True)
        self._run, self._before, self._began = run, before, time.perf_counter()
        self.over = threading.Event()
        self.most = dict.fromkeys(PHASES, 0.0)
        self.ended = dict.fromkeys(PHASES, 0.0)

    def run(self) -> None:
        while not self.over.wait(0.5):
            counts = self._run.counts
            through = counts["done"] + counts["failed"] == counts["total"]
            phase = "merging" if through else self._run.status
            if phase in self.most:
                self.most[phase] = max(self.most[phase], held() - self._before)
                self.ended[phase] = time.perf_counter() - self._began


def label(rows: int, url: str, home: str) -> None:
    """Label the table and tell."""
    import mistral_nb as mnb

    session = mnb.connect("key", url, home=home)
    few = pd.DataFrame({"text": ["a", "b"]})
    session.label(few, "Which topic? {text}", labels=LABELS, show=False).result()  # imports
    df = pd.DataFrame({"text": [f"{number}: {LINE}" for number in range(rows)]})
    before, began = held(), time.perf_counter()
    run = session.label(df, "Which topic? {text}", labels=LABELS, name="large", show=False)
    watch = Watch(run, before)
    watch.start()
    made = run.result()
    seconds = time.perf_counter() - began
    watch.over.set()
    watch.join()
    assert made["label"].notna().all()
    table = df.memory_usage(deep=True).sum() / 1e6
    result = made[["label", "_error"]].memory_usage(index=False, deep=True).sum() / 1e6
    print(f"{rows:,} rows in {seconds:,.0f} s; the table has {table:,.0f} MB")
    print(f"{'phase':<12}{'until s':>9}{'peak MB on top':>16}")
    for phase in PHASES:
        print(f"{phase:<12}{watch.ended[phase]:>9,.0f}{watch.most[phase]:>16,.0f}")
    print(
        f"{'at the end':<12}{seconds:>9,.0f}{held() - before:>16,.0f}   (result {result:,.0f} MB)"
    )


@contextmanager
def simulated(home: str) -> Iterator[str]:
    """Run a simulator in a process of its own; give its address."""
    command = [sys.executable, "-m", "mistral_nb.simulator", "--port", "0"]
    command += ["--home", f"{home}/simulator", "--batch-rate", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield next(word for word in process.stdout.readline().split() if "http" in word)
        finally:
            process.terminate()


def main() -> None:
    """Start the simulator, and label."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as home, simulated(home) as url:
        label(rows, url, f"{home}/ours")


if __name__ == "__main__":
    main()
