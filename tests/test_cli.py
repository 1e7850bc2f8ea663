"""The command line as a person meets it: exit statuses, sentences, files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from mistral_nb import __version__
from mistral_nb.cli import main
from mistral_nb.simulator import Faults
from tests.conftest import SHARED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mistral_nb.simulator import Simulator

COMMAND = [sys.executable, "-m", "mistral_nb"]
TEXTS = ["a refund please", "the parcel is late", "where is my parcel?", "money back", "refund!"]
PROMPT = ["--prompt", "Which topic? {text}", "--labels", "refund,delivery"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    pd.DataFrame({"id": ["007", "008", "009", "010", "011"], "text": TEXTS}).to_csv(
        path, index=False
    )
    return path


@pytest.fixture
def server(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """The commands of this test talk to the test's own simulator."""
    monkeypatch.setenv("MISTRAL_API_KEY", "test-key")
    monkeypatch.setenv("MISTRAL_SERVER_URL", simulator.url)
    return simulator


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start commands in processes of their own; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: object) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [*COMMAND, *map(str, words)], stdout=pipe, stderr=pipe, text=True, env=environment
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_until(check: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not check():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.usefixtures("server")
def test_version(capsys: pytest.CaptureFixture[str]):
    """`--version` says the version and is no error."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"mistral-nb {__version__}\n")


def test_no_words_at_all(capsys: pytest.CaptureFixture[str]):
    """Without a command it shows what there is, and did nothing."""
    assert main([]) == 2
    assert "label every row of a file" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_label(table: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]):
    """Every row gets a label, in input order, other columns untouched, and the status is 0."""
    out = tmp_path / f"out{suffix}"
    assert main(["label", str(table), *PROMPT, "--out", str(out)]) == 0
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    df = (
        readers[suffix](out, **({"dtype": str} if suffix == ".csv" else {}))
        if suffix in readers
        else None
    )
    if df is None:
        df = pd.DataFrame(map(json.loads, out.read_text().splitlines()))
    assert df["id"].tolist() == ["007", "008", "009", "010", "011"]
    assert df["text"].tolist() == TEXTS
    assert df["label"].tolist() == ["refund", "delivery", "delivery", "refund", "refund"]
    assert f"5 rows -> {out}" in capsys.readouterr().err


@pytest.mark.usefixtures("server")
def test_label_with_a_schema_and_a_column(table: Path, tmp_path: Path):
    """A JSON schema gives its columns; --column renames the only one of --labels."""
    schema = tmp_path / "schema.json"
    properties = {"topic": {"enum": ["refund", "delivery"]}, "urgent": {"type": "boolean"}}
    required = {"required": ["topic", "urgent"], "additionalProperties": False}
    schema.write_text(json.dumps({"type": "object", "properties": properties, **required}))
    out = tmp_path / "out.jsonl"
    words = ["label", str(table), "--prompt", "{text}", "--schema", str(schema)]
    assert main([*words, "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {type(row["urgent"]) for row in rows} == {bool}
    assert {row["topic"] for row in rows} == {"refund", "delivery"}
    assert main(["label", str(table), *PROMPT, "--column", "topic", "--out", str(out)]) == 0
    assert "topic" in json.loads(out.read_text().splitlines()[0])


@pytest.mark.usefixtures("server")
def test_failed_rows_are_counted(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """With rows that have no result the status is 1, and the file is written all the same."""
    table.write_text("id,text\n1,a refund\n2,\n3,\n")
    out = tmp_path / "out.csv"
    assert main(["label", str(table), *PROMPT, "--out", str(out)]) == 1
    assert "2 of them have no result" in capsys.readouterr().err
    assert pd.read_csv(out)["_error"].notna().tolist() == [False, True, True]


def test_a_server_that_refuses_rows(
    table: Path, tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
):
    """Rows that fail at the server count as rows without a result."""
    from mistral_nb.simulator import Faults

    server.faults = Faults(batch_row_error_rate=1.0)
    assert main(["label", str(table), *PROMPT, "--out", str(tmp_path / "out.csv")]) == 1
    assert "5 of them have no result" in capsys.readouterr().err


def test_a_result_that_cannot_be_written_is_not_lost(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
):
    """When the file cannot be written, the sentence says how to get it elsewhere, for nothing."""
    table = tmp_path / "in.jsonl"
    table.write_text('{"text": "a refund", "x": 1}\n{"text": "a parcel", "x": "one"}\n')
    words = ["label", str(table), *PROMPT, "--name", "mixed"]
    assert main([*words, "--out", str(tmp_path / "o.parquet")]) == 1
    assert "Nothing is lost. Go on with: mistral-nb resume mixed" in capsys.readouterr().err
    assert main(["resume", "mixed", "--out", str(tmp_path / "o.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["x"] for row in rows] == [1, "one"]
    assert server.stats()["batch_rows"] == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("label {tmp}/absent.csv --prompt {{text}} --out {tmp}/o.csv", "absent.csv cannot be read"),
        ("label {tmp}/in.csv --prompt {{text}} --out {tmp}/o.txt", "must end in"),
        ("label {tmp}/in.csv --prompt {{text}} --out {tmp}/no/o.csv", "does not exist"),
        ("label {tmp}/in.csv --prompt {{text}} --out {tmp}/in.csv", "is the input itself"),
        ("label {tmp}/in.csv --prompt {{txt}} --labels a,b --out {tmp}/o.csv", "txt"),
        ("label {tmp}/in.csv --prompt {{text}} --labels a,a --out {tmp}/o.csv", "twice"),
        ("label {tmp}/in.csv --prompt {{text}} --labels , --out {tmp}/o.csv", "labels"),
        ("label {tmp}/in.csv --prompt {{text}} --schema {tmp}/in.csv --out {tmp}/o.csv", "schema"),
        (
            "label {tmp}/in.csv --prompt {{text}} --concurrency 4 --out {tmp}/o.csv",
            "is for mode='online'",
        ),
        ("label {tmp}/in.csv --out {tmp}/o.csv", "--prompt"),
        ("resume never-started --out {tmp}/o.csv", "never-started"),
        ("resume never-started --out {tmp}/o.md", "must end in"),
        ("simulator --port 99999", "99999"),
        ('simulator --faults {{"no_such":1}}', "no_such"),
        ("simulator --faults no", "it is not JSON"),
        ('simulator --faults {{"latency":"x"}}', "latency must be"),
        ("frobnicate", "frobnicate"),
        ("runs --quickly", "--quickly"),
    ],
)
def test_unusable_arguments(
    table: Path, server: Simulator, words: str, says: str, capsys: pytest.CaptureFixture[str]
):
    """What cannot work ends with status 2 and one clear sentence, and nothing was sent."""
    try:
        status = main(words.format(tmp=table.parent).split())
    except SystemExit as error:  # argparse's own way out
        status = error.code
    said = capsys.readouterr().err
    assert status == 2
    assert says in said
    assert "Traceback" not in said
    assert server.stats()["jobs_created"] == 0


def test_a_wrong_key_is_said(
    table: Path,
    tmp_path: Path,
    server: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """A refused key ends with status 1 and a sentence that names the setting, not the key."""
    monkeypatch.setenv("MISTRAL_API_KEY", "wrong-key-1234")
    assert main(["label", str(table), *PROMPT, "--out", str(tmp_path / "o.csv")]) == 1
    said = capsys.readouterr().err
    assert "MISTRAL_API_KEY" in said
    assert "wrong-key-1234" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
@pytest.mark.usefixtures("server")
def test_runs_fit_a_narrow_terminal(table: Path) -> None:
    """No line wraps: what matters least is left out; a pipe gets all of it."""
    import pty

    assert main(["label", str(table), *PROMPT, "--out", str(table.with_name("out.csv"))]) == 0
    command = [*COMMAND, "runs"]
    ours, theirs = pty.openpty()
    narrow = {**os.environ, "COLUMNS": "80"}
    subprocess.run(command, check=True, stdout=theirs, env=narrow)
    head, row = os.read(ours, 10_000).decode().splitlines()
    os.close(ours)
    os.close(theirs)
    assert max(len(head), len(row)) <= 80
    assert head.split() == ["name", "status", "mode", "rows", "done", "failed", "cost", "created"]
    piped = subprocess.run(command, check=True, capture_output=True, text=True, env=narrow).stdout
    assert {"model", "tokens", "server", "updated"} <= set(piped.split())


@pytest.mark.usefixtures("server")
def test_runs_lists_what_was_labelled(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """`runs` names the runs of this home; before the first it says that there is none."""
    assert main(["runs"]) == 0
    assert "No runs yet." in capsys.readouterr().out
    main(["label", str(table), *PROMPT, "--name", "topics", "--out", str(tmp_path / "o.csv")])
    capsys.readouterr()
    assert main(["runs"]) == 0
    assert "topics" in capsys.readouterr().out


@pytest.mark.usefixtures("server")
def test_a_cost_that_is_not_known_is_said(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """`runs` shows dollars, or that the price is unknown; never a zero in its place."""
    priced = ["--name", "priced", "--out", str(tmp_path / "a.csv")]
    other = ["--name", "other", "--model", "voxtral-small-latest", "--out", str(tmp_path / "b.csv")]
    for words in (priced, other):
        assert main(["label", str(table), *PROMPT, *words]) == 0
    capsys.readouterr()
    assert main(["runs"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert re.search(r" \$0\.\d+ ", lines["priced"])
    assert " unknown " in lines["other"]


def test_a_sample_and_all_again(
    table: Path, tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
):
    """--sample labels so many rows, which the whole run takes over; --fresh asks all again."""
    out = tmp_path / "out.csv"
    words = ["label", str(table), *PROMPT, "--name", "x", "--out", str(out)]
    assert main([*words, "--sample", "2"]) == 0
    assert "2 rows" in capsys.readouterr().err
    assert main(words) == 0
    assert (server.stats()["chat_requests"], server.stats()["batch_rows"]) == (2, 3)
    assert main([*words, "--fresh"]) == 0
    assert server.stats()["batch_rows"] == 8


def test_an_interrupt_online_speaks_of_no_batch(
    table: Path, tmp_path: Path, server: Simulator, start: Callable[..., subprocess.Popen[str]]
):
    """Ctrl-C amid online requests says that nothing is lost, and how to go on."""
    server.faults = Faults(latency=3)
    words = ["--mode", "online", "--name", "x", "--out", tmp_path / "o.csv"]
    process = start("label", table, *PROMPT, *words)
    wait_until(lambda: server.stats()["chat_requests"] > 0)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "nothing is lost. Go on with: mistral-nb resume x" in said
    assert "batch" not in said


def test_an_impatient_interrupt_ends_in_silence(
    table: Path, tmp_path: Path, server: Simulator, start: Callable[..., subprocess.Popen[str]]
):
    """A second Ctrl-C, while the command is tidying up, brings no traceback."""
    server.faults = Faults(latency=3)
    process = start(
        "label", table, *PROMPT, "--mode", "online", "--name", "x", "--out", tmp_path / "o.csv"
    )
    wait_until(lambda: server.stats()["chat_requests"] > 0)
    process.send_signal(signal.SIGINT)
    line = ""
    while "Go on with" not in line:
        line = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert said == ""
    assert process.returncode in {130, -signal.SIGINT}


def test_an_interrupt_leaves_the_run_to_itself(
    table: Path,
    tmp_path: Path,
    make_simulator: Callable[..., Simulator],
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[..., subprocess.Popen[str]],
):
    """Ctrl-C ends with 130 and one sentence; `resume` then writes the file, nothing sent twice."""
    server = make_simulator(batch_rate=2)
    monkeypatch.setenv("MISTRAL_API_KEY", "test-key")
    monkeypatch.setenv("MISTRAL_SERVER_URL", server.url)
    out = tmp_path / "out.csv"
    process = start("label", table, *PROMPT, "--name", "topics", "--out", out)
    wait_until(lambda: server.stats()["batch_rows"] > 0)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "mistral-nb resume topics" in said
    assert "Traceback" not in said
    assert not out.exists()
    assert main(["resume", "topics", "--out", str(out)]) == 0
    assert pd.read_csv(out, dtype=str)["text"].tolist() == TEXTS
    assert server.stats()["batch_rows"] == len(TEXTS)
    assert server.stats()["jobs_created"] == 1


def test_a_kill_loses_nothing(
    tmp_path: Path,
    make_simulator: Callable[..., Simulator],
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[..., subprocess.Popen[str]],
):
    """SIGKILL amid 3,080 real rows, then `resume`: the file of an undisturbed run, none sent twice."""
    server = make_simulator(batch_rate=1200)
    monkeypatch.setenv("MISTRAL_API_KEY", "test-key")
    monkeypatch.setenv("MISTRAL_SERVER_URL", server.url)
    queries = SHARED / "data" / "banking77-test.csv"
    labels = json.loads((SHARED / "data" / "banking77-categories.json").read_text())
    words = [
        "label",
        str(queries),
        "--prompt",
        "Which intent? {text}",
        "--labels",
        ",".join(labels),
    ]
    process = start(*words, "--name", "bank", "--out", tmp_path / "killed.csv")
    wait_until(lambda: server.stats()["batch_rows"] > 0)
    process.kill()
    process.wait()
    assert not (tmp_path / "killed.csv").exists()
    assert main(["resume", "bank", "--out", str(tmp_path / "resumed.csv")]) == 0
    assert server.stats()["batch_rows"] == 3080
    monkeypatch.setenv("MISTRAL_NB_HOME", str(tmp_path / "another"))
    assert main([*words, "--out", str(tmp_path / "straight.csv")]) == 0
    resumed = pd.read_csv(tmp_path / "resumed.csv")
    assert resumed["text"].tolist() == pd.read_csv(queries)["text"].tolist()
    assert set(resumed["label"]) <= set(labels)
    assert (tmp_path / "resumed.csv").read_text() == (tmp_path / "straight.csv").read_text()


@pytest.mark.usefixtures("server")
def test_label_online(table: Path, tmp_path: Path):
    """Online, the file is the one that a batch gives."""
    for mode in (["batch"], ["online", "--concurrency", "2"]):
        out = tmp_path / f"{mode[0]}.csv"
        assert main(["label", str(table), *PROMPT, "--mode", *mode, "--out", str(out)]) == 0
    assert (tmp_path / "online.csv").read_text() == (tmp_path / "batch.csv").read_text()


def test_label_by_workers(
    table: Path, tmp_path: Path, server: Simulator, start: Callable[..., subprocess.Popen[str]]
):
    """With --queue the requests go to `worker`; a killed `label` is resumed by its queue."""
    out, queue = tmp_path / "out.csv", f"sqlite:///{tmp_path / 'queue.sqlite'}"
    left = start("label", table, *PROMPT, "--name", "by-workers", "--queue", queue, "--out", out)
    wait_until((tmp_path / "queue.sqlite").exists)
    wait_until(lambda: "running" in subprocess_output("runs"))
    left.kill()
    left.wait()  # until then it holds the run
    start("worker", "--queue", queue)
    assert main(["resume", "by-workers", "--queue", queue, "--out", str(out)]) == 0
    assert pd.read_csv(out)["label"].notna().all()
    assert server.stats()["chat_requests"] == len(TEXTS)


def subprocess_output(*words: str) -> str:
    return subprocess.run([*COMMAND, *words], check=True, capture_output=True, text=True).stdout


def test_demo(
    home: Path, start: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
):
    """The demo labels, prints table and cost, streams a reply, and leaves a person's home alone."""
    monkeypatch.setenv("MISTRAL_API_KEY", "must-not-be-used")
    process = start("demo")
    printed, said = process.communicate(timeout=110)
    assert process.returncode == 0, said
    assert "replies are simulated" in said
    assert re.search(r"T0001 .*", printed)
    assert re.search(r"373 rows, \d+ labelled, \d\d% as in", printed)
    assert "$" in printed
    assert "make lab" in printed
    assert not home.exists()


def test_simulator(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    """The simulator says where it is, answers there, and ends quietly on Ctrl-C."""
    faults = '{"latency": 0.01}'
    process = start("simulator", "--port", "0", "--home", tmp_path, "--faults", faults)
    line = process.stdout.readline()
    (url,) = re.findall(r"http://\S+", line)
    request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": "Bearer any"})
    with urllib.request.urlopen(request, timeout=20) as response:
        assert json.load(response)["object"] == "list"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in said


def test_a_taken_port_is_said(simulator: Simulator, capsys: pytest.CaptureFixture[str]):
    """A port that is in use is named, with status 2."""
    assert main(["simulator", "--port", simulator.url.rpartition(":")[2]]) == 2
    assert simulator.url.rpartition(":")[2] in capsys.readouterr().err


def test_lab_without_jupyterlab(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Without JupyterLab the command says how to install it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["lab"]) == 2
    assert "mistral-nb[lab]" in capsys.readouterr().err


def test_lab_starts_jupyterlab(start: Callable[..., subprocess.Popen[str]]):
    """`lab` hands its further words to JupyterLab."""
    printed, _ = start("lab", "--version").communicate(timeout=60)
    assert re.match(r"\d+\.\d+", printed.splitlines()[-1])


@pytest.mark.parametrize("buffering", [{}, {"PYTHONUNBUFFERED": "1"}])
@pytest.mark.parametrize("words", [["runs"], ["--help"], []])
def test_a_reader_that_leaves(
    words: list[str], buffering: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    """Output into a pipe that nobody reads is no error worth a word."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, *words],
        env=os.environ | buffering,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode in {0, 1, 2}


def test_label_at_another_endpoint(
    table: Path, server: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """`--endpoint embeddings` writes vectors that a csv can hold whole."""
    out = tmp_path / "out.csv"
    words = ["--prompt", "{text}", "--endpoint", "embeddings", "--mode", "online"]
    assert main(["label", str(table), *words, "--out", str(out)]) == 0
    vectors = [json.loads(cell) for cell in pd.read_csv(out)["embedding"]]
    assert {len(vector) for vector in vectors} == {1024}
    assert server.stats()["requests"]["POST /v1/embeddings 200"] == 5
    assert main(["label", str(table), *words[:3], "embedings", "--out", str(out)]) == 2
    assert "Did you mean 'embeddings'?" in capsys.readouterr().err


def test_label_with_examples(table: Path, server: Simulator, tmp_path: Path):
    """`--examples` and `--system` go before each row; examples without answers are refused."""
    known = tmp_path / "known.jsonl"
    known.write_text(json.dumps({"text": "give it back", "label": "refund"}) + "\n")
    out = tmp_path / "out.csv"
    words = ["label", str(table), *PROMPT, "--out", str(out), "--mode", "online", "--name", "told"]
    assert main([*words, "--examples", str(known), "--system", "Be strict."]) == 0
    ledger = next((tmp_path / "home/runs").iterdir())
    sent = b"".join(file.read_bytes() for file in ledger.rglob("*") if file.is_file())
    assert b"Be strict." in sent
    assert b"give it back" in sent
    assert server.stats()["jobs_created"] == 0
    assert main([*words, "--name", "bad", "--examples", str(table)]) == 2


def test_label_files_in_columns(server: Simulator, tmp_path: Path):
    """`--images` sends a column's files beside the prompt; `ocr` reads `--documents` without one."""
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    scan = tmp_path / "a.pdf"
    scan.write_bytes(b"%PDF-1.4\n" + bytes(64))
    table = tmp_path / "in.jsonl"
    row = {"text": "what is it?", "picture": str(picture), "scan": str(scan)}
    table.write_text(json.dumps(row) + "\n")
    out = tmp_path / "out.jsonl"
    seen = ["--images", "picture", "--mode", "online"]
    assert main(["label", str(table), *PROMPT, *seen, "--out", str(out)]) == 0
    assert json.loads(out.read_text())["label"] in {"refund", "delivery"}
    read = ["--endpoint", "ocr", "--documents", "scan", "--mode", "online"]
    assert main(["label", str(table), *read, "--out", str(out)]) == 0
    assert server.stats()["requests"]["POST /v1/ocr 200"] == 1
