"""The command line on folders of files, and what it does with runs that are there."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from mistral_nb.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.simulator import Simulator

PROMPT = ["--prompt", "Which topic? {text}", "--labels", "refund,delivery"]
TEXTS = ["a refund please", "the parcel is late", "where is my parcel?", "money back", "refund!"]


@pytest.fixture
def server(make_simulator: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """The commands of this test talk to the test's own simulator."""
    made = make_simulator(batch_rate=0)
    monkeypatch.setenv("MISTRAL_API_KEY", "test-key")
    monkeypatch.setenv("MISTRAL_SERVER_URL", made.url)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two csv files of five rows together."""
    made = tmp_path / "in"
    made.mkdir()
    for name, texts in (("a.csv", TEXTS[:2]), ("b.csv", TEXTS[2:])):
        pd.DataFrame({"text": texts}).to_csv(made / name, index=False)
    return made


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Type lines at the terminal."""
    return lambda *lines: monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))


@pytest.fixture
def labelled(tmp_path: Path, server: Simulator) -> str:
    """The name of a run that is done, of five rows with a text that means to harm terminals."""
    table = tmp_path / "table.jsonl"
    pd.DataFrame({"text": ["\x1b[2Jhostile", *TEXTS[1:]]}).to_json(
        table, orient="records", lines=True
    )
    words = ["label", str(table), *PROMPT, "--name", "topics", "--out", str(tmp_path / "o.csv")]
    assert main(words) == 0
    return "topics"


def test_a_folder_is_labelled_into_a_folder(
    folder: Path, tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
):
    """Each file has its labelled parquet file; done again, nothing is sent; resume needs no --out."""
    out = tmp_path / "out"
    words = ["label", str(folder), *PROMPT, "--name", "x", "--out", str(out)]
    assert main(words) == 0
    assert "5 rows in 2 files -> " in capsys.readouterr().err
    assert main(words) == 0
    (out / "b.parquet").unlink()
    assert main(["resume", "x"]) == 0
    made = [pd.read_parquet(out / name) for name in ("a.parquet", "b.parquet")]
    assert pd.concat(made)["text"].tolist() == TEXTS
    assert pd.concat(made)["label"].tolist() == [
        "refund",
        "delivery",
        "delivery",
        "refund",
        "refund",
    ]
    assert server.stats()["batch_rows"] == 5


def test_a_killed_command_is_taken_up(
    folder: Path,
    tmp_path: Path,
    make_simulator: Callable[..., Simulator],
    monkeypatch: pytest.MonkeyPatch,
):
    """SIGKILL while jobs run, then the same command: every part is there, each row paid once."""
    server = make_simulator(batch_rate=None)
    monkeypatch.setenv("MISTRAL_API_KEY", "test-key")
    monkeypatch.setenv("MISTRAL_SERVER_URL", server.url)
    words = ["label", str(folder), *PROMPT, "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        [sys.executable, "-m", "mistral_nb", *words], env=os.environ, stderr=subprocess.DEVNULL
    ) as process:
        while not server.stats()["jobs_created"]:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    server.batch_rate = 0
    assert main(words) == 0
    assert len(pd.read_parquet(tmp_path / "out")) == 5
    assert server.stats()["batch_rows"] == 5
    assert server.stats()["jobs_created"] == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("label {tmp}/in --prompt {{text}} --out {tmp}/o.parquet", "--out must name a folder"),
        ("label {tmp}/in --prompt {{text}} --out {tmp}/in/out", "inside the data set"),
        ("resume topics", "--out FILE is needed"),
        ("resume x --out {tmp}/o.csv", "leave out --out"),
        ("review x", "is not one table"),
        ("export never-started --out {tmp}/o.csv", "no run named never-started"),
        ("review never-started", "no run named never-started"),
        ("export topics --out {tmp}/o.txt", "must end in"),
    ],
)
def test_unusable_arguments(
    folder: Path,
    tmp_path: Path,
    labelled: str,
    words: str,
    says: str,
    capsys: pytest.CaptureFixture[str],
):
    """What cannot work ends with status 2 and one sentence that says why."""
    main(["label", str(folder), *PROMPT, "--name", "x", "--out", str(tmp_path / "out")])
    capsys.readouterr()
    assert main(words.format(tmp=tmp_path).split()) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


def test_a_dry_run_sends_nothing(
    folder: Path, tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
):
    """--dry-run prints what would be sent and cost, for files as for a table."""
    assert main(["label", str(folder), *PROMPT, "--dry-run", "--out", str(tmp_path / "out")]) == 0
    assert "$" in capsys.readouterr().out
    assert server.stats()["files_uploaded"] == 0
    assert server.stats()["jobs_created"] == 0


def test_a_limit_on_the_cost_is_kept(
    folder: Path, tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
):
    """A run that costs more than --max-cost in any case is refused before anything is sent."""
    limit = ["--max-cost", "0.0000001"]
    assert main(["label", str(folder), *PROMPT, *limit, "--out", str(tmp_path / "out")]) == 1
    assert "max_cost" in capsys.readouterr().err
    assert server.stats()["jobs_created"] == 0


def test_export(labelled: str, tmp_path: Path, server: Simulator):
    """A run is written with each row's raw reply and tokens; nothing is sent."""
    before = server.stats()["requests"]
    assert main(["export", labelled, "--out", str(tmp_path / "all.csv")]) == 0
    made = pd.read_csv(tmp_path / "all.csv")
    assert made["raw"].str.contains("label").all()
    assert made["prompt_tokens"].gt(0).all()
    assert server.stats()["requests"] == before


def test_review(
    labelled: str,
    tmp_path: Path,
    typed: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
):
    """Lines accept, correct, skip and undo; what was decided is kept, and goes to a file."""
    typed("", "2", "nonsense", "refund", "u", "s", "q")
    assert main(["review", labelled]) == 0
    printed = capsys.readouterr().out
    assert "'nonsense' is no label here" in printed
    assert "3 of 5 rows reviewed: " in printed
    assert "\x1b" not in printed
    typed("delivery", "")  # a second go begins where the first one ended
    out = tmp_path / "reviewed.jsonl"
    assert main(["review", labelled, "--out", str(out)]) == 0
    assert "5 of 5 rows reviewed: " in capsys.readouterr().out
    made = pd.read_json(out, lines=True)
    assert made["label_reviewed"].tolist()[1] == "delivery"
    assert made["label_reviewed"].tolist()[3] == "delivery"
    assert made["review"].tolist()[2] == "skipped"


def test_a_review_shows_what_is_missing_and_why(
    tmp_path: Path,
    server: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An empty cell reads as empty, its row says why it has no label; Ctrl-C leaves in peace."""
    table = tmp_path / "t.csv"
    table.write_text('text,n\n"",1\nwhere is my parcel,2\n')
    assert (
        main(["label", str(table), *PROMPT, "--name", "g", "--out", str(tmp_path / "o.csv")]) == 1
    )
    monkeypatch.setattr("builtins.input", _interrupted)
    assert main(["review", "g"]) == 130
    printed = capsys.readouterr()
    assert "1 of 2 · No label · empty value in column 'text'\n  (empty)\n" in printed.out
    assert "what was decided is kept" in printed.err


def _interrupted(_: str) -> str:
    raise KeyboardInterrupt


def test_a_review_takes_a_part_of_the_rows(
    labelled: str, typed: Callable[..., None], capsys: pytest.CaptureFixture[str]
):
    """--where and --column choose; the end of the input is an end, too."""
    typed("")
    assert main(["review", labelled, "--where", "label == 'refund'", "--column", "label"]) == 0
    assert "1 of 2 rows reviewed: 1 accepted" in capsys.readouterr().out.replace("3 rows", "2 rows")
