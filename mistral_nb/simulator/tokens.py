"""Token counts by the tokenizer that mistral-common bundles; no network, loaded at first use."""

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

__all__ = ["PromptCache", "call_tokens", "count", "count_prompt", "load", "loaded", "pieces"]

CACHE_BLOCK = 32
"""A cached prefix is counted in whole blocks of this many tokens, as the recordings show."""

IMAGE_TOKENS = 1024
"""Flat figure for one image: the simulator looks at none."""


@cache
def _encoding() -> Encoding:
    """Build the newest bundled Tekken tokenizer.

    The tokenizer's own class takes 1.4 s to import and reads the same file; only its
    ranks and pattern are needed to count.
    """
    import tiktoken

    spec = importlib.util.find_spec("mistral_common")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("mistral-common is not installed: pip install mistral-common")
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    newest = max(folder.glob("tekken_*.json"))
    data = orjson.loads(newest.read_bytes())
    config = data["config"]
    kept = int(config["default_vocab_size"]) - int(config["default_num_special_tokens"])
    ranks = {
        base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in data["vocab"][:kept]
    }
    return tiktoken.Encoding(
        newest.stem, pat_str=config["pattern"], mergeable_ranks=ranks, special_tokens={}
    )


REMEMBERED = 20_000
"""Texts shorter than this many characters are counted once: prompts repeat their preamble."""

_loading = threading.Lock()


def loaded() -> bool:
    """Return whether the tokenizer is in memory already."""
    return _encoding.cache_info().currsize > 0


def load() -> None:
    """Read the tokenizer now; takes about half a second the first time."""
    _ready()


def _ready() -> Encoding:
    with _loading:  # two first requests at once must not read 19 MB twice
        return _encoding()


def count(text: str) -> int:
    """Return the number of tokens in ``text``, control tokens not counted."""
    return _remembered(text) if len(text) < REMEMBERED else _counted(text)


def _counted(text: str) -> int:
    return len(_ready().encode_ordinary(text))


_remembered = lru_cache(maxsize=2048)(_counted)


def pieces(text: str, limit: int | None = None) -> tuple[list[str], bool]:
    """Cut a text into its tokens, as a stream sends them.

    Args:
        text: What the model says.
        limit: Most tokens allowed; None for no limit.

    Returns:
        The pieces, whole characters each, which join to the text; and whether the limit
        cut it short.
    """
    ids = _ready().encode_ordinary(text)
    short = limit is not None and len(ids) > limit
    out: list[str] = []
    held = b""
    for token in ids[:limit]:
        held += _ready().decode_single_token_bytes(token)
        try:
            out.append(held.decode())
        except UnicodeDecodeError:  # a character of several tokens: wait for its rest
            continue
        held = b""
    return out, short


def count_prompt(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
) -> int:
    """Return the tokens of a chat prompt in the newest instruct layout (v13).

    Args:
        messages: The request's messages, as JSON objects.
        tools: Its tools, if any.

    Returns:
        Tokens, control tokens included: what the API calls ``prompt_tokens``.
    """
    total = 1  # <s>
    if tools:
        listed = [_tool(tool) for tool in tools]
        total += 2 + count(_dumps(listed))  # [AVAILABLE_TOOLS] ... [/AVAILABLE_TOOLS]
    return total + sum(_message_tokens(message) for message in messages)


def _message_tokens(message: Mapping[str, Any]) -> int:
    content = _content_tokens(message.get("content"))
    if message.get("role") != "assistant":
        return content + 2  # [INST] [/INST], [SYSTEM_PROMPT] ... or [TOOL_RESULTS] ...
    for call in message.get("tool_calls") or ():
        content += call_tokens(call["function"])
    return content + (not message.get("prefix"))  # </s>


def call_tokens(function: Mapping[str, Any]) -> int:
    """Return the tokens of one tool call: ``[TOOL_CALLS]name[ARGS]{...}``."""
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else _dumps(arguments)
    return 2 + count(str(function["name"])) + count(text)


def _content_tokens(content: Any) -> int:
    if content is None:
        return 0
    if isinstance(content, str):
        return count(content)
    total = 0
    for chunk in content:
        kind = chunk.get("type", "text")
        if kind == "text":
            total += count(chunk["text"])
        elif kind == "thinking":
            total += 2 + _content_tokens(chunk["thinking"])
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


class PromptCache:
    """Remembers which message prefixes were seen, to say how many tokens were cached.

    Args:
        size: Most prefixes kept; the oldest are forgotten.
    """

    def __init__(self, size: int = 4096) -> None:
        self._seen: dict[tuple[str, int], None] = {}
        self._size = size
        self._lock = threading.Lock()

    def cached_tokens(
        self, model: str, messages: Sequence[Mapping[str, Any]], tools: Any = None
    ) -> int:
        """Return the tokens of the longest prefix seen before, and remember this prompt.

        Args:
            model: A cache belongs to one model.
            messages: The request's messages.
            tools: Its tools; they stand before every message.

        Returns:
            Tokens, in whole blocks, never all of the prompt.
        """
        running = hash(orjson.dumps(tools))
        keys = []
        for message in messages:
            running = hash((running, orjson.dumps(message)))
            keys.append((model, running))
        with self._lock:
            known = 0
            for number, key in enumerate(keys, 1):
                if key not in self._seen:
                    break
                known = number
            for key in keys:
                self._seen.pop(key, None)
                self._seen[key] = None
            while len(self._seen) > self._size:
                self._seen.pop(next(iter(self._seen)))
        if not known:
            return 0
        tokens = count_prompt(messages[:known], tools)
        if known == len(messages):
            tokens -= 1  # at least one token is always read anew
        return tokens // CACHE_BLOCK * CACHE_BLOCK
