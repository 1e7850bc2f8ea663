"""JSON that the simulator writes is JSON, whatever a request brought into it."""

from __future__ import annotations

import json

import pytest

from mistral_nb.simulator.encoding import encoded


@pytest.mark.parametrize(
    "value",
    [2**63, -(10**40), {"a": [2**64, 1.5, None]}, {"b": 1}, "\u2028", {"c": 10**30, "d": "\ud800"}],
)
def test_what_was_written_is_read_again(value: object) -> None:
    """Whole numbers beyond 64 bits come out as they went in, and so does all beside them."""
    assert json.loads(encoded(value)) == value


def test_replies_quote_large_numbers(api) -> None:
    """A refusal that repeats a huge number is a refusal, and an agent keeps one as it was."""
    refused = api.http.post("/v1/embeddings", content=b'{"model": "m", "input": 1%030d}' % 0)
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["input"] == 10**30
    body = {"model": "mistral-small-latest", "name": "a", "metadata": {"a": 10**30}}
    made = api.post("/v1/agents", body)
    assert made.json()["metadata"] == {"a": 10**30}
