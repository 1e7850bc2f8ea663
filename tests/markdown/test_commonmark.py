"""The CommonMark specification: its examples, rendered whole and cut anywhere."""

from __future__ import annotations

import re
import subprocess
import tarfile
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

import pytest
from platformdirs import user_cache_path

from mistral_nb.markdown import render
from tests.markdown.pages import faults, settled, stream

PACKAGE = "commonmark-spec@0.31.2"
EXAMPLE = re.compile(r"^`{32} example\n(.*?)^\.\n(.*?)^`{32}$", re.DOTALL | re.MULTILINE)
COUNT = 652
WEB = re.compile(r"(?:https?://|mailto:)[^\s/?#]", re.IGNORECASE)


@cache
def examples() -> list[tuple[str, str]]:
    """The specification's examples, as (Markdown, HTML), from the package its authors publish.

    It is fetched once and kept in the user's cache.
    """
    kept = user_cache_path("mistral-nb-tests") / f"{PACKAGE}.txt"
    if not kept.exists():
        npm = which("npm")
        if npm is None:
            pytest.skip("npm is not installed, so the specification cannot be fetched")
        with TemporaryDirectory() as folder:
            subprocess.run(
                [npm, "pack", PACKAGE, "--silent", "--pack-destination", folder],
                check=True,
                timeout=90,
                capture_output=True,
            )
            with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
                member = archive.extractfile("package/spec.txt")
                assert member is not None
                text = member.read()
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(text)
    found = EXAMPLE.findall(kept.read_text(encoding="utf-8"))
    return [(source.replace("→", "\t"), html.replace("→", "\t")) for source, html in found]


class Outline(HTMLParser):
    """HTML as a list of what a reader gets: elements, addresses and text, without layout."""

    BLOCKS = "p|h[1-6]|ul|ol|li|blockquote|pre|hr|br"

    def __init__(self, html: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.pre = False
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        kind = values.get("class", "")
        target = values.get("href", values.get("src", values.get("title", "")))
        self.pre = self.pre or tag == "pre"
        part = ""
        if tag == "img" or kind == "mnb-image":
            # An image is compared by its address; ours says "image" when it has no text.
            part = f"<image {target if WEB.match(target) else '-'}>"
            if tag == "img":
                part += (values.get("alt") or "image") + "</image>"
        elif tag == "a" or kind == "mnb-link":
            part = f"<link {target if WEB.match(target) else '-'}>"
        elif tag == "ol":
            part = f"<ol {values.get('start', '')}>"
        elif tag != "span":
            part = f"<{tag}>"
        self.parts.append(part)
        if tag not in {"img", "br", "hr"}:
            names = {"mnb-image": "</image>", "mnb-link": "</link>"}
            self.open.append(names.get(kind, {"a": "</link>", "span": ""}.get(tag, f"</{tag}>")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self.pre = self.pre and tag != "pre"
        self.parts.append(self.open.pop())

    def handle_data(self, data: str) -> None:
        self.parts.append(data if self.pre else data.replace("\n", " "))

    @property
    def text(self) -> str:
        text = "".join(self.parts)
        return re.sub(rf" *(</?(?:{self.BLOCKS})(?: \d*)?>) *", r"\1", text).strip()


def plain(html: str) -> bool:
    """Whether an expected result holds no raw HTML, which we show as text by choice."""
    known = r"</?(?:p|h[1-6]|ul|ol|li|blockquote|pre|code|em|strong|a|img|br|hr)\b[^<>]*/?>"
    return not re.search(r"<", re.sub(known, "", html))


def test_all_examples_are_read() -> None:
    """The specification is read completely."""
    assert len(examples()) == COUNT


def test_conformance() -> None:
    """Every example without raw HTML renders as the specification says."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark")
    compared = 0
    for source, html in examples():
        tokens = parser.parse(source)
        raw = [t for t in tokens for t in [t, *(t.children or [])] if t.type.startswith("html_")]
        if raw or not plain(html):
            continue
        compared += 1
        assert Outline(render(source)).text == Outline(html).text, source
    assert compared > 560


def test_every_example_is_safe() -> None:
    """Every example renders to the allow-list only."""
    for source, _ in examples():
        assert faults(render(source)) == [], source


def test_every_example_cut_everywhere() -> None:
    """Every example, cut at every position, ends as in one shot."""
    for source, _ in examples():
        whole = render(source)
        for at in range(1, len(source), 1 + len(source) // 60):
            assert settled(source, [at], split=1) == whole, source


def test_every_example_character_by_character() -> None:
    """Every example, with a frame after every character, is safe in between and right in the end."""
    for source, _ in examples():
        last = ""
        for incremental in stream(source, range(len(source)), split=30):
            last = incremental.html
        assert last == render(source), source


def test_the_whole_specification() -> None:
    """All examples in one text, as one reply of many kilobytes, end as in one shot."""
    source = "\n\n".join(source for source, _ in examples())
    assert settled(source, range(0, len(source), 83)) == render(source)
