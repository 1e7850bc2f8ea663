"""Token counts by the tokenizers that mistral-common bundles; no network, loaded at first use."""

from __future__ import annotations

import base64
import importlib.util
import threading
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiktoken import Encoding

__all__ = [
    "IMAGE_TOKENS",
    "call_tokens",
    "content_tokens",
    "count",
    "count_prompt",
    "encoding",
    "load",
    "loaded",
    "tokenizer_of",
]

IMAGE_TOKENS = 1024
"""Flat figure for one image: nobody here looks at any."""
REMEMBERED = 20_000
"""Texts shorter than this many characters are counted once: prompts repeat their preamble."""
_NEWEST = "tekken_240911"
_OLDER_TEKKEN = {
    "ministral-8b-2410": "tekken_240718",
    "open-mistral-nemo": "tekken_240718",
    "open-mistral-nemo-2407": "tekken_240718",
    "pixtral-12b-2409": "tekken_240911",
}
_AS_RECORDED = ("mistral-large-latest", "mistral-large-2512")
_loading = threading.Lock()


def tokenizer_of(model: str) -> tuple[str, bool]:
    """Return which tokenizer at hand counts for a model, and whether it is the model's own.

    Of the tokenizers in the wheel the Tekken ones need no further package; a model they were
    not made for is counted with the newest, which comes near.

    Args:
        model: Model's name or alias.

    Returns:
        Name of the tokenizer, and False where its counts are an estimate.

    Source:
        mistral_common.tokens.tokenizers.mistral.MODEL_NAME_TO_TOKENIZER_CLS for the older
        models; for those of 2025 and later, recorded replies whose prompt tokens come out.
    """
    known = _OLDER_TEKKEN.get(model)
    return (known or _NEWEST), known is not None or model in _AS_RECORDED


@cache
def _build(name: str) -> Encoding:
    """Build a bundled Tekken tokenizer.

    The tokenizer's own class takes 1.4 s to import and reads the same file; only its
    ranks and pattern are needed to count.
    """
    import tiktoken

    spec = importlib.util.find_spec("mistral_common")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("mistral-common is not installed: pip install mistral-common")
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    data = orjson.loads((folder / f"{name}.json").read_bytes())
    config = data["config"]
    kept = int(config["default_vocab_size"]) - int(config["default_num_special_tokens"])
    ranks = {
        base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in data["vocab"][:kept]
    }
    return tiktoken.Encoding(
        name, pat_str=config["pattern"], mergeable_ranks=ranks, special_tokens={}
    )


def encoding(name: str = _NEWEST) -> Encoding:
    """Return a tokenizer, from any thread.

    Args:
        name: As :func:`tokenizer_of` gives it.
    """
    with _loading:  # two first requests at once must not read 19 MB twice
        return _build(name)


def loaded() -> bool:
    """Return whether a tokenizer is in memory already."""
    return _build.cache_info().currsize > 0


def load() -> None:
    """Read the newest tokenizer now; takes about half a second the first time."""
    encoding()


def count(text: str, name: str = _NEWEST) -> int:
    """Return the number of tokens in ``text``, control tokens not counted.

    Args:
        text: Any text.
        name: The tokenizer.
    """
    return _remembered(text, name) if len(text) < REMEMBERED else _counted(text, name)


def _counted(text: str, name: str) -> int:
    return len(encoding(name).encode_ordinary(text))


_remembered = lru_cache(maxsize=2048)(_counted)


def count_prompt(
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
    name: str = _NEWEST,
) -> int:
    """Return the tokens of a chat prompt in the newest instruct layout (v13).

    Args:
        messages: The request's messages, as JSON objects.
        tools: Its tools, if any.
        name: The tokenizer.

    Returns:
        Tokens, control tokens included: what the API calls ``prompt_tokens``.
    """
    total = 1  # <s>
    if tools:
        listed = [_tool(tool) for tool in tools]
        total += 2 + count(_dumps(listed), name)  # [AVAILABLE_TOOLS] ... [/AVAILABLE_TOOLS]
    return total + sum(_message_tokens(message, name) for message in messages)


def _message_tokens(message: Mapping[str, Any], name: str) -> int:
    content = content_tokens(message.get("content"), name)
    if message.get("role") != "assistant":
        return content + 2  # [INST] [/INST], [SYSTEM_PROMPT] ... or [TOOL_RESULTS] ...
    for call in message.get("tool_calls") or ():
        content += call_tokens(call["function"], name)
    return content + (not message.get("prefix"))  # </s>


def call_tokens(function: Mapping[str, Any], name: str = _NEWEST) -> int:
    """Return the tokens of one tool call: ``[TOOL_CALLS]name[ARGS]{...}``.

    Args:
        function: Its ``name``, and its ``arguments`` as a JSON text or as an object.
        name: The tokenizer.
    """
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else _dumps(arguments)
    return 2 + count(str(function["name"]), name) + count(text, name)


def content_tokens(content: Any, name: str = _NEWEST) -> int:
    """Return the tokens of a message's content; an image counts :data:`IMAGE_TOKENS`.

    Args:
        content: A text, a list of chunks (text, thinking, image_url), or None.
        name: The tokenizer.
    """
    if content is None:
        return 0
    if isinstance(content, str):
        return count(content, name)
    total = 0
    for chunk in content:
        kind = chunk.get("type", "text")
        if kind == "text":
            total += count(chunk["text"], name)
        elif kind == "thinking":
            total += 2 + content_tokens(chunk["thinking"], name)
        elif kind == "image_url":
            total += IMAGE_TOKENS
    return total


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if not isinstance(function, dict):
        return {"type": tool.get("type", "function")}
    kept = {key: function[key] for key in ("name", "description", "parameters") if key in function}
    return {"type": "function", "function": kept}


def _dumps(value: object) -> str:
    import json  # orjson writes no space after a comma, the chat template does

    return json.dumps(value, ensure_ascii=False)
