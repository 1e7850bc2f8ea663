"""The law: however a text is cut, it ends as the one-shot rendering, and cheaply."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mistral_nb.markdown import Incremental, render
from tests.markdown.pages import faults, markdown, repetitive, settled, some_cuts, stream

SAMPLE = """\
# A *title*

Some **bold** text with `code`, a [link](https://example.org), $x^2$ and a [late] one 😀.

- one
- two

  ```python
  def f(x: int) -> int:
      return x  # the same
  ```
- [x] three

> quoted
lazily

| a | b |
|---|:-:|
| 1 | 2 |

$$
\\frac{a}{b}
$$

1. first

   second paragraph
2. next

[late]: https://example.org/late
"""
SPLITS = st.sampled_from([1, 40, 512])


@given(text=markdown | repetitive, seed=st.integers(0, 99), split=SPLITS)
@settings(max_examples=400, deadline=None)
@example(text="# |b\n-|-", seed=0, split=512)
@example(text="- x\n- a\n\n  b\n", seed=0, split=1)
@example(text='+ [f]:l\n"\n"', seed=3, split=1)
@example(text="* - \n  - >\n\n\t>", seed=3, split=1)
@example(text="a|b\n-|-\nc|d\n\n(", seed=3, split=1)
@example(text="[a]: /u\n'title\nmore'\n[a]", seed=3, split=1)
@example(text="$$\n# no heading\n$$\n", seed=3, split=1)
def test_any_cut_gives_the_one_shot_rendering(text: str, seed: int, split: int) -> None:
    """However a text is cut and framed, it ends as the one-shot rendering."""
    assert settled(text, some_cuts(text, seed), split=split) == render(text)


@pytest.mark.parametrize("split", [1, 100, 512])
def test_a_frame_for_every_character(split: int) -> None:
    """With a frame after every character, each page is well-formed and the last one is right."""
    last = ""
    for incremental in stream(SAMPLE, range(len(SAMPLE)), split=split):
        last = incremental.html
        assert [fault for block in incremental.blocks for fault in faults(block)] == []
    assert last == render(SAMPLE)


@given(text=markdown | repetitive)
@settings(max_examples=100, deadline=None)
def test_the_end_without_a_frame(text: str) -> None:
    """A text that is only finished is rendered all the same."""
    incremental = Incremental()
    incremental.feed(text)
    incremental.finish()
    assert incremental.html == render(text)


def test_every_single_cut() -> None:
    """A text cut in two, at any place, ends as the one-shot rendering."""
    whole = render(SAMPLE)
    for at in range(len(SAMPLE)):
        assert settled(SAMPLE, [at], split=1) == whole


@given(text=markdown | repetitive, seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_every_frame_is_safe(text: str, seed: int) -> None:
    """Whatever is half-open, no frame shows more than the allow-list."""
    for incremental in stream(text, some_cuts(text, seed), split=40):
        assert [fault for block in incremental.blocks for fault in faults(block)] == []


@pytest.mark.parametrize(
    ("chunks", "text"),
    [
        (["a\r", "\nb"], "a\nb"),
        (["a\r", "b"], "a\nb"),
        (["a\r", "\r", "\nb"], "a\n\nb"),
        (["\ud83d", "\ude00"], "😀"),
        (["\ud83d", "x"], "\ufffdx"),
        (["\ufeff", "# a"], "# a"),
        (["\ufeff# a\n", "\ufeffb"], "# a\n\ufeffb"),
        (["a\0b"], "a\ufffdb"),
        (["a\r"], "a"),
        (["a\ud83d"], "a\ufffd"),
        ([""], ""),
    ],
)
def test_cuts_inside_one_character(chunks: list[str], text: str) -> None:
    """A line end, a surrogate pair or a byte order mark may be cut in the middle."""
    incremental = Incremental()
    for chunk in chunks:
        incremental.feed(chunk)
        incremental.frame()
    incremental.finish()
    assert incremental.html == render(text) == render("".join(chunks))


def test_nothing_new_means_no_patch() -> None:
    """A frame without news, and a second finish, give nothing."""
    incremental = Incremental()
    assert incremental.frame() == []
    incremental.feed("Hello *you*")
    assert len(incremental.frame()) == 1
    assert incremental.frame() == []
    incremental.finish()
    assert incremental.finish() == incremental.frame() == []


def test_only_touched_blocks_are_patched() -> None:
    """A patch goes to the block that changed, and keeps what did not."""
    incremental = Incremental()
    incremental.feed("# Title\n\nSome te")
    incremental.frame()
    incremental.feed("xt")
    (patch,) = incremental.frame()
    assert (patch.block, patch.keep, patch.html) == (1, len("<p>Some te"), "xt</p>")


def test_a_late_link_definition_settles_at_the_end() -> None:
    """A link whose target is defined in the last line becomes a link at the end."""
    incremental = Incremental()
    incremental.feed("See [it].\n\nMore.\n\n[it]: https://example.org\n")
    incremental.frame()
    assert incremental.blocks[0] == "<p>See [it].</p>"
    incremental.finish()
    assert 'href="https://example.org"' in incremental.blocks[0]


def test_a_block_that_vanishes_is_empty() -> None:
    """A block that turns out to be part of another one is emptied, and its number used again."""
    incremental = Incremental()
    incremental.feed("- a\n\nb")
    incremental.frame()
    assert incremental.blocks == ("<ul><li>a</li></ul>", "<p>b</p>")
    incremental = Incremental()
    incremental.feed("a\n\n1.")
    incremental.feed(" b\n\nc")
    incremental.frame()
    incremental.feed("\n===\n")
    incremental.finish()
    assert incremental.blocks[-1] == "<h1>c</h1>"


GROWING = {
    "list": "- item with **some** words\n",
    "loose list": "- item\n\n  more of it\n\n",
    "tabbed list": "-\titem with **some** words\n",
    "nested list": "  - item with *some* words\n",
    "quote": "> quoted words\n>\n",
    "table": "| some **cell** | other |\n",
    "code": "x = f(x)  # again\n",
    "steps": "1. do\n\n   ```sh\n   ls -l\n   ```\n\n",
    "paragraphs": "Some words, and **more** of them.\n\n",
    "one paragraph": "Some words, and **more** of them. ",
    "indented code": "    x = f(x)\n",
    "definitions": "[word]: https://example.org\n",
    "lazy quote": "lazy words\n",
}
HEADS = {
    "nested list": "- top\n",
    "table": "| a | b |\n|---|---|\n",
    "code": "```python\n",
    "lazy quote": "> ",
}


@pytest.mark.parametrize("shape", GROWING)
def test_work_and_patches_grow_linearly(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the text takes about twice the parsing and twice the bytes, whatever its shape."""
    from mistral_nb.markdown import incremental as module

    parse = module.parse
    work = 0

    def counting(source: str, *rest: object) -> object:
        nonlocal work
        work += len(source)
        return parse(source, *rest)

    monkeypatch.setattr(module, "parse", counting)
    costs = []
    for size in (10_000, 20_000):
        text = HEADS.get(shape, "")
        text += GROWING[shape] * (size // len(GROWING[shape]))
        work = sent = 0
        incremental = Incremental()
        for at in range(0, len(text), 80):
            incremental.feed(text[at : at + 80])
            sent += sum(len(patch.html) for patch in incremental.frame())
        sent += sum(len(patch.html) for patch in incremental.finish())
        assert incremental.html == render(text)
        assert sent < 3.2 * max(len(incremental.html), len(text))
        costs.append((work, sent))
    (work_half, sent_half), (work_whole, sent_whole) = costs
    assert work_whole < 2.6 * work_half + 30_000
    assert work_whole < 30 * 20_000
    assert sent_whole < 2.3 * sent_half + 5_000


def test_a_table_that_lacks_most_cells() -> None:
    """The parser ends a table that lacks too many cells; frozen or not, at the same row."""
    text = "|a" * 300 + "\n" + "|-" * 300 + "\n" + "|x\n" * 230
    assert render(text).count("<tr>") < 221
    assert settled(text, range(0, len(text), 500)) == render(text)


def test_a_long_rest_is_shown_before_it_is_parsed() -> None:
    """When a block is too long to parse for every frame, new text is on the page at once."""
    incremental = Incremental()
    incremental.feed("word " * 60_000)
    assert len(incremental.frame()) == 1
    for number in range(200):
        incremental.feed(f"new{number} <b>")
        (patch,) = incremental.frame()
        assert f"new{number} &lt;b&gt;" in patch.html
        assert faults(incremental.html) == []


@given(text=markdown)
@settings(max_examples=50, deadline=None)
def test_blocks_are_the_page(text: str) -> None:
    """A view that mounts late gets `blocks`, and later patches fit it."""
    steps = stream(text, some_cuts(text, 1))
    for incremental in steps:
        assert "".join(incremental.blocks) == incremental.html
