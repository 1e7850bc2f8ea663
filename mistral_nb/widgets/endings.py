"""How a reply ended, in words for people: one line, or a panel with what, why and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mistral_nb import errors
from mistral_nb.events import ChatComplete, ChatError

if TYPE_CHECKING:
    from mistral_nb.streaming import Reply

__all__ = ["Ending", "ending_of"]

FINISHES = {
    "stop": "",
    "stopped": "Stopped",
    "tool_calls": "Asks for a tool",
    "length": "Cut at the token limit (max_tokens)",
    "model_length": "Cut at the model's context length",
}
SHORTEST = 0.2
"""Seconds below which a speed says nothing."""
TITLES: tuple[tuple[type[Exception], str, bool], ...] = (
    (errors.StreamCut, "The reply was cut short", True),
    (errors.StreamStalled, "The server fell silent", True),
    (errors.StreamMalformed, "The reply could not be read", True),
    (errors.StreamRefused, "The server broke off the reply", True),
    (errors.ServerUnreachable, "No connection to the server", True),
    (errors.RateLimitError, "Too many requests", True),
    (errors.ServerError, "The server failed", True),
    (errors.AuthenticationError, "The key was not accepted", False),
    (errors.NotFoundError, "Not found", False),
    (errors.ApiError, "The request was refused", False),
    (errors.InputError, "The request cannot be sent", False),
)
"""Errors, what each is called on screen, and whether the same request may work later."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a reply.

    Attributes:
        state: ``"done"``, ``"stopped"``, ``"cut"`` (by a limit) or ``"error"``.
        footer: One quiet line: tokens, seconds, speed.
        panel: For an error its title and reason; else empty.
        may_retry: True if sending the same request again may help.
    """

    state: str
    footer: str
    panel: tuple[str, ...] = ()
    may_retry: bool = False


def ending_of(record: ChatComplete | ChatError) -> Ending:
    """Describe the last event of a reply."""
    if isinstance(record, ChatError):
        return _failure(record.error, record.partial)
    reply: Reply = record.reply
    state = {"stopped": "stopped", "length": "cut", "model_length": "cut"}
    finish = record.finish_reason
    words = FINISHES.get(finish, f"Ended: {finish}")
    return Ending(state.get(finish, "done"), _footer(words, reply))


def _failure(error: Exception, partial: Reply) -> Ending:
    title, may_retry = type(error).__name__, False
    for kind, words, retry in TITLES:
        if isinstance(error, kind):
            title, may_retry = words, retry
            break
    footer = _footer("Incomplete" if partial.text else "No reply", partial)
    return Ending("error", footer, (title, str(error)), may_retry)


def _footer(words: str, reply: Reply) -> str:
    parts = [words, reply.model]
    usage = reply.usage
    if usage is not None:
        cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
        parts.append(f"{usage.prompt_tokens:,} tokens in{cached}, {usage.completion_tokens:,} out")
    parts.append(f"{reply.seconds:.1f} s")
    if usage is not None and usage.completion_tokens and reply.seconds >= SHORTEST:
        parts.append(f"{usage.completion_tokens / reply.seconds:,.0f} tokens/s")
    return " · ".join(part for part in parts if part)
