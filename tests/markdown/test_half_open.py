"""While Markdown is being typed, the page shows what it is about to be, not its marks."""

from __future__ import annotations

import re

import pytest
from hypothesis import given

from mistral_nb.markdown import Incremental
from mistral_nb.markdown.half_open import complete_inline, complete_lines
from tests.markdown.pages import markdown


def shown(text: str) -> str:
    """What a frame shows of an unfinished text."""
    incremental = Incremental()
    incremental.feed(text)
    incremental.frame()
    return incremental.html


@pytest.mark.parametrize(
    ("source", "html"),
    [
        ("some **bol", "<p>some <strong>bol</strong></p>"),
        ("some **bold*", "<p>some <strong>bold</strong></p>"),
        ("some **bold** ", "<p>some <strong>bold</strong> </p>"),
        ("some **", "<p>some</p>"),
        ("*a **b", "<p><em>a <strong>b</strong></em></p>"),
        ("***a", "<p><em><strong>a</strong></em></p>"),
        ("***a** b", "<p><em><strong>a</strong> b</em></p>"),
        ("~~gon", "<p><del>gon</del></p>"),
        ("snake_case_na", "<p>snake_case_na</p>"),
        ("2 * 3 * 4", "<p>2 * 3 * 4</p>"),
        ("say `co", "<p>say <code>co</code></p>"),
        ("say ``co`", "<p>say <code>co</code></p>"),
        ("say `co*de` *n", "<p>say <code>co*de</code> <em>n</em></p>"),
        ("a [li", "<p>a li</p>"),
        ("a [link]", "<p>a link</p>"),
        ("a [link](htt", "<p>a link</p>"),
        ("**a [link](htt", "<p><strong>a link</strong></p>"),
        ("an ![im", "<p>an</p>"),
        ("an ![image](htt", "<p>an</p>"),
        ("a[0] = [1, 2] is", "<p>a[0] = [1, 2] is</p>"),
        ("so $x^", "<p>so</p>"),
        ("so $x$ and $y", "<p>so <math><mrow><mi>x</mi></mrow></math> and</p>"),
        ("costs $5 mo", "<p>costs <span>$</span>5 mo</p>"),
        ("$$\n\\frac{a}", "<p><code>$$ \\frac{a}</code></p>"),
        ("fish &am", "<p>fish</p>"),
        ("see <http://ex", "<p>see</p>"),
        ("a\\", "<p>a</p>"),
        ("text\n-", "<p>text</p>"),
        ("text\n--", "<p>text</p>"),
        ("text\n=", "<p>text</p>"),
        ("text\n1", "<p>text</p>"),
        ("text\n\n1.", "<p>text</p>"),
        ("text\n\n``", "<p>text</p>"),
        ("42", "<p>42</p>"),
        ("#", ""),
        ("- a\n- ", "<ul><li>a</li></ul>"),
        ("- a\n- *", "<ul><li>a</li></ul>"),
        ("- a\n- [", "<ul><li>a</li></ul>"),
        ("- [ ]", "<ul><li></li></ul>"),
        ("- [x] a", '<ul><li class="mnb-task">☑ a</li></ul>'),
        ("| a", "<table><thead><tr><th>a</th></tr></thead></table>"),
        ("| a | b |\n|--", "<table><thead><tr><th>a</th><th>b</th></tr></thead></table>"),
        ("| a | b |\n|---|-", "<table><thead><tr><th>a</th><th>b</th></tr></thead></table>"),
        (
            "> | a |\n> |",
            "<blockquote><table><thead><tr><th>a</th></tr></thead></table></blockquote>",
        ),
        ("```\na\n``", '<pre class="highlight"><code>a\n</code></pre>'),
        ("```py\nx = *1", '<pre data-language="py" class="highlight"><code>x = *1\n</code></pre>'),
        ("    **a", "<pre><code>**a\n</code></pre>"),
    ],
)
def test_frames_show_no_raw_marks(source: str, html: str) -> None:
    """A half-open construct is shown complete, or not yet."""
    assert re.sub(r"\s+(?=</p>|</code></p>)", "", shown(source)) == re.sub(r"\s+(?=</p>)", "", html)


@pytest.mark.parametrize(
    "source",
    [
        "Some **bold and *thin* words** here",
        "A `code span` with marks",
        "A [link](https://example.org/path) in text",
        "An ![image](https://example.org/p.png) in text",
        "Formula $x^2 + y_1$ in text",
        "| a | b |\n|---|---|\n| *1* | 2 |",
        "- one **two**\n- [ ] three\n\n1. four\n2. five",
        "> quoted **text** here",
        "Title\n=====\n\nText",
    ],
)
def test_marks_never_flicker(source: str) -> None:
    """Typed character by character, everyday Markdown shows no mark of its syntax."""
    incremental = Incremental()
    for character in source:
        incremental.feed(character)
        incremental.frame()
        text = re.sub(r"<[^>]*>", "", incremental.html)
        assert not re.search(r"[*`|$\[\]]|\(http|^[-=>]|\d\.", text), text


def test_the_end_is_literal() -> None:
    """Only frames guess; what is never closed is text in the end."""
    incremental = Incremental()
    incremental.feed("a **b [c](d $e")
    incremental.frame()
    assert "<strong>" in incremental.html
    incremental.finish()
    assert incremental.html == "<p>a **b [c](d <span>$</span>e</p>"


def test_long_half_constructs_are_shown() -> None:
    """What has been half-open for too long to be a link or formula is shown as it is."""
    words = "word " * 100
    assert "word" in shown(f"so $x {words}")
    assert "word" in shown(f"a [link](x {words}")
    assert "word" in shown(f"an ![image {words}")


@given(markdown)
def test_completion_adds_little(text: str) -> None:
    """Completing a text shows at most its own characters and closing marks."""
    assert len(complete_inline(text)) <= 3 * len(text) + 4
    for block in ("paragraph_open", "td_open", "fence", "code_block", ""):
        assert len(complete_lines(text, block)) <= 3 * len(text) + 4


def test_repetition_is_quick() -> None:
    """Long runs of marks do not make the patterns backtrack."""
    for mark in ("-", "- ", "*", "1. ", "`", "[", "](", "|", "$", "<", "&", "#", "> ", "_ "):
        assert isinstance(complete_inline(mark * 5_000 + "x"), str)
        assert isinstance(complete_lines(mark * 5_000 + "x", "paragraph_open"), str)
