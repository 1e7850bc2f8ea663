"""The data set is what its README says it is."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
COLUMNS = ["id", "created", "channel", "language", "text", "category", "difficulty", "note"]


@pytest.fixture(scope="module")
def tickets() -> pd.DataFrame:
    return pd.read_csv(DATA / "support_tickets.csv")


@pytest.fixture(scope="module")
def readme() -> str:
    return (DATA / "README.md").read_text(encoding="utf-8")


def test_columns_and_ids(tickets: pd.DataFrame, readme: str):
    """The columns are those of the README, ids are unique, time ascends."""
    assert list(tickets.columns) == COLUMNS
    assert (
        re.findall(
            r"^\| `(\w+)` \| [^|]*\|$", readme.split("### Categories", maxsplit=1)[0], re.MULTILINE
        )
        == COLUMNS
    )
    assert tickets["id"].is_unique
    assert pd.to_datetime(tickets["created"]).is_monotonic_increasing
    assert f"{len(tickets)} messages" in readme


def test_counts_in_the_readme(tickets: pd.DataFrame, readme: str):
    """Each count that the README gives is the data's own."""
    said = {
        name: int(n) for name, n in re.findall(r"^\| `(\w+)` \| (\d+) \|", readme, re.MULTILINE)
    }
    real = {**tickets["category"].value_counts(), **tickets["note"].value_counts()}
    assert said == real
    for level in ("hard", "broken"):
        count = (tickets["difficulty"] == level).sum()
        assert f"{level.capitalize()} rows: {count}" in readme


def test_missing_texts(tickets: pd.DataFrame, readme: str):
    """As many texts are missing as the README says, and all of them are unclear."""
    missing = tickets[tickets["text"].isna()]
    assert f"missing in {len(missing)} rows" in readme
    assert set(missing["category"]) == {"unclear_message"}


def test_easy_rows_have_no_note(tickets: pd.DataFrame):
    """A note says why a row is hard or broken, so easy rows have none."""
    assert ((tickets["difficulty"] == "easy") == tickets["note"].isna()).all()


def test_only_twins_repeat(tickets: pd.DataFrame):
    """No text stands twice, except where that is the point."""
    texts = tickets.dropna(subset="text")
    assert set(texts[texts["text"].duplicated(keep=False)]["note"]) == {"twin"}
