"""Laws of all runs together: each is listed as it is, and a forgotten one leaves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

from mistral_nb import errors
from mistral_nb.labelling import forget, list_runs
from mistral_nb.labelling.folder import RunFolder
from mistral_nb.labelling.ledger import Ledger
from tests.labelling.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.client import Connection
    from mistral_nb.labelling import Run
    from mistral_nb.simulator import Simulator

    Label = Callable[..., Run]

TABLE = pd.DataFrame({"text": ["my invoice is wrong", "the parcel never came", "hello", "refund"]})


def test_runs_are_listed(label: Label, connection: Connection) -> None:
    """All runs with status, counts, tokens and cost, the latest first."""
    assert len(list_runs(connection.settings)) == 0
    first = label(TABLE, name="first")
    first.result(20)
    label(TABLE.iloc[:1], name="second", reuse=False).result(20)
    table = list_runs(connection.settings)
    assert table["name"].tolist() == ["second", "first"]
    assert table["status"].tolist() == ["done", "done"]
    assert table["done"].tolist() == [1, 4]
    assert table["cost"][1] == pytest.approx(first.cost)


def test_a_damaged_ledger_hides_no_other_run(
    label: Label, connection: Connection, home: Path
) -> None:
    """An unreadable ledger is listed as such; the others are listed as ever."""
    label(TABLE, name="good").result(20)
    broken = home / "runs" / "broken-00000000"
    broken.mkdir()
    (broken / "ledger.sqlite3").write_text("nonsense" * 1000)
    table = list_runs(connection.settings).set_index("name")
    assert table["status"].to_dict() == {"good": "done", "broken-00000000": "unreadable"}


def test_a_ledger_without_a_run_hides_no_other(label: Label, connection: Connection) -> None:
    """What is left of a half deleted run is listed as unreadable, and may be forgotten."""
    label(TABLE, name="good").result(20)
    folder = RunFolder.of(connection.settings.home, "left over")
    Ledger(folder.ledger).close()
    assert set(list_runs(connection.settings)["status"]) == {"done", "unreadable"}
    label(TABLE, "Which? {text}").result(20)
    with pytest.raises(errors.StoreError, match="holds no run"):
        label(TABLE, name="left over").result(20)
    forget(connection.settings, "left over")
    label(TABLE, name="left over").result(20)


def test_a_run_can_be_forgotten(label: Label, connection: Connection, home: Path) -> None:
    """Forgetting removes every file; the name is free again."""
    label(TABLE, name="x").result(20)
    forget(connection.settings, "x")
    assert not list((home / "runs").glob("*"))
    with pytest.raises(errors.RunError, match="no run named"):
        forget(connection.settings, "x")
    label(TABLE, "Other {text}", name="x").result(20)


def test_a_run_that_goes_on_is_not_forgotten(
    label: Label, connection: Connection, simulator: Simulator
) -> None:
    """While this process follows a run, forgetting it is refused, and the way is told."""
    simulator.batch_rate = None
    run = label(TABLE, name="x")
    until(lambda: run.counts["running"] == 4)
    with pytest.raises(errors.RunError, match=r"followed in this process.*stop\(\) or cancel\(\)"):
        forget(connection.settings, "x")
    run.cancel()
    run.result(20)
    forget(connection.settings, "x")


def test_a_kill_amid_forgetting_leaves_no_half(
    label: Label, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose files are only half deleted is gone all the same, and its name is free."""
    label(TABLE, name="x").result(20)
    with monkeypatch.context() as patched:
        patched.setattr(
            "mistral_nb.labelling.folder.shutil.rmtree",
            lambda path, **_: (path / "ledger.sqlite3").unlink(),
        )
        forget(connection.settings, "x")
    assert list_runs(connection.settings).empty
    assert label(TABLE, name="x").result(20)["label"].notna().all()
