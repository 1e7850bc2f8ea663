"""Law of taking answers over: it works however many runs there are."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from mistral_nb.labelling.folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from mistral_nb.client import Connection
    from mistral_nb.labelling import Run

    Label = Callable[..., Run]

TABLE = pd.DataFrame({"text": ["my invoice is wrong", "the parcel never came", "hello", "refund"]})


def test_many_runs_are_no_obstacle(
    label: Label, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many runs there are, only the latest few are open at once to take answers from."""
    label(TABLE, name="first").result(20)
    first = RunFolder.of(connection.settings.home, "first").path
    for number in range(60):
        shutil.copytree(first, first.with_name(f"copy-{number}"))
    monkeypatch.setattr("mistral_nb.labelling.reuse.MOST_RUNS", 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    there = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (there + 60, hard))
    try:
        run = label(TABLE, name="second")
        run.result(20)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert run.counts["reused"] == 4
