"""Laws of prices: as the models' own pages list them, unknown is never zero."""

from __future__ import annotations

import json

import pytest

from mistral_nb.labelling import prices
from mistral_nb.labelling.prices import dollars, price_of
from tests.conftest import SHARED


def test_the_table_is_the_list() -> None:
    """Every price is the one in the models' facts, and no chat model on sale is left out."""
    listed = {}
    for model in json.loads((SHARED / "wire" / "models.json").read_text()):
        per_token = [
            [float(price) for price, unit in model[side] if unit == "/M Tokens"][:1]
            for side in ("pin", "pout")
        ]
        by_time = any(unit == "/Min" for _, unit in model["pin"])
        if model["status"] != "Retired" and per_token[0] and not by_time:
            pair = (per_token[0][0], *(per_token[1] or [0.0]))
            listed |= dict.fromkeys(model["api"], pair)
    assert listed
    assert {name: tuple(map(float, pair)) for name, pair in prices._PRICES.items()} == listed


def test_a_batch_is_half_the_price_and_cached_tokens_a_tenth() -> None:
    """Prompt, cached and reply tokens each have their price."""
    online, batch = (
        price_of("mistral-small-latest", batch=False),
        price_of("mistral-small-latest", batch=True),
    )
    assert online
    assert batch
    assert online.of(1_000_000, 0) == pytest.approx(0.15)
    assert online.of(1_000_000, 1_000_000) == pytest.approx(0.75)
    assert online.of(1_000_000, 0, 1_000_000) == pytest.approx(0.015)
    assert batch.of(1_000_000, 1_000_000) == pytest.approx(0.375)


def test_an_unknown_price_is_said_to_be_unknown() -> None:
    """No number stands for what is not known, and none reads as nothing that is not."""
    assert price_of("a-model-of-my-own", batch=True) is None
    assert dollars(None) == "unknown"
    assert (dollars(0), dollars(12.344), dollars(1234)) == ("$0.00", "$12.34", "$1,234.00")
    assert (dollars(0.5), dollars(0.0123), dollars(0.00001234)) == (
        "$0.5000",
        "$0.0123",
        "$0.0000123",
    )
