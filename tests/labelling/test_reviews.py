"""Laws of reviewing: the order of the rows, what is decided, and what survives."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistral_nb.errors import InputError, StoreError
from mistral_nb.labelling.decisions import as_json
from mistral_nb.labelling.reviews import Worklist

if TYPE_CHECKING:
    from pathlib import Path

N = None


def work(column: Any, **options: Any) -> Worklist:
    table = pd.DataFrame({"text": [f"text {n}" for n in range(len(column))], "label": column})
    return Worklist(table, text="text", **options)


def order(worklist: Worklist) -> list[int]:
    return worklist.ahead(len(worklist))


def test_the_most_doubtful_rows_come_first() -> None:
    """Errors come first, then disagreement with gold, then with runs, then low agreement."""
    rows = work(
        ["a", "a", "a", N, "b", "a"],
        gold=["a", N, "b", "a", "b", N],
        others={"large": pd.Series(["a", "b", "b", "a", "b", "a"])},
        agreement=[1, 1, 1, 1, 1, 0.4],
    )
    assert order(rows) == [3, 2, 1, 5, 0, 4]
    assert [rows.reason(place) for place in order(rows)] == [
        "No label",
        "Differs from gold",
        "Differs from another run",
        "Low agreement, agreement 40%",
        "",
        "",
    ]


def test_the_least_agreement_comes_first() -> None:
    """Among rows that differ, those with the least agreement come first; missing is sure."""
    rows = work(list("aaaa"), others={"x": pd.Series(list("abab")), "y": pd.Series(list("acbb"))})
    assert order(rows) == [1, 2, 3, 0]
    assert order(work(list("aaa"), agreement=[N, 0.9, 0.5])) == [2, 1, 0]


def test_a_label_beyond_the_choice_is_no_label() -> None:
    """A label that is not among those to choose from comes first and cannot be accepted."""
    rows = work(["a", "z"], labels=["a", "b"])
    assert order(rows) == [1, 0]
    assert rows.proposed(1) == -1
    assert rows.reason(1) == "Not a label to choose from: z"


def test_labels_are_the_categories_or_what_the_columns_hold() -> None:
    """Without a list the labels are all categories, or those in use, also by gold and runs."""
    categories = pd.Categorical(["b"], categories=["c", "b", "a"])
    assert work(categories).labels == ["c", "b", "a"]
    assert work(["b"], gold=["a"], others={"x": pd.Series(["d"])}).labels == ["a", "b", "d"]
    assert work([2, 10, 1]).labels == [1, 2, 10]
    assert work(pd.array([True, N], dtype="boolean")).labels == [False, True]
    with pytest.raises(InputError, match="no label to choose from"):
        work([N])
    with pytest.raises(InputError, match="must be a list of labels"):
        work(["b"], labels="abc")
    with pytest.raises(InputError, match="too many"):
        work(list(range(1001)))


@pytest.mark.parametrize(
    "where",
    [
        [False, True, True],
        pd.Series([True, True, False], index=[2, 1, 0]),
        pd.array([N, True, True], dtype="boolean"),
        "label == 'b'",
        "wanted",
        lambda table: table["label"] == "b",
    ],
)
def test_where_chooses_the_rows(where: Any) -> None:
    """Rows are chosen by a mask, a column, an expression or a function."""
    table = pd.DataFrame({"text": list("xyz"), "label": list("abb"), "wanted": [False, True, True]})
    rows = Worklist(table, text="text", where=where)
    assert order(rows) == [1, 2]
    assert rows.counts()["total"] == 2
    assert len(rows.table()) == 3


def test_other_labellings_are_tables_or_columns() -> None:
    """Something else in their place is named."""
    with pytest.raises(InputError, match=r"others\['x'\] must be a labelled table .* not str"):
        work(["b"], others={"x": "b"})


@pytest.mark.parametrize("where", ["nonsense ==", [1, 2, 3], ["a", "b", "c"]])
def test_a_wrong_where_is_refused(where: Any) -> None:
    """What is no mask is refused in words."""
    with pytest.raises(InputError, match="where"):
        work(list("abb"), where=where)


def test_decisions_become_columns() -> None:
    """Accepted and corrected labels are a column, what was done is another; the rest is missing."""
    rows = work(["a", "b", "a", "b"])
    rows.decide(0, 0)
    rows.decide(1, 0)
    rows.decide(2, N)
    table = rows.table()
    assert table["label_reviewed"].fillna("-").tolist() == ["a", "a", "-", "-"]
    assert table["review"].astype(object).fillna("-").tolist() == [
        *("accepted", "corrected", "skipped", "-")
    ]
    assert rows.counts() == {"total": 4, "done": 3, "accepted": 1, "corrected": 1, "skipped": 1}
    assert rows.corrections() == [(1, "b", "a")]
    assert order(rows) == [3]


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ([1, 0], "Int64"),
        ([True, False], "boolean"),
        ([0.5, 1.5], "float64"),
        (pd.array([1, N], dtype="Int64"), "Int64"),
        (pd.array(["a", N], dtype="string"), "string"),
        (pd.Categorical(["a", "b"], ordered=True), "category"),
        (np.array(["a", 1], dtype=object), "object"),
    ],
)
def test_reviewed_labels_keep_their_dtype(labels: Any, dtype: str) -> None:
    """The reviewed column has the label's dtype, or the nearest that knows missing values."""
    rows = work(labels)
    rows.decide(0, 0)
    reviewed = rows.table()["label_reviewed"]
    assert reviewed.dtype == dtype
    assert reviewed[0] == rows.labels[0]
    assert pd.isna(reviewed[1])


def test_a_corrected_category_may_be_new() -> None:
    """A label that the categories lack is added to them."""
    rows = work(pd.Categorical(["a"]), labels=["a", "b"])
    rows.decide(0, 1)
    assert rows.table()["label_reviewed"].tolist() == ["b"]


def test_a_column_called_review_is_left_alone() -> None:
    """Two reviews of one table leave columns of different names."""
    table = pd.DataFrame({"text": ["x"], "label": ["a"], "topic": ["t"]})
    once = Worklist(table, text="text").table()
    twice = Worklist(once, text="text", label="topic").table()
    assert {"label_reviewed", "review", "topic_reviewed", "topic_review"} <= set(twice.columns)


def test_undo_takes_the_last_decision_back() -> None:
    """Undo goes back row by row; each comes again, the latest first."""
    rows = work(list("aaa"))
    for place in range(3):
        rows.decide(place, 0)
    assert rows.undo() == 2
    assert rows.undo() == 1
    assert rows.ahead(5) == [1, 2]
    rows.decide(1, N)
    assert rows.ahead(5) == [2]
    assert rows.counts()["done"] == 2
    assert [rows.undo(), rows.undo(), rows.undo()] == [1, 0, N]
    assert rows.ahead(5) == [0, 1, 2]


def test_skipped_rows_can_be_gone_through_again() -> None:
    """Skipped rows come again when asked for, before the rest, and stay skipped until decided."""
    rows = work(list("aaaa"))
    rows.decide(0, N)
    rows.decide(1, 0)
    rows.decide(2, N)
    rows.revisit_skipped()
    rows.revisit_skipped()
    assert rows.ahead(5) == [0, 2, 3]
    assert rows.counts()["skipped"] == 2
    rows.decide(0, 0)
    rows.decide(2, N)
    assert rows.ahead(5) == [3]


@pytest.mark.parametrize(("place", "choice"), [(9, 0), (-1, 0), (0, 5), (0, -1)])
def test_what_is_not_there_cannot_be_decided(place: int, choice: int) -> None:
    """A row or label that is not there is refused, and nothing changes."""
    rows = work(list("ab"))
    with pytest.raises(InputError):
        rows.decide(place, choice)
    assert rows.counts()["done"] == 0


def test_decisions_survive(tmp_path: Path) -> None:
    """Opening the store again goes on where it was, undo included."""
    store = tmp_path / "folder" / "review.db"
    rows = work(list("abab"), store=store)
    rows.decide(0, 0)
    rows.decide(1, N)
    rows.decide(2, 1)
    rows.undo()
    again = work(list("abab"), store=store)
    assert again.counts() == {**rows.counts(), "accepted": 1, "skipped": 1, "done": 2}
    assert again.ahead(5) == [2, 3]
    assert again.undo() == 1
    assert again.strangers == 0


def test_each_decision_is_on_disk_at_once(tmp_path: Path) -> None:
    """What another process reads right after a decision holds it."""
    store = tmp_path / "review.db"
    rows = work(list("ab"), store=store)
    rows.decide(1, 0)
    with sqlite3.connect(store) as other:
        found = other.execute("SELECT field, action, label, was FROM decision").fetchall()
    other.close()
    assert found == [("label", "corrected", '"a"', '"b"')]


def test_decisions_follow_their_rows(tmp_path: Path) -> None:
    """A sample or another order of the table finds its decisions; other rows have none."""
    store = tmp_path / "review.db"
    table = pd.DataFrame({"text": list("vwxyz"), "label": list("aabba")})
    rows = Worklist(table, text="text", store=store)
    rows.decide(1, 1)
    rows.decide(4, 0)
    shuffled = Worklist(table.iloc[[4, 3, 2, 1]], text="text", store=store)
    assert shuffled.table()["label_reviewed"].fillna("-").tolist() == ["a", "-", "-", "b"]
    other = Worklist(table.assign(text=list("VWXYZ")), text="text", store=store)
    assert other.counts()["done"] == 0
    assert other.strangers == 2
    renumbered = Worklist(table.iloc[[1, 4]].reset_index(drop=True), text="text", store=store)
    assert renumbered.strangers == 2


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from("xy")), min_size=1, max_size=8))
def test_identical_rows_are_told_apart(rows: list[tuple[int, str]]) -> None:
    """Rows with the same index label and text keep decisions of their own."""
    index, texts = zip(*rows, strict=True)
    table = pd.DataFrame({"text": texts, "label": "a"}, index=list(index))
    worklist = Worklist(table, text="text")
    keys = [worklist._keys.key(place) for place in range(len(table))]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "index",
    [
        pd.Index(["a", "b"]),
        pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]),
        pd.date_range("2024-01-01", periods=2),
        pd.Index([0.5, np.nan]),
    ],
)
def test_any_index_names_rows(index: pd.Index, tmp_path: Path) -> None:
    """Whatever the index, decisions are found again."""
    texts = pd.Series(["\ud800", None], dtype=object)
    table = pd.DataFrame({"text": texts, "label": list("ab")}).set_index(index)
    Worklist(table, text="text", store=tmp_path / "r.db").decide(1, 0)
    again = Worklist(table.iloc[::-1], text="text", store=tmp_path / "r.db")
    assert again.table()["label_reviewed"].fillna("-").tolist() == ["a", "-"]


def test_each_label_column_has_its_own_decisions(tmp_path: Path) -> None:
    """One store holds the reviews of several columns."""
    table = pd.DataFrame({"text": ["x"], "label": ["a"], "topic": ["t"]})
    Worklist(table, text="text", store=tmp_path / "r.db").decide(0, 0)
    topic = Worklist(table, text="text", label="topic", store=tmp_path / "r.db")
    assert topic.counts()["done"] == 0


def test_a_later_run_may_agree_with_a_correction(tmp_path: Path) -> None:
    """A decision stays; whether it is a correction is said of the labels as they are now."""
    store = tmp_path / "r.db"
    work(["a", "b"], store=store).decide(0, 1)
    later = work(["b", "b"], labels=["a", "b"], store=store)
    assert later.counts()["accepted"] == 1
    narrower = work(["c", "c"], labels=["c"], store=store)
    assert narrower.table()["label_reviewed"].fillna("-").tolist() == ["b", "-"]


def test_a_decision_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    """If the store fails, the row is still to be decided, and the message says why."""
    store = tmp_path / "review.db"
    rows = work(list("ab"), store=store)
    with sqlite3.connect(store) as other:
        other.execute("DROP TABLE decision")
    other.close()
    with pytest.raises(StoreError, match=r"review\.db"):
        rows.decide(0, 0)
    assert rows.ahead(5) == [0, 1]
    assert rows.counts()["done"] == 0


def test_labels_are_written_alike_for_all_number_types() -> None:
    """Numpy's and Python's own values are the same label."""
    assert as_json(np.int64(3)) == as_json(3)
    assert as_json((np.int64(3), "a")) == as_json((3, "a"))
    assert as_json(np.bool_(True)) == as_json(True)
