"""No hostile text gets a tag, attribute or address through, whole or cut anywhere."""

from __future__ import annotations

import pytest

from mistral_nb.markdown import escape, is_harmless, render
from mistral_nb.markdown.writing import clean
from tests.markdown.pages import faults, settled, stream
from tests.xss_corpus import VECTORS

SURROUNDINGS = ["{}", "> {}", "- {}", "| a |\n|---|\n| {} |", "**{}**", "text {} text", "# {}"]


@pytest.mark.parametrize("name", VECTORS)
def test_one_shot(name: str) -> None:
    """Every vector, alone and inside other blocks, renders to the allow-list only."""
    for surrounding in SURROUNDINGS:
        source = surrounding.format(VECTORS[name])
        html = render(source)
        assert faults(html) == []
        assert clean(html) == html
        assert faults(render(source, math="tex"), tex=True) == []


@pytest.mark.parametrize("name", VECTORS)
def test_cut_at_every_position(name: str) -> None:
    """Every vector, cut in two at every position, shows and ends safe, and ends as in one shot."""
    source = VECTORS[name]
    whole = render(source)
    for at in range(0, len(source), 1 + len(source) // 400):
        last = ""
        for incremental in stream(source, [at], split=1):
            last = incremental.html
            assert faults(last) == []
        assert last == whole


@pytest.mark.parametrize("name", VECTORS)
def test_character_by_character(name: str) -> None:
    """Every vector, arriving one character at a time, is safe in every frame."""
    source = VECTORS[name]
    for incremental in stream(source, range(0, len(source), 1 + len(source) // 300)):
        assert faults(incremental.html) == []


def test_vectors_together() -> None:
    """All vectors in one text do not help each other."""
    source = "\n\n".join(VECTORS.values())
    assert faults(render(source)) == []
    assert settled(source, range(0, len(source), 97)) == render(source)


def test_hardly_any_vector_is_harmless() -> None:
    """What may go out as text/markdown holds no HTML, image, odd address or TeX command."""
    assert {name for name, source in VECTORS.items() if is_harmless(source)} == {
        # No dialect of Markdown sees more than text in these...
        *("html/unicode-tag", "html/utf7", "html/overlong", "link/javascript-bare"),
        *("code/fence-info-class", "code/fence-info-attributes", "table/align"),
        *("mixed/ordered-start", "mixed/attributes", "tex/deep", "tex/long"),
        # ... and these are links to where they say.
        *("link/reference-proto", "link/userinfo", "mixed/direction"),
    }


def test_no_image_loads() -> None:
    """An image is a link to it; what is not on the web, or inside a link, is only named."""
    assert render("![alt](https://x.y/p.png)").startswith('<p><a href="https://x.y/p.png"')
    assert 'class="mnb-image">alt</a>' in render("![alt](https://x.y/p.png)")
    assert render("![a](data:image/png;base64,AAAA)") == (
        '<p><span class="mnb-image" title="data:image/png;base64,AAAA">a</span></p>'
    )
    assert "<span" in render("![a](mailto:b@c.d)")
    assert "<span" in render("[![a](https://x.y/p.png)](https://x.y)")


@pytest.mark.parametrize(
    "source",
    ["costs $5 or $6", r"\\(x\\)", r"\\[x\\]", r"\\begin{x}", r"\$x\$", "&dollar;x&dollar;"],
)
def test_mathjax_finds_no_pair_of_marks(source: str) -> None:
    """JupyterLab runs MathJax over the text of outputs; marks stand in elements of their own."""
    html = render(source)
    assert faults(html) == []
    assert "<span>$</span>" in html or "<span>\\</span>" in html


def test_what_does_not_fit_is_shown_as_source() -> None:
    """HTML that would close what is open around it is escaped as a whole."""
    assert clean("</li></ul><p>x", "<ul><li>", "</li></ul>") == escape("</li></ul><p>x")


def test_escape() -> None:
    """Escaped text has no special character left, in text or in an attribute."""
    assert escape("<a b=\"c\" d='e'>&\0\ud800é") == (
        "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;\ufffd\ufffdé"
    )
