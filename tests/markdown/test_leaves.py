"""Code and math: coloured and typeset where possible, else shown as they are."""

from __future__ import annotations

import pytest

from mistral_nb.markdown import TOKEN_COLOURS, escape, render
from mistral_nb.markdown.leaves import CODE_LIMIT, MATH_LIMIT, highlight, typeset
from tests.markdown.pages import faults


def test_highlight() -> None:
    """Code of a known language has classes."""
    assert highlight("def f(x):\n    return 'a' # b\n", "python") == (
        '<span class="k">def </span><span class="nf">f</span>(x):\n    '
        '<span class="k">return </span><span class="s">&#39;a&#39; </span>'
        '<span class="c"># b\n</span>'
    )


@pytest.mark.parametrize("language", ["", "nosuchlanguage", "text", "py" * 50])
def test_unknown_languages(language: str) -> None:
    """Code of no known language is escaped."""
    assert highlight("a < b\n", language) == "a &lt; b\n"


@pytest.mark.parametrize(
    "language", ["python", "js", "html", "css", "json", "bash", "sql", "diff", "yaml", "c++", "r"]
)
def test_every_character_stays(language: str) -> None:
    """Colouring changes no text, and uses known classes only."""
    code = '\n\n  <a href=\'x\'>{"k": 1.5}</a>\t-- # // "é😀"\n+ a\n- b\n@d\nclass A: pass\n\n'
    html = highlight(code, language)
    assert faults(f"<pre><code>{html}</code></pre>") == []
    classes = {part.split('"')[0] for part in html.split('class="')[1:]}
    assert classes <= TOKEN_COLOURS.keys()
    text = html.replace("</span>", "")
    for name in classes:
        text = text.replace(f'<span class="{name}">', "")
    assert text == escape(code)


def test_long_code_is_plain() -> None:
    """Code beyond the limit is not coloured."""
    code = "x = 1\n" * (CODE_LIMIT // 6 + 1)
    assert highlight(code, "python") == code


@pytest.mark.parametrize(
    ("tex", "piece"),
    [
        (r"\frac{a}{b}", "<mfrac>"),
        (r"x^2_i", "<msubsup>"),
        (r"\sqrt[3]{x}", "<mroot>"),
        (r"\sum_{i=1}^n i", "<munderover>"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "<mtable>"),
        (r"\text{if } x < 0", "<mtext>"),
        (r"\color{red}{x}", "mathcolor"),
    ],
)
def test_typeset(tex: str, piece: str) -> None:
    """TeX becomes MathML."""
    html = typeset(tex, block=True)
    assert html.startswith('<math display="block">')
    assert piece in html
    assert faults(html) == []


@pytest.mark.parametrize(
    "tex",
    [
        r"\frac",
        r"\left(",
        "x_1_2",
        "}{",
        "{" * 500,
        "{" * 41 + "x" + "}" * 41,
        r"\sqrt" * 300,
        r"\left(" * 100 + r"\right)" * 100,
        "x" * (MATH_LIMIT + 1),
        r"\href{https://example.org}{x}",
        r"\newcommand{\a}{b}\a",
        r"\text{$x$}",
        r"\text{\(x\)}",
        r"\color{red;x:url(//evil.test)}{x}",
    ],
)
def test_source_instead(tex: str) -> None:
    """TeX that is wrong, endless, or more than math is shown as source."""
    assert typeset(tex) == f'<code class="mnb-tex">{escape(tex)}</code>'


def test_the_same_on_a_deep_stack() -> None:
    """What the caller has on the stack does not change the rendering."""
    source = "$" + "{" * 40 + "x" + "}" * 40 + "$ and > " + "> " * 30

    def deep(levels: int) -> str:
        return deep(levels - 1) if levels else render(source)

    expected = render(source)
    typeset.cache_clear()
    assert deep(400) == expected
