"""Half-open Markdown at the end of a text that still grows: shown as what it is about to be.

Nothing here decides what a text means: it only changes what a frame shows until the rest of a
construct has arrived. A wrong guess is put right by a later frame.
"""

from __future__ import annotations

import re

__all__ = ["complete_inline", "complete_lines"]

HIDDEN = 300
"""Characters a half-open link or formula may hide; if it is longer, it was likely none."""

_MARKS_ONLY = re.compile(r"[ >]*+(?:[-+*_=~`#|:<!\[$\\]++ *+|\d{1,9}[.)] *+)++")
_DIGITS_ONLY = re.compile(r"[ >]*\d{1,9}")
_TASK = re.compile(r"([ >]*(?:[-+*]|\d{1,9}[.)]) )\[[ xX]?\]?")
_FIRST_ROW = re.compile(r"([ >]*)\|(.*)")
_DASHES = re.compile(r"[ >]*\|[ |]*[:-][ |:-]*")
_FENCE_END = re.compile(r"[ >]*(?:`+|~+)[ ]*")
_BAR = re.compile(r"(?<!\\)\|")
_MARK = re.compile(r"\\.|`+|\$\$?|\*+|_+|~~|!?\[|\]\(?", re.DOTALL)
_TRAILING_LABEL = re.compile(r"!?\[([^\[\]]*)\]\Z")
_TRAILING = re.compile(r"(?:[*_~`]+|\\|&[#\w]{0,9}|<[A-Za-z/!?][^<>\s]*)\Z")


def complete_lines(source: str, block: str) -> str:
    """Complete the last line of a text as far as block structure goes.

    Args:
        source: Text whose last line may be incomplete.
        block: Type of the token the text ends in: ``"fence"``, ``"code_block"``,
            ``"paragraph_open"``, ...

    Returns:
        The text without a last line that is only the beginning of a mark, or with the dashes that
        make a table of a first row.
    """
    before, newline, last = source.rpartition("\n")
    if block == "fence" and _FENCE_END.fullmatch(last):
        return before + newline
    if block in {"fence", "code_block"}:
        return source
    marks = _MARKS_ONLY.fullmatch(last) and not _DASHES.fullmatch(last)
    if marks or (before and _DIGITS_ONLY.fullmatch(last)):
        source = before + newline
    elif task := _TASK.fullmatch(last):
        return before + newline + task[1]
    return _complete_table(source) if block == "paragraph_open" else source


def _complete_table(source: str) -> str:
    lines = source.removesuffix("\n").split("\n")
    if len(lines) > 1 and _DASHES.fullmatch(lines[-1]):
        lines.pop()
    row = _FIRST_ROW.fullmatch(lines[-1])
    if row is None:
        return source
    cells = _BAR.split(row[2].strip())
    count = len(cells) - (not cells[-1])
    return "\n".join([*lines, f"{row[1]}|{'-|' * count}"]) if count else source


def complete_inline(content: str) -> str:
    """Complete the inline content of the last block.

    Args:
        content: Markdown of a paragraph, heading or cell.

    Returns:
        The content with emphasis and code closed, and without the half of a link, image,
        formula, tag or character reference.
    """
    if content.startswith("$$") and "$$" not in content[2:]:
        return _as_code(content)
    return _Reader(_TRAILING_LABEL.sub(r"\1", _TRAILING.sub("", content))).read()


class _Reader:
    """One walk through inline content, keeping what is open.

    Each method but :meth:`read` takes the mark just found; it gives the completed content if the
    mark opens what runs to the end, else None.
    """

    def __init__(self, content: str) -> None:
        self.content = content
        self.at = 0
        self.emphasis: list[str] = []
        self.labels: list[int] = []

    def read(self) -> str:
        """Complete the content."""
        methods = {"`": self.code, "$": self.math, "[": self.label, "!": self.label}
        methods |= {"]": self.target, "*": self.mark, "_": self.mark, "~": self.mark}
        while found := _MARK.search(self.content, self.at):
            self.at = found.end()
            method = methods.get(found[0][0])
            completed = method(found[0], found.start()) if method else None
            if completed is not None:
                return completed
        if self.labels and len(self.content) - self.labels[-1] <= HIDDEN:
            self.content = self.only_label(len(self.content))
        return self.close(self.content)

    def close(self, content: str) -> str:
        """End the open emphasis."""
        return content.rstrip() + "".join(reversed(self.emphasis)) if self.emphasis else content

    def code(self, ticks: str, _start: int) -> str | None:
        """Close code, or skip it."""
        for run in re.finditer("`+", self.content[self.at :]):
            if run[0] == ticks:
                self.at += run.end()
                return None
        return self.close(self.content.rstrip("`") + ticks)

    def math(self, dollars: str, start: int) -> str | None:
        """Hide a half formula, or skip a whole one."""
        end = self.content.find(dollars, self.at)
        if end >= 0:
            self.at = end + len(dollars)
            return None
        before, after = self.content[:start][-1:], self.content[self.at : self.at + 1]
        if after.isspace() or after.isdigit() or before.isalnum():
            return None
        return self.close(self.content[:start]) if len(self.content) - start <= HIDDEN else None

    def label(self, _mark: str, start: int) -> None:
        """Note where a link or image begins."""
        self.labels.append(start)

    def target(self, mark: str, start: int) -> str | None:
        """Hide half a link's target, or skip a whole one."""
        if not self.labels:
            return None
        if mark == "](":
            end = self.content.find(")", self.at)
            if end < 0 and len(self.content) - self.at <= HIDDEN:
                return self.close(self.only_label(start))
            self.at = max(self.at, end)
        self.labels.pop()
        return None

    def only_label(self, end: int) -> str:
        """Leave a half link's label; of an image, nothing."""
        start = self.labels[-1]
        if self.content[start] == "!":
            return self.content[:start]
        return self.content[:start] + self.content[start + 1 : end]

    def mark(self, run: str, start: int) -> None:
        """Pair a run of emphasis marks with those that are open."""
        before = self.content[:start][-1:] or " "
        after = self.content[self.at : self.at + 1] or " "
        if run[0] == "_" and before.isalnum() and after.isalnum():
            return
        if not before.isspace():
            while run and self.emphasis and self.emphasis[-1][0] == run[0]:
                last = self.emphasis.pop()
                paired = min(len(run), len(last))
                run = run[paired:]
                if last[paired:]:
                    self.emphasis.append(last[paired:])
        if run and not after.isspace():
            self.emphasis.append(run)


def _as_code(content: str) -> str:
    """Show the source of a formula that is still being written."""
    ticks = "`" * (max(map(len, re.findall("`+", content)), default=0) + 1)
    return f"{ticks} {content} {ticks}" if content.strip("$ \n") else ""
