"""A run's labels judged: evaluated against gold, compared with another run's, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import matplotlib as mpl
import pandas as pd
import polars as pl
import pytest
from pydantic import BaseModel

from mistral_nb.errors import InputError, RunError
from mistral_nb.labelling import FilesSource, labellings
from mistral_nb.widgets.review import review

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


def test_only_a_run_is_compared_with_a_run(label: Callable[..., Run]) -> None:
    """A table in its place is refused in words."""
    with pytest.raises(InputError, match=r"other must be a run, .* not DataFrame"):
        label(DF, name="one").compare(DF)


def test_a_review_offers_every_label(label: Callable[..., Run]) -> None:
    """Whatever library the table is of: also labels that no row has, in their order."""
    made = label(pl.DataFrame({"text": ["billing was wrong", None]}), name="polars")
    table, known = made.to_review()
    assert table["label"].cat.categories.tolist() == ["billing", "delivery", "other"]
    assert table["label"].tolist()[0] == "billing"
    assert known == {"label": "label", "error": "_error", "text": "text"}


def test_a_review_reads_what_went_in(label: Callable[..., Run]) -> None:
    """The text to read is never a result of the run's own, whatever its columns are called."""
    df = pd.DataFrame({"text": ["a", None, None]})
    run = label(df, schema=Ticket, prefix="new_", name="prefixed")
    _, known = run.to_review("new_topic")
    assert known == {"label": "new_topic", "error": "new_error", "text": "text"}
    _, known = run.to_review("new_topic", "new_error")
    assert known["text"] == "new_error"


def test_a_review_of_nothing_is_refused(label: Callable[..., Run], tmp_path: Path) -> None:
    """A table without rows, or one that is not in memory, is said to be so."""
    with pytest.raises(InputError, match="no rows, so there is nothing to review"):
        label(DF.head(0)).to_review()
    DF.to_parquet(tmp_path / "part.parquet")
    files = FilesSource(tmp_path / "part.parquet", tmp_path / "out")
    with pytest.raises(InputError, match="not one table in memory"):
        label(files, name="files").to_review()


def test_a_run_without_rows_has_columns(label: Callable[..., Run]) -> None:
    """They are known although nothing was sent; there is just nothing to evaluate."""
    run = label(DF.head(0))
    assert run.columns == ["label"]
    with pytest.raises(InputError, match="no row with a gold label"):
        run.evaluate("gold")


def test_a_review_of_vectors_is_refused(label: Callable[..., Run]) -> None:
    """They are no labels, which is said in words."""
    run = label(DF, "{text}", endpoint="embeddings", labels=None, name="vectors")
    table, known = run.to_review()
    with pytest.raises(InputError, match="lists or objects, which cannot be compared as labels"):
        review(table, **known)


def test_other_runs_have_their_say_in_a_review(label: Callable[..., Run]) -> None:
    """Runs are known by their names; tables and columns by those they are given."""
    run, other = label(DF, name="one"), label(DF, "Topic of {text}?", name="two")
    table, known = run.to_review()
    for others in (
        [other],
        {"two": other},
        {"two": other.result()},
        {"two": other.result()["label"]},
    ):
        made = review(table, others=labellings(others, "label"), **known).worklist
        assert made.opinions(0) == [("two", made.labels.index(other.result()["label"].iloc[0]))]
    for wrong in (other.result(), [other.result()], other):
        with pytest.raises(InputError, match="others must be a list of runs"):
            labellings(wrong, "label")


def test_a_run_of_which_nothing_is_kept_says_so(label: Callable[..., Run]) -> None:
    """Nothing was sent for a table without rows: waiting for news would be in vain."""
    run = label(DF.head(0), name="none")
    run.result()
    with pytest.raises(RunError, match="Nothing is kept of the run 'none': nothing was sent"):
        _ = run.errors
