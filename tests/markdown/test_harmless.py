"""What may go out as text/markdown: plain Markdown, and nothing that could be more."""

from __future__ import annotations

import pytest

from mistral_nb.markdown import is_harmless


@pytest.mark.parametrize(
    "source",
    [
        "",
        "# Title\n\nSome **bold**, *thin* and `code`, 1 < 2 & 3 > 2.\n",
        "A [link](https://example.org/a?b=c#d) and [mail](mailto:a@example.org).",
        "[a][b]\n\n[b]: https://example.org\n",
        "| a | b |\n|---|---|\n| 1 | 2 |\n",
        "- [ ] open\n- [x] done\n\n1. one\r\n2. two\r\n",
        "$\\frac{\\alpha}{2} \\leq \\sqrt{x}$\n\n$$\n\\begin{matrix}1&2\\\\3&4\\end{matrix}\n$$",
        "```python\nprint('hello')\n```",
        "Grüße, 世界 😀",
    ],
)
def test_plain_markdown_is_harmless(source: str) -> None:
    """Everyday Markdown passes."""
    assert is_harmless(source)


@pytest.mark.parametrize(
    "source",
    [
        "<b>x</b>",
        "a<!-- b -->",
        "<https://example.org>",
        "&lt;",
        "&#60;",
        "![x](https://example.org/p.png)",
        "[x](javascript:alert(1))",
        "[x]( javascript:alert(1))",
        "[x](\njavascript:alert(1))",
        "[x](/api)",
        "[x](#y)",
        "[x](https://example.org 'title')",
        '[x](https://example.org"onclick=)',
        "[x](<https://example.org>)",
        "[x]: javascript:alert(1)",
        "[x]:\njavascript:alert(1)",
        "$\\href{javascript:alert(1)}{x}$",
        "\\unicode{60}",
        "\\require{html}",
        "$\\style{a}{b}$",
        "```mermaid\ngraph TD\n```",
        "a\x00b",
        "a\x1bb",
        "a\ud800b",
        "a\u2028b",
    ],
)
def test_what_could_be_more_is_not(source: str) -> None:
    """HTML, images, character references, odd addresses, unknown TeX and controls are refused."""
    assert not is_harmless(source)
    assert not is_harmless(f"Some text.\n\n{source}\n")
