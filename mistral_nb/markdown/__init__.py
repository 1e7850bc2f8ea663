"""Markdown -> safe HTML, whole or while it arrives. Pure: nothing is read, loaded or sent.

The text is a model's and is not trusted: raw HTML is shown, not used; links lead to http, https
and mailto only; images never load by themselves; the result passes a strict allow-list.
"""

from __future__ import annotations

from typing import Literal

from mistral_nb.markdown.harmless import is_harmless
from mistral_nb.markdown.incremental import Incremental
from mistral_nb.markdown.leaves import TOKEN_COLOURS, escape
from mistral_nb.markdown.page import Patch
from mistral_nb.markdown.parsing import (
    BYTE_ORDER_MARK,
    References,
    inline,
    parse,
    settle,
    spans,
    with_line_end,
)
from mistral_nb.markdown.writing import cite, clean, leave_tex, linked, prose, write

__all__ = [
    "TOKEN_COLOURS",
    "Incremental",
    "Patch",
    "cite",
    "escape",
    "is_harmless",
    "linked",
    "prose",
    "render",
]


def render(text: str, *, math: Literal["mathml", "tex"] = "mathml") -> str:
    """Render a whole Markdown text.

    Args:
        text: Untrusted Markdown: CommonMark with tables, strikethrough, task lists and math.

        math: MathML, which browsers show by themselves; or TeX, which stays readable where MathML
            is thrown out (an untrusted notebook in JupyterLab, GitHub) and which JupyterLab and
            nbconvert typeset with MathJax. Only common math is left as TeX.

    Returns:
        HTML that needs no further sanitising; ``""`` for text that shows nothing.
    """
    references = References({})
    source = with_line_end(settle(text.removeprefix(BYTE_ORDER_MARK)))
    tokens = parse(source, references)
    inline(tokens, references)
    if math == "tex":
        leave_tex(tokens)
    return "".join(
        clean(write(tokens[start:stop])) for start, stop in spans(tokens, 0, len(tokens))
    )
