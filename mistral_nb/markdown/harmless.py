"""Whether Markdown source may go out as ``text/markdown``, which nobody sanitises after us.

JupyterLab renders the Markdown of an executed cell with scripts and all, and runs MathJax with
every extension over it. What passes here is plain in any dialect: the test reads characters, it
does not trust one parser's view of another parser's input.
"""

from __future__ import annotations

import re

from mistral_nb.markdown.leaves import is_plain_math

__all__ = ["is_harmless"]

_SUSPECT = re.compile(
    r"<\S"  # a tag, an autolink, a comment
    r"|&[#A-Za-z]"  # a character reference, which may spell any of the others
    r"|!\["  # an image is loaded as soon as it is shown
    # A link or definition that is not simply one of an address on the web
    r"|\](?:\(|:)\s*+(?!(?:https?://|mailto:)\w[^\s\"'\\)]*+(?:\)|\n|\Z))"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]"
    r"|mermaid",  # JupyterLab draws such fences, from another language altogether
    re.IGNORECASE,
)


def is_harmless(source: str) -> bool:
    """Tell whether Markdown source does no harm where nobody sanitises it.

    Args:
        source: Untrusted Markdown.

    Returns:
        True only if the source holds no raw HTML, no image, no character reference, no link that
        may lead anywhere but http, https and mailto, and no TeX command beyond common math. Much
        that would do no harm is refused too.
    """
    return _SUSPECT.search(source.replace("\r\n", "\n")) is None and is_plain_math(source)
