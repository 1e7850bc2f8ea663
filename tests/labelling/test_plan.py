"""Laws of samples and fresh runs: known rows, known names, nothing paid by accident."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from mistral_nb import errors
from mistral_nb.labelling import list_runs
from tests.labelling.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.client import Connection
    from mistral_nb.labelling import Run
    from mistral_nb.simulator import Simulator

    Label = Callable[..., Run]

TABLE = pd.DataFrame({"text": [f"question {n}, my parcel" for n in range(100)]})


def answered(simulator: Simulator) -> int:
    stats = simulator.stats()
    return stats["batch_rows"] + stats["chat_requests"]


def test_a_sample_is_labelled_at_once_and_not_paid_again(
    label: Label, simulator: Simulator
) -> None:
    """The preview goes online, is always of the same rows, and the whole run takes it over."""
    run = label(TABLE, sample=20, name="x")
    df = run.result(20)
    assert len(df) == 20
    assert run.mode == "online"
    assert df.index.is_monotonic_increasing
    assert df.index.max() > 50
    assert answered(simulator) == 20
    again = label(TABLE, sample=20, name="x").result(20)
    pd.testing.assert_frame_equal(again, df)
    whole = label(TABLE, name="x")
    labelled = whole.result(20)
    assert labelled.loc[df.index, "label"].tolist() == df["label"].tolist()
    assert whole.counts["reused"] == 20
    assert answered(simulator) == 100


def test_a_sample_says_what_all_would_cost(label: Label) -> None:
    """The sum is carried over from real usage to the mode of the whole run."""
    run = label(TABLE, sample=50)
    run.result(20)
    batch = label(TABLE, reuse=False, name="batch")
    batch.result(20)
    said = run.message
    assert "all 100 rows would cost about $" in said
    assert "in batch mode" in said
    amount = float(said.split("about $")[1].split(" ")[0])
    assert amount == pytest.approx(batch.cost, rel=0.3)


def test_a_sample_of_more_rows_than_there_are_is_the_table(label: Label) -> None:
    """All rows, then; and what is no number of rows is refused."""
    assert len(label(TABLE.iloc[:5], sample=20).result(20)) == 5
    wrong: Any
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(errors.InputError, match="sample must be a number of rows"):
            label(TABLE, sample=wrong)


def test_fresh_sends_everything_again(
    label: Label, simulator: Simulator, connection: Connection
) -> None:
    """A finished run stays as it is, and another one is paid, with a name of its own."""
    label(TABLE, name="x").result(20)
    again = label(TABLE, name="x", fresh=True)
    again.result(20)
    assert again.name == "x-2"
    assert "'x-2'" in again.message
    assert answered(simulator) == 200
    third = label(TABLE, name="x", fresh=True)
    third.result(20)
    assert sorted(list_runs(connection.settings)["name"]) == ["x", "x-2", "x-3"]
    unnamed = label(TABLE, fresh=True)
    unnamed.result(20)
    assert unnamed.name.startswith("run-")
    assert answered(simulator) == 400


def test_a_fresh_run_that_was_left_goes_on(label: Label, simulator: Simulator) -> None:
    """The same cell again, after a killed kernel, pays nothing twice."""
    label(TABLE, name="x").result(20)
    simulator.batch_rate = None
    left = label(TABLE, name="x", fresh=True)
    until(lambda: left.counts["running"])
    left.stop()
    simulator.batch_rate = 0
    again = label(TABLE, name="x", fresh=True)
    again.result(20)
    assert again.name == "x-2"
    assert answered(simulator) == 200
    assert simulator.stats()["jobs_created"] == 2


def test_fresh_does_not_hide_a_name_of_other_content(label: Label) -> None:
    """A name that stands for something else is refused, fresh or not."""
    label(TABLE, name="x").result(20)
    with pytest.raises(errors.InputError, match="named 'x' exists"):
        label(TABLE.iloc[:3], name="x", fresh=True).result(20)
