"""Tokens as the simulator needs them: replies in pieces, and prefixes that were seen before."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from mistral_nb.simulator.encoding import encoded
from mistral_nb.tokens import call_tokens, count, count_prompt, encoding, load, loaded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["PromptCache", "call_tokens", "count", "count_prompt", "load", "loaded", "pieces"]

CACHE_BLOCK = 32
"""A cached prefix is counted in whole blocks of this many tokens, as the recordings show."""


def pieces(text: str, limit: int | None = None) -> tuple[list[str], bool]:
    """Cut a text into its tokens, as a stream sends them.

    Args:
        text: What the model says.
        limit: Most tokens allowed; None for no limit.

    Returns:
        The pieces, whole characters each, which join to the text; and whether the limit
        cut it short.
    """
    tokenizer = encoding()
    ids = tokenizer.encode_ordinary(text)
    short = limit is not None and len(ids) > limit
    out: list[str] = []
    held = b""
    for token in ids[:limit]:
        held += tokenizer.decode_single_token_bytes(token)
        try:
            out.append(held.decode())
        except UnicodeDecodeError:  # a character of several tokens: wait for its rest
            continue
        held = b""
    return out, short


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
        running = hash(encoded(tools))
        keys = []
        for message in messages:
            running = hash((running, encoded(message)))
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
