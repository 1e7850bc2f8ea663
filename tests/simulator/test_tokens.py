"""Tokens as the simulator needs them: pieces that join, prefixes that are remembered."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from mistral_nb.simulator import tokens
from tests.conftest import SHARED

RECORDED = SHARED / "wire" / "recorded"


def recorded(number: int) -> tuple[dict, dict]:
    data = json.loads((RECORDED / f"chat-complete-{number}.json").read_text())
    return data["request"], data["response"]


@given(st.text(max_size=200))
def test_pieces_join_to_the_text(text: str) -> None:
    """A text cut into tokens loses nothing and has no broken character."""
    pieces, short = tokens.pieces(text.encode(errors="replace").decode())
    assert "".join(pieces) == text.encode(errors="replace").decode()
    assert not short


def test_a_limit_cuts_after_so_many_tokens() -> None:
    """A limit gives a beginning of the text and says that it is short."""
    pieces, short = tokens.pieces("one two three four five six", 3)
    assert short
    assert len(pieces) == 3
    assert "one two three four five six".startswith("".join(pieces))


def test_a_prompt_seen_before_is_cached_in_whole_blocks() -> None:
    """The recorded pair: nothing cached at first, then the common prefix in blocks."""
    cache = tokens.PromptCache()
    first, second = recorded(4), recorded(5)
    for request, response in (first, second):
        cached = cache.cached_tokens(request["model"], request["messages"])
        assert cached == response["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_a_cache_belongs_to_one_model_and_forgets() -> None:
    """Another model finds nothing cached, and old prefixes make room for new ones."""
    cache = tokens.PromptCache(size=2)
    messages = [{"role": "user", "content": "word " * 100}]
    assert cache.cached_tokens("a", messages) == 0
    assert cache.cached_tokens("a", messages) >= 64
    assert cache.cached_tokens("b", messages) == 0
    for number in range(3):
        cache.cached_tokens("c", [{"role": "user", "content": str(number)}])
    assert cache.cached_tokens("a", messages) == 0
