"""Markdown that arrives in pieces -> small patches of HTML, at a cost linear in the text.

A block that later text cannot change is *closed*: its HTML is written once and its source is
never looked at again. What is left, the *rest*, is parsed anew for every frame. A block that
grows long is frozen from inside: finished list items, table rows, lines of code, paragraphs of
a quote. The rest then begins in the middle of it, and a few *lead* lines, parsed before the
rest, open the surrounding elements again (:mod:`~mistral_nb.markdown.scopes`).
"""

from __future__ import annotations

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
    Inside,
    Scope,
    find_inside,
    is_closed_leaf,
    open_child,
    reopen,
    set_loose,
)
from mistral_nb.markdown.writing import clean, fence_opening, prose, write

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
        cut = len(text) - text.endswith(_HALVES)
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
        while not self._close_blocks(final=True):
            pass
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
        """Close and freeze what whole lines allow; a started line decides nothing."""
        if self._count_whole() == self._examined:
            return
        while not self._close_blocks(final=False):
            pass
        if len(self._rest) > self._split:
            self._freeze_inside()
        self._examined = self._whole

    def _count_whole(self) -> int:
        """Count the characters of the rest that are whole lines."""
        self._whole = self._rest.rfind("\n") + 1
        return self._whole

    def _leads(self) -> str:
        return "".join(scope.lead for scope in self._scopes)

    def _parse(self, source: str, references: References) -> list[Token]:
        self._saved = max(0, self._saved - len(source))
        return parse(source, references)

    def _parse_lines(self) -> tuple[list[Token], References, list[int], int] | None:
        """Parse the whole lines of the rest.

        Returns:
            The tokens, the definitions among them, the tokens that open the scopes and the first
            token of the rest; or None if the scopes are not what they seemed and were taken back.
        """
        references = References(self._known)
        tokens = self._parse(self._leads() + self._rest[: self._whole], references)
        reopened = reopen(tokens, self._scopes)
        if reopened is None:
            self._take_back(0)
            return None
        openings, first = reopened
        for depth, (scope, opening) in enumerate(zip(self._scopes, openings, strict=True)):
            token = tokens[opening]
            if "loose" in token.meta:
                if token.meta["loose"] and not scope.loose:
                    self._take_back(depth)
                    return None
                if scope.loose:
                    set_loose(tokens, opening, loose=True)
            if scope.kind == "fence" and (
                is_closed_leaf(tokens, opening)
                or any(t.nesting != -1 for t in tokens[opening + 1 :])
            ):
                self._take_back(depth)
                return None
        return tokens, references, openings, first

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
        self._examined = -1

    def _close_blocks(self, *, final: bool) -> bool:
        """Close the blocks that whole lines have ended.

        Returns:
            False if it has to be done again because scopes were taken back.
        """
        if final and self._scopes and self._scopes[-1].kind == "fence":
            self._take_back(len(self._scopes) - 1)
        parsed = self._parse_lines()
        if parsed is None:
            return False
        tokens, references, _, first = parsed
        groups = spans(tokens, 0, len(tokens))
        if not groups:
            return True
        count = len(groups)
        if not final and not is_closed_leaf(tokens, groups[-1][0]):
            count = open_child(tokens, groups)
        if count == 0:
            return True
        lead = self._leads()
        lines = split_lines(lead + self._rest[: self._whole])
        ends = [_line(tokens[start]) for start, _ in groups[1:]] + [
            (tokens[groups[-1][0]].map or [0, 0])[1]
        ]
        self._learn(references, ends[count - 1])
        line = lead.count("\n")
        for (start, stop), end in zip(groups[:count], ends, strict=False):
            self._past.append("".join(lines[line:end]))
            line = end
            opened = "".join(scope.tags[0] for scope in self._scopes)
            piece = tokens[max(start, first) : stop]
            html = self._write(piece, opened, "")
            if self._scopes or html:
                if self._missing:
                    self._waiting[len(self._page.closed)] = (self._missing, "".join(self._past))
                    self._missing = set()
                self._page.close(html)
            self._past = []
            self._scopes = []
        self._cut(sum(map(len, lines[lead.count("\n") : line])))
        return True

    def _freeze_inside(self) -> None:
        """Freeze the finished parts of the open block."""
        parsed = self._parse_lines()
        if parsed is None:
            return
        tokens, references, openings, first = parsed
        if len(spans(tokens, 0, len(tokens))) != 1:
            return
        lead = self._leads()
        source = lead + self._rest[: self._whole]
        offset = sum(map(len, self._past))
        present = list(zip(self._scopes, openings, strict=True))
        inside = find_inside(tokens, present, source, lead.count("\n"), offset)
        if inside is None:
            return
        self._learn(references, inside.line)
        self._freeze_tokens(tokens, first, inside)
        lines = split_lines(source)
        size = sum(map(len, lines[lead.count("\n") : inside.line]))
        self._past.append(self._rest[:size])
        self._cut(size)

    def _cut(self, size: int) -> None:
        self._rest = self._rest[size:]
        self._whole -= size

    def _freeze_tokens(self, tokens: list[Token], first: int, inside: Inside) -> None:
        kept = self._scopes[: inside.kept]
        opened = self._scopes
        for scope, opening in inside.opened:
            self._page.frozen += self._write(
                tokens[first:opening], _opening(opened), _closing(kept)
            )
            scope.html = len(self._page.frozen)
            first = opening
            opened = list(kept)
            kept = [*kept, scope]
        piece = tokens[first : inside.token]
        extra = ""
        last = tokens[inside.token] if inside.token < len(tokens) else None
        if kept and kept[-1].kind == "fence" and last is not None:
            extra = escape(last.content)
            if inside.opened:
                extra = fence_opening(last) + extra
        self._page.frozen += self._write(piece, _opening(opened), _closing(kept), extra)
        self._scopes = kept

    def _write(self, tokens: Sequence[Token], opened: str, closing: str, extra: str = "") -> str:
        """Write tokens that are final, and note which link definitions they lack."""
        references = References(self._known)
        inline(tokens, references)
        self._missing |= references.missing
        return clean(write(tokens) + extra, opened, closing)

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
        for scope, opening in zip(self._scopes, openings, strict=True):
            if "loose" in tokens[opening].meta:
                set_loose(tokens, opening, loose=scope.loose)
            if scope.kind == "fence":
                tokens[opening].type = "fence_rest"
        inline(tokens, references)
        tails = []
        for start, stop in spans(tokens, 0, len(tokens)):
            opened = _opening(self._scopes) if start == 0 else ""
            html = clean(write(tokens[max(start, first) : stop], live=True), opened)
            if html or (start == 0 and self._scopes):
                tails.append(html)
        self._page.show(tails)

    def _parse_rest(self, references: References) -> list[Token]:
        """Parse the rest, its half-open end completed."""
        lead = self._leads()
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


_HALVES = ("\r", *map(chr, range(0xD800, 0xDC00)))


def _opening(scopes: Iterable[Scope]) -> str:
    return "".join(scope.tags[0] for scope in scopes)


def _closing(scopes: Sequence[Scope]) -> str:
    return "".join(scope.tags[1] for scope in reversed(scopes))


def _line(token: Token) -> int:
    return (token.map or [0])[0]
