"""Laws of exporting a run: every row, all that is known of it, whole or not at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from mistral_nb import errors
from mistral_nb.labelling import resume
from mistral_nb.simulator import Faults
from tests.labelling.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus
    from mistral_nb.labelling import Run
    from mistral_nb.simulator import Simulator

    Label = Callable[..., Run]

TABLE = pd.DataFrame(
    {
        "text": ["my invoice", "the parcel", "my invoice", None, "höflich 🃏"],
        "status": [1, 2, 3, 4, 5],
    },
    index=pd.Index(list("abcde"), name="key"),
)
KNOWN = ["raw", "_status", "attempts", "prompt_tokens", "completion_tokens", "cached_tokens"]


@pytest.mark.parametrize("mode", ["batch", "online"])
def test_every_row_is_there_with_all_that_is_known(label: Label, tmp_path: Path, mode: str) -> None:
    """Table, labels, error, id, raw reply and tokens as billed, in the table's order."""
    run = label(TABLE, mode=mode)
    labelled = run.result(20)
    path = run.export(tmp_path / "x.parquet")
    df = pd.read_parquet(path)
    assert list(df.columns) == ["custom_id", "text", "status", "label", "_error", *KNOWN]
    assert df.index.equals(TABLE.index)
    assert df["label"].astype("string").tolist() == labelled["label"].astype("string").tolist()
    assert json.loads(df["raw"].iloc[0]) == {"label": df["label"].iloc[0]}
    assert df["_status"].tolist()[:3] == [200, 200, 200]
    assert df["custom_id"].iloc[2] == df["custom_id"].iloc[0]  # the same request, paid once
    assert df["prompt_tokens"].isna().tolist() == [False, False, True, True, False]
    assert df["prompt_tokens"].sum() == run.usage.prompt_tokens
    assert df["completion_tokens"].sum() == run.usage.completion_tokens
    assert df[["custom_id", "raw", "label"]].iloc[3].isna().all()
    assert df["_error"].iloc[3] == "empty value in column 'text'"


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_text_files_hold_the_same(label: Label, tmp_path: Path, suffix: str) -> None:
    """A csv and a JSONL file have the rows and columns of the parquet file."""
    run = label(TABLE)
    run.result(20)
    path = run.export(str(tmp_path / f"x.{suffix}"))
    read: Any = pd.read_csv if suffix == "csv" else lambda p: pd.read_json(p, lines=True)
    df = read(path)
    assert list(df.columns) == ["custom_id", "text", "status", "label", "_error", *KNOWN]
    assert df["text"].tolist()[4] == "höflich 🃏"
    assert json.loads(df["raw"][4]) == {"label": df["label"][4]}


def test_failed_attempts_count_as_billed(
    label: Label, simulator: Simulator, tmp_path: Path
) -> None:
    """A row that was asked twice has two attempts, and the tokens of both."""
    simulator.faults = Faults(batch_row_error_rate=1)
    run = label(TABLE.iloc[:1], retries=0)
    run.result(20)
    simulator.faults = Faults()
    again = run.retry_failed()
    again.result(20)
    df = pd.read_parquet(again.export(tmp_path / "x.parquet"))
    assert df["attempts"].tolist() == [2]
    assert df["prompt_tokens"].sum() == again.usage.prompt_tokens


def test_a_file_is_replaced_only_when_asked(label: Label, tmp_path: Path) -> None:
    """A file that is there stays as it is; overwrite=True replaces it."""
    run = label(TABLE)
    run.result(20)
    path = tmp_path / "x.jsonl"
    path.write_text("mine")
    with pytest.raises(errors.InputError, match="overwrite=True"):
        run.export(path)
    assert path.read_text() == "mine"
    run.export(path, overwrite=True)
    assert len(path.read_text().splitlines()) == 5
    with pytest.raises(errors.InputError, match="must end in"):
        run.export(tmp_path / "x.xlsx")
    with pytest.raises(errors.StoreError, match="could not be written"):
        run.export(tmp_path / "nowhere" / "x.csv")
    assert [each.name for each in tmp_path.glob("*x*")] == ["x.jsonl"]


def test_a_run_can_be_exported_on_its_way_and_from_another_process(
    label: Label, simulator: Simulator, connection: Connection, bus: EventBus, tmp_path: Path
) -> None:
    """Rows without an answer say so; a handle that has not the table reads the kept one."""
    simulator.batch_rate = None
    run = label(TABLE, name="x")
    until(lambda: run.counts["running"])
    df = pd.read_parquet(run.export(tmp_path / "half.parquet"))
    assert (df["_error"] == "not answered yet").sum() == 4
    simulator.batch_rate = 0
    run.result(20)
    other = resume(connection, bus, "x")
    other.result(20)
    whole = pd.read_parquet(other.export(tmp_path / "whole.parquet"))
    assert whole["_error"].notna().sum() == 1


def test_a_table_of_another_library_is_exported_alike(label: Label, tmp_path: Path) -> None:
    """A polars table's run becomes the same file as a pandas one's."""
    polars = pytest.importorskip("polars")
    run = label(polars.DataFrame({"text": ["my invoice", "the parcel"]}))
    assert isinstance(run.result(20), polars.DataFrame)
    df = pd.read_json(run.export(tmp_path / "x.jsonl"), lines=True)
    assert df["text"].tolist() == ["my invoice", "the parcel"]
    assert df["prompt_tokens"].gt(0).all()
