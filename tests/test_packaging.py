"""What gets installed: everything that runs, nothing else, and a light import."""

from __future__ import annotations

import ast
import importlib.metadata
import itertools
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from scripts.extras import WAYS

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"pandas", "numpy", "mistralai", "anywidget", "ipywidgets", "IPython", "uvicorn"}
HEAVY |= {"asyncio", "inspect", "tempfile", "traceback"}  # twice what the package itself takes
OWNERS = importlib.metadata.packages_distributions()
"""Which distributions bring which top-level modules."""


OPTIONAL = {"google": "Colab's own", "kaggle_secrets": "Kaggle's own", "yaml": "people bring it"}
"""Modules that are used where they happen to be."""
CARRIED = {
    "IPython": "ipywidgets",
    "httpcore2": "httpx2",
    "numpy": "pandas",
    "pydantic_core": "pydantic",
    "redis": "bullmq",
    "scipy": "scikit-learn",
    "tiktoken": "mistral-common",
    "yarl": "aiohttp",
}
"""Modules that a dependency requires and speaks itself: its bounds are the right ones."""


def build(kind: str, source: Path, folder: Path) -> Path:
    """Build a "wheel" or an "sdist" of a source tree, without a network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, built from the checkout."""
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """The names of the wheel's files."""
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the wheel alone."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", folder, wheel], check=True)
    return folder


def listed(folder: str) -> set[str]:
    """Return the files of a folder that git knows."""
    command = ["git", "ls-files", "-z", folder]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return set(found.stdout.split("\0")) - {""}


def test_wheel_holds_the_whole_package(names: set[str]):
    """Every file of the package that git knows is in the wheel: code, scripts, styles."""
    assert listed("mistral_nb") <= names
    assert {"mistral_nb/py.typed", "mistral_nb/_data/support_tickets.csv"} <= names
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]


def test_wheel_holds_nothing_else(names: set[str]):
    """No tests, lessons, scripts or caches are installed."""
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mistral_nb"}
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]


def test_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path):
    """The wheel built from the source distribution is the checkout's, byte for byte."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    again = build("wheel", source, tmp_path / "again")
    assert (again.name, again.read_bytes()) == (wheel.name, wheel.read_bytes())


def test_metadata_is_valid(wheel: Path):
    """What an index reads is valid, and it shows the README as Markdown."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        found = Metadata.from_email(archive.read(name), validate=True)
    assert (found.name, found.license_expression) == ("mistral-nb", "Apache-2.0")
    assert found.description_content_type == "text/markdown"
    assert found.provides_extra == sorted(project()["optional-dependencies"])


def test_the_installed_wheel_needs_no_extra(installed: Path, tmp_path: Path):
    """Away from the checkout, with no extra installed, the demo runs to its end."""
    core = {requirement.name for requirement in map(Requirement, project()["dependencies"])}
    extras = {each.name for each in requirements()} - core
    absent = [top for top, owners in OWNERS.items() if extras.issuperset(owners)]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"  # None: cannot be imported
        "import mistral_nb, mistral_nb.cli\n"
        f"assert mistral_nb.__file__.startswith({str(installed)!r})\n"
        "sys.exit(mistral_nb.cli.main(['demo']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "373 support tickets" in done.stdout
    assert "make lab" not in done.stdout


def test_every_extra_is_tried():
    """`make matrix` installs each extra alone, and does what it is for; so it does with none."""
    assert WAYS.keys() == project()["optional-dependencies"].keys() - {"dev"} | {"none"}


def test_every_import_is_of_a_dependency():
    """What the package imports it asks for, or a dependency of it brings and speaks it."""
    wanted = {requirement.name.lower() for requirement in requirements()}
    for top in imported() - OPTIONAL.keys():
        if carrier := CARRIED.get(top):
            assert carrier in wanted
            brings = map(Requirement, importlib.metadata.requires(carrier) or ())
            owners = {owner.lower().replace("_", "-") for owner in OWNERS[top]}  # as PEP 503 has it
            assert owners & {each.name for each in brings}, top
        else:
            assert {owner.lower() for owner in OWNERS[top]} & wanted, top


def imported() -> set[str]:
    """Return the top-level modules of others that the package's files import, lazily or not."""
    found = set()
    for file in (ROOT / "mistral_nb").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"mistral_nb"}


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

    version = project()["version"]
    assert mistral_nb.__version__ == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    """Return the project's table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements() -> list[Requirement]:
    """Return every direct dependency, those of the extras included."""
    extras = itertools.chain.from_iterable(project()["optional-dependencies"].values())
    wanted = map(Requirement, [*project()["dependencies"], *extras])
    return [requirement for requirement in wanted if requirement.name != project()["name"]]


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


def test_lock_serves_the_oldest_python():
    """No pinned version wants a later Python than 3.11.0: Debian 12 has 3.11.2."""
    pinned = lock()
    for found in importlib.metadata.distributions():
        if found.metadata["Name"].lower().replace("_", "-") in pinned:
            wanted = SpecifierSet(found.metadata.get("Requires-Python") or "")
            assert wanted.contains("3.11.0"), found.metadata["Name"]


def test_every_dependency_is_justified():
    """CONTRIBUTING says of each direct dependency what it is for."""
    text = (ROOT / ".github/CONTRIBUTING.md").read_text(encoding="utf-8")
    assert not [each.name for each in requirements() if f"| `{each.name}` |" not in text]
