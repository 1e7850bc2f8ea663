"""Tokens as servers count and bill them: those of one reply, and sums by model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Tally", "Usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the server counted, and that it bills.

    Attributes:
        prompt_tokens: Tokens sent.
        completion_tokens: Tokens received, thinking included.
        total_tokens: Their sum, as the server gives it.
        cached_tokens: Sent tokens that were billed at the cached price.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Usage:
        """Read the ``usage`` object of a reply; servers name the cached part in two ways.

        Args:
            data: The object, as decoded from JSON.

        Returns:
            The counts; 0 for what is missing or no number.
        """
        details = data.get("prompt_tokens_details")
        cached = _number(details.get("cached_tokens")) if isinstance(details, dict) else 0
        prompt = _number(data.get("prompt_tokens"))
        completion = _number(data.get("completion_tokens"))
        return cls(
            prompt,
            completion,
            _number(data.get("total_tokens")) or prompt + completion,
            cached or _number(data.get("num_cached_tokens")),
        )

    @classmethod
    def total(cls, usages: Iterable[Usage | None]) -> Usage:
        """Return the sums of counts; None counts nothing.

        Args:
            usages: The counts.
        """
        counted = [usage for usage in usages if usage is not None]
        return cls(*(sum(getattr(usage, name) for usage in counted) for name in cls.__slots__))


def _number(value: object) -> int:
    """Return a count as it came; 0 for anything else, since a server may send anything."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


class Tally:
    """Counts replies and their tokens by model: added on one thread, read from any."""

    def __init__(self) -> None:
        self._by_model: dict[str, tuple[int, Usage]] = {}

    def add(self, model: str, usage: Usage) -> None:
        """Count one more reply.

        Args:
            model: Model or agent that answered.
            usage: Its tokens.
        """
        replies, before = self._by_model.get(model, (0, None))
        self._by_model[model] = (replies + 1, Usage.total([before, usage]))

    def rows(self) -> list[tuple[str, int, Usage]]:
        """Return model, replies and tokens, in the order in which models first answered."""
        return [(model, *counted) for model, counted in list(self._by_model.items())]
