"""Patches: what they keep, in the units of the browser."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mistral_nb.markdown.page import Page, Patch, common_prefix, utf16_units
from tests.markdown.pages import Browser


@given(st.text(alphabet="ab😀"), st.text(alphabet="ab😀"), st.text(alphabet="ab😀"))
def test_common_prefix(head: str, one: str, other: str) -> None:
    """The common prefix is common, and no longer one is."""
    count = common_prefix(head + one, head + other)
    assert count >= len(head)
    assert (head + one)[:count] == (head + other)[:count]
    assert (head + one)[count : count + 1] != (head + other)[count : count + 1] or (
        head + one == head + other
    )


def test_keep_counts_utf16() -> None:
    """A character beyond the first plane counts twice, as in JavaScript."""
    page = Page()
    page.show(["😀a"])
    page.show(["😀b"])
    assert page.take() == [Patch(0, 0, "😀a"), Patch(0, 2, "b")]
    assert utf16_units("a😀é") == 4


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["show", "freeze", "close", "rewind"]),
            st.lists(st.text(alphabet="xy😀", max_size=5), min_size=1, max_size=3),
            st.integers(0, 8),
        )
    )
)
def test_the_browser_follows(steps: list[tuple[str, list[str], int]]) -> None:
    """Whatever is shown, frozen, closed or taken back, the patches make the same page."""
    page = Page()
    browser = Browser()
    for step, texts, length in steps:
        if step == "show":
            page.show(texts)
            assert page.blocks[len(page.closed)] == page.frozen + texts[0]
        elif step == "freeze":
            page.frozen += texts[0]
        elif step == "rewind":
            page.rewind(length)
        else:
            page.close(texts[0])
        browser.apply(page.take())
        assert browser.html == "".join(page.blocks)


def test_plain_text_goes_before_the_closing_tags() -> None:
    """Text that is not looked at yet is added inside the last block that shows anything."""
    page = Page()
    page.append_plain("lost")
    page.show(["<ul><li><p>a</p></li></ul>", ""])
    page.append_plain("b")
    assert page.blocks[0] == "<ul><li><p>ab</p></li></ul>"
