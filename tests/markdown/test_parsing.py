"""What the parser is made to tell beyond markdown-it's own tokens."""

from __future__ import annotations

import pytest
from hypothesis import given

from mistral_nb.markdown.parsing import (
    References,
    closed,
    inline,
    parse,
    settle,
    spans,
    split_lines,
    with_line_end,
)
from tests.markdown.pages import markdown


@given(markdown)
def test_lists_know_whether_they_are_loose(text: str) -> None:
    """A list says that it is loose exactly if its paragraphs were left standing apart."""
    tokens = parse(with_line_end(settle(text)), References({}))
    for index, token in enumerate(tokens):
        if token.type in {"bullet_list_open", "ordered_list_open"}:
            ((_, past),) = spans(tokens[index:], 0, 1)
            paragraphs = [
                inner
                for inner in tokens[index : index + past]
                if inner.type == "paragraph_open" and inner.level == token.level + 2
            ]
            assert all(inner.hidden != token.meta["loose"] for inner in paragraphs)


@pytest.mark.parametrize(
    ("source", "ended"),
    [
        ("```\na\n```\n", True),
        ("```\na\n``\n", False),
        ("```\n```\n", True),
        ("```\n", False),
        ("```\n\n\n", False),
        ("~~~\n```\n~~~~\n", True),
    ],
)
def test_closed(source: str, ended: bool) -> None:
    """A fence is closed if its closing line was there, not if the text ended."""
    (fence,) = parse(source, References({}))
    assert closed(fence) is ended


def test_references() -> None:
    """Settled definitions win over new ones; what is missing is remembered."""
    known = {"A": {"href": "/old", "title": "", "map": [0, 1]}}
    references = References(known)
    tokens = parse("[a]: /new\n[b]: /b\n\n[a] [b] [c]\n", references)
    inline(tokens, references)
    assert references.get("A")["href"] == "/old"
    assert set(references) == {"B"}
    assert references.missing == {"C"}
    assert known.keys() == {"A"}


def test_spans() -> None:
    """Siblings are found with all that is inside them."""
    tokens = parse("# a\n\n- b\n- c\n\n---\n", References({}))
    assert [tokens[first].type for first, _ in spans(tokens, 0, len(tokens))] == [
        "heading_open",
        "bullet_list_open",
        "hr",
    ]


@given(markdown)
def test_lines(text: str) -> None:
    """Lines end at line feeds only, and together are the text."""
    text = with_line_end(settle(text))
    assert "".join(split_lines(text)) == text
    assert all(line.count("\n") == 1 for line in split_lines(text))
    assert split_lines("a\x0bb\u2028c\n") == ["a\x0bb\u2028c\n"]
