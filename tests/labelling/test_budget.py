"""Laws of max_cost: refused before anything is sent, stopped at the limit, gone on with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from mistral_nb import errors
from mistral_nb.labelling import list_runs, resume
from mistral_nb.simulator import Faults
from tests.labelling.waiting import shards_of, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus
    from mistral_nb.simulator import Simulator

    Label = Callable[..., Any]

ROWS = 60
TABLE = pd.DataFrame({"text": [f"question {n} about my invoice" for n in range(ROWS)]})
MODES = pytest.mark.parametrize("mode", ["batch", "online"])


def sent(simulator: Simulator) -> int:
    stats = simulator.stats()
    return stats["batch_rows"] + stats["chat_requests"]


def full_cost(label: Label, mode: str) -> float:
    """What all rows cost, found out with a run that no other takes answers from."""
    run = label(TABLE, mode=mode, name="full", labels=None)
    run.result(30)
    return float(run.cost)


@MODES
def test_a_run_that_costs_more_in_any_case_is_refused(
    label: Label, simulator: Simulator, connection: Connection, mode: str
) -> None:
    """Nothing is sent and nothing is left; the error says what, why and what to do."""
    least = label(TABLE, mode=mode, dry_run=True).low
    with pytest.raises(errors.CostLimitError, match=r"would cost \$.* more than max_cost=") as told:
        label(TABLE, mode=mode, max_cost=least / 2).result(20)
    assert "Nothing was sent" in str(told.value)
    assert "dry_run=True" in str(told.value)
    assert sent(simulator) == 0
    assert list_runs(connection.settings).empty


def test_an_unknown_price_is_refused_with_a_limit(label: Label, simulator: Simulator) -> None:
    """A limit that cannot be kept is refused in words; without it the run is possible."""
    with pytest.raises(errors.InputError, match="the price of 'mine' is unknown"):
        label(TABLE, model="mine", max_cost=1)
    assert simulator.stats()["requests"] == {}


@pytest.mark.parametrize("limit", [0, -1, True, "1", math.nan])
def test_a_limit_is_an_amount(label: Label, limit: Any) -> None:
    """Anything but dollars above zero is refused at once."""
    with pytest.raises(errors.InputError, match="max_cost must be US dollars above 0"):
        label(TABLE, max_cost=limit)


@MODES
def test_a_run_stops_at_its_limit_and_goes_on_with_a_higher_one(
    label: Label,
    simulator: Simulator,
    connection: Connection,
    bus: EventBus,
    mode: str,
) -> None:
    """It costs no more than the limit, keeps what it paid for, and ends without repeats."""
    limit = 0.6 * full_cost(label, mode)
    before = sent(simulator)
    options = {"labels": None, "reuse": False, "shard_lines": 5}
    run = label(TABLE, mode=mode, name="x", max_cost=limit, **options)
    with pytest.raises(errors.CostLimitError, match=r"mnb\.resume\('x', max_cost=") as told:
        run.result(30)
    assert "The run 'x' is kept" not in str(told.value)
    done = run.counts["done"]
    assert 0 < done < ROWS
    assert f"{done} of {ROWS} rows are labelled" in str(told.value)
    assert 0.5 * limit < run.cost <= limit
    assert sent(simulator) - before == done
    with pytest.raises(errors.CostLimitError):  # the limit is the run's, whoever goes on with it
        resume(connection, bus, "x").result(30)
    more = resume(connection, bus, "x", max_cost=10 * limit)
    assert len(more.result(30)) == ROWS
    assert more.counts["done"] == ROWS
    assert sent(simulator) - before == ROWS


@MODES
def test_a_limit_that_suffices_changes_nothing(label: Label, mode: str) -> None:
    """With enough money all rows are labelled, all shards at once; so without a limit."""
    for limit in (1, math.inf):
        run = label(TABLE, mode=mode, name=f"x{limit}", max_cost=limit, shard_lines=20)
        run.result(30)
        assert run.counts["done"] == ROWS


@MODES
def test_answers_without_token_counts_are_taken_at_their_most(
    label: Label, connection: Connection, bus: EventBus, mode: str
) -> None:
    """Moderations say no tokens: their cost is unknown, never zero, and a limit holds all the same."""
    options = {"endpoint": "moderations", "labels": None, "model": "mistral-moderation-2411"}
    options |= {"mode": mode, "prompt": "{text}", "shard_lines": 20}
    free = label(TABLE, name="free", **options)
    free.result(30)
    assert free.cost is None
    assert "cost not known" in free.message
    found = label(TABLE, reuse=False, dry_run=True, **options)
    limit = found.low + 0.2 * (found.high - found.low)
    run = label(TABLE, name="x", reuse=False, max_cost=limit, **options)
    with pytest.raises(errors.CostLimitError):
        run.result(30)
    assert 0.5 * limit < run.counts["done"] * found.high / ROWS <= limit
    resume(connection, bus, "x", max_cost=10 * limit).result(30)


def test_shards_wait_for_what_the_first_one_costs(
    label: Label, simulator: Simulator, home: Path
) -> None:
    """Where the most that can be foreseen is above the limit, one shard finds the truth out."""
    plain = label(TABLE, dry_run=True, labels=None)
    assert plain.high > 5 * plain.low
    run = label(TABLE, labels=None, name="x", max_cost=plain.high / 2, shard_lines=20)
    simulator.batch_rate = None
    until(lambda: simulator.stats()["jobs_created"])
    states = [shard.state for shard in shards_of(home, "x")]
    assert states.count("written") == 2
    simulator.batch_rate = 0
    run.result(30)
    assert run.counts["done"] == ROWS
    assert run.cost <= plain.high / 2


def test_a_shard_that_cannot_be_followed_stops_no_other(
    label: Label, simulator: Simulator, connection: Connection, bus: EventBus
) -> None:
    """When the server is gone, shards waiting for money end too, with the real reason."""
    plain = label(TABLE, dry_run=True, labels=None)
    options = {"labels": None, "name": "x", "max_cost": plain.high / 2, "shard_lines": 20}
    simulator.batch_rate = None
    run = label(TABLE, patience=0.3, **options)
    until(lambda: simulator.stats()["jobs_created"])
    simulator.faults = Faults(error_rate=1)
    with pytest.raises(errors.ServerError, match="1 batch job"):
        run.result(30)
    simulator.faults = Faults()
    simulator.batch_rate = 0
    assert resume(connection, bus, "x").result(30)["_error"].isna().all()
