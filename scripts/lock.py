"""Write requirements.lock: every version that pip resolves for the project and its extras.

Only names and versions, so the list ties nobody to an index, a platform or a cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
BUILD = ("editables",)  # what an editable build asks for, inside .venv
HEADER = """\
# Every version `make demo` and `make test` install, resolved by `make lock` with Python 3.11.
# Used as constraints, so other Pythons and systems may leave out or add a name.
"""


def resolve() -> list[str]:
    """Ask pip what it would install into an empty environment.

    Returns:
        ``name==version`` for each distribution but the project itself, sorted.
    """
    command = [sys.executable, "-m", "pip", "install", "-qq", "--dry-run", "--ignore-installed"]
    command += ["--report", "-", f"{ROOT}[dev]", *BUILD]
    report = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found = (item["metadata"] for item in json.loads(report.stdout)["install"])
    pins = {item["name"].lower().replace("_", "-"): item["version"] for item in found}
    del pins["mistral-nb"]
    return [f"{name}=={version}" for name, version in sorted(pins.items())]


def main() -> None:
    """Write the lock and say how many versions it holds."""
    pins = resolve()
    LOCK.write_text(HEADER + "\n".join(pins) + "\n", encoding="utf-8")
    print(f"{LOCK.name}: {len(pins)} versions")


if __name__ == "__main__":
    main()
