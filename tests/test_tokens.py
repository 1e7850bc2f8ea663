"""Token counts: as recorded from the API, and as mistral-common itself counts."""

from __future__ import annotations

import json
from pathlib import Path

import mistral_common
import pytest

from mistral_nb import tokens
from tests.conftest import SHARED

RECORDED = SHARED / "wire" / "recorded"
BUNDLED = Path(mistral_common.__file__).parent / "data"


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


@pytest.mark.parametrize("model", ["mistral-small-latest", "open-mistral-nemo"])
def test_the_tokenizer_is_the_one_of_mistral_common(model: str) -> None:
    """Our shortcut to a model's file counts as mistral-common's own class does."""
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    name, _ = tokens.tokenizer_of(model)
    own = Tekkenizer.from_file(BUNDLED / f"{name}.json")
    for text in ("Hello, world", "Où est ma carte ? 🃏", "x = [1, 2, 3]\n\n\tdef f(): ...", ""):
        assert tokens.count(text, name) == len(own.encode(text, bos=False, eos=False))


def test_the_wheel_has_no_newer_tokenizer() -> None:
    """When mistral-common brings a newer one, this says that it is to be used."""
    assert tokens.tokenizer_of("a model of tomorrow") == (
        max(path.stem for path in BUNDLED.glob("tekken_*.json")),
        False,
    )


def test_a_model_is_counted_as_mistral_common_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that mistral-common counts with a tokenizer of ours are counted with the same."""
    from mistral_common.tokens.tokenizers import mistral

    # Only which file it names is wanted: reading three of them would take seconds.
    named = classmethod(lambda _, path, **__: Path(path).stem)
    monkeypatch.setattr(mistral.MistralTokenizer, "from_file", named)
    known = mistral.MODEL_NAME_TO_TOKENIZER_CLS
    own = {model for model in known if tokens.tokenizer_of(model)[1]}
    assert own >= {"ministral-8b-2410", "open-mistral-nemo-2407", "pixtral-12b-2409"}
    for model in own:
        assert known[model]() == tokens.tokenizer_of(model)[0]


def test_a_long_text_is_not_kept_in_memory() -> None:
    """Only short texts are remembered: a cache of megabyte cells would fill the memory."""
    before = tokens._remembered.cache_info().currsize
    tokens.count("word " * 10_000)
    assert tokens._remembered.cache_info().currsize == before


def test_content_chunks_are_counted() -> None:
    """Text and thinking chunks count by their words, an image by a flat figure."""
    text = tokens.count_prompt([{"role": "user", "content": "Hello there"}])
    chunk = {"type": "text", "text": "Hello there"}
    image = {"type": "image_url", "image_url": "https://example.com/a.png"}
    assert tokens.count_prompt([{"role": "user", "content": [chunk]}]) == text
    with_image = tokens.count_prompt([{"role": "user", "content": [chunk, image]}])
    assert with_image == text + tokens.IMAGE_TOKENS
