"""Markdown source -> markdown-it tokens: CommonMark, tables, strikethrough, tasks, dollar math.

Block structure and inline content are parsed by separate calls, so that the incremental
renderer can look for block boundaries often and parse inline content only when it is shown.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt
from markdown_it.parser_block import ParserBlock
from mdit_py_plugins.dollarmath import dollarmath_plugin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.ruler import RuleOptionsType
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

__all__ = [
    "BYTE_ORDER_MARK",
    "References",
    "closed",
    "inline",
    "parse",
    "settle",
    "spans",
    "split_lines",
    "with_line_end",
]

BYTE_ORDER_MARK = "\ufeff"

MAX_NESTING = 40
"""Levels of lists and quotes; what is nested deeper is shown as plain text."""

_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_INTERRUPTS: RuleOptionsType = {"alt": ["paragraph", "reference", "blockquote", "list"]}


class References(dict[str, dict[str, Any]]):
    """Link reference definitions: the settled ones, and those of the text being parsed.

    Markdown-it fills the dictionary itself while it parses blocks and asks it while it parses
    inline content; what was asked for in vain is remembered.

    Args:
        known: Definitions of earlier text, which win over later ones; shared, never changed.

    Attributes:
        missing: Labels that were asked for and not found.
    """

    def __init__(self, known: dict[str, dict[str, Any]]) -> None:
        super().__init__()
        self.known = known
        self.missing: set[str] = set()

    def __contains__(self, label: object) -> bool:
        return label in self.known or super().__contains__(label)

    def get(self, label: str, default: Any = None) -> Any:
        """Look a label up; earlier text first."""
        found = self.known.get(label) or super().get(label)
        if found is None:
            self.missing.add(label)
            return default
        return found


class _Blocks(ParserBlock):
    """The block parser, with two things it lacks.

    It tells which lists are loose (a list that is parsed in two parts must agree with itself),
    and what is nested too deep becomes plain text instead of vanishing.
    """

    def tokenize(self, state: StateBlock, startLine: int, endLine: int) -> None:  # noqa: N803
        container = state.tokens[-1] if state.tokens else None
        if state.level >= MAX_NESTING:
            token = state.push("code_block", "code", 0)
            token.content = state.getLines(startLine, endLine, state.blkIndent, keepLastLF=True)
            token.map = [startLine, endLine]
            state.line = endLine
        else:
            super().tokenize(state, startLine, endLine)
        if container is not None and container.type == "list_item_open":
            container.meta["tight"] = state.tight


class _Markdown(MarkdownIt):
    """The parser; which targets become links is decided later, where they are written out."""

    def validateLink(self, url: str) -> bool:  # noqa: ARG002, N802
        return True


def _list_knows_looseness(md: MarkdownIt) -> None:
    """Wrap the list rule: the opening token says in ``meta["loose"]`` what the list came to be."""
    rule = next(rule for rule in md.block.ruler.__rules__ if rule.name == "list")
    original = rule.fn

    def list_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        first = len(state.tokens)
        if not original(state, start, end, silent):
            return False
        if not silent:
            opening = state.tokens[first]
            items = [
                token
                for token in state.tokens[first:]
                if token.type == "list_item_open" and token.level == opening.level + 1
            ]
            maps = [token.map or [0, 0] for token in items]
            opening.meta["loose"] = any(
                not token.meta.get("tight", True) for token in items
            ) or any(
                here[1] - here[0] > 1 and state.isEmpty(here[1] - 1) for here, _ in pairwise(maps)
            )
        return True

    md.block.ruler.at("list", list_block, {"alt": rule.alt})


def _math_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Parse ``$$ ... $$`` on its own lines; no blank line inside.

    Where the block ends is decided line by line, without looking ahead for the closing marker,
    so text that comes later never changes an earlier block. Unclosed, it is a paragraph.
    """
    if state.is_code_block(start):
        return False
    text = _line(state, start)
    if not text.startswith("$$") or "$$" in text[2:-2]:
        return False
    ended = text[3:].endswith("$$")
    if "$$" in text[2:] and not ended:
        return False
    if silent:
        return True
    line = start
    lines = [text]
    while not ended:
        line += 1
        if line >= end or state.isEmpty(line) or state.sCount[line] < state.blkIndent:
            line -= 1
            break
        lines.append(_line(state, line))
        ended = lines[-1].endswith("$$")
    state.line = line + 1
    content = "\n".join(lines)
    if ended:
        token = state.push("math_block", "math", 0)
        token.content = content[2:-2].strip()
        token.map = [start, state.line]
        return True
    opening = state.push("paragraph_open", "p", 1)
    opening.map = [start, state.line]
    token = state.push("inline", "", 0)
    token.content = content.strip()
    token.map = [start, state.line]
    token.children = []
    state.push("paragraph_close", "p", -1)
    return True


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].strip()


def _line_break(state: StateInline, silent: bool) -> bool:
    """Let ``<br>`` through, the one HTML tag that table cells cannot do without."""
    found = _LINE_BREAK.match(state.src, state.pos, state.posMax)
    if found is None:
        return False
    if not silent:
        state.push("hardbreak", "br", 0)
    state.pos = found.end()
    return True


@cache
def _parser() -> MarkdownIt:
    """Build the one parser; it keeps no state between texts."""
    md = _Markdown("commonmark")
    md.block = _Blocks()
    md.configure(
        "commonmark",
        options_update={
            "maxNesting": MAX_NESTING,
            "tasklists": True,
            "inline_definitions": True,
        },
    )
    md.enable(["table", "strikethrough"]).disable(["html_block", "html_inline"])
    md.use(
        dollarmath_plugin,
        allow_labels=False,
        allow_space=False,
        allow_digits=False,
        double_inline=True,
    )
    md.block.ruler.at("math_block", _math_block, _INTERRUPTS)
    md.inline.ruler.before("autolink", "line_break", _line_break)
    _list_knows_looseness(md)
    return md


def settle(text: str) -> str:
    r"""Bring text into the form the parser expects.

    Args:
        text: Any text; lone surrogates and NUL become U+FFFD, line ends become ``\n``.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    if not text.isascii():
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def parse(source: str, references: References) -> list[Token]:
    """Parse block structure only; see :func:`inline` for what stands in the blocks.

    Args:
        source: Settled text, whole lines.
        references: Receives the link definitions found.

    Returns:
        Block tokens; ``map`` counts lines of ``source``.
    """
    md = _parser()
    tokens: list[Token] = []
    md.block.parse(source, md, {"references": references}, tokens)
    return tokens


def inline(tokens: Sequence[Token], references: References) -> None:
    """Parse the inline content of block tokens, in place."""
    md = _parser()
    env = {"references": references}
    for token in tokens:
        if token.type == "inline":
            token.children = []
            md.inline.parse(token.content, md, env, token.children)


def spans(tokens: Sequence[Token], start: int, stop: int) -> list[tuple[int, int]]:
    """Find the elements that stand directly between two tokens, as (first, past the last)."""
    found = []
    at = start
    while at < stop:
        last = at
        if tokens[at].nesting == 1:
            level = tokens[at].level
            while tokens[last].nesting != -1 or tokens[last].level != level:
                last += 1
        found.append((at, last + 1))
        at = last + 1
    return found


def with_line_end(text: str) -> str:
    """End the last line of a text."""
    return text if not text or text.endswith("\n") else text + "\n"


def split_lines(source: str) -> list[str]:
    r"""Split a text into lines as the parser does: at ``\n`` only, which they keep."""
    return [f"{line}\n" for line in source.split("\n")[:-1]]


def closed(fence: Token) -> bool:
    """Tell whether a fence token's closing line was seen; the source must end with a line end."""
    first, past = fence.map or (0, 0)
    return past - first - 1 > fence.content.count("\n")
