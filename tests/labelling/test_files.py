"""Laws of labelling files: every part has its mirror, whole, and nothing is paid or done twice."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mistral_nb.errors import InputError, RunError, StoreError
from mistral_nb.labelling import FilesSource, forget, parts, resume
from mistral_nb.labelling.parts import find_parts, to_frame
from mistral_nb.settings import resolve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus
    from mistral_nb.labelling import Run
    from mistral_nb.simulator import Simulator

    Label = Callable[..., Run]


def rows(first: int, count: int) -> pd.DataFrame:
    numbers = range(first, first + count)
    return pd.DataFrame({"text": [f"where is parcel {n}" for n in numbers], "n": numbers})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three parts, one of them in a folder of its own, of 30 rows."""
    folder = tmp_path / "in"
    (folder / "day=2").mkdir(parents=True)
    rows(0, 17).to_parquet(folder / "a.parquet")
    rows(17, 12).set_index(pd.RangeIndex(17, 29, name="n")).to_parquet(
        folder / "day=2" / "b.parquet"
    )
    rows(29, 1).to_parquet(folder / "day=2" / "c.parquet")
    (folder / "_metadata.parquet").write_bytes(b"of another tool")
    return folder


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read five rows at a time, so that a part takes several batches."""
    monkeypatch.setattr(parts, "BATCH_ROWS", 5)


def sent(simulator: Simulator) -> int:
    return simulator.stats()["batch_rows"]


def mirrors(out: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(out.rglob("*.parquet"))])


def written(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.rglob("*")}


@pytest.mark.usefixtures("small_batches")
def test_every_part_has_its_mirror(label: Label, data: Path, tmp_path: Path) -> None:
    """Parts come back under their names with the same rows, columns and index, and labels."""
    out = tmp_path / "deep" / "out"
    table = label(FilesSource(data, out)).result(30)
    names = ["a.parquet", "day=2/b.parquet", "day=2/c.parquet"]
    assert table["part"].tolist() == names
    assert table["rows"].tolist() == [17, 12, 1]
    assert table["failed"].tolist() == [0, 0, 0]
    for name in names:
        was = pd.read_parquet(data / name)
        now = pd.read_parquet(out / name)
        pd.testing.assert_frame_equal(now[list(was.columns)], was)
        assert now["label"].isin(["billing", "delivery", "other"]).all()
        assert now["_error"].isna().all()
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == [
        "a.parquet",
        "b.parquet",
        "c.parquet",
    ]


@pytest.mark.usefixtures("small_batches")
def test_files_and_tables_are_one(
    label: Label, data: Path, tmp_path: Path, simulator: Simulator
) -> None:
    """Rows in files ask what the same rows in a table ask: their answers are taken over."""
    whole = label(rows(0, 30), name="table").result(30)
    assert sent(simulator) == 30
    run = label(FilesSource(data, tmp_path / "out"), name="files", shard_lines=7)
    run.result(30)
    assert sent(simulator) == 30
    assert run.counts["reused"] == 30
    assert mirrors(tmp_path / "out")["label"].tolist() == whole["label"].tolist()


def test_files_go_online_as_well(
    label: Label, data: Path, tmp_path: Path, simulator: Simulator
) -> None:
    """Online, the parts are those that a batch gives, and no batch job is made."""
    label(FilesSource(data, tmp_path / "out"), mode="online", shard_lines=7).result(30)
    assert simulator.stats()["jobs_created"] == 0
    assert mirrors(tmp_path / "out")["label"].notna().all()
    assert len(mirrors(tmp_path / "out")) == 30


def test_a_second_call_does_nothing(
    label: Label, data: Path, tmp_path: Path, simulator: Simulator
) -> None:
    """The same call sends nothing and leaves finished parts alone; a lost one is made again."""
    out = tmp_path / "out"
    first = label(FilesSource(data, out), shard_lines=7).result(30)
    before, paid = written(out), simulator.stats()
    again = label(FilesSource(data, out), shard_lines=7).result(30)
    pd.testing.assert_frame_equal(again, first)
    assert written(out) == before
    (out / "a.parquet").unlink()
    label(FilesSource(data, out)).result(30)
    changed = {path for path, when in written(out).items() if before.get(path) != when}
    assert changed == {str(out / "a.parquet")}
    assert simulator.stats()["batch_rows"] == paid["batch_rows"] == 30


def test_a_name_is_enough_to_go_on(
    label: Label, data: Path, tmp_path: Path, connection: Connection, bus: EventBus
) -> None:
    """A run of files is resumed by its name alone, into the folder that was named last."""
    label(FilesSource(data, tmp_path / "one"), name="x").result(30)
    label(FilesSource(data, tmp_path / "two"), name="x").result(30)
    (tmp_path / "two" / "a.parquet").unlink()
    table = resume(connection, bus, "x").result(30)
    assert table["rows"].sum() == 30
    assert len(mirrors(tmp_path / "two")) == 30


def test_other_columns_are_written_anew(
    label: Label, data: Path, tmp_path: Path, simulator: Simulator
) -> None:
    """The same answers under another name replace the parts that a run wrote, for nothing."""
    out = tmp_path / "out"
    label(FilesSource(data, out), name="x").result(30)
    label(FilesSource(data, out), name="x", prefix="m_").result(30)
    assert list(mirrors(out).columns) == ["text", "n", "m_label", "m_error"]
    assert sent(simulator) == 30


@pytest.mark.usefixtures("small_batches")
def test_a_gap_changes_no_other_row(label: Label, tmp_path: Path) -> None:
    """An empty cell is an error of its row; whole numbers beside it are sent as such."""
    asked = []
    table = pa.table({"n": pa.array([1, 2, None, 4, 5, 6]), "b": [True, None] * 3})
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in" / "a.parquet")

    def prompt(row: dict[str, Any]) -> str:
        asked.append(f"{row['n']} {row['b']}")
        return f"What is {row['n']}?"

    label(FilesSource(tmp_path / "in", tmp_path / "o"), prompt, name="f").result(30)
    assert asked == ["1 True", "2 <NA>", "<NA> True", "4 <NA>", "5 True", "6 <NA>"]
    made = label(FilesSource(tmp_path / "in", tmp_path / "out"), "What is {n}?").result(30)
    assert made["failed"].tolist() == [1]
    out = pd.read_parquet(tmp_path / "out" / "a.parquet")
    assert out["_error"].dropna().to_dict() == {2: "empty value in column 'n'"}
    assert out["label"].isna().tolist() == [False, False, True, False, False, False]
    assert pq.read_schema(tmp_path / "out" / "a.parquet").field("n").type == pa.int64()


def test_csv_cells_stay_texts(label: Label, tmp_path: Path) -> None:
    """What stands in a csv part is sent and written as it stands; only an empty cell is none."""
    path = tmp_path / "in.csv"
    path.write_text('\ufeffid,text\n007,"a\nline"\nNA,é\n1e3,""\n', encoding="utf-8")
    label(FilesSource(path, tmp_path / "out")).result(30)
    made = pd.read_parquet(tmp_path / "out" / "in.parquet")
    assert made["id"].tolist() == ["007", "NA", "1e3"]
    assert made["text"].tolist()[:2] == ["a\nline", "é"]
    assert made["_error"].tolist()[2] == "empty value in column 'text'"


def test_json_lines_are_read_as_they_stand(label: Label, tmp_path: Path) -> None:
    """Fields of a jsonl part keep their types and gaps; texts like dates stay texts."""
    path = tmp_path / "in.jsonl"
    lines = [
        {"id": 7, "text": "2024-05-01", "more": {"tags": ["a"], "at": "2024-05-01"}},
        {"id": None, "text": "é"},
        {"id": 9, "text": None, "more": {"tags": []}},
    ]
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    label(FilesSource(path, tmp_path / "out"), "{id}: {text}").result(30)
    made = pq.read_table(tmp_path / "out" / "in.parquet")
    assert made["id"].to_pylist() == [7, None, 9]
    assert made["text"].to_pylist() == ["2024-05-01", "é", None]
    assert made["more"].to_pylist()[0] == {"tags": ["a"], "at": "2024-05-01"}
    assert made["_error"].to_pylist()[1:] == [
        "empty value in column 'id'",
        "empty value in column 'text'",
    ]


def test_json_lines_that_change_are_refused(tmp_path: Path) -> None:
    """A value of another type, or a field that the first lines do not have, is no silent gap."""
    path = tmp_path / "in.jsonl"
    same = b'{"n": 1}\n' * (parts.BLOCK // 9 + 2)
    for odd in (b'{"n": "one"}', b'{"n": 1, "m": 2}', b"[1]", b"{"):
        path.write_bytes(same + odd)
        with pytest.raises(InputError, match=r"in\.jsonl cannot be read: "):
            list(find_parts(path)[0].batches())
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"in\.jsonl cannot be read: "):
        FilesSource(path, tmp_path / "out")


def test_schemas_have_one_type_in_all_parts(label: Label, tmp_path: Path) -> None:
    """Columns have the same Arrow type in every part; what Arrow has no type for is JSON."""
    fields = {
        "mood": {"enum": ["good", "bad"]},
        "stars": {"type": "integer"},
        "share": {"type": "number"},
        "spam": {"type": "boolean"},
        "words": {"type": "array", "items": {"type": "string"}},
    }
    schema = {"type": "object", "properties": fields, "required": list(fields)}
    rows(0, 3).to_parquet(tmp_path / "a.parquet")
    label(FilesSource(tmp_path / "a.parquet", tmp_path / "out"), schema=schema).result(30)
    made = pq.read_schema(tmp_path / "out" / "a.parquet")
    assert [str(made.field(name).type) for name in [*fields, "_error"]] == [
        "dictionary<values=string, indices=int32, ordered=0>",
        "int64",
        "double",
        "bool",
        "string",
        "string",
    ]
    cells = pd.read_parquet(tmp_path / "out" / "a.parquet")["words"]
    assert cells.str.startswith("[").all()


def test_a_part_without_rows_has_its_mirror(
    label: Label, tmp_path: Path, simulator: Simulator
) -> None:
    """Empty parts come back empty, with the columns; a data set of them sends nothing."""
    rows(0, 0).to_parquet(tmp_path / "a.parquet")
    table = label(FilesSource(tmp_path / "a.parquet", tmp_path / "out")).result(10)
    assert table["rows"].tolist() == [0]
    assert simulator.stats()["requests"] == {}
    made = pd.read_parquet(tmp_path / "out" / "a.parquet")
    assert list(made.columns) == ["text", "n", "label", "_error"]


def test_files_of_others_are_never_replaced(
    label: Label, data: Path, tmp_path: Path, simulator: Simulator
) -> None:
    """A file of a part's name that no run wrote is refused before anything is sent."""
    out = tmp_path / "out"
    out.mkdir()
    rows(0, 1).to_parquet(out / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet is there already and was not written by"):
        label(FilesSource(data, out))
    assert len(pd.read_parquet(out / "a.parquet")) == 1
    assert simulator.stats()["requests"] == {}


def test_labelled_files_can_be_labelled(label: Label, data: Path, tmp_path: Path) -> None:
    """Parts that a run wrote are a data set like any other, but never their own output."""
    one, two = tmp_path / "one", tmp_path / "two"
    label(FilesSource(data, one)).result(30)
    for _ in range(2):
        label(FilesSource(one, two), "How? {text}", prefix="new_").result(30)
        seen = written(two)
    label(FilesSource(one, two), "How? {text}", prefix="new_").result(30)
    assert written(two) == seen
    assert {"label", "new_label"} < set(mirrors(two).columns)
    with pytest.raises(InputError, match="is the input itself"):
        FilesSource(one / "a.parquet", one)
    (tmp_path / "case").mkdir()
    for name in ("a.csv", "a.CSV"):
        (tmp_path / "case" / name).write_text("text\nx\n")
    with pytest.raises(InputError, match=r"would both become a\.parquet"):
        FilesSource(tmp_path / "case", two)


def test_what_does_not_fit_is_refused(data: Path, tmp_path: Path) -> None:
    """Unusable folders and files are refused in plain words, with their names."""
    out = tmp_path / "out"
    with pytest.raises(InputError, match="is inside the data set"):
        FilesSource(data, data / "out")
    with pytest.raises(InputError, match="nowhere is not there"):
        FilesSource(tmp_path / "nowhere", out)
    (data / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"must end in \.parquet, \.csv or \.jsonl"):
        FilesSource(data / "a.txt", out)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"holds no \.parquet, \.csv or \.jsonl file"):
        FilesSource(tmp_path / "none", out)
    (data / "b.csv").write_text("text,n\n")
    with pytest.raises(InputError, match=r"holds \.csv and \.parquet files"):
        FilesSource(data, out)
    (data / "b.csv").unlink()
    rows(0, 1).rename(columns={"n": "m"}).to_parquet(data / "z.parquet")
    with pytest.raises(InputError, match=r"z\.parquet does not have the columns of .*: m, n is"):
        FilesSource(data, out)
    (data / "z.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"z\.parquet cannot be read: "):
        FilesSource(data, out)
    (data / "z.parquet").unlink()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        FilesSource(data, tmp_path / "file")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match="has no header line"):
        FilesSource(tmp_path / "empty.csv", out)
    (tmp_path / "latin.csv").write_bytes(b"text\n" + "é".encode("latin-1") * 2000 + b"\n")
    with pytest.raises(InputError, match=r"latin\.csv (is not UTF-8|cannot be read)"):
        list(find_parts(tmp_path / "latin.csv")[0].batches())


def test_columns_may_be_in_another_order(label: Label, data: Path, tmp_path: Path) -> None:
    """A prompt finds its column in every part, wherever it stands; the mirror keeps the order."""
    rows(30, 2)[["n", "text"]].to_parquet(data / "z.parquet")
    run = label(FilesSource(data, tmp_path / "out"))
    run.result(30)
    assert run.errors.empty
    made = pd.read_parquet(tmp_path / "out" / "z.parquet")
    assert list(made.columns) == ["n", "text", "label", "_error"]
    alone = label(rows(30, 2)).result(30)
    assert made["label"].tolist() == alone["label"].tolist()


def test_a_prompt_that_fails_names_the_file(label: Label, data: Path, tmp_path: Path) -> None:
    """The message says in which part the row is, and nothing is sent."""
    run = label(
        FilesSource(data, tmp_path / "out"), lambda row: row["text"] if row["n"] < 20 else 1
    )
    with pytest.raises(InputError, match=r"b\.parquet: Row 20: the prompt function must return"):
        run.result(30)


def test_a_changed_data_set_is_noticed(
    label: Label, data: Path, tmp_path: Path, connection: Connection, bus: EventBus
) -> None:
    """Answers are never put beside rows of files that changed since they were asked about."""
    source = FilesSource(data, tmp_path / "out")
    label(source, name="x").result(30)
    os.utime(data / "a.parquet", ns=(1, 1))
    (tmp_path / "out" / "a.parquet").unlink()
    with pytest.raises(RunError, match=r"'x' has changed .* e\.g\. a\.parquet"):
        resume(connection, bus, "x").result(30)
    with pytest.raises(RunError, match=r"a\.parquet has changed since the run was started"):
        label(source, name="x").result(30)


def test_a_part_that_cannot_be_written_costs_nothing(
    label: Label, data: Path, tmp_path: Path, simulator: Simulator
) -> None:
    """When the disk refuses a part the answers are safe, and the same call writes it later."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "day=2").write_text("in the way")
    with pytest.raises(StoreError, match="Nothing is lost"):
        label(FilesSource(data, out), name="x").result(30)
    (out / "day=2").unlink()
    assert label(FilesSource(data, out), name="x").result(30)["rows"].sum() == 30
    assert sent(simulator) == 30


def test_forgetting_a_run_leaves_its_parts(
    label: Label, data: Path, tmp_path: Path, home: Path
) -> None:
    """Labelled parts are the caller's: they stay when what is kept about the run goes."""
    label(FilesSource(data, tmp_path / "out"), name="x").result(30)
    forget(resolve(home=home), "x")
    assert len(mirrors(tmp_path / "out")) == 30


def test_labels_in_files_can_be_judged(label: Label, data: Path, tmp_path: Path) -> None:
    """A run of files is evaluated and compared as a table is, from its parts."""
    run = label(FilesSource(data, tmp_path / "out"), name="files", column="topic")
    whole = label(rows(0, 30), name="table", column="topic")
    gold = ["delivery"] * 30
    assert run.evaluate(gold).accuracy == whole.evaluate(gold).accuracy
    assert run.evaluate("topic").accuracy == 1
    assert run.compare(whole).agreement == 1
    with pytest.raises(InputError, match="nope"):
        run.evaluate("nope")


@pytest.mark.usefixtures("small_batches")
def test_batches_are_bounded_and_whole(data: Path) -> None:
    """A part is read in pieces of a bounded number of rows, which together are the part."""
    batches = list(find_parts(data)[0].batches())
    assert [batch.num_rows for batch in batches] == [5, 5, 5, 2]
    whole = pd.concat([to_frame(batch) for batch in batches], ignore_index=True)
    assert whole["n"].tolist() == list(range(17))
