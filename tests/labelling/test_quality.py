"""Laws of evaluation and comparison: the figures are scikit-learn's, rows are never mixed up."""

from __future__ import annotations

import sys
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistral_nb.errors import InputError
from mistral_nb.labelling.pairing import aligned
from mistral_nb.labelling.plots import plot_run
from mistral_nb.labelling.quality import NO_LABEL, agreement, compare, evaluate
from tests.conftest import SHARED

mpl.use("Agg")
metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")

LABELS = st.sampled_from(["a", "b", "c", None])
PAIRS = st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=30)


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def banking() -> pd.DataFrame:
    """Real queries with 77 intents, labelled with some mistakes and some failures."""
    table = pd.read_csv(SHARED / "data" / "banking77-test.csv")
    rng = np.random.default_rng(7)
    table["label"] = np.where(
        rng.random(len(table)) < 0.1, rng.permutation(table["category"]), table["category"]
    )
    table.loc[rng.random(len(table)) < 0.01, "label"] = None
    return table


@given(PAIRS)
def test_figures_are_those_of_scikit_learn(pairs: list[tuple[str | None, str | None]]) -> None:
    """Accuracy, macro F1 and kappa equal scikit-learn's, a missing label being a wrong one."""
    table = pd.DataFrame(pairs, columns=["gold", "label"])
    judged = table[table["gold"].notna()].fillna("missing")
    if judged.empty:
        with pytest.raises(InputError, match="no row with a gold label"):
            evaluate(table, "gold")
        return
    found = evaluate(table, "gold")
    y, p = judged["gold"], judged["label"]
    assert found.accuracy == pytest.approx(metrics.accuracy_score(y, p))
    f1 = metrics.f1_score(y, p, labels=sorted(set(y)), average="macro", zero_division=0)
    assert found.macro_f1 == pytest.approx(f1)
    if len(set(y) | set(p)) == 1:
        assert np.isnan(found.kappa)
    else:
        assert found.kappa == pytest.approx(metrics.cohen_kappa_score(y, p))
    assert found.rows == len(judged) == found.confusion.to_numpy().sum()
    assert found.errors == (p == "missing").sum()
    assert found.labelled + found.errors == found.rows
    assert found.without_gold == len(table) - len(judged)
    assert len(found.wrong) == found.rows - round(found.accuracy * found.rows)


def test_each_label_has_its_figures() -> None:
    """Precision and recall are per label, and NaN where there is nothing to divide by."""
    table = pd.DataFrame({"gold": list("aabb"), "label": ["a", "c", "b", None]})
    found = evaluate(table, "gold").per_label
    assert found.loc["a"].tolist() == [1, 0.5, pytest.approx(2 / 3), 2, 1]
    assert found.loc["b"].tolist() == [1, 0.5, pytest.approx(2 / 3), 2, 1]
    assert np.isnan(found.loc["c", "recall"])
    assert found.loc["c", ["precision", "support"]].tolist() == [0, 0]


def test_confusion_counts_gold_down_and_predicted_across() -> None:
    """The confusion matrix holds each label in both directions, and rows without one last."""
    table = pd.DataFrame({"gold": list("aab"), "label": ["a", "b", None]})
    found = evaluate(table, "gold").confusion
    assert found.index.tolist() == ["a", "b"]
    assert found.columns.tolist() == ["a", "b", NO_LABEL]
    assert found.to_numpy().tolist() == [[1, 1, 0], [0, 0, 1]]


def test_a_label_may_be_called_like_the_missing_one() -> None:
    """The column for rows without a label keeps a name of its own."""
    table = pd.DataFrame({"gold": [NO_LABEL, "b"], "label": [NO_LABEL, None]})
    assert evaluate(table, "gold").confusion.columns.is_unique


def test_most_confused_names_the_mistakes() -> None:
    """The most frequent mistakes come first, with their share of the gold label's rows."""
    gold = ["a"] * 5 + ["b"] * 3
    table = pd.DataFrame({"gold": gold, "label": [*"abbbb", "b", "a", None]})
    found = evaluate(table, "gold").most_confused()
    assert found.to_dict("records") == [
        {"gold": "a", "predicted": "b", "rows": 4, "share": 0.8},
        {"gold": "b", "predicted": "a", "rows": 1, "share": pytest.approx(1 / 3)},
    ]
    assert len(evaluate(table, "gold").most_confused(1)) == 1


def test_wrong_rows_keep_their_index() -> None:
    """The wrong rows can be looked up in the table."""
    table = pd.DataFrame({"gold": list("abc"), "label": ["a", "c", None]}, index=[10, 20, 30])
    assert evaluate(table, "gold").wrong.index.tolist() == [20, 30]


@pytest.mark.parametrize(
    ("gold", "label"),
    [
        (pd.array([1, 2, None], dtype="Int64"), [1, 1, 2]),
        ([True, False, True], pd.array([True, True, None], dtype="boolean")),
        (pd.Categorical(["x", "y", "x"], categories=["y", "x", "z"]), ["x", "x", "y"]),
        ([1.0, 2.0, np.nan], pd.array([1, 1, 2], dtype="Int64")),
        ([1, "a", True], [1, "a", "a"]),
        (pd.to_datetime(["2024-01-01", "2024-01-02", None]), pd.to_datetime(["2024-01-01"] * 3)),
    ],
)
def test_labels_need_not_be_texts(gold: object, label: object) -> None:
    """Numbers, booleans, categories, dates and mixtures are labels too."""
    found = evaluate(pd.DataFrame({"gold": gold, "label": label}), "gold")
    assert 0 < found.accuracy < 1


def test_labels_come_in_the_order_of_the_categories() -> None:
    """A categorical column's order is kept; labels beyond it follow; unused ones are left out."""
    gold = pd.Categorical(["mid", "low", "high"], categories=["low", "none", "mid", "high"])
    table = pd.DataFrame({"gold": gold, "label": ["mid", "low", "other"]})
    assert evaluate(table, "gold").per_label.index.tolist() == ["low", "mid", "high", "other"]


def test_gold_may_be_given_apart() -> None:
    """Gold labels match by index label in another order, and by position as a list."""
    table = pd.DataFrame({"label": list("abc")}, index=["x", "y", "z"])
    shuffled = pd.Series(list("cab"), index=["z", "x", "y"])
    assert evaluate(table, shuffled).accuracy == 1
    assert evaluate(table, ["a", "b", "b"]).accuracy == pytest.approx(2 / 3)


@pytest.mark.parametrize("kind", [list, tuple, np.array, pl.Series, pa.array, pa.chunked_array])
def test_gold_may_be_of_any_library(kind: Any) -> None:
    """A column of polars or Arrow, or a plain sequence, is in the table's order."""
    table = pd.DataFrame({"label": list("ab")}, index=[7, 7])
    gold = [list("ab")] if kind is pa.chunked_array else list("ab")
    assert evaluate(table, kind(gold)).accuracy == 1


def test_equal_indexes_match_even_with_duplicates() -> None:
    """The very same index is matched by position, duplicates or not."""
    table = pd.DataFrame({"label": list("ab")}, index=[1, 1])
    assert evaluate(table, pd.Series(["a", "b"], index=[1, 1])).accuracy == 1


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ([0, 1, 1], "occur more than once"),
        ([0, 1, 3], "different index labels"),
        ([0, 1], "has 2 rows"),
        ([0, 1, 2, 3], "has 4 rows"),
    ],
)
def test_rows_that_cannot_be_matched_are_refused(index: list[int], reason: str) -> None:
    """Pairing rows is never a guess."""
    values = pd.Series(["a"] * len(index), index=index)
    table = pd.DataFrame({"label": list("abc")}, index=[1, 0, 2] if 3 not in index else [0, 1, 2])
    if reason == "occur more than once":
        table.index = pd.Index([1, 0, 1])
    with pytest.raises(InputError, match=reason):
        evaluate(table, values)


def test_aligned_keeps_dtype() -> None:
    """Reordering a column keeps its dtype."""
    values = pd.Series(pd.Categorical(["a", "b"]), index=[1, 0])
    assert aligned(values, pd.RangeIndex(2)).tolist() == ["b", "a"]
    assert aligned(values, pd.RangeIndex(2)).dtype == values.dtype


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"gold": "truth"}, "gold is 'truth'; the table's columns are 'gold', 'label'"),
        ({"gold": "gold", "predicted": "topic"}, "predicted is 'topic'"),
        ({"gold": ["a"]}, "gold has 1 values; the table has 2 rows"),
        ({"gold": {"a"}}, "gold is"),
    ],
)
def test_columns_that_are_not_there_are_named(options: dict, reason: str) -> None:
    """A missing column is named together with those there are."""
    with pytest.raises(InputError, match=reason):
        evaluate(pd.DataFrame({"gold": list("ab"), "label": list("ab")}), **options)


def test_two_columns_of_one_name_are_refused() -> None:
    """Which of two columns is meant is not guessed."""
    table = pd.DataFrame([["a", "a", "a"]], columns=["gold", "label", "label"])
    with pytest.raises(InputError, match="2 columns named 'label'"):
        evaluate(table, "gold")


@pytest.mark.parametrize("gold", [["1", "2"], [" A", "b"]])
def test_labels_that_only_look_alike_are_refused(gold: list[str]) -> None:
    """Labels of other types or spelling are not silently all wrong."""
    label = [1, 2] if gold[0] == "1" else ["a", "B"]
    with pytest.raises(InputError, match="look alike"):
        evaluate(pd.DataFrame({"gold": gold, "label": label}), "gold")


def test_labels_nobody_shares_are_simply_wrong() -> None:
    """An accuracy of zero is a result, not an error."""
    found = evaluate(pd.DataFrame({"gold": list("ab"), "label": list("cd")}), "gold")
    assert (found.accuracy, found.macro_f1) == (0, 0)


def test_objects_are_no_labels() -> None:
    """A column of lists is refused in words."""
    with pytest.raises(InputError, match="lists or objects"):
        evaluate(pd.DataFrame({"gold": [["a"]], "label": [["a"]]}), "gold")


def test_an_empty_table_is_refused() -> None:
    """There are no figures about nothing."""
    empty = pd.DataFrame({"gold": [], "label": []})
    with pytest.raises(InputError, match="no row with a gold label"):
        evaluate(empty, "gold")
    with pytest.raises(InputError, match="no rows to compare"):
        compare(empty, empty)
    assert agreement(empty).empty


def test_a_schema_of_several_columns_is_evaluated_column_by_column() -> None:
    """Each column of a schema can be judged by its own gold column."""
    table = pd.DataFrame(
        {"topic": list("ab"), "urgent": [True, False], "topic_gold": list("aa"), "u": [True, True]}
    )
    assert evaluate(table, "topic_gold", "topic").accuracy == 0.5
    assert evaluate(table, "u", "urgent").per_label.index.tolist() == [False, True]


def test_a_real_data_set_reads_well(banking: pd.DataFrame) -> None:
    """The output says what was right, what failed and what was confused, worst labels first."""
    found = evaluate(banking, "category")
    text = found._repr_mimebundle_()["text/plain"]
    assert f"{found.accuracy:.1%} of 3,080 rows right" in text
    assert f"{found.errors} rows without a label counted as wrong" in text
    assert "the worst 10 of 77" in text
    assert text.index(found.per_label["f1"].idxmin()) < text.index("Most confused")
    low, high = found.interval
    assert low < found.accuracy < high


def test_of_equally_bad_labels_the_frequent_come_first() -> None:
    """Where ten labels were never met, those with most rows are worth looking at."""
    gold = [f"label {n:02}" for n in range(20) for _ in range(n + 1)]
    table = pd.DataFrame({"gold": gold, "label": "other"})
    lines = evaluate(table, "gold")._repr_mimebundle_()["text/plain"].splitlines()
    first = lines.index("Labels, the worst 10 of 21") + 2
    assert [line[:8] for line in lines[first : first + 3]] == ["label 19", "label 18", "label 17"]


def test_columns_without_a_word_are_left_out_of_what_differs() -> None:
    """Such as that of the errors, where there are none; a missing label is a dash."""
    table = pd.DataFrame({"text": ["one"], "_error": pd.array([None], dtype="string")})
    found = compare(table.assign(label="a"), table.assign(label=pd.array([None], dtype="string")))
    text = found._repr_mimebundle_()["text/plain"]
    assert "_error" not in text
    assert "<NA>" not in text
    assert "0  one   a        -" in text


def test_labels_in_the_output_are_text() -> None:
    """Neither markup nor mathematics in a label or a text reaches the page as such."""
    bad = '<img src=x onerror="alert(1)">$\\href{javascript:alert(1)}{x}$'
    table = pd.DataFrame({"text": [bad], "gold": ["ok"], "label": [bad]})
    other = table.assign(label="ok")
    for shown in (evaluate(table, "gold"), compare(table, other, names=(bad, "b"))):
        html = shown._repr_mimebundle_()["text/html"]
        assert "<img" not in html
        assert "&lt;img" in html
        assert html.count("$") == html.count("<span>$</span>")
        assert html.count("\\") == html.count("<span>\\</span>")


@pytest.mark.parametrize("size", [2, 8, 77])
def test_the_confusion_matrix_is_drawn_with_every_label(banking: pd.DataFrame, size: int) -> None:
    """Each label is named on both sides and each count is written, however many there are."""
    some = banking[banking["category"].isin(banking["category"].unique()[:size])]
    found = evaluate(some, "category")
    axes = found.plot()
    assert len(axes.get_yticklabels()) == len(found.confusion)
    assert len(axes.get_xticklabels()) == found.confusion.shape[1]
    written = [int(text.get_text().replace(",", "")) for text in axes.texts]
    assert sum(written) == found.rows
    axes.figure.canvas.draw()


def test_the_confusion_matrix_can_be_drawn_into_axes() -> None:
    """A figure of one's own is used as it is."""
    axes = plt.figure().add_subplot()
    found = evaluate(pd.DataFrame({"gold": list("ab"), "label": list("ab")}), "gold")
    assert found.plot(ax=axes) is axes


def test_a_run_is_drawn_in_up_to_three_pictures(banking: pd.DataFrame) -> None:
    """Labels, seconds and cost each have a picture; an unknown price is called unknown."""
    figure = plot_run(banking, seconds=[0.1, 0.4, None], cost={"input": 1.5, "output": None})
    labels, seconds, cost = figure.axes
    assert "20 most frequent of 77" in labels.get_title(loc="left")
    assert "(no label)" in [text.get_text() for text in labels.get_yticklabels()]
    assert "0.25 s" in seconds.texts[0].get_text()
    assert [text.get_text() for text in cost.texts] == ["1.50", "unknown"]
    assert cost.get_title(loc="left") == "Cost: at least 1.5000 USD"
    figure.canvas.draw()
    assert len(plot_run(banking.head(0)).axes) == 1
    assert plot_run(banking, seconds=[]).axes[1].texts[0].get_text() == "not known"


def test_tex_in_a_label_is_drawn_as_text() -> None:
    """A label that looks like mathematics is drawn, not parsed."""
    table = pd.DataFrame({"label": ["$\\frac{", "ok"], "gold": ["ok", "$\\frac{"]})
    plot_run(table).canvas.draw()
    evaluate(table, "gold").plot().figure.canvas.draw()


@given(PAIRS)
def test_comparing_is_symmetric(pairs: list[tuple[str | None, str | None]]) -> None:
    """Two labellings agree as much in one direction as in the other, and differ in the rest."""
    table = pd.DataFrame(pairs, columns=["a", "b"])
    a, b = table[["a"]].set_axis(["label"], axis=1), table[["b"]].set_axis(["label"], axis=1)
    one, two = compare(a, b), compare(b, a)
    assert one.agreement == two.agreement
    assert one.kappa == pytest.approx(two.kappa, nan_ok=True)
    assert one.unlabelled == two.unlabelled[::-1]
    assert one.differs.index.equals(two.differs.index)
    neither = int((table["a"].isna() & table["b"].isna()).sum())
    assert round(one.agreement * len(table)) + len(one.differs) + neither == len(table)


def test_a_labelling_agrees_with_itself(banking: pd.DataFrame) -> None:
    """Only rows without a label keep a labelling from agreeing with itself."""
    found = compare(banking, banking.sample(frac=1, random_state=1))
    missing = int(banking["label"].isna().sum())
    assert found.agreement == pytest.approx(1 - missing / len(banking))
    assert found.unlabelled == (missing, missing)
    assert found.differs.empty


def test_gold_says_who_was_right() -> None:
    """With gold labels each differing row names who was right, and McNemar's test is exact."""
    a = pd.DataFrame({"text": list("vwxyz"), "label": [*"aaab", None], "gold": list("aaaac")})
    b = a.assign(label=["a", "b", "b", "c", "c"])
    found = compare(a, b, gold="gold", names=("small", "large"))
    assert found.accuracy == (0.6, 0.4)
    assert found.right_only == (2, 1)
    assert found.p_value == 1
    assert found.differs["right"].tolist() == ["small", "small", "neither", "large"]
    assert found.differs.columns.tolist() == ["text", "label_small", "label_large", "gold", "right"]
    assert "Only small is right in 2, only large in 1" in found._repr_mimebundle_()["text/plain"]
    ten = pd.DataFrame({"label": ["a"] * 10})
    better = compare(ten, ten.assign(label="b"), gold=["a"] * 10)
    assert better.p_value == pytest.approx(2 / 2**10)


def test_rows_without_gold_are_nobodys() -> None:
    """A missing gold label judges nobody, and no gold label at all is refused."""
    a = pd.DataFrame({"label": list("ab")})
    found = compare(a, a.assign(label=list("bb")), gold=[None, "b"])
    assert found.judged == 1
    assert found.differs["right"].tolist() == [None]
    with pytest.raises(InputError, match="nobody can be judged"):
        compare(a, a, gold=[None, None])


def test_equal_names_are_told_apart() -> None:
    """Two runs of one name still have two columns."""
    a = pd.DataFrame({"label": list("ab")})
    found = compare(a, a.assign(label=list("bb")), names=("run", "run"))
    assert found.differs.columns.tolist() == ["label_run (1)", "label_run (2)"]


def test_agreement_is_the_share_of_the_most_frequent_label() -> None:
    """Each row's agreement counts its most frequent label; missing labels agree with nothing."""
    index = pd.Index([3, 1, 2, 0])
    one = pd.DataFrame({"label": ["a", "a", "a", None]}, index=index)
    two = pd.Series(["a", "a", "b", None], index=index)
    three = pd.DataFrame({"label": [None, "c", "b", "a"]}, index=[0, 2, 1, 3])
    found = agreement(one, two, three)
    assert found.index.equals(index)
    assert found.tolist() == [1, 2 / 3, 1 / 3, 0]
    with pytest.raises(InputError, match="at least one"):
        agreement()


def test_without_scikit_learn_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is in the message."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"mistral-nb\[quality\]"):
        evaluate(pd.DataFrame({"gold": ["a"], "label": ["a"]}), "gold")
