"""The README's code runs, and prints what the README says it prints."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def sections() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield each section that holds Python: its heading, and its blocks as (language, text)."""
    parts = re.split(r"^#+ (.*)$", README, flags=re.MULTILINE)
    for heading, text in zip(parts[1::2], parts[2::2], strict=True):
        blocks = BLOCK.findall(text)
        if any(language == "python" for language, _ in blocks):
            yield heading, blocks


async def run(code: str, namespace: dict[str, Any]) -> None:
    """Run code as a cell would: `await` is allowed at its top."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    compiled = compile(code, "README.md", "exec", flags=flags, dont_inherit=True)
    result = eval(compiled, namespace)
    if inspect.isawaitable(result):
        await result


@pytest.mark.parametrize(("heading", "blocks"), [pytest.param(*s, id=s[0]) for s in sections()])
def test_code_runs(
    heading: str, blocks: list[tuple[str, str]], home: Path, monkeypatch: pytest.MonkeyPatch
):
    """The blocks of a section run one after another; a `text` block is what the last printed."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("mistral_nb.session._default._session", None)
    namespace: dict[str, Any] = {}
    printed = io.StringIO()
    for language, text in blocks:
        if language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                asyncio.run(run(text, namespace))
        elif language == "text":
            assert printed.getvalue().rstrip() == text.rstrip()


def test_links_lead_somewhere():
    """Each file the README links to or shows is there, and each anchor is a heading of it."""
    anchors = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("https://"):
            assert (ROOT / target).exists(), target


def test_make_commands_exist():
    """Each `make` command that the README names is a target."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in set(re.findall(r"\bmake (\w+)", re.sub(r"[^`]*(`[^`]*`)|[^`]+", r"\1", README))):
        assert re.search(rf"^{name}:", makefile, re.MULTILINE), name
