"""The code of the README and of the pages it leads to runs, and prints what they say."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest

from mistral_nb import cli
from scripts.covers import COVERS, SCENES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "notebooks" / "README.md",
    ROOT / "mistral_nb" / "simulator" / "README.md",
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")

each_page = pytest.mark.parametrize(
    "page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES]
)


def prose(page: Path) -> str:
    """Return the page without its blocks: a comment in code looks like a heading."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return what GitHub makes of the page's headings."""
    headings = HEADING.findall(prose(page))
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def sections() -> Iterator[Any]:
    """Yield each section that holds Python, as its blocks of (language, text)."""
    for page in PAGES:
        heading, blocks = "", []
        text = page.read_text(encoding="utf-8")
        for part in re.split(r"^(?=## )", text, flags=re.MULTILINE):
            blocks = BLOCK.findall(part)
            if any(language == "python" for language, _ in blocks):
                heading = part.splitlines()[0].strip("# ")
                yield pytest.param(blocks, id=f"{page.relative_to(ROOT)}: {heading}")


async def run(code: str, namespace: dict[str, Any]) -> None:
    """Run code as a cell would: `await` is allowed at its top."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    compiled = compile(code, "README.md", "exec", flags=flags, dont_inherit=True)
    result = eval(compiled, namespace)
    if inspect.isawaitable(result):
        await result


@pytest.mark.parametrize("blocks", list(sections()))
def test_code_runs(blocks: list[tuple[str, str]], home: Path, monkeypatch: pytest.MonkeyPatch):
    """The blocks of a section run one after another; a `text` block is what the last printed."""
    monkeypatch.chdir(ROOT)
    namespace: dict[str, Any] = {}
    printed = io.StringIO()
    for language, text in blocks:
        if language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                asyncio.run(run(text, namespace))
        elif language == "text":
            assert printed.getvalue().rstrip() == text.rstrip()


@each_page
def test_links_lead_somewhere(page: Path):
    """Each file that a page links to or shows is there, and each anchor is a heading in it."""
    for target in (link or source for link, source in LINK.findall(prose(page))):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or file.suffix != ".md" or anchor in anchors(file), target


@each_page
def test_make_commands_exist(page: Path):
    """Each `make` command that a page names is a target."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    code = re.findall(r"`([^`\n]+)`", text) + [block for _, block in BLOCK.findall(text)]
    for name in set(re.findall(r"^make (\w+)", "\n".join(code), re.MULTILINE)):
        assert re.search(rf"^{name}:", makefile, re.MULTILINE), name


@each_page
def test_shell_commands_are_understood(page: Path):
    """Each `mistral-nb` command that a page shows is one that the command line takes."""
    shells = [text for language, text in BLOCK.findall(page.read_text("utf-8")) if language == "sh"]
    for line in "".join(shells).replace("\\\n", " ").splitlines():
        words = shlex.split(line.rstrip("& "), comments=True)
        if words[:1] == ["mistral-nb"]:
            cli._parser().parse_args(words[1:])


def test_covers_can_be_taken():
    """Every lesson has a cover, and a cell with the words by which its scene is found."""
    lessons = {path.stem: path for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert lessons.keys() == SCENES.keys()
    for name, path in lessons.items():
        cells = nbformat.read(path, as_version=4).cells
        assert any(SCENES[name].words in cell.source and cell.get("outputs") for cell in cells), (
            name
        )
        assert (COVERS / f"{name}.png").exists(), name
