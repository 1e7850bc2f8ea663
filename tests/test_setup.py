"""scripts/setup on machines that lack something, played by a PATH of our own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


class Machine:
    """A checkout and a PATH on which only the programs given exist.

    Args:
        folder: Empty folder for both.
    """

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self.path = folder / "bin"
        self.path.mkdir()
        (self.checkout / "scripts").mkdir(parents=True)
        (self.checkout / ".venv").mkdir()
        shutil.copy(ROOT / "scripts" / "setup", self.checkout / "scripts")
        for name in ("dirname", "rm", "touch", "cat"):
            (self.path / name).symlink_to(shutil.which(name))

    def program(self, name: str, script: str) -> None:
        """Add a program: a shell script."""
        (self.path / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.path / name).chmod(0o755)

    def setup(self, what: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run scripts/setup there."""
        return subprocess.run(
            ["scripts/setup", what],
            cwd=self.checkout,
            env={"PATH": str(self.path), **environment},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_no_python_is_said(machine: Machine):
    """Without a Python that is new enough, one sentence says what was looked for."""
    machine.program("python3", "exit 1")
    done = machine.setup("core")
    assert done.returncode == 1
    assert "No Python 3.11 or newer" in done.stderr
    assert "make PYTHON=" in done.stderr


def test_an_unusable_python_is_passed_over(machine: Machine):
    """A python3.11 that does not run (a shim without a version) is no obstacle."""
    machine.program("python3.11", "echo no such version >&2; exit 127")
    machine.program("python3", f'[ "$1" = -m ] && exit 9; exec {sys.executable} "$@"')
    done = machine.setup("core")
    assert "Making .venv with Python 3" in done.stdout
    assert done.returncode == 9  # where our python3 was asked for an environment


def test_root_gets_the_missing_programs(machine: Machine):
    """Root on Debian: what is missing, and only that, is installed through apt-get."""
    machine.program("id", "echo 0")
    machine.program("redis-server", "")
    machine.program("apt-get", 'echo "apt-get $*" >>"$LOG"')
    log = machine.checkout / "asked.log"
    done = machine.setup("system", LOG=str(log))
    assert done.returncode == 0
    assert log.read_text().splitlines() == [
        "apt-get update",
        "apt-get install -y --no-install-recommends chromium",
    ]


def test_others_are_told(machine: Machine):
    """Whoever may not install is told what to install, and the tests go on without."""
    machine.program("id", "echo 1000")
    machine.program("apt-get", "exit 1")
    done = machine.setup("system")
    assert done.returncode == 0
    assert "apt-get install chromium redis-server" in done.stderr
    assert "skipped" in done.stderr


def test_a_failing_apt_is_said(machine: Machine):
    """When apt-get fails, its words are kept in a file that the sentence names."""
    machine.program("id", "echo 0")
    machine.program("apt-get", "echo no network; exit 100")
    done = machine.setup("system")
    assert done.returncode == 0
    assert ".venv/apt.log says why" in done.stderr
    assert (machine.checkout / ".venv/apt.log").read_text() == "no network\n"


def test_nothing_missing_nothing_said(machine: Machine):
    """With everything there, it does and says nothing."""
    machine.program("chromium", "")
    machine.program("redis-server", "")
    done = machine.setup("system")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_clients_are_installed_without_npm_too(machine: Machine):
    """Without npm the Python clients are installed as listed, and what is left out is said."""
    python = machine.checkout / ".venv/bin/python"
    python.parent.mkdir()
    copy = (
        f"{shutil.which('mkdir')} -p .venv/foreign/bin; {shutil.which('cp')} $0 .venv/foreign/bin"
    )
    python.write_text(f'#!/bin/sh\n[ "$2" = venv ] && {{ {copy}; }}\necho "$@" >>asked.log\n')
    python.chmod(0o755)
    done = machine.setup("foreign")
    assert done.returncode == 0, done.stderr
    assert "npm is not installed" in done.stderr
    asked = (machine.checkout / "asked.log").read_text()
    assert "--no-deps --no-compile -r tests/foreign/requirements.txt" in asked
    assert (machine.checkout / ".venv/.foreign").exists()
