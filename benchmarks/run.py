"""Run every benchmark of this folder, one after another, on a quiet machine if you can.

python benchmarks/run.py [NAME ...]
"""

from __future__ import annotations

import ast
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run the benchmarks named, or all; return 1 if one of them failed."""
    there = {file.stem: file for file in sorted(HERE.glob("[!_]*.py")) if file.stem != "run"}
    names = sys.argv[1:] or [*there]
    if unknown := [name for name in names if name not in there]:
        sys.exit(f"No benchmark is called {', '.join(unknown)}. There are: {', '.join(there)}.")
    print(
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} CPUs"
    )
    failed = 0
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    for file in map(there.__getitem__, names):
        purpose = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        print(f"\n## {file.stem}: {purpose.splitlines()[0]}\n", flush=True)
        failed += subprocess.run([sys.executable, file], env=environment, check=False).returncode
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
