"""What a run costs: a dated table of list prices, and the sum from real token counts.

Prices change; the table says when it was read. A model that is not in it has no known
price, and neither has a run with it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["BATCH_SHARE", "CACHED_SHARE", "PRICES_OF", "Price", "dollars", "price_of"]

PRICES_OF = "2026-08"
"""Month in which the table was read."""

BATCH_SHARE = 0.5
"""What the Batch API asks of the price."""
CACHED_SHARE = 0.1
"""What a prompt token costs that the server had in its cache."""

_PRICES: dict[str, tuple[float, float]] = {
    "codestral-2508": (0.3, 0.9),
    "codestral-embed": (0.15, 0),
    "codestral-embed-2505": (0.15, 0),
    "codestral-latest": (0.3, 0.9),
    "devstral-2512": (0.4, 2),
    "devstral-latest": (0.4, 2),
    "devstral-medium-2507": (0.4, 2),
    "devstral-medium-latest": (0.4, 2),
    "devstral-small-2507": (0.1, 0.3),
    "devstral-small-latest": (0.1, 0.3),
    "labs-devstral-small-2512": (0.1, 0.3),
    "labs-leanstral-1-5": (0, 0),
    "labs-mistral-small-creative": (0.1, 0.3),
    "magistral-medium-2509": (2, 5),
    "magistral-medium-latest": (2, 5),
    "magistral-small-2509": (0.5, 1.5),
    "magistral-small-latest": (0.5, 1.5),
    "ministral-14b-2512": (0.2, 0.2),
    "ministral-14b-latest": (0.2, 0.2),
    "ministral-3b-2410": (0.04, 0.04),
    "ministral-3b-2512": (0.1, 0.1),
    "ministral-3b-latest": (0.1, 0.1),
    "ministral-8b-2410": (0.1, 0.1),
    "ministral-8b-2512": (0.15, 0.15),
    "ministral-8b-latest": (0.15, 0.15),
    "mistral-embed": (0.1, 0),
    "mistral-embed-2312": (0.1, 0),
    "mistral-large-2411": (2, 6),
    "mistral-large-2512": (0.5, 1.5),
    "mistral-large-latest": (0.5, 1.5),
    "mistral-medium-2505": (0.4, 2),
    "mistral-medium-2508": (0.4, 2),
    "mistral-medium-3": (1.5, 7.5),
    "mistral-medium-3-5": (1.5, 7.5),
    "mistral-medium-latest": (1.5, 7.5),
    "mistral-moderation-2411": (0.1, 0),
    "mistral-small-2506": (0.1, 0.3),
    "mistral-small-2603": (0.15, 0.6),
    "mistral-small-latest": (0.15, 0.6),
    "open-mistral-nemo": (0.15, 0.15),
    "open-mistral-nemo-2407": (0.15, 0.15),
    "pixtral-12b-2409": (0.15, 0.15),
    "pixtral-large-2411": (2, 6),
    "pixtral-large-latest": (2, 6),
    "zai-glm-5-2": (1.4, 4.4),
}
"""US dollars for a million tokens sent and received."""


class Price(NamedTuple):
    """US dollars for a million tokens: in the prompt, and in the reply."""

    prompt: float
    completion: float

    def of(self, prompt: float, completion: float, cached: float = 0) -> float:
        """Return US dollars for so many tokens, ``cached`` of them among the prompt's."""
        cached = min(cached, prompt)
        fresh = prompt - cached + cached * CACHED_SHARE
        return (fresh * self.prompt + completion * self.completion) / 1e6


def price_of(model: str, *, batch: bool) -> Price | None:
    """Return a model's price, or None where it is not known.

    Args:
        model: Model's name or alias.
        batch: True for the Batch API, at half the price.
    """
    found = _PRICES.get(model)
    share = BATCH_SHARE if batch else 1.0
    return None if found is None else Price(found[0] * share, found[1] * share)


def dollars(amount: float | None) -> str:
    """Say an amount with three figures that tell; what is not known is never zero."""
    if amount is None:
        return "unknown"
    if not 0 < amount < 1:
        return f"${amount:,.2f}"
    return f"${amount:.{max(4, 2 - math.floor(math.log10(amount)))}f}"
