"""Laws of a dry run: nothing is sent, and what is foreseen comes true."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from mistral_nb import errors
from mistral_nb.labelling import Estimate, list_runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.client import Connection
    from mistral_nb.simulator import Simulator

    Label = Callable[..., Any]

TEXTS = [f"question {n} about my invoice" for n in range(30)]
TABLE = pd.DataFrame({"text": [*TEXTS, TEXTS[0], None]})


def estimate(label: Label, df: pd.DataFrame = TABLE, **options: Any) -> Estimate:
    found = label(df, dry_run=True, **options)
    assert isinstance(found, Estimate)
    return found


def test_a_dry_run_sends_nothing_and_leaves_nothing(
    label: Label, simulator: Simulator, connection: Connection
) -> None:
    """No request reaches the server, and no run is there afterwards."""
    found = estimate(label)
    assert simulator.stats()["requests"] == {}
    assert list_runs(connection.settings).empty
    assert (found.rows, found.unsent, found.repeated, found.reused) == (32, 1, 1, 0)
    assert found.forecast.requests == 30


@pytest.mark.parametrize("mode", ["batch", "online"])
@pytest.mark.parametrize("system", [None, "Read with care what the customer wants. " * 20])
def test_what_is_foreseen_comes_true(label: Label, mode: str, system: str | None) -> None:
    """The real tokens and dollars lie between low and high, in both modes, caching included."""
    options = {"mode": mode, "system": system, "name": "x"}
    found = estimate(label, **options)
    run = label(TABLE, **options)
    run.result(20)
    assert found.forecast.prompt.low <= run.usage.prompt_tokens <= found.forecast.prompt.high
    told = found.forecast.completion
    assert told.low <= run.usage.completion_tokens <= told.high
    assert found.low <= run.cost <= found.high


def test_answers_of_earlier_runs_are_foreseen(label: Label) -> None:
    """What was answered before costs nothing; the same run would go on where it was."""
    assert not estimate(label).started
    label(TABLE.iloc[:10]).result(20)
    assert (estimate(label).reused, estimate(label).forecast.requests) == (10, 20)
    assert estimate(label, reuse=False).reused == 0
    label(TABLE).result(20)
    again = estimate(label)
    assert again.started
    assert (again.forecast.requests, again.low, again.high) == (0, 0, 0)


def test_a_dry_run_finds_what_would_stop_the_run(label: Label) -> None:
    """Rows that the prompt fails on, and a name that stands for other content, are told."""
    with pytest.raises(errors.InputError, match="Row 31"):
        estimate(label, prompt=lambda row: row["text"].upper())
    label(TABLE, name="x").result(20)
    with pytest.raises(errors.InputError, match="named 'x' exists"):
        estimate(label, TABLE.iloc[:3], name="x")


def test_an_estimate_prints_well(label: Label) -> None:
    """Figures, rules and the first requests are there, as text and as harmless HTML."""
    df = pd.DataFrame({"text": ["<script>window.pwned = 1</script>", "b", "c", "d"]})
    found = estimate(label, df, system="Be brief.")
    text, html = repr(found), found._repr_mimebundle_()["text/html"]
    assert text == found._repr_mimebundle_()["text/plain"]
    for words in (
        "nothing was sent",
        "4 requests to mistral-small-latest, as a batch at half the price",
        "system: Be brief.",
        "Which topic? b",
        "counted in every request, with the tokenizer tekken_240911 (estimated",
        "$0.075 for a million prompt tokens",
        "list price of 2026-08, the batch discount included",
    ):
        assert words in text
    assert "Which topic? d" not in text
    assert "<script" not in html
    assert "&lt;script" in html


def test_an_unknown_price_is_said(label: Label) -> None:
    """Unknown is shown as unknown, never as zero."""
    found = estimate(label, model="mine")
    assert (found.low, found.high) == (None, None)
    assert re.search(r"cost +unknown +unknown", repr(found))
    assert "does not mean free" in repr(found)


def test_a_limit_is_weighed_up(label: Label) -> None:
    """The estimate says whether max_cost would refuse the run, or may stop it."""
    plain = estimate(label)
    assert plain.low
    assert plain.high
    middle = (plain.low + plain.high) / 2
    assert "would refuse" in repr(estimate(label, max_cost=plain.low / 2))
    assert "may stop" in repr(estimate(label, max_cost=middle))
    assert "max_cost" not in repr(estimate(label, max_cost=2 * plain.high))


def test_a_dry_run_of_a_table_of_no_rows(label: Label) -> None:
    """No rows: no requests, no cost."""
    found = estimate(label, TABLE.iloc[:0])
    assert (found.rows, found.low, found.high) == (0, 0, 0)
    assert "0 requests" in repr(found)
