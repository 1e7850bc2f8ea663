"""What gets installed: everything that runs, nothing else, and a light import."""

from __future__ import annotations

import importlib.metadata
import itertools
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"pandas", "numpy", "mistralai", "anywidget", "ipywidgets", "IPython", "uvicorn"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build the wheel, without a network, and return the names of its files."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", folder, ROOT], check=True)
    (path,) = folder.iterdir()
    return set(zipfile.ZipFile(path).namelist())


def test_wheel_holds_the_whole_package(wheel: set[str]):
    """Every file of the package that git knows is in the wheel: code, scripts, styles."""
    listed = subprocess.run(
        ["git", "ls-files", "mistral_nb"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert set(listed.stdout.split()) <= wheel
    assert {"mistral_nb/py.typed", "mistral_nb/_data/support_tickets.csv"} <= wheel


def test_wheel_holds_nothing_else(wheel: set[str]):
    """No tests, lessons, scripts or caches are installed."""
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mistral_nb"}
    assert not [name for name in wheel if "__pycache__" in name or "/tests/" in name]


def test_import_is_light():
    """Importing the package, and looking around in it, imports none of the heavy libraries."""
    code = "import sys, mistral_nb; dir(mistral_nb); print(*{n.split('.')[0] for n in sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not HEAVY & set(out.stdout.split())


def test_the_command_is_installed():
    """The command mistral-nb leads to the command line's main function."""
    (found,) = importlib.metadata.entry_points(group="console_scripts", name="mistral-nb")
    assert found.value == "mistral_nb.cli:main"


def test_versions_agree():
    """The package, its metadata and the changelog name the same version."""
    import mistral_nb

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert mistral_nb.__version__ == project["version"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def requirements() -> list[Requirement]:
    """Return every direct dependency, those of the extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = itertools.chain.from_iterable(project["optional-dependencies"].values())
    wanted = map(Requirement, [*project["dependencies"], *extras])
    return [requirement for requirement in wanted if requirement.name != project["name"]]


def lock() -> dict[str, str]:
    """Return name and version of everything pinned."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_lock_is_names_and_versions_only():
    """The lock names no index, path or hash."""
    assert all(
        re.fullmatch(r"[a-z0-9.-]+", name) and re.fullmatch(r"[\w.+!]+", version)
        for name, version in lock().items()
    )


def test_lock_covers_what_the_project_asks_for():
    """Each requirement in pyproject.toml is pinned, to a version it allows."""
    pinned = lock()
    for requirement in requirements():
        name = requirement.name.lower().replace("_", "-")
        assert pinned[name] in requirement.specifier, requirement


def test_every_dependency_is_justified():
    """CONTRIBUTING says of each direct dependency what it is for."""
    text = (ROOT / ".github/CONTRIBUTING.md").read_text(encoding="utf-8")
    assert not [each.name for each in requirements() if f"| `{each.name}` |" not in text]
