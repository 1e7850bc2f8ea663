"""Freezing a long block from inside: the elements that are open where the rest begins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mistral_nb.markdown.parsing import closed, spans

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token

__all__ = [
    "Inside",
    "Scope",
    "empty_cells",
    "find_inside",
    "is_closed_leaf",
    "lines_of",
    "misjudged",
    "open_child",
    "reopen",
    "restore_looseness",
]

_LISTS = {"bullet_list_open", "ordered_list_open"}
_CONTAINERS = {"list_item_open", "blockquote_open"}
_PLACEHOLDER = "#"
"""An empty heading: it stands for the frozen content of an item or a quote, and ends by itself."""
_PLACEHOLDER_TOKENS = 3
SPARSE = 10_000
"""Empty cells of a table; one with more is not frozen from inside, as the parser ends a table that
lacks too many cells and has to count them all."""

_TAGS = {
    "bullet_list_open": ("<ul>", "</ul>"),
    "ordered_list_open": ("<ol>", "</ol>"),
    "list_item_open": ("<li>", "</li>"),
    "blockquote_open": ("<blockquote>", "</blockquote>"),
    "table_open": ("<table><tbody>", "</tbody></table>"),
    "fence": ("<pre><code>", "</code></pre>"),
}


@dataclass
class Scope:
    """One element that is open where the rest begins.

    Attributes:
        kind: Type of the token that opens it.
        start: Where its source begins, in characters of the open block's source.
        html: Where its HTML begins, in characters of the open block's HTML.
        lead: Source that opens it again, to be parsed before the rest.
        loose: It is a list, and its paragraphs stand apart.
        empty: It is a table; how many empty cells are frozen.
    """

    kind: str
    start: int
    html: int
    lead: str
    loose: bool = False
    empty: int = 0

    @property
    def tags(self) -> tuple[str, str]:
        """Opening and closing tags around what is inside."""
        return _TAGS[self.kind]


@dataclass(frozen=True)
class Inside:
    """A place inside the open block where the rest may begin anew.

    Attributes:
        line: The line it begins with.
        token: The first token that is not frozen.
        kept: How many of the present scopes stay open.
        opened: Scopes to open, each with the token that opens it.
    """

    line: int
    token: int
    kept: int
    opened: list[tuple[Scope, int]]


def reopen(tokens: Sequence[Token], scopes: Sequence[Scope]) -> tuple[list[int], int] | None:
    """Find the scopes in tokens parsed from their leads and the rest.

    Returns:
        The token that opens each scope, and the first token of the rest; or None when the tokens
        do not open with the scopes.
    """
    found = []
    at = 0
    for scope in scopes:
        if at >= len(tokens) or tokens[at].type != scope.kind:
            return None
        found.append(at)
        if scope.kind in _CONTAINERS:
            at += 1 + _PLACEHOLDER_TOKENS
        elif scope.kind == "table_open":
            while tokens[at].type != "thead_close":
                at += 1
            at += 2 if tokens[at + 1].type == "tbody_open" else 1
        elif scope.kind != "fence":
            at += 1
    return found, at


def misjudged(
    tokens: Sequence[Token], scopes: Sequence[Scope], openings: Sequence[int]
) -> int | None:
    """Find the outermost scope whose frozen part would be written otherwise by now."""
    for depth, (scope, opening) in enumerate(zip(scopes, openings, strict=True)):
        token = tokens[opening]
        if token.meta.get("loose") and not scope.loose:
            return depth
        if scope.kind == "fence" and (
            closed(token) or any(later.nesting != -1 for later in tokens[opening + 1 :])
        ):
            return depth
        if scope.kind == "table_open" and scope.empty + empty_cells(tokens) > SPARSE:
            return depth
    return None


def restore_looseness(
    tokens: Sequence[Token], scopes: Sequence[Scope], openings: Sequence[int]
) -> None:
    """Write the paragraphs of open lists as the frozen ones were written."""
    for scope, opening in zip(scopes, openings, strict=True):
        if scope.kind not in _LISTS:
            continue
        level = tokens[opening].level
        for token in tokens[opening + 1 :]:
            if token.level <= level:
                break
            if token.level == level + 2 and token.type in {"paragraph_open", "paragraph_close"}:
                token.hidden = not scope.loose


def empty_cells(tokens: Sequence[Token]) -> int:
    """Count the cells, or other texts, that are empty."""
    return sum(token.type == "inline" and not token.content for token in tokens)


def find_inside(
    tokens: Sequence[Token],
    present: Sequence[tuple[Scope, int]],
    lines: Sequence[str],
    skipped: int,
    offset: int,
) -> Inside | None:
    """Look for the deepest place where the rest of the open block may begin anew.

    Args:
        tokens: Block tokens of one open block, parsed from whole lines.
        present: The scopes that are open already, each with the token that opens it.
        lines: What the tokens were parsed from: the leads, then the rest.
        skipped: How many of the lines are leads.
        offset: Where the rest begins, in characters of the open block's source.

    Returns:
        The place, or None when nothing more can be frozen.
    """
    walk = _Walk(tokens, present, lines, skipped, offset)
    walk.descend(0, len(tokens))
    return walk.best


class _Walk:
    """The way down from the open block to its last child, its last child, and so on."""

    def __init__(
        self,
        tokens: Sequence[Token],
        present: Sequence[tuple[Scope, int]],
        lines: Sequence[str],
        skipped: int,
        offset: int,
    ) -> None:
        self.tokens = tokens
        self.present = present
        self.lines = lines
        self.skipped = skipped
        self.offset = offset
        self.kept = 0
        self.opened: list[tuple[Scope, int]] = []
        self.quotes = 0
        self.container_line = -1
        self.best: Inside | None = None

    def descend(self, first: int, past: int) -> None:
        """Go into one element, given as its first token and the one past its last."""
        token = self.tokens[first]
        line, end = lines_of(token)
        if is_closed_leaf(self.tokens, first):
            self.offer(end, past)
            return
        self.offer(line, first)
        if token.type not in _TAGS or not self.enter(token, first, line):
            return
        if token.type == "fence":
            self.offer(end, first)
        elif token.type == "table_open":
            self.offer(end, past - 2)
        else:
            start = first + 1
            if token.type in _CONTAINERS and line < self.skipped:
                start += _PLACEHOLDER_TOKENS
            children = spans(self.tokens, start, past - 1)
            if not children:
                return
            last = open_child(self.tokens, children)
            if last == len(children) - 1:
                self.descend(*children[last])
            else:
                child = children[last][0]
                self.offer(lines_of(self.tokens[child])[0], child)

    def offer(self, line: int, token: int) -> None:
        """Take a place, if something is frozen by it and the leads can lead to it."""
        if line > max(self.skipped, self.container_line):
            self.best = Inside(line, token, self.kept, list(self.opened))

    def enter(self, token: Token, index: int, line: int) -> bool:
        """Open a scope, or recognise one that is open."""
        if token.type == "blockquote_open":
            self.quotes += 1
        reopened = [opening for _, opening in self.present[self.kept :]]
        if not self.opened and reopened[:1] == [index]:
            self.kept += 1
            return True
        lead = self.lead(token, line)
        if lead is None:
            return False
        start = self.offset + sum(map(len, self.lines[self.skipped : line]))
        loose = bool(token.meta.get("loose", False))
        self.opened.append((Scope(token.type, start, 0, lead, loose), index))
        if token.type in _CONTAINERS:
            self.container_line = line
        return True

    def lead(self, token: Token, line: int) -> str | None:
        """Write the source that opens an element again, or None if that is not simple."""
        if token.type in _LISTS:
            return ""
        if line <= self.container_line or "\t" in self.lines[line]:
            return None
        if token.type == "fence":
            return self.lines[line]
        if token.type == "table_open":
            body = any(inner.type == "tbody_open" for inner in self.tokens)
            whole = body and empty_cells(self.tokens) <= SPARSE
            return "".join(self.lines[line : line + 2]) if whole else None
        marks = rf"(?: *>){{{self.quotes}}}"
        if token.type == "blockquote_open":
            found = re.match(marks, self.lines[line])
            return f"{found[0]} {_PLACEHOLDER}\n" if found else None
        found = re.match(
            rf"({marks} *(?:[-+*]|\d{{1,9}}[.)]))( {{1,4}}(?=[^ \n])|)", self.lines[line]
        )
        return f"{found[1]}{found[2] or ' '}{_PLACEHOLDER}\n" if found else None


def is_closed_leaf(tokens: Sequence[Token], index: int) -> bool:
    """Tell whether a token opens a block that ends with its own last line.

    A heading with a bar in it may still turn out to be the first row of a table.
    """
    token = tokens[index]
    if token.type == "heading_open":
        return "|" not in tokens[index + 1].content
    if token.type == "math_block":
        return "|" not in token.content
    return token.type == "hr" or (token.type == "fence" and closed(token))


def lines_of(token: Token) -> tuple[int, int]:
    """Tell a block token's first line and the one past its last."""
    first, past = token.map or (0, 0)
    return first, past


def open_child(tokens: Sequence[Token], children: Sequence[tuple[int, int]]) -> int:
    """Find the first of some siblings that later text may still change.

    It is the last one, and what ends in a link definition on the line before it: the definition's
    title may not be complete.
    """
    last = len(children) - 1
    while last > 0:
        here = tokens[children[last][0]]
        before = children[last][0] - 1
        while tokens[before].nesting == -1:
            before -= 1
        if tokens[before].type != "definition" or lines_of(tokens[before])[1] != lines_of(here)[0]:
            break
        last -= 1
    return last
