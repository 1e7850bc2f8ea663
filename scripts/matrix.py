"""Try the package on the versions it says it supports, and keep what came of it.

    python scripts/matrix.py [lab] [python] [lowest] [extras] [--only TEXT]

- ``lab``: the browser tests marked ``smoke``, on each JupyterLab with the oldest and the newest
  ipykernel, and on each ipykernel with the newest JupyterLab.
- ``python``: the tests of the package, on each Python that is on the path or in pyenv; for one
  that is not there, whether each dependency has a wheel for it.
- ``lowest``: the same tests with the oldest version of every direct dependency that
  pyproject.toml allows.
- ``extras``: the wheel with one extra in an empty environment, and what the extra is for
  (``scripts/extras.py``).

The last commit is tried, in a clone: what is changed meanwhile does no harm. Environments and
results stay in ``.matrix``: a second run is quicker, each result replaces the one of the same
name, and benchmarks/matrix.md is written from all of them.
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
import tempfile
import tomllib
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from extras import WAYS

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".matrix"
SOURCE = CACHE / "source"
"""A clone of the last commit, which is what is tried."""
KEPT = CACHE / "results.json"
REPORT = ROOT / "benchmarks" / "matrix.md"
LABS = ("4.2", "4.3", "4.4", "4.5", "4.6")
KERNELS = ("6.29", "6.30", "6.31", "7.0", "7.1", "7.2", "7.3", "7.4")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PARTS = ("lab", "python", "lowest", "extras")
MARKS = {"failed": "**no**", "skipped": "-", "passed": "yes"}
"""Outcomes, the worst first, and how the report shows them."""
APART = ("browser", "foreign", "contract", "faults", "test_packaging.py")
"""Tests of other things than versions: of screens, the simulator's truth, kills, the lock."""
SUITE = ("tests", *(f"--ignore=tests/{each}" for each in APART), "-n", "4", "--dist", "loadfile")
HEAD = """\
# Versions

Written by `make matrix` (`scripts/matrix.py`), which makes an environment for each line, installs
the package into it and tries it there. Patch releases are the newest that the index had.
"""
LAB_HEAD = """\
## JupyterLab and ipykernel

Tests in a real JupyterLab, in Chromium. `-`: before JupyterLab 4.4 or ipykernel 7 a kernel hears
no widget while a cell runs. There the notebook's own stop square ends a reply and keeps what has
come, and buttons are answered when the cell has ended.
"""
SUITE_HEAD = """\
## Python, and the oldest dependencies

All tests but those of screens, of the simulator's truth, of kills and of the lock; a warning fails
a test. "Oldest allowed" is the lowest version of every direct dependency that pyproject.toml
admits. "Second try" counts tests that failed first, beside others on a busy machine, and passed
when they were run again.
"""
EXTRAS_HEAD = """\
## Each extra alone

The wheel with one extra, in an empty environment: what the extra is for is done there.
"""


@dataclass
class Result:
    """What came of one environment.

    Attributes:
        part: Which part of the matrix.
        name: The environment's name; a newer result of the same name replaces it.
        versions: Distribution (or "Python") -> version.
        checks: Name of a check -> "passed", "failed" or "skipped"; or outcome -> how many.
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


def clone() -> None:
    """Clone the last commit, with the folder beside the checkout that some tests read."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, SOURCE], check=True)
    beside, link = ROOT.parent / "shared", CACHE / "shared"
    if beside.exists() and not link.exists():
        link.symlink_to(beside)


def build() -> Path:
    """Build the wheel once a run, and return it."""
    folder = CACHE / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", folder, SOURCE], check=True)
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


def cases(name: str, interpreter: str, *arguments: str) -> list[ET.Element]:
    """Run pytest in the clone and return its report, a row for each test.

    Args:
        name: Of the files in the cache that keep its words, its report and what failed last.
        interpreter: The environment's.
        arguments: Pytest's own.
    """
    report = CACHE / f"{name}.xml"
    report.unlink(missing_ok=True)
    options = ["-q", "-o", f"cache_dir={CACHE / name}.cache", f"--junitxml={report}"]
    with (CACHE / f"{name}.log").open("ab") as log:
        command = [interpreter, "-m", "pytest", *options, *arguments]
        subprocess.run(command, cwd=SOURCE, stdout=log, stderr=log, check=False)
    if not report.exists():
        sys.exit(f"pytest did not run: see {log.name}")
    return list(ET.parse(report).iter("testcase"))


def outcome(case: ET.Element) -> str:
    """Return "failed", "skipped" or "passed"."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "passed" if case.find("skipped") is None else "skipped"


def title(case: ET.Element) -> str:
    """Return a test's name, as people look for it."""
    return f"{case.get('classname')}::{case.get('name')}"


def smoked(result: Result, interpreter: str, *arguments: str) -> Result:
    """Run tests that name what they check; of several with one name the worst counts."""
    for case in cases(result.name, interpreter, *arguments):
        check = case.find("properties/property[@name='check']")
        name = str(check.get("value") if check is not None else case.get("name"))
        came = outcome(case)
        result.checks[name] = min(came, result.checks.get(name, came), key=[*MARKS].index)
        if came == "failed":
            result.failures.append(title(case))
    return result


def counted(result: Result, interpreter: str) -> Result:
    """Run the suite, and what failed in it once more, alone; count the outcomes."""
    first = cases(result.name, interpreter, *SUITE, "--cache-clear")
    failed = {title(case) for case in first if outcome(case) == "failed"}
    again = cases(result.name, interpreter, *SUITE[:-4], "--last-failed") if failed else []
    twice = {title(case) for case in again if outcome(case) == "failed"}
    outcomes = [outcome(case) for case in first]
    counts = {
        "passed": outcomes.count("passed"),
        "second try": len(failed - twice),
        "failed": len(failed & twice),
        "skipped": outcomes.count("skipped"),
    }
    result.checks = {name: str(count) for name, count in counts.items()}
    result.failures = sorted(failed & twice)
    return result


def try_lab(wheel: Path, lab: str, kernel: str) -> Result:
    """Run the smoke tests in one JupyterLab with one ipykernel."""
    name = f"lab-{lab}-ipykernel-{kernel}"
    wanted = (f"jupyterlab=={lab}.*", f"ipykernel=={kernel}.*", str(wheel))
    interpreter = environment(name, sys.executable, *wanted)
    result = Result("lab", name, versions(interpreter, "jupyterlab", "ipykernel"))
    smoke = ("tests/browser", "-m", "smoke", "--lab-python", interpreter)
    return smoked(result, sys.executable, *smoke)


def found(python: str) -> str | None:
    """Return an interpreter of a version, on the path or among pyenv's, if there is one."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    kept = [str(each) for each in sorted(root.glob(f"versions/{python}.*/bin/python"))]
    for program in filter(None, [shutil.which(f"python{python}"), *reversed(kept)]):
        if subprocess.run([program, "-V"], capture_output=True, check=False).returncode == 0:
            return program
    return None


def try_python(wheel: Path, python: str) -> Result:
    """Run the suite on one Python, with the newest dependencies, or look for their wheels."""
    name = f"python-{python}"
    interpreter = found(python)
    if interpreter is None:
        wheels = ("--quiet", "--python-version", python, "--only-binary", ":all:", "--all-extras")
        place = ("-o", CACHE / f"{name}.txt", SOURCE / "pyproject.toml")
        uv("pip", "compile", *wheels, *place)
        return Result("python", name, {"Python": python}, {"wheels": "passed"})
    interpreter = environment(name, interpreter, f"{wheel}[dev]")
    return counted(Result("python", name, versions(interpreter)), interpreter)


def try_lowest(wheel: Path) -> Result:
    """Run it with the oldest direct dependencies, on the oldest Python, and newest test tools."""
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tools = project["optional-dependencies"].pop("dev")
    extras = [word for name in project["optional-dependencies"] for word in ("--extra", name)]
    oldest = ("--resolution", "lowest-direct", "-r", str(SOURCE / "pyproject.toml"), *extras)
    python = found(PYTHONS[0]) or PYTHONS[0]
    environment("lowest", python, *oldest)
    others = [each for each in tools if not each.startswith(project["name"])]
    interpreter = environment("lowest", python, str(wheel), *others)
    names = [re.split(r"[\[<>=]", line)[0] for line in project["dependencies"]]
    return counted(Result("lowest", "lowest", versions(interpreter, *names)), interpreter)


def try_extra(wheel: Path, extra: str) -> Result:
    """Install the wheel with one extra into an empty environment, and do what the extra is for."""
    name = f"extras-{extra}"
    shutil.rmtree(CACHE / name, ignore_errors=True)
    wanted = wheel if extra == "none" else f"{wheel}[{extra}]"
    interpreter = environment(name, sys.executable, str(wanted))
    script = SOURCE / "scripts" / "extras.py"
    with (CACHE / f"{name}.log").open("wb") as log, tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(  # -I: nothing but the environment is imported from
            [interpreter, "-I", script, extra],
            cwd=folder,
            env={**os.environ, "MISTRAL_NB_HOME": folder},
            stdout=log,
            stderr=log,
            check=False,
        )
    passed = done.returncode == 0
    checks = {extra: "passed" if passed else "failed"}
    return Result("extras", name, versions(interpreter), checks, [] if passed else [name])


def keep(result: Result) -> None:
    """Put a result among those kept, and write the report anew."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else []
    result.date = dt.datetime.now(dt.UTC).date().isoformat()
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
    suites = [each for each in results if "passed" in each.checks and each.part != "lab"]
    absent = [each for each in results if "wheels" in each.checks]
    if suites or absent:
        parts.append(SUITE_HEAD)
    if suites:
        head = ["Python", "dependencies", *suites[0].checks, "day"]
        rows = [
            [each.versions["Python"], _dependencies(each), *each.checks.values(), each.date]
            for each in suites
        ]
        parts.append(_table(head, rows))
        lines = [f"- {each.name}: `{name}`\n" for each in suites for name in each.failures]
        parts += ["Failed:\n", "".join(lines)] if lines else []
    parts += [
        f"Python {each.versions['Python']} was not there ({each.date}). Every dependency, those\n"
        "of the extras and of the tests included, has a wheel for it.\n"
        for each in absent
    ]
    extras = [each for each in results if each.part == "extras"]
    if extras:
        parts.append(EXTRAS_HEAD)
        rows = [
            [f"`{name}`", str(WAYS[name].__doc__).rstrip("."), MARKS[outcome], each.date]
            for each in extras
            for name, outcome in each.checks.items()
        ]
        parts.append(_table(["extra", "tried", "works", "day"], rows))
    return "\n".join(parts)


def _dependencies(result: Result) -> str:
    return "oldest allowed" if result.part == "lowest" else "newest"


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
    clone()
    wheel = build()
    work: dict[str, Callable[[], Result]] = {
        **{f"lab-{a}-ipykernel-{b}": partial(try_lab, wheel, a, b) for a, b in pairs()},
        **{f"python-{each}": partial(try_python, wheel, each) for each in PYTHONS},
        "lowest": partial(try_lowest, wheel),
        **{f"extras-{each}": partial(try_extra, wheel, each) for each in WAYS},
    }
    failed = 0
    for name, run in work.items():
        if name.split("-")[0] in options.parts and options.only in name:
            (CACHE / f"{name}.log").unlink(missing_ok=True)
            result = run()
            keep(result)
            failed += len(result.failures)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
