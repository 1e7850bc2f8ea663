"""Markdown that arrives in pieces -> small patches of HTML, at a cost linear in the text.

A block that later text cannot change is *closed*: its HTML is written once and its source is
never looked at again. What is left, the *rest*, is parsed anew for every frame. A block that
grows long is frozen from inside: finished list items, table rows, lines of code, paragraphs of
a quote. The rest then begins in the middle of it, and a few *lead* lines, parsed before the
rest, open the surrounding elements again (:mod:`~mistral_nb.markdown.scopes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mistral_nb.markdown.half_open import complete_inline, complete_lines
from mistral_nb.markdown.leaves import escape
from mistral_nb.markdown.page import Page, Patch
from mistral_nb.markdown.parsing import (
    BYTE_ORDER_MARK,
    References,
    inline,
    parse,
    settle,
    spans,
    split_lines,
    with_line_end,
)
from mistral_nb.markdown.scopes import (
    Scope,
    empty_cells,
    find_inside,
    is_closed_leaf,
    lines_of,
    misjudged,
    open_child,
    reopen,
    restore_looseness,
)
from mistral_nb.markdown.writing import clean, fence_opening, prose, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token

__all__ = ["Incremental"]

SPLIT = 512
"""Characters of an open block that are cheap to parse for every frame."""

FREE = 1_000
"""Characters of rest that may be parsed for every frame."""

RATE = 16
"""Characters that may be parsed for each one that arrives, if the rest is longer, ..."""

SAVED = 200_000
"""... and how many may be saved up."""

PASSES = 4
"""How often a frame may parse the rest."""

_HALVES = frozenset({"\r", *map(chr, range(0xD800, 0xDC00))})
"""Characters that may be the first half of one."""


@dataclass(frozen=True, slots=True)
class _Parsed:
    """Whole lines of the rest, parsed behind the leads of the scopes.

    Attributes:
        tokens: Block tokens.
        references: The link definitions among them.
        openings: The token that opens each scope.
        first: The first token that stands for something in the rest.
        lines: The lines that were parsed.
        skipped: How many of them are leads.
    """

    tokens: list[Token]
    references: References
    openings: list[int]
    first: int
    lines: list[str]
    skipped: int


class Incremental:
    """A Markdown text that arrives in pieces, rendered frame by frame.

    However the text is cut, after :meth:`finish` the HTML equals the one-shot rendering.

    Args:
        split: Characters of an open block; a longer one is frozen from inside.
    """

    def __init__(self, *, split: int = SPLIT) -> None:
        self._split = split
        self._chunks: list[str] = []
        self._carry = ""
        self._arrived: list[str] = []
        self._page = Page()
        # The open block: its source before the rest, the rest, and what is open there.
        self._past: list[str] = []
        self._rest = ""
        self._scopes: list[Scope] = []
        self._whole = self._examined = 0
        self._saved = SAVED
        # Link definitions so far, and closed blocks that asked for one in vain.
        self._known: dict[str, dict[str, Any]] = {}
        self._missing: set[str] = set()
        self._waiting: dict[int, tuple[set[str], str]] = {}

    @property
    def text(self) -> str:
        """All that was fed."""
        return "".join(self._chunks)

    @property
    def blocks(self) -> tuple[str, ...]:
        """HTML of each block, as the browser has it when all patches are applied."""
        return self._page.blocks

    @property
    def html(self) -> str:
        """The whole HTML, as the browser has it when all patches are applied."""
        return "".join(self.blocks)

    def feed(self, text: str) -> None:
        """Take the next piece of text; any cut is fine."""
        if not text:
            return
        begins = not self._chunks
        self._chunks.append(text)
        text = self._carry + (text.removeprefix(BYTE_ORDER_MARK) if begins else text)
        # The other half of a line end or of a surrogate pair may be in the next piece.
        cut = len(text) - (text[-1:] in _HALVES)
        self._carry = text[cut:]
        self._arrived.append(settle(text[:cut]))

    def frame(self) -> list[Patch]:
        """Bring the page up to date.

        Returns:
            The changes since the last call, at most one for each block.
        """
        arrived = self._take_arrived()
        if not arrived:
            return []
        self._saved = min(SAVED, self._saved) + RATE * len(arrived)
        if len(self._rest) > max(FREE, self._saved // PASSES):
            self._page.append_plain(prose(arrived))
            return self._page.take()
        self._advance()
        self._show_rest()
        return self._page.take()

    def finish(self) -> list[Patch]:
        """End the text and settle what was still open, and links whose targets came late.

        Returns:
            The last changes.
        """
        self._arrived.append(settle(self._carry))
        self._carry = ""
        self._take_arrived()
        self._rest = with_line_end(self._rest)
        self._whole = len(self._rest)
        if self._scopes and self._scopes[-1].kind == "fence":
            self._take_back(len(self._scopes) - 1)  # it ends here: now it is coloured
        self._close_blocks(self._parse_lines(), final=True)
        self._page.show([])
        for block, (missing, source) in self._waiting.items():
            if missing & self._known.keys():
                references = References(self._known)
                tokens = parse(source, references)
                inline(tokens, references)
                self._page.replace(block, clean(write(tokens)))
        self._waiting.clear()
        return self._page.take()

    def _take_arrived(self) -> str:
        arrived = "".join(self._arrived)
        self._arrived.clear()
        self._rest += arrived
        return arrived

    def _advance(self) -> None:
        """Close and freeze what whole lines allow; a line that has only begun decides nothing."""
        self._whole = self._rest.rfind("\n") + 1
        if self._whole == self._examined:
            return
        self._close_blocks(self._parse_lines(), final=False)
        if len(self._rest) > self._split:
            self._freeze_inside(self._parse_lines())
        self._examined = self._whole

    def _parse(self, source: str, references: References) -> list[Token]:
        self._saved = max(0, self._saved - len(source))
        return parse(source, references)

    def _parse_lines(self) -> _Parsed:
        """Parse the whole lines of the rest; take back scopes that were not what they seemed."""
        while True:
            lead = _lead(self._scopes)
            source = lead + self._rest[: self._whole]
            references = References(self._known)
            tokens = self._parse(source, references)
            reopened = reopen(tokens, self._scopes)
            wrong = 0 if reopened is None else misjudged(tokens, self._scopes, reopened[0])
            if reopened is not None and wrong is None:
                openings, first = reopened
                restore_looseness(tokens, self._scopes, openings)
                lines = split_lines(source)
                return _Parsed(tokens, references, openings, first, lines, lead.count("\n"))
            self._take_back(wrong or 0)

    def _take_back(self, depth: int) -> None:
        """Begin the rest again where a scope begins, because the scope came out otherwise."""
        while depth and self._scopes[depth - 1].start == self._scopes[depth].start:
            depth -= 1
        scope = self._scopes[depth]
        past = "".join(self._past)
        self._past = [past[: scope.start]]
        self._rest = past[scope.start :] + self._rest
        self._whole += len(past) - scope.start
        self._page.rewind(scope.html)
        del self._scopes[depth:]

    def _close_blocks(self, parsed: _Parsed, *, final: bool) -> None:
        """Close the blocks that whole lines have ended, or all of them."""
        tokens = parsed.tokens
        blocks = spans(tokens, 0, len(tokens))
        count = len(blocks)
        if blocks and not final and not is_closed_leaf(tokens, blocks[-1][0]):
            count = open_child(tokens, blocks)
        if count == 0:
            return
        ends = [lines_of(tokens[start])[0] for start, _ in blocks[1:]]
        ends.append(lines_of(tokens[blocks[-1][0]])[1])
        self._learn(parsed.references, ends[count - 1])
        line = parsed.skipped
        for (start, stop), end in zip(blocks[:count], ends, strict=False):
            self._pass("".join(parsed.lines[line:end]))
            line = end
            html = self._write(tokens[max(start, parsed.first) : stop], _opening(self._scopes), "")
            if html or self._scopes:
                if self._missing:
                    self._waiting[len(self._page.closed)] = (self._missing, "".join(self._past))
                    self._missing = set()
                self._page.close(html)
            self._past = []
            self._scopes = []

    def _pass(self, source: str) -> None:
        """Let the rest begin behind some source."""
        self._past.append(source)
        self._rest = self._rest[len(source) :]
        self._whole -= len(source)

    def _freeze_inside(self, parsed: _Parsed) -> None:
        """Freeze the finished parts of the open block."""
        tokens = parsed.tokens
        if len(spans(tokens, 0, len(tokens))) != 1:
            return
        present = list(zip(self._scopes, parsed.openings, strict=True))
        offset = sum(map(len, self._past))
        inside = find_inside(tokens, present, parsed.lines, parsed.skipped, offset)
        if inside is None:
            return
        self._learn(parsed.references, inside.line)
        first = parsed.first
        before, after = self._scopes, self._scopes[: inside.kept]
        for scope, opening in inside.opened:
            html = self._write(tokens[first:opening], _opening(before), _closing(after))
            self._page.frozen += html
            scope.html = len(self._page.frozen)
            first = opening
            before, after = after, [*after, scope]
        self._scopes = after
        piece = tokens[first : inside.token]
        code = ""
        if after[-1:] and after[-1].kind == "fence":
            fence = tokens[inside.token]
            code = (fence_opening(fence) if inside.opened else "") + escape(fence.content)
        elif after[-1:] and after[-1].kind == "table_open":
            after[-1].empty += empty_cells(piece)
        self._page.frozen += self._write(piece, _opening(before), _closing(after), code)
        self._pass("".join(parsed.lines[parsed.skipped : inside.line]))

    def _write(self, tokens: Sequence[Token], opened: str, closing: str, code: str = "") -> str:
        """Write tokens that are final, and note which link definitions they lack."""
        references = References(self._known)
        inline(tokens, references)
        self._missing |= references.missing
        return clean(write(tokens) + code, opened, closing)

    def _learn(self, references: References, line: int) -> None:
        """Keep the link definitions that end before a line."""
        for label, definition in references.items():
            if definition["map"][1] <= line:
                self._known.setdefault(label, definition)

    def _show_rest(self) -> None:
        """Show what is still open, half-open syntax completed."""
        references = References(self._known)
        tokens = self._parse_rest(references)
        reopened = reopen(tokens, self._scopes)
        if reopened is None:
            return
        openings, first = reopened
        restore_looseness(tokens, self._scopes, openings)
        if self._scopes and self._scopes[-1].kind == "fence":
            tokens[openings[-1]].type = "fence_rest"
        inline(tokens, references)
        tails = []
        for start, stop in spans(tokens, 0, len(tokens)):
            opened = _opening(self._scopes) if start == 0 else ""
            html = clean(write(tokens[max(start, first) : stop], live=True), opened)
            if html or opened:
                tails.append(html)
        self._page.show(tails)

    def _parse_rest(self, references: References) -> list[Token]:
        """Parse the rest, its half-open end completed."""
        lead = _lead(self._scopes)
        source = with_line_end(lead + self._rest)
        tokens = self._parse(source, references)
        block, _ = _last_block(tokens, source)
        completed = with_line_end(lead + complete_lines(self._rest, block))
        if completed != source:
            references.clear()
            tokens = self._parse(completed, references)
        _, text = _last_block(tokens, completed)
        if text is not None:
            text.content = complete_inline(text.content)
        return tokens


def _last_block(tokens: Sequence[Token], source: str) -> tuple[str, Token | None]:
    """Find the innermost block that the last line of some source belongs to.

    Returns:
        The type of the token that opens it, and the token that holds its inline content, if any.
    """
    for index in range(len(tokens) - 1, -1, -1):
        token = tokens[index]
        if token.nesting == 0:
            if (token.map or [0, 0])[1] <= source.rstrip("\n").count("\n"):
                break
            if token.type == "inline":
                if not token.content:
                    continue  # a cell of the last row that has not come yet
                return tokens[index - 1].type, token
            return token.type, None
    return "", None


def _lead(scopes: Sequence[Scope]) -> str:
    return "".join(scope.lead for scope in scopes)


def _opening(scopes: Sequence[Scope]) -> str:
    return "".join(scope.tags[0] for scope in scopes)


def _closing(scopes: Sequence[Scope]) -> str:
    return "".join(scope.tags[1] for scope in reversed(scopes))
