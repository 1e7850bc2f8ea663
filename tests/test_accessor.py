"""`df.mistral` and `series.mistral`: there whenever pandas is, at the cost of nothing."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import mistral_nb as mnb
from mistral_nb.accessor import register, watch
from mistral_nb.simulator import Faults

if TYPE_CHECKING:
    from collections.abc import Callable

TEXTS = pd.Series(["where is my parcel?", None, "my invoice is wrong"], index=[4, 4, 9], name="q")


@pytest.fixture(autouse=True)
def simulator(make_simulator: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    made = make_simulator(batch_rate=0)
    monkeypatch.setattr("mistral_nb.session._default._session", None)  # put back afterwards
    mnb.connect("test-key", made.url)
    return made


def python(code: str) -> str:
    """Run code in a Python of its own, warnings as errors; return what it prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        "import mistral_nb, pandas as pd",
        "import pandas as pd, mistral_nb",
        "import mistral_nb, importlib.util\nassert importlib.util.find_spec('pandas')\nimport pandas as pd",
    ],
)
def test_both_orders_of_import_will_do(code: str) -> None:
    """However the two meet, the accessors are there, and the watch is over."""
    told = "print(hasattr(pd.DataFrame, 'mistral'), hasattr(pd.Series, 'mistral'),"
    told += " any('_Watch' in type(each).__name__ for each in __import__('sys').meta_path))"
    assert python(f"{code}\n{told}") == "True True False"


def test_importing_costs_no_pandas() -> None:
    """`import mistral_nb` imports neither pandas nor numpy, and finds other modules as before."""
    code = "import sys, mistral_nb, json.tool, wave\nprint({'pandas', 'numpy'} & set(sys.modules))"
    assert python(code) == "set()"


def test_a_missing_pandas_is_missing_as_ever() -> None:
    """Where pandas cannot be found, its import fails as without us."""
    code = (
        "import sys, mistral_nb\n"
        "sys.path[:] = [each for each in sys.path if 'site-packages' not in each]\n"
        "try:\n    import pandas\nexcept ModuleNotFoundError as error:\n    print(error)"
    )
    assert python(code) == "No module named 'pandas'"


def test_registering_again_changes_nothing() -> None:
    """Twice is as once, and someone else's accessor of that name stays."""
    before = pd.DataFrame.mistral
    register()
    watch()
    assert pd.DataFrame.mistral is before


def test_a_table_is_labelled() -> None:
    """The same run as mnb.label gives."""
    df = TEXTS.to_frame()
    run = df.mistral.label("Which topic? {q}", labels=["billing", "delivery"], name="here")
    assert isinstance(run, mnb.Run)
    assert run.result()["label"].tolist()[::2] == ["delivery", "billing"]
    same = mnb.label(df, "Which topic? {q}", labels=["billing", "delivery"], name="here")
    assert same.result().equals(run.result())


@pytest.mark.parametrize("mode", ["online", "batch"])
def test_texts_are_classified(mode: str) -> None:
    """A categorical series with the same index; an empty text stays empty, without a warning."""
    found = TEXTS.mistral.classify(["billing", "delivery"], mode=mode)
    assert found.index.equals(TEXTS.index)
    assert found.dtype == "category"
    assert found.tolist()[::2] == ["delivery", "billing"]
    assert pd.isna(found.iloc[1])


def test_texts_become_vectors(simulator: Any) -> None:
    """A series of arrays; the same call again costs nothing."""
    first = TEXTS.mistral.embed(output_dimension=8)
    tokens = simulator.stats()["tokens"]
    again = TEXTS.mistral.embed(output_dimension=8)
    assert simulator.stats()["tokens"] == tokens > 0
    assert first.index.equals(TEXTS.index)
    assert first.iloc[0].shape == (8,)
    assert first.iloc[1] is None
    assert np.array_equal(first.iloc[2], again.iloc[2])


def test_rows_that_fail_are_told_of(simulator: Any) -> None:
    """A warning says how many, and where the reasons are."""
    simulator.faults = Faults(batch_row_error_rate=1)
    with pytest.warns(
        UserWarning, match=r"2 of 3 rows have no label: mnb\.resume\('run-.*'\)\.err"
    ):
        found = TEXTS.mistral.classify(["a", "b"], mode="batch", retries=0)
    assert found.isna().all()


@pytest.mark.parametrize(
    ("options", "name"), [({"column": "topic"}, "topic"), ({"prefix": "new_"}, "new_label")]
)
def test_the_series_may_have_another_name(options: dict[str, str], name: str) -> None:
    """column= and prefix= name the result as they do for a table."""
    found = TEXTS.mistral.classify(["billing", "delivery"], **options)
    assert found.name == name
    assert found.tolist()[::2] == ["delivery", "billing"]


def test_what_it_would_cost_can_be_asked(simulator: Any) -> None:
    """dry_run gives the estimate, and nothing is sent."""
    assert TEXTS.mistral.classify(["a", "b"], dry_run=True).forecast.requests == 2
    assert TEXTS.mistral.embed(dry_run=True).forecast.requests == 2
    assert simulator.stats()["tokens"] == 0
