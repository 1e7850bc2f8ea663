"""Half-open Markdown at the end of a text that still grows: shown as what it is about to be.

Nothing here decides what a text means: it only changes what a frame shows until the rest of a
construct has arrived. A wrong guess is put right by a later frame.
"""

from __future__ import annotations

import re

__all__ = ["complete_inline", "complete_lines"]

HIDDEN = 300
"""Characters a half-open link or formula may hide; if it is longer, it was likely none."""

_MARKS_ONLY = re.compile(r"[ >]*(?:[-+*_=~`#|:<!\[$\\]+|\d{1,9}[.)])[ ]*")
_DIGITS_ONLY = re.compile(r"[ >]*\d{1,9}")
_TASK = re.compile(r"([ >]*(?:[-+*]|\d{1,9}[.)]) )\[[ xX]?\]?")
_FIRST_ROW = re.compile(r"([ >]*)\|(.*)")
_DASHES = re.compile(r"[ >]*\|[ |:-]*")
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
    if _MARKS_ONLY.fullmatch(last) or (before and _DIGITS_ONLY.fullmatch(last)):
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
    content = _TRAILING_LABEL.sub(r"\1", _TRAILING.sub("", content))
    opened: list[str] = []
    brackets: list[int] = []
    at = 0
    while mark := _MARK.search(content, at):
        text, start, at = mark[0], mark.start(), mark.end()
        if text[0] == "`":
            end = _closing_ticks(content, at, text)
            if end < 0:
                return _close(f"{content.rstrip('`')}{text}", opened)
            at = end
        elif text[0] == "$":
            end = content.find(text, at)
            if end >= 0:
                at = end + len(text)
            elif _opens_math(content, start, at):
                return _close(content[:start], opened)
        elif text[0] in "*_~":
            _emphasis(content, start, at, opened)
        elif text.endswith("["):
            brackets.append(start)
        elif text[0] == "]" and brackets:
            label = brackets.pop()
            if text == "](":
                end = content.find(")", at)
                if end < 0 and len(content) - at <= HIDDEN:
                    return _close(_label_only(content[:start], label), opened)
                at = max(at, end)
    if brackets and len(content) - brackets[-1] <= HIDDEN:
        content = _label_only(content, brackets[-1])
    return _close(content, opened)


def _as_code(content: str) -> str:
    """Show the source of a formula that is still being written."""
    ticks = "`" * (max(map(len, re.findall("`+", content)), default=0) + 1)
    return f"{ticks} {content} {ticks}" if content.strip("$ \n") else ""


def _closing_ticks(content: str, at: int, ticks: str) -> int:
    for run in re.finditer("`+", content[at:]):
        if run[0] == ticks:
            return at + run.end()
    return -1


def _opens_math(content: str, start: int, at: int) -> bool:
    following = content[at : at + 1]
    return (
        not following.isspace()
        and not following.isdigit()
        and not content[:start][-1:].isalnum()
        and len(content) - start <= HIDDEN
    )


def _emphasis(content: str, start: int, end: int, opened: list[str]) -> None:
    """Pair a run of marks with those that are open."""
    run = content[start:end]
    before, after = content[:start][-1:] or " ", content[end : end + 1] or " "
    inside_word = run[0] == "_" and before.isalnum() and after.isalnum()
    if not before.isspace() and not inside_word:
        while run and opened and opened[-1][0] == run[0]:
            paired = min(len(run), len(opened[-1]))
            run = run[paired:]
            opened[-1] = opened[-1][paired:]
            if not opened[-1]:
                opened.pop()
    if run and not after.isspace() and not inside_word:
        opened.append(run)


def _label_only(content: str, bracket: int) -> str:
    """Leave a half-open link's label; of an image, nothing."""
    if content[bracket] == "!":
        return content[:bracket]
    return content[:bracket] + content[bracket + 1 :]


def _close(content: str, opened: list[str]) -> str:
    return content.rstrip() + "".join(reversed(opened)) if opened else content
