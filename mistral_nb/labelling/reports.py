"""Sentences and small tables as a notebook shows them, in safe HTML and as plain text.

Plain elements only: the front end's own style fits light and dark themes, and GitHub, which
strips styles, shows the same.
"""

from __future__ import annotations

import re
from numbers import Number
from textwrap import indent
from typing import TYPE_CHECKING, Any, Protocol

from mistral_nb.markdown import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Line", "Listing", "Notes", "Part", "Table", "bundle", "count", "figure"]

CUT = 80
"""Characters of a cell shown at most."""
LEFT = ' style="text-align:left"'
_MARKS = re.compile(r"[$\\]")


class Part(Protocol):
    """A piece of a report, in both forms."""

    html: str
    text: str


class Line:
    """A sentence.

    Args:
        text: The sentence; it may hold untrusted words.
        strong: Show it in bold type.
    """

    def __init__(self, text: str, *, strong: bool = False) -> None:
        self.text = text
        self.html = f"<p><b>{_safe(text)}</b></p>" if strong else f"<p>{_safe(text)}</p>"


class Table:
    """A small table.

    Args:
        title: What it shows.
        names: Headings of the columns.
        rows: Cells of each row: texts, numbers, anything; long ones are cut.
        figures: How many of the last columns hold figures, whatever their form.
    """

    def __init__(
        self, title: str, names: Sequence[str], rows: Iterable[Sequence[Any]], *, figures: int = 0
    ) -> None:
        values = [list(row) for row in rows]
        lines = [list(names), *([_cell(value) for value in row] for row in values)]
        # Front ends put everything to the right, which suits numbers only.
        sides = [
            "" if all(isinstance(value, Number) for value in column) else LEFT
            for column in zip(*values, strict=True)
        ] or [LEFT] * len(names)
        first = len(names) - figures
        sides[first:] = [""] * figures
        head, *body = (
            "".join(
                f"<{tag}{side}>{_safe(cell)}</{tag}>"
                for side, cell in zip(sides, line, strict=True)
            )
            for tag, line in zip(["th", *["td"] * len(values)], lines, strict=True)
        )
        self.html = (
            f"<p>{_safe(title)}</p><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(f'<tr>{line}</tr>' for line in body)}</tbody></table>"
        )
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        justify = [str.ljust] * first + [str.rjust] * figures
        padded = ([f(c, w) for f, c, w in zip(justify, row, widths, strict=True)] for row in lines)
        self.text = "\n".join([title, *("  ".join(cells).rstrip() for cells in padded)])


class Notes:
    """Short sentences, as a list.

    Args:
        lines: The sentences; they may hold untrusted words.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.html = f"<ul>{''.join(f'<li>{_safe(line)}</li>' for line in lines)}</ul>"
        self.text = "\n".join(f"- {line}" for line in lines)


class Listing:
    """Texts of several lines, as they are, numbered.

    Args:
        title: What they are.
        texts: The texts; they may be untrusted.
    """

    def __init__(self, title: str, texts: Sequence[str]) -> None:
        items = "".join(f"<li><pre>{escape(text)}</pre></li>" for text in texts)
        self.html = f"<p>{_safe(title)}</p><ol>{items}</ol>"
        numbered = (f"{n}. {indent(text, '   ').lstrip()}" for n, text in enumerate(texts, 1))
        self.text = "\n".join([title, *numbered])


def bundle(parts: Sequence[Part]) -> dict[str, str]:
    """Put parts one below the other.

    Args:
        parts: The parts.

    Returns:
        MIME type -> data, for HTML and plain text.
    """
    return {
        "text/html": f"<div>{''.join(part.html for part in parts)}</div>",
        "text/plain": "\n\n".join(part.text for part in parts),
    }


def count(number: int, noun: str = "row") -> str:
    """Return a number with its noun, as in ``1,200 rows``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def figure(value: float) -> str:
    """Return three decimals, or a dash for NaN."""
    return "-" if value != value else f"{value:.3f}"  # noqa: PLR0124 - only NaN differs from itself


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return figure(value)
    if value is None:
        return "-"
    text = " ".join(str(value)[: 4 * CUT].split()) or repr(value)
    return text if len(text) <= CUT else text[: CUT - 1] + "…"


def _safe(text: str) -> str:
    # JupyterLab runs MathJax over the text of an output, and MathJax can make links: in an
    # element of its own no mark of TeX finds a partner.
    return _MARKS.sub(r"<span>\g<0></span>", escape(text))
