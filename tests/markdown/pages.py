"""What the tests share: a stand-in for the browser, a strict reading of HTML, texts to render."""

from __future__ import annotations

import random
import re
from html import unescape
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from mistral_nb.markdown import Incremental

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mistral_nb.markdown import Patch

PIECES = [
    *("a", "word ", "b c", "é", "😀", "<", ">", "&amp;", "&", "<br>", "<b>", "<http://a.b>"),
    *("\n", "\n", "\n", "\n\n", "\n\n", "\n\n\n", "\r\n", "\r", "\t", "\0", "\ud83d", "\ude00"),
    *("- ", "* ", "+ ", "1. ", "2) ", "10. ", "  ", "   ", "    ", "  - ", "    - ", "- [ ] "),
    *("> ", ">", "> > ", "#", "# ", "## ", "===\n", "---\n", "***\n", "- [x] ", "- a\n\n  "),
    *("```", "```py\n", "~~~", "`", "``", "**", "*", "_", "__", "~~", "\\", "\\(", "!"),
    *("[", "]", "(", ")", "](", "![", "[foo]", "[foo]: /url\n", "[bar]: <http://x.y>", '"', "'"),
    *("|", "| a | b |\n", "|---|:-:|\n", "a|b\n-|-\n", "1. ```\n   ", "\n'title"),
    *("$", "$$", "$$\n", "x^2", "\\frac{a}{b}", "\u2060¹²", "\u2060"),
]

markdown = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
"""Texts of Markdown's own building blocks, in any order."""

repetitive = st.builds(
    lambda head, body, times, tail: head + body * times + tail,
    markdown,
    st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
    st.integers(2, 12),
    markdown,
)
"""Texts with long blocks: lists, tables, quotes, fences."""


class Browser:
    """Applies patches as the page's script does: in UTF-16 code units, blocks on demand."""

    def __init__(self) -> None:
        self.blocks: dict[int, bytes] = {}

    def apply(self, patches: Iterable[Patch]) -> None:
        for patch in patches:
            old = self.blocks.get(patch.block, b"")
            assert patch.keep * 2 <= len(old)
            new = old[: patch.keep * 2] + patch.html.encode("utf-16-le")
            assert new != old
            self.blocks[patch.block] = new

    @property
    def html(self) -> str:
        """The page; decoding fails if a patch has split a surrogate pair."""
        return "".join(self.blocks[n].decode("utf-16-le") for n in sorted(self.blocks))


def stream(text: str, cuts: Iterable[int], *, split: int = 512) -> Iterator[Incremental]:
    """Feed a text cut at some positions, with a frame at each; the last one is finished.

    The page that grows from the patches is compared with the renderer's own at every step.
    """
    incremental = Incremental(split=split)
    browser = Browser()
    start = 0
    for cut in sorted({*cuts, len(text)}):
        incremental.feed(text[start:cut])
        start = cut
        browser.apply(incremental.frame())
        assert browser.html == incremental.html
        yield incremental
    browser.apply(incremental.finish())
    assert browser.html == incremental.html
    assert incremental.text == text
    yield incremental


def settled(text: str, cuts: Iterable[int], *, split: int = 512) -> str:
    """Stream a text and give the HTML in the end."""
    return list(stream(text, cuts, split=split))[-1].html


def some_cuts(text: str, seed: int) -> list[int]:
    """Cut a text at random, in about every tenth place."""
    chance = random.Random(seed)
    return [at for at in range(len(text)) if chance.random() < 0.1]


_MATH = """
    math mrow mi mn mo mtext mspace mfrac msqrt mroot mstyle mpadded mphantom menclose msub msup
    msubsup munder mover munderover mmultiscripts mprescripts mtable mtr mtd
"""
_PROSE = """
    p h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code em strong del a span sup div br hr
    table thead tbody tr th td
"""
CODE = {"pre", "code"}
MATH = set(_MATH.split())
TAGS = MATH | set(_PROSE.split())
VALUES = {
    ("a", "href"): r"(?i:https?://|mailto:)[^\s]+",
    ("a", "target"): "_blank",
    ("a", "rel"): "noopener noreferrer nofollow",
    ("a", "title"): r"[^\0]{1,200}",
    ("a", "class"): "mnb-image",
    ("span", "title"): r"[^\0]{0,401}",
    ("span", "class"): r"mnb-image|mnb-link|mnb-math|k|s|c|m|nf|nb|nd|nt|na|gd|gi|gh",
    ("li", "class"): "mnb-task",
    ("sup", "class"): "mnb-cite",
    ("ol", "start"): r"\d{1,9}",
    ("th", "style"): "text-align:(left|center|right)",
    ("td", "style"): "text-align:(left|center|right)",
    ("pre", "class"): "highlight",
    ("pre", "data-language"): r"[A-Za-z0-9_+#.-]{1,32}",
    ("code", "class"): "mnb-tex",
    ("div", "class"): "mnb-math",
}
_PART = re.compile(r'<(/?)([a-z][a-z0-9]*)((?: [a-z-]+="[^"]*")*)>|([^<>]+)')
_ATTRIBUTE = re.compile(r' ([a-z-]+)="([^"]*)"')


def faults(html: str, *, tex: bool = False) -> list[str]:
    """Read HTML in the narrowest way and list all that may not be in it.

    Only text, tags, and attributes in double quotes are read, so that what passes here looks the
    same to every HTML parser there is. The lists of what is allowed are the test's own.
    With `tex`, common math may stand between dollar signs, in an element of its own.
    """
    found: list[str] = []
    opened: list[str] = []
    at = 0
    while at < len(html):
        part = _PART.match(html, at)
        if part is None:
            return [*found, f"unreadable: {html[at : at + 40]!r}"]
        at = part.end()
        slash, tag, attributes, text = part.groups()
        if text is not None:
            alone = len(text) == 1 and opened[-1:] == ["span"] and html[at:].startswith("</span>")
            alone = alone or (tex and _is_formula(html[: part.start()], unescape(text)))
            if re.search(r"[$\\]", unescape(text)) and not alone and not CODE & set(opened):
                found.append(f"TeX mark in {text!r}")
        elif tag not in TAGS:
            found.append(f"tag {tag}")
        elif slash:
            if not opened or opened.pop() != tag:
                found.append(f"misplaced </{tag}>")
        else:
            if tag not in {"br", "hr"}:
                opened.append(tag)
            found += [
                f"{tag} {name}={value!r}"
                for name, value in _ATTRIBUTE.findall(attributes)
                if not _fits(tag, name, unescape(value))
            ]
    return found + [f"<{tag}> left open" for tag in opened]


def _is_formula(before: str, text: str) -> bool:
    """Whether a text is one formula for MathJax, of commands that do no more than math."""
    inside = re.fullmatch(r"(\$\$?)([^$]*)\1", text)
    return (
        before.endswith('<span class="mnb-math">')
        and inside is not None
        and not re.search(r"\\[()\[\]]|href|url|html|style|class|Id|uni|req|def|new|let", inside[2])
    )


def _fits(tag: str, name: str, value: str) -> bool:
    if tag in MATH:
        return name not in {"href", "src", "style", "class", "id"} and not re.search(
            r"[:(<>]", value
        )
    return bool(re.fullmatch(VALUES.get((tag, name), r"(?!)"), value))
