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

    from matplotlib.figure import Figure

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
    with pytest.raises(InputError, match="no 'label'"):
        run.evaluate("gold", column="label")
    assert run.evaluate("gold", column="topic").rows == 4


def test_a_run_draws_itself(label: Callable[..., Run]) -> None:
    """plot() returns a figure with the run's name."""
    mpl.use("Agg")
    run = label(DF, name="drawn")
    figure = run.plot()
    assert figure.axes


def titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_a_picture_of_an_online_run_has_its_times(label: Callable[..., Run]) -> None:
    """Online: labels, the seconds of every answer, and the cost by kind of token."""
    mpl.use("Agg")
    figure = label(DF, name="online", mode="online").plot()
    labels, seconds, cost = titles(figure)
    assert labels.startswith("Labels of 4 rows")
    assert seconds == "Seconds an answer took"
    assert cost.startswith("Cost: 0.00")
    assert sum(bar.get_height() for bar in figure.axes[1].patches) == 3
    named = [text.get_text() for text in figure.axes[2].get_yticklabels()]
    assert named == ["prompt", "reply"]


def test_a_picture_of_a_batch_run_has_its_jobs(label: Callable[..., Run]) -> None:
    """In batch mode the jobs' times stand where those of answers would; no price is no number."""
    mpl.use("Agg")
    run = label(DF, name="batch", mode="batch", shard_lines=2, model="voxtral-small-2507")
    _, jobs, cost = titles(run.plot())
    assert jobs == "Seconds a batch job took"
    assert cost == "Cost: not known"
