"""A run's labels judged: evaluated against gold, compared with another run's, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import matplotlib as mpl
import pandas as pd
import pytest
from pydantic import BaseModel

from mistral_nb.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.labelling import Run

DF = pd.DataFrame(
    {"text": ["billing was wrong", "delivery is late", None, "the delivery came"],
     "gold": ["billing", "delivery", "other", "billing"]},
    index=[3, 1, 1, 9],
)  # fmt: skip


def test_a_run_is_evaluated_by_a_column_of_its_table(label: Callable[..., Run]) -> None:
    """Right, wrong and missing labels are counted against gold, the missing as wrong."""
    result = label(DF, name="a").evaluate("gold")
    assert (result.rows, result.labelled, result.errors) == (4, 3, 1)
    assert result.accuracy == 0.5


def test_two_runs_are_compared(label: Callable[..., Run]) -> None:
    """Two prompts' labels are set side by side under the runs' names."""
    one, two = label(DF, name="one"), label(DF, "Topic of {text}?", name="two")
    compared = one.compare(two, gold="gold")
    assert compared.names == ("one", "two")
    assert 0 <= compared.agreement <= 1


class Ticket(BaseModel):
    """Two result columns."""

    topic: Literal["billing", "delivery"]
    urgent: bool


def test_several_columns_ask_for_a_choice(label: Callable[..., Run]) -> None:
    """With several result columns one must be named, and a wrong name is refused."""
    run = label(DF, schema=Ticket, name="many")
    run.result(30)
    assert run.columns == ["topic", "urgent"]
    with pytest.raises(InputError, match="column= one of topic, urgent"):
        run.evaluate("gold")
    with pytest.raises(InputError, match="No 'label'"):
        run.evaluate("gold", column="label")
    assert run.evaluate("gold", column="topic").rows == 4


def test_a_run_draws_itself(label: Callable[..., Run]) -> None:
    """plot() returns a figure with the run's name."""
    mpl.use("Agg")
    run = label(DF, name="drawn")
    figure = run.plot()
    assert figure.axes
