"""Files through the Batch API: memory with two shards of rows, and with ten.

    python benchmarks/larger_than_memory.py [ROWS ...]

50,000 and 250,000 rows unless told otherwise, in parquet parts and shards of 25,000. Each size
is labelled in a process of its own, the simulator in another. What is told is the most memory
in each phase on top of that before the call.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from memory import LABELS, LINE, PHASES, Watch, held, simulated

SIZES = (50_000, 250_000)
PART = 25_000


def label(rows: int) -> None:
    """Write the data set, label it and tell."""
    import mistral_nb as mnb

    with tempfile.TemporaryDirectory() as home, simulated(home) as url:
        for name, count in (("few", 2), ("many", rows)):
            folder = Path(home) / name
            folder.mkdir()
            for first in range(0, count, PART):
                numbers = range(first, min(count, first + PART))
                texts = [f"{name} {number}: {LINE}" for number in numbers]
                pq.write_table(pa.table({"text": texts}), folder / f"{first:09}.parquet")
        texts.clear()
        session = mnb.connect("key", url, home=f"{home}/ours")

        def started(name: str) -> mnb.Run:
            folder = Path(home) / name
            return session.label_files(
                folder,
                Path(home) / f"{name}-out",
                "Which topic? {text}",
                labels=LABELS,
                shard_lines=PART,
                show=False,
            )

        started("few").result()  # imports
        before, began = held(), time.perf_counter()
        run = started("many")
        watch = Watch(run, before)
        watch.start()
        made = run.result()
        watch.over.set()
        watch.join()
        assert made["rows"].sum() == rows
        assert made["failed"].sum() == 0
        size = sum(path.stat().st_size for path in (Path(home) / "ours").rglob("*.jsonl")) / 1e6
        peaks = "".join(f"{watch.most[phase]:>12,.0f}" for phase in PHASES)
        print(f"{rows:>10,}{len(made):>7}{size:>10,.0f}{peaks}{time.perf_counter() - began:>8,.0f}")


def main() -> None:
    """Label each size in a process of its own."""
    if sys.argv[1:2] == ["--one"]:
        label(int(sys.argv[2]))
        return
    heads = "".join(f"{phase:>12}" for phase in PHASES)
    print(f"{'rows':>10}{'parts':>7}{'sent MB':>10}{heads}{'s':>8}", flush=True)
    for rows in map(int, sys.argv[1:] or SIZES):
        subprocess.run([sys.executable, __file__, "--one", str(rows)], check=True)


if __name__ == "__main__":
    main()
