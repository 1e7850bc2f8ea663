"""Laws of a run's folder: one place a name, whole or not there, one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mistral_nb.errors import InputError, RunError, StoreError
from mistral_nb.labelling.folder import STALE, RunFolder

HOLD = """
import sys, pathlib
from mistral_nb.labelling.folder import RunFolder
held = RunFolder(pathlib.Path(sys.argv[1])).lock("x")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    "name", ["../../etc", "a/b", "CON", "x" * 100, "наме", "a\\b", ".new-1", "~"]
)
def test_any_name_stays_inside_the_home(home: Path, name: str) -> None:
    """A name never becomes a path: its folder lies directly under runs."""
    folder = RunFolder.of(home, name)
    assert folder.path.parent == home / "runs"
    assert folder.path.name.isascii()
    assert not folder.path.name.startswith(".")


def test_names_that_look_alike_are_told_apart(home: Path) -> None:
    """Names that differ in case or signs only have folders of their own."""
    names = ["Reviews", "reviews", "reviews!", "reviews ?"]
    assert len({str(RunFolder.of(home, name).path).lower() for name in names}) == len(names)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101, 5])
def test_names_that_cannot_be_are_refused(home: Path, name: object) -> None:
    """Empty, unprintable, endless and other things are no names."""
    with pytest.raises(InputError, match="name"):
        RunFolder.of(home, name)


def test_a_built_run_appears_at_once(home: Path) -> None:
    """A folder is moved whole; the second to come finds it taken."""
    built, late = RunFolder.fresh(home), RunFolder.fresh(home)
    for each in (built, late):
        each.ledger.write_bytes(b"x")
    place = RunFolder.of(home, "x")
    assert not place.exists
    assert place.adopt(built)
    assert place.exists
    assert not place.adopt(late)
    assert RunFolder.all(home)[0].path == place.path


@pytest.mark.skipif(os.name == "nt", reason="Windows moves no folder with an open file in it")
def test_a_built_run_is_held_until_it_is_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can take a folder for one left behind before it is a run; then anyone may follow."""
    built, place, move = RunFolder.fresh(home).lock("x"), RunFolder.of(home, "x"), Path.rename
    held = []

    def rename(path: Path, target: Path) -> Path:
        held.append(RunFolder(path).followed())
        return move(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    built.ledger.write_bytes(b"x")
    assert place.adopt(built)
    assert held == [True]
    assert not place.followed()


def test_what_a_kill_left_is_cleared_a_day_later(home: Path) -> None:
    """An unfinished folder stays while it may be in use, and goes when it is old."""
    old = RunFolder.fresh(home)
    assert not RunFolder.all(home)
    RunFolder.fresh(home)
    assert old.path.exists()
    past = time.time() - STALE - 1
    old.lock("x")  # its process lives, and the clock has jumped
    os.utime(old.path, (past, past))
    RunFolder.fresh(home)
    assert old.path.exists()
    old.unlock()
    os.utime(old.path, (past, past))
    RunFolder.fresh(home)
    assert not old.path.exists()


def test_a_second_process_is_told_who_follows(home: Path) -> None:
    """While one process holds the lock, another is told; a kill frees it."""
    folder = RunFolder.of(home, "x")
    folder.path.mkdir(parents=True)
    assert not folder.followed()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=rf"follows the run 'x' \(process {holder.pid}"):
            folder.lock("x")
        assert folder.followed()
        holder.kill()
    folder.lock("x")
    folder.unlock()


def test_a_home_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    """A file where the folder should be: the error names it and the setting."""
    (tmp_path / "runs").write_text("x")
    with pytest.raises(StoreError, match="MISTRAL_NB_HOME"):
        RunFolder.fresh(tmp_path)
