"""What Markdown looks like when it is rendered whole."""

from __future__ import annotations

import pytest

from mistral_nb.markdown import cite, linked, render
from tests.markdown.pages import faults

LINK = 'target="_blank" rel="noopener noreferrer nofollow"'


@pytest.mark.parametrize(
    ("source", "html"),
    [
        ("", ""),
        ("\n\n", ""),
        ("a\nb", "<p>a\nb</p>"),
        ("a  \nb", "<p>a<br>b</p>"),
        ("a<br>b<BR />c", "<p>a<br>b<br>c</p>"),
        ("~~a~~", "<p><del>a</del></p>"),
        ("<b>x</b>", "<p>&lt;b&gt;x&lt;/b&gt;</p>"),
        ("<div>\n\n*x*\n\n</div>", "<p>&lt;div&gt;</p><p><em>x</em></p><p>&lt;/div&gt;</p>"),
        ("- [ ] a\n- [x] b", '<ul><li class="mnb-task">☐ a</li><li class="mnb-task">☑ b</li></ul>'),
        ("3. a", '<ol start="3"><li>a</li></ol>'),
        ("[a](https://x.y/?b&c)", f'<p><a href="https://x.y/?b&amp;c" {LINK}>a</a></p>'),
        ("[a](http://x.y 't')", f'<p><a href="http://x.y" title="t" {LINK}>a</a></p>'),
        ("<a@b.c>", f'<p><a href="mailto:a@b.c" {LINK}>a@b.c</a></p>'),
        ("[a](b/c.html)", '<p><span class="mnb-link" title="b/c.html">a</span></p>'),
        ("    code", "<pre><code>code\n</code></pre>"),
        ("```\na<b\n```", '<pre class="highlight"><code>a&lt;b\n</code></pre>'),
        ("$x$", "<p><math><mrow><mi>x</mi></mrow></math></p>"),
        ("costs $5 or $6", "<p>costs <span>$</span>5 or <span>$</span>6</p>"),
        ("$$$$", "<p><span>$</span><span>$</span><span>$</span><span>$</span></p>"),
    ],
)
def test_elements(source: str, html: str) -> None:
    """Each construct has one form."""
    assert render(source) == html


def test_table() -> None:
    """A table keeps its alignment."""
    html = render("| a | b |\n|:--|--:|\n| 1 | 2 |")
    assert html == (
        '<table><thead><tr><th style="text-align:left">a</th><th style="text-align:right">b</th>'
        '</tr></thead><tbody><tr><td style="text-align:left">1</td>'
        '<td style="text-align:right">2</td></tr></tbody></table>'
    )


@pytest.mark.parametrize(
    "source",
    [
        "$$x$$",
        "$$\nx\n$$",
        "$$x\n$$",
        "$$\nx$$",
    ],
)
def test_display_math(source: str) -> None:
    """Math on lines of its own is a block, however its marks stand."""
    block = '<div class="mnb-math"><math display="block"><mrow><mi>x</mi></mrow></math></div>'
    assert render(source) == block
    assert render(f"Thus:\n{source}\nand so on") == f"<p>Thus:</p>{block}<p>and so on</p>"
    assert render(f"- a\n\n  {source}".replace("\n", "\n  ").replace("\n  \n", "\n\n")) == (
        f"<ul><li><p>a</p>{block}</li></ul>"
    )


@pytest.mark.parametrize(
    ("source", "html"),
    [
        ("so $x<\\frac{1}{2}$", '<p>so <span class="mnb-math">$x&lt;\\frac{1}{2}$</span></p>'),
        ("so $$x$$", '<p>so <span class="mnb-math">$$x$$</span></p>'),
        ("$$\nx\n$$", '<div class="mnb-math"><span class="mnb-math">$$x$$</span></div>'),
        ("costs $5 or $6", "<p>costs <span>$</span>5 or <span>$</span>6</p>"),
        ("$\\href{a}{b}$", '<p><code class="mnb-tex">\\href{a}{b}</code></p>'),
        ("$\\(x$", '<p><code class="mnb-tex">\\(x</code></p>'),
    ],
)
def test_math_left_as_tex(source: str, html: str) -> None:
    """Common math can stay TeX, for MathJax; prose and other commands stay out of its reach."""
    assert render(source, math="tex") == html
    assert faults(html, tex=True) == []


@pytest.mark.parametrize("source", ["$$x", "$$\nx\n\ny\n$$", "> $$\n> x\n\n$$", "- $$\n\n$$x y"])
def test_unclosed_display_math_is_text(source: str) -> None:
    """A formula that does not end before a blank line, or with its list or quote, is text."""
    assert "<math" not in render(source)
    assert faults(render(source)) == []


def test_math_inside_a_sentence_may_have_two_dollars() -> None:
    """Double dollars inside a paragraph are display math too."""
    assert '<math display="block">' in render("so $$x$$ follows")


@pytest.mark.parametrize(
    ("info", "language"),
    [
        ("python", "python"),
        ("c++ x=1", "c++"),
        ("c#", "c#"),
        ("objective-c", "objective-c"),
        ("{.python}", ""),
        ('"x', ""),
        ("&#32;x", ""),
        ("x" * 50, "x" * 32),
    ],
)
def test_language(info: str, language: str) -> None:
    """The first word of a fence's info is told, if it is a plain name."""
    named = f' data-language="{language}"' if language else ""
    assert render(f"```{info}\na\n```").startswith(f'<pre{named} class="highlight"><code>a')


def test_deep_nesting_loses_no_text() -> None:
    """What is nested too deep is shown as plain text."""
    for mark in ("> ", "- ", "1. "):
        html = render(mark * 100 + "the end")
        assert "the end" in html
        assert faults(html) == []


@pytest.mark.parametrize(
    "source",
    [
        "[" * 20_000,
        "*a " * 10_000,
        "`" + "a`" * 1 + "``b" * 5_000,
        "<" * 20_000,
        "![" * 10_000,
        "[a](" * 5_000,
        "$" * 20_000,
        "$a " * 10_000,
        "&" * 20_000,
        "\\" * 20_000,
        "> " * 2_000 + "a",
        "- " * 2_000 + "a",
        "_a*" * 5_000,
        "|a" * 2_000 + "\n" + "|-" * 2_000 + "\n" + "|\n" * 20,
        "~~a" * 5_000,
        "<br" * 10_000,
        "#" * 20_000,
        "[a]: b\n" * 2_000,
    ],
)
def test_hostile_repetition(source: str) -> None:
    """Repetition meant to be slow, or to overflow the stack, is rendered all the same."""
    assert faults(render(source)) == []


def test_marks_of_sources() -> None:
    """A mark is a raised number in brackets in prose, and characters only in code."""
    assert render(f"**a**{cite(12)}") == (
        '<p><strong>a</strong><sup class="mnb-cite">[12]</sup></p>'
    )
    assert render(f"`a{cite(1)}`") == "<p><code>a\u2060¹</code></p>"


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("doc <1>", "doc &lt;1&gt;"),
        ("javascript:alert(1)", "javascript:alert(1)"),
        ("https://a.b/?x=$1&y", f'<a href="https://a.b/?x=$1&amp;y" {LINK}>https://a.b/?x=<span>$'),
    ],
)
def test_only_addresses_are_linked(text: str, html: str) -> None:
    """A text that is no address on the web stays text."""
    assert linked(text).startswith(html)
    assert faults(f"<p>{linked(text)}</p>") == []
