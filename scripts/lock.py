"""Write requirements.lock: every version that pip resolves for the project and its extras.

And tests/foreign/requirements.txt: what the clients tested there need besides, or otherwise.

Only names and versions, so the list ties nobody to an index, a platform or a cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
FOREIGN = ROOT / "tests" / "foreign" / "requirements.txt"
BUILD = ("editables",)  # what an editable build asks for, inside .venv
HELD = ("soupsieve<3",)  # later ones want Python 3.11.5; Debian 12 has 3.11.2
HEADER = """\
# Every version `make demo` and `make test` install, resolved by `make lock` with Python 3.11.
# Used as constraints, so other Pythons and systems may leave out or add a name.
"""
FOREIGN_HEADER = """\
# What the clients of tests/foreign need beyond requirements.lock, or in other versions than it has,
# resolved by `make lock`. Complete: installed on top of .venv without asking for dependencies.
"""


def resolve(*wanted: str) -> dict[str, str]:
    """Ask pip what it would install into an empty environment.

    Args:
        wanted: Requirements.

    Returns:
        Name -> version for each distribution but the project itself.
    """
    command = [sys.executable, "-m", "pip", "install", "-qq", "--dry-run", "--ignore-installed"]
    command += ["--report", "-", *wanted]
    report = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found = (item["metadata"] for item in json.loads(report.stdout)["install"])
    pins = {item["name"].lower().replace("_", "-"): item["version"] for item in found}
    pins.pop("mistral-nb", None)
    return pins


def foreign(ours: dict[str, str]) -> dict[str, str]:
    """Resolve the clients of tests/foreign.

    Args:
        ours: The versions of requirements.lock.

    Returns:
        Name -> version where they differ from ``ours``.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    theirs = resolve(*project["dependency-groups"]["foreign"])
    return {name: version for name, version in theirs.items() if ours.get(name) != version}


def write(file: Path, header: str, pins: dict[str, str]) -> None:
    """Write a list of versions, sorted, and say how many it holds."""
    lines = [f"{name}=={version}\n" for name, version in sorted(pins.items())]
    file.write_text(header + "".join(lines), encoding="utf-8")
    print(f"{file.relative_to(ROOT)}: {len(pins)} versions")


def main() -> None:
    """Write both lists."""
    ours = resolve(f"{ROOT}[dev]", *BUILD, *HELD)
    write(LOCK, HEADER, ours)
    write(FOREIGN, FOREIGN_HEADER, foreign(ours))


if __name__ == "__main__":
    main()
