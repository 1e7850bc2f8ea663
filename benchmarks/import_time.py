"""CPU time of `import mistral_nb` above a bare interpreter, beside what it puts off.

    python benchmarks/import_time.py [--runs 7]

Each import runs in an interpreter of its own, the kinds in turn; medians.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys

KINDS = {
    "bare interpreter": "pass",
    "import mistral_nb": "import mistral_nb",
    "  and mnb.connect": "import mistral_nb as mnb; mnb.connect",
    "import mistralai.client": "from mistralai.client import Mistral",
    "import pandas": "import pandas",
}


def cpu(code: str) -> float:
    """Return the CPU seconds, user and system, that an interpreter takes for some code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    for code in KINDS.values():
        cpu(code)  # byte code is written, files are in the page cache
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(runs):
        for kind, code in KINDS.items():
            seconds[kind].append(cpu(code))
    medians = {kind: statistics.median(each) for kind, each in seconds.items()}
    bare = medians["bare interpreter"]
    print(f"| CPU, median of {runs} | s | above bare |\n|---|---|---|")
    for kind, median in medians.items():
        print(f"| {kind} | {median:.3f} | {median - bare:.3f} |")


if __name__ == "__main__":
    main()
