"""Tokens -> safe HTML. Every tag, attribute and URL scheme that can occur is named here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import nh3

from mistral_nb.markdown.leaves import (
    MATH_ATTRIBUTES,
    MATH_TAGS,
    TOKEN_COLOURS,
    escape,
    highlight,
    leave,
    typeset,
)
from mistral_nb.markdown.parsing import closed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markdown_it.token import Token

__all__ = [
    "ATTRIBUTES",
    "TAGS",
    "cite",
    "clean",
    "fence_opening",
    "leave_tex",
    "linked",
    "prose",
    "write",
]

TITLE_LIMIT = 200
"""Characters of a link's title or of a target that is only told, not linked."""

_TAGS = """
    p h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code hr br em strong del a span sup div
    table thead tbody tr th td
"""
TAGS = frozenset(_TAGS.split()) | MATH_TAGS
ATTRIBUTES = {
    "a": frozenset({"href", "title", "target", "rel"}),
    "span": frozenset({"title"}),
    "ol": frozenset({"start"}),
    "th": frozenset({"style"}),
    "td": frozenset({"style"}),
    "pre": frozenset({"data-language"}),
} | dict.fromkeys(MATH_TAGS, MATH_ATTRIBUTES)
CLASSES = {
    "a": {"mnb-image"},
    "span": {"mnb-image", "mnb-link", "mnb-math", *TOKEN_COLOURS},
    "li": {"mnb-task"},
    "pre": {"highlight"},
    "code": {"mnb-tex"},
    "sup": {"mnb-cite"},
    "div": {"mnb-math"},
}
SCHEMES = {"http", "https", "mailto"}

_CLEANER = nh3.Cleaner(
    tags=set(TAGS),
    attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
    allowed_classes=CLASSES,
    url_schemes=SCHEMES,
    url_relative="deny",
    filter_style_properties={"text-align"},
    link_rel=None,
)
_TARGETS = {
    "mnb-link": re.compile(r"https?://[^\s/?#]|mailto:[^\s]", re.IGNORECASE),
    "mnb-image": re.compile(r"https?://[^\s/?#]", re.IGNORECASE),
}
_TEX_MARKS = re.compile(r"[$\\]")
_JOINER = "\u2060"
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_LOWERED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_CITATION = re.compile(rf"{_JOINER}([⁰¹²³⁴⁵⁶⁷⁸⁹]{{1,4}})")
_LANGUAGE = re.compile(r"[\w+#.-]{1,32}", re.ASCII)
_ALIGNMENTS = {f"text-align:{side}" for side in ("left", "right", "center")}


def clean(html: str, opened: str = "", closing: str = "") -> str:
    """Pass HTML through the allow-list, standing inside elements that are already open.

    Args:
        html: A piece of HTML as :func:`write` makes it.
        opened: Opening tags of the elements the piece starts in, outermost first.
        closing: Closing tags of the elements it leaves open, innermost first.

    Returns:
        The piece, without ``opened`` and ``closing``.
    """
    cleaned = _CLEANER.clean(f"{opened}{html}{closing}")
    if not (cleaned.startswith(opened) and cleaned.endswith(closing)):
        # Cannot happen with balanced tags; if it ever does, show the source of the page.
        return escape(html)
    return cleaned[len(opened) : len(cleaned) - len(closing)]


def write(tokens: Sequence[Token], *, live: bool = False) -> str:
    """Write block tokens as HTML; not cleaned yet.

    Args:
        tokens: Block tokens with their inline content parsed.
        live: More text may come: a fence that is not closed is not coloured yet.

    Returns:
        HTML, each element written the same whatever stands before or after it.
    """
    out: list[str] = []
    for token in tokens:
        if token.hidden:
            continue
        kind = token.type
        if kind == "inline":
            out.append(_write_inline(token.children or []))
        elif kind == "fence":
            plain = live and not closed(token)
            out.append(fence_opening(token))
            out.append(
                escape(token.content) if plain else highlight(token.content, _language(token))
            )
            out.append("</code></pre>")
        elif kind in _BLOCKS:
            out.append(_BLOCKS[kind](token))
        elif token.tag in TAGS:
            out.append(f"<{token.tag}>" if token.nesting == 1 else f"</{token.tag}>")
    return "".join(out)


def leave_tex(tokens: Sequence[Token]) -> None:
    """Have the math among tokens left as TeX instead of turned into MathML."""
    for token in tokens:
        if token.type.startswith("math_"):
            token.type = token.type.replace("math_", "tex_", 1)
        leave_tex(token.children or [])


def fence_opening(token: Token) -> str:
    """Write the opening tags of a fenced block."""
    language = _language(token)
    named = f' data-language="{language}"' if language else ""
    return f'<pre{named} class="highlight"><code>'


def _language(token: Token) -> str:
    found = _LANGUAGE.match(token.info.strip())
    return found[0] if found else ""


def _list_opening(token: Token) -> str:
    start = token.attrs.get("start")
    return f"<{token.tag}>" if start is None else f'<{token.tag} start="{start}">'


def _item_opening(token: Token) -> str:
    if "checked" not in token.meta:
        return "<li>"
    return f'<li class="mnb-task">{"☑" if token.meta["checked"] else "☐"} '


def _cell_opening(token: Token) -> str:
    style = token.attrs.get("style")
    return f'<{token.tag} style="{style}">' if style in _ALIGNMENTS else f"<{token.tag}>"


_BLOCKS: dict[str, Callable[[Token], str]] = {
    "bullet_list_open": _list_opening,
    "ordered_list_open": _list_opening,
    "list_item_open": _item_opening,
    "th_open": _cell_opening,
    "td_open": _cell_opening,
    "hr": lambda _: "<hr>",
    "code_block": lambda token: f"<pre><code>{escape(token.content)}</code></pre>",
    "math_block": lambda token: f'<div class="mnb-math">{typeset(token.content, block=True)}</div>',
    "tex_block": lambda token: f'<div class="mnb-math">{leave(token.content, block=True)}</div>',
    "fence_rest": lambda token: f"{escape(token.content)}</code></pre>",
    "definition": lambda _: "",
}


def _write_inline(tokens: Sequence[Token]) -> str:
    out: list[str] = []
    closing: list[str] = []
    for token in tokens:
        kind = token.type
        if kind in _INLINES:
            out.append(_INLINES[kind](token))
        elif kind == "image":
            out.append(_image(token, in_link=bool(closing)))
        elif kind == "link_open":
            opening, end = _link(str(token.attrs.get("href", "")), _title(token), "mnb-link")
            out.append(opening)
            closing.append(end)
        elif kind == "link_close":
            out.append(closing.pop())
        else:
            name = "del" if token.tag == "s" else token.tag
            out.append(f"<{name}>" if token.nesting == 1 else f"</{name}>")
    return "".join(out)


def prose(text: str) -> str:
    r"""Escape text outside code.

    JupyterLab and nbconvert run MathJax over the text of an output, sanitised or not, and
    MathJax can make links and styles. In an element of their own its marks find no partner.

    Args:
        text: Untrusted text, as it shall be read.

    Returns:
        HTML text, each ``$`` and ``\`` in a ``<span>`` of its own.
    """
    html = _TEX_MARKS.sub(r"<span>\g<0></span>", escape(text))
    return _CITATION.sub(_cited, html) if _JOINER in html else html


def cite(number: int) -> str:
    """Return characters that, put into Markdown, become the mark of a source.

    In prose the mark is ``<sup class="mnb-cite">[3]</sup>``; in code, where no element may
    stand, it is a raised number behind an invisible joiner.

    Args:
        number: The source's number, from 1.
    """
    return _JOINER + str(number).translate(_RAISED)


def _cited(mark: re.Match[str]) -> str:
    return f'<sup class="mnb-cite">[{mark[1].translate(_LOWERED)}]</sup>'


def linked(text: str) -> str:
    """Write a text as HTML; one that is an address on the web as a link to it.

    Args:
        text: Untrusted text.
    """
    opening, closing = _link(text, "", "mnb-link")
    return f"{opening}{prose(text)}{closing}" if opening.startswith("<a ") else prose(text)


_INLINES: dict[str, Callable[[Token], str]] = {
    "text": lambda token: prose(token.content),
    "text_special": lambda token: prose(token.content),
    "softbreak": lambda _: "\n",
    "hardbreak": lambda _: "<br>",
    "code_inline": lambda token: f"<code>{escape(token.content)}</code>",
    "math_inline": lambda token: typeset(token.content.strip()),
    "math_inline_double": lambda token: typeset(token.content.strip(), block=True),
    "tex_inline": lambda token: leave(token.content.strip()),
    "tex_inline_double": lambda token: leave(token.content.strip(), block=True),
}


def _title(token: Token) -> str:
    return str(token.attrs.get("title", ""))


def _link(target: str, title: str, kind: str) -> tuple[str, str]:
    """Write a link's tags; a target that is not on the web is told in the title only."""
    if not _TARGETS[kind].match(target):
        told = escape(" ".join(filter(None, [target[:TITLE_LIMIT], title[:TITLE_LIMIT]])))
        return f'<span class="{kind}" title="{told}">', "</span>"
    titled = f' title="{escape(title[:TITLE_LIMIT])}"' if title else ""
    named = ' class="mnb-image"' if kind == "mnb-image" else ""
    relation = 'target="_blank" rel="noopener noreferrer nofollow"'
    return f'<a href="{escape(target)}"{titled} {relation}{named}>', "</a>"


def _image(token: Token, *, in_link: bool) -> str:
    """Write an image as a link to it: nothing is loaded until the reader asks."""
    alt = prose(_plain(token.children or [])) or "image"
    target = "" if in_link else str(token.attrs.get("src", ""))
    opening, closing = _link(target, _title(token), "mnb-image")
    return f"{opening}{alt}{closing}"


def _plain(tokens: Sequence[Token]) -> str:
    return "".join(
        _plain(token.children or [])
        if token.type == "image"
        else "\n"
        if token.type in {"softbreak", "hardbreak"}
        else token.content
        for token in tokens
    )
