"""The house rules that no tool checks: the map is true, files say what they are and stay small."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mistral_nb"
CONTRIBUTING = (ROOT / ".github/CONTRIBUTING.md").read_text(encoding="utf-8")
LONGEST_FILE = 430
"""Lines: "about 400", so that a fix need not come with a move."""
LONGER = {"errors.py": "the whole tree of exceptions is read in one place"}
LONGEST_FUNCTION = 60
"""Lines, the docstring not counted."""


def sources(*suffixes: str) -> list[Path]:
    """Return the package's own files with these suffixes."""
    return sorted(path for path in PACKAGE.rglob("*") if path.suffix in suffixes)


def functions(file: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return every function of a file, methods and inner ones as well."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function's body, from the first after its docstring."""
    said = ast.get_docstring(function) is not None and len(function.body) > 1
    assert function.end_lineno is not None
    return function.end_lineno - function.body[said].lineno + 1


def test_the_map_names_every_room():
    """CONTRIBUTING's map of the code names each module and package, and none that is not there."""
    start = CONTRIBUTING.index("## A map of the code")
    table = CONTRIBUTING[start : CONTRIBUTING.index("\n\nWhere to begin", start)]
    rooms = " ".join(line.split("|")[2] for line in table.splitlines() if line.startswith("| "))
    named = set(re.findall(r"`(\w+/?)`", rooms))
    folders = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.stem for path in PACKAGE.glob("[a-z]*.py")}
    assert named == folders | modules


def test_every_command_named_is_there():
    """CONTRIBUTING speaks of no make target that the Makefile lacks, and each target is explained."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    explained = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", CONTRIBUTING)) <= explained
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) - {"system"} == explained  # which only other targets ask for


def test_every_file_says_its_purpose():
    """The first line of a file is a sentence about it: a docstring or a comment."""
    openings = {".py": '"""', ".js": "//", ".css": "/*", ".html": "<!doctype html>"}
    wrong = [
        str(path)
        for path in sources(*openings)
        if not path.read_text(encoding="utf-8").startswith(openings[path.suffix])
    ]
    assert wrong == []


def test_files_and_functions_stay_small():
    """No file is far above 400 lines and no function above 60, where nobody would read on."""
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in sources(".py", ".js")}
    assert {path.name for path, count in lines.items() if count > LONGEST_FILE} <= LONGER.keys()
    long = [
        f"{path}:{function.lineno} {function.name}"
        for path in sources(".py")
        for function in functions(path)
        if length(function) > LONGEST_FUNCTION
    ]
    assert long == []
