"""Try the package on the versions it says it supports, and keep what came of it.

    python scripts/matrix.py [lab] [python] [lowest] [--only TEXT]

- ``lab``: the browser tests marked ``smoke``, on each JupyterLab with the oldest and the newest
  ipykernel, and on each ipykernel with the newest JupyterLab.
- ``python``: quick tests that go through every dependency, on each Python that uv finds or can
  fetch.
- ``lowest``: the same tests with the oldest version of every direct dependency that
  pyproject.toml allows.

Environments and results stay in ``.matrix``: a second run is quicker, each result replaces the
one of the same versions, and benchmarks/matrix.md is written from all of them.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".matrix"
KEPT = CACHE / "results.json"
REPORT = ROOT / "benchmarks" / "matrix.md"
LABS = ("4.2", "4.3", "4.4", "4.5", "4.6")
KERNELS = ("6.29", "6.30", "6.31", "7.0", "7.1", "7.2", "7.3", "7.4")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PARTS = ("lab", "python", "lowest")
MARKS = {"failed": "**no**", "skipped": "-", "passed": "yes"}
"""Outcomes, the worst first, and how the report shows them."""
QUICK = (
    *("test_streaming", "test_interrupts", "test_session", "test_accessor", "test_magics"),
    *("test_client", "test_store", "test_portal", "test_portable", "test_errors", "test_cli"),
    *("agents/test_tools", "agents/test_turns", "jobs/test_handlers", "relay/test_relay"),
    *("labelling/test_runs", "labelling/test_schemas", "labelling/test_natives"),
    *("labelling/test_media", "labelling/test_cost", "labelling/test_quality"),
    *("webhooks/test_signing", "widgets", "markdown/test_safety"),
)
"""Tests that go through every dependency, in minutes."""
HEAD = """\
# Versions

Written by `make matrix` (`scripts/matrix.py`), which makes an environment for each line, installs
the wheel into it and runs the tests there. Patch releases are the newest that the index had.
"""
LAB_HEAD = """\
## JupyterLab and ipykernel

Tests in a real JupyterLab, in Chromium. `-`: before JupyterLab 4.4 or ipykernel 7 a kernel hears
no widget while a cell runs. There the notebook's own stop square ends a reply and keeps what has
come, and buttons are answered when the cell has ended.
"""
REST_HEAD = """\
## Python, and the oldest dependencies

The tests named in `QUICK`, which go through every dependency. "Oldest allowed" is the lowest
version of every direct dependency that pyproject.toml admits.
"""


@dataclass
class Result:
    """What came of one environment.

    Attributes:
        part: Which part of the matrix.
        name: The environment's name; a newer result of the same name replaces it.
        versions: Distribution (or "Python") -> version.
        checks: Name of a check -> "passed", "failed" or "skipped".
        failures: Names of the tests that failed.
        date: Day of the run, UTC.
    """

    part: str
    name: str
    versions: dict[str, str]
    checks: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    date: str = ""


def pairs() -> list[tuple[str, str]]:
    """Return (JupyterLab, ipykernel): each with the ends of the other's range."""
    ends = [(lab, kernel) for lab in LABS for kernel in (KERNELS[0], KERNELS[-1])]
    return ends + [(LABS[-1], kernel) for kernel in KERNELS[1:-1]]


def uv(*arguments: str | Path) -> None:
    """Run uv, which is fetched into the cache folder the first time."""
    tool = CACHE / "uv"
    program = shutil.which("uv") or _script(tool, "uv")
    if not Path(program).exists():
        subprocess.run([sys.executable, "-m", "venv", tool], check=True)
        subprocess.run([_script(tool, "python"), "-m", "pip", "install", "-qq", "uv"], check=True)
    subprocess.run([program, *arguments], check=True)


def _script(environment: Path, name: str) -> str:
    """Return the path of a program in a virtual environment."""
    folder, suffix = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")
    return str(environment / folder / f"{name}{suffix}")


def build() -> Path:
    """Build the wheel once a run, and return it."""
    folder = CACHE / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", folder, ROOT], check=True)
    (wheel,) = folder.iterdir()
    return wheel


def environment(name: str, python: str, *packages: str) -> str:
    """Make an environment, or bring it up to date, and return its interpreter.

    Args:
        name: Folder in the cache.
        python: Version or path of an interpreter, as uv takes it.
        packages: Arguments of ``uv pip install``.
    """
    folder = CACHE / name
    interpreter = _script(folder, "python")
    if not Path(interpreter).exists():
        uv("venv", "--quiet", "--python", python, folder)
    project = ("--reinstall-package", "mistral-nb")
    uv("pip", "install", "--quiet", "--python", interpreter, *project, *packages)
    return interpreter


def versions(interpreter: str, *names: str) -> dict[str, str]:
    """Ask an environment for its Python and the versions of some distributions."""
    code = (
        "import importlib.metadata as m, json, platform, sys\n"
        "found = {'Python': platform.python_version()}\n"
        "found.update((name, m.version(name)) for name in sys.argv[1:])\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run(
        [interpreter, "-c", code, *names], check=True, capture_output=True, text=True
    )
    return {str(name): str(version) for name, version in json.loads(done.stdout).items()}


def tested(result: Result, interpreter: str, *arguments: str) -> Result:
    """Run pytest and read its outcome for each check into the result."""
    report = CACHE / f"{result.name}.xml"
    report.unlink(missing_ok=True)
    command = [interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    with (CACHE / f"{result.name}.log").open("wb") as log:
        subprocess.run(
            [*command, f"--junitxml={report}"], cwd=ROOT, stdout=log, stderr=log, check=False
        )
    result.date = dt.datetime.now(dt.UTC).date().isoformat()
    if not report.exists():
        sys.exit(f"pytest did not run: see {log.name}")
    for case in ET.parse(report).iter("testcase"):
        outcome = "passed"
        if case.find("skipped") is not None:
            outcome = "skipped"
        if case.find("failure") is not None or case.find("error") is not None:
            outcome = "failed"
            result.failures.append(f"{case.get('classname')}::{case.get('name')}")
        check = case.find("properties/property[@name='check']")
        name = outcome if check is None else str(check.get("value"))
        if check is None:
            result.checks[name] = str(int(result.checks.get(name, 0)) + 1)
        else:  # one check may be several tests: the worst counts
            result.checks[name] = min(outcome, result.checks.get(name, outcome), key=[*MARKS].index)
    return result


def try_lab(wheel: Path, lab: str, kernel: str) -> Result:
    """Run the smoke tests in one JupyterLab with one ipykernel."""
    name = f"lab-{lab}-ipykernel-{kernel}"
    wanted = (f"jupyterlab=={lab}.*", f"ipykernel=={kernel}.*", str(wheel))
    interpreter = environment(name, sys.executable, *wanted)
    result = Result("lab", name, versions(interpreter, "jupyterlab", "ipykernel"))
    smoke = ("tests/browser", "-m", "smoke", "--lab-python", interpreter)
    return tested(result, sys.executable, *smoke)


def try_python(wheel: Path, python: str) -> Result:
    """Run the quick tests on one Python, with the newest dependencies."""
    name = f"python-{python}"
    interpreter = environment(name, python, f"{wheel}[dev]")
    return tested(Result("python", name, versions(interpreter)), interpreter, *_fast())


def try_lowest(wheel: Path) -> Result:
    """Run them with the oldest direct dependencies, on the oldest Python, and newest test tools."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tools = project["optional-dependencies"].pop("dev")
    extras = [word for name in project["optional-dependencies"] for word in ("--extra", name)]
    oldest = ("--resolution", "lowest-direct", "-r", str(ROOT / "pyproject.toml"), *extras)
    environment("lowest", PYTHONS[0], *oldest)
    others = [each for each in tools if not each.startswith(project["name"])]
    interpreter = environment("lowest", PYTHONS[0], str(wheel), *others)
    names = [re.split(r"[\[<>=]", line)[0] for line in project["dependencies"]]
    return tested(Result("lowest", "lowest", versions(interpreter, *names)), interpreter, *_fast())


def _fast() -> list[str]:
    files = (f"tests/{each}{'' if (ROOT / 'tests' / each).is_dir() else '.py'}" for each in QUICK)
    return [*files, "-n", "2", "--dist", "loadfile"]


def keep(result: Result) -> None:
    """Put a result among those kept, and write the report anew."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else []
    results = [Result(**each) for each in kept if each["name"] != result.name] + [result]
    results.sort(key=lambda each: (PARTS.index(each.part), each.name))
    rows = [asdict(each) for each in results]
    KEPT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    REPORT.write_text(report(results), encoding="utf-8")
    failed = ", ".join(result.failures) or "all passed"
    print(f"{result.name} {result.versions}: {failed}", flush=True)


def report(results: list[Result]) -> str:
    """Return the Markdown of all results kept."""
    parts = [HEAD]
    labs = [each for each in results if each.part == "lab"]
    if labs:
        checks = list(dict.fromkeys(check for each in labs for check in each.checks))
        columns = {"JupyterLab": "jupyterlab", "ipykernel": "ipykernel"}
        parts.append(LAB_HEAD)
        parts.append(
            _table(
                [*columns, *checks, "day"],
                [
                    [each.versions[name] for name in columns.values()]
                    + [MARKS[each.checks[c]] if c in each.checks else "" for c in checks]
                    + [each.date]
                    for each in labs
                ],
            )
        )
    rest = [each for each in results if each.part != "lab"]
    if rest:
        parts.append(REST_HEAD)
        rows = [[each.versions["Python"], _dependencies(each), *_counts(each)] for each in rest]
        parts.append(_table(["Python", "dependencies", *MARKS, "day"], rows))
        for each in rest:
            parts += [f"- {each.name} failed: `{name}`\n" for name in each.failures]
    return "\n".join(parts)


def _dependencies(result: Result) -> str:
    return "oldest allowed" if result.part == "lowest" else "newest"


def _counts(result: Result) -> list[str]:
    return [result.checks.get(name, "0") for name in MARKS] + [result.date]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> int:
    """Run the parts named, or all; return 1 if a test failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("parts", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--only", default="", help="only environments with this in their name")
    options = parser.parse_args()
    CACHE.mkdir(exist_ok=True)
    wheel = build()
    work: dict[str, Callable[[], Result]] = {
        **{f"lab-{a}-ipykernel-{b}": partial(try_lab, wheel, a, b) for a, b in pairs()},
        **{f"python-{each}": partial(try_python, wheel, each) for each in PYTHONS},
        "lowest": partial(try_lowest, wheel),
    }
    failed = 0
    for name, run in work.items():
        if name.split("-")[0] in options.parts and options.only in name:
            result = run()
            keep(result)
            failed += len(result.failures)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
