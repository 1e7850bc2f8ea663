"""Token counts: as recorded from the API, and as mistral-common itself counts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistral_nb.simulator import tokens
from tests.conftest import SHARED

RECORDED = SHARED / "wire" / "recorded"


def recorded(number: int) -> tuple[dict, dict]:
    data = json.loads((RECORDED / f"chat-complete-{number}.json").read_text())
    return data["request"], data["response"]


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_a_recorded_prompt_counts_as_the_api_counted_it(number: int) -> None:
    """The prompt_tokens of real replies come out within one token (tool results vary)."""
    request, response = recorded(number)
    counted = tokens.count_prompt(request["messages"], request.get("tools"))
    assert abs(counted - response["usage"]["prompt_tokens"]) <= 1


def test_a_recorded_tool_call_counts_as_the_api_counted_it() -> None:
    """A tool call and its end token cost what the API charged."""
    _, response = recorded(2)
    call = response["choices"][0]["message"]["tool_calls"][0]
    counted = tokens.call_tokens(call["function"]) + 1
    assert counted == response["usage"]["completion_tokens"]


def test_the_tokenizer_is_the_one_of_mistral_common() -> None:
    """Our shortcut to its file counts as its own class does."""
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    newest = max((SHARED_DATA).glob("tekken_*.json"))
    own = Tekkenizer.from_file(newest)
    for text in ("Hello, world", "Où est ma carte ? 🃏", "x = [1, 2, 3]\n\n\tdef f(): ...", ""):
        assert tokens.count(text) == len(own.encode(text, bos=False, eos=False))


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


def test_a_long_text_is_not_kept_in_memory() -> None:
    """Only short texts are remembered: a cache of megabyte cells would fill the memory."""
    before = tokens._remembered.cache_info().currsize
    tokens.count("word " * 10_000)
    assert tokens._remembered.cache_info().currsize == before


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


def test_content_chunks_are_counted() -> None:
    """Text and thinking chunks count by their words, an image by a flat figure."""
    text = tokens.count_prompt([{"role": "user", "content": "Hello there"}])
    chunk = {"type": "text", "text": "Hello there"}
    image = {"type": "image_url", "image_url": "https://example.com/a.png"}
    assert tokens.count_prompt([{"role": "user", "content": [chunk]}]) == text
    with_image = tokens.count_prompt([{"role": "user", "content": [chunk, image]}])
    assert with_image == text + tokens.IMAGE_TOKENS


SHARED_DATA = __import__("pathlib").Path(__import__("mistral_common").__file__).parent / "data"
