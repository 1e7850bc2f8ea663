"""Tables go through files unchanged, and what cannot be read or written says why."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from mistral_nb.errors import InputError, StoreError
from mistral_nb.tables import check_target, read_table, write_table

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".CSV"])
def test_round_trip(tmp_path: Path, suffix: str):
    """Texts of every kind come back as they were, in their order."""
    texts = ["007", "NA", "null", 'say "hi", then\ngo', "ünïcode ☕", " x ", "=1+1", "{a}"]
    df = pd.DataFrame({"text": texts, "other name": texts[::-1]})
    write_table(df, tmp_path / f"t{suffix}")
    assert read_table(tmp_path / f"t{suffix}").to_dict("list") == df.to_dict("list")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_missing_texts(tmp_path: Path, suffix: str):
    """A missing text is missing again after a round trip."""
    write_table(pd.DataFrame({"id": ["1", "2"], "text": ["a", None]}), tmp_path / f"t{suffix}")
    assert read_table(tmp_path / f"t{suffix}")["text"].isna().tolist() == [False, True]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_lists_and_dicts_become_json(tmp_path: Path, suffix: str):
    """Nested results are written as JSON, not as Python shows them."""
    path = tmp_path / f"t{suffix}"
    write_table(pd.DataFrame({"tags": [["a", "é"], {"k": True}]}), path)
    text = path.read_text(encoding="utf-8").replace('""', '"')
    assert '["a","é"]' in text
    assert '{"k":true}' in text


def test_jsonl_knows_dates_missing_values_and_numpy(tmp_path: Path):
    """Missing cells become null, dates ISO texts, numbers stay exact."""
    df = pd.DataFrame(
        {
            "when": [pd.Timestamp("2026-01-02T03:04"), pd.NaT],
            "n": pd.array([2**60, None], dtype="Int64"),
            "x": [0.1, float("nan")],
        }
    )
    write_table(df, tmp_path / "t.jsonl")
    assert (tmp_path / "t.jsonl").read_text().splitlines() == [
        '{"when":"2026-01-02T03:04:00","n":1152921504606846976,"x":0.1}',
        '{"when":null,"n":null,"x":null}',
    ]


def test_missing_keys_in_jsonl(tmp_path: Path):
    """Rows may lack a key, lines may be blank, and a byte order mark does no harm."""
    (tmp_path / "t.jsonl").write_text('\ufeff{"a": "1"}\n\n{"b": "2"}\n', encoding="utf-8")
    df = read_table(tmp_path / "t.jsonl")
    assert df.shape == (2, 2)
    assert df["a"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.csv", b"", "empty"),
        ("t.csv", b'a,b\n1,2\n1,2,3,"4\n', "not a csv table"),
        ("t.csv", b"text\nna\xefve\n", "not UTF-8"),
        ("t.jsonl", b'{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ("t.jsonl", b"[1, 2]\n", "line 1 is not a JSON object"),
        ("t.parquet", b"PAR1 no, not really", "not a parquet file"),
        ("t.xlsx", b"", "must end in"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, says: str):
    """A file that is not what its suffix says is refused with the reason and the place."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_table(tmp_path / name)


@pytest.mark.parametrize("name", ["absent.csv", "absent.jsonl", "absent.parquet", "folder.csv"])
def test_absent_files(tmp_path: Path, name: str):
    """A file that is not there, or is a folder, is named in the refusal."""
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=name):
        read_table(tmp_path / name)


def test_a_bad_target_is_found_early(tmp_path: Path):
    """An unknown suffix, a missing folder, a folder, and the input itself are refused."""
    source = tmp_path / "in.csv"
    source.write_text("a\n1\n")
    (tmp_path / "folder.csv").mkdir()
    for out in (tmp_path / "out.txt", tmp_path / "no" / "out.csv", tmp_path / "folder.csv", source):
        with pytest.raises(InputError, match=out.name):
            check_target(out, source)
    check_target(tmp_path / "out.csv", source)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_found_early(tmp_path: Path):
    """A folder without write permission is refused before anything is paid for."""
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        check_target(tmp_path / "out.csv")


class Interrupting:
    """A cell that is interrupted while it is written."""

    def __str__(self) -> str:
        raise KeyboardInterrupt


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path):
    """Ctrl-C amid a table leaves the old file, and no half of a new one."""
    path = tmp_path / "t.csv"
    write_table(pd.DataFrame({"a": ["old"]}), path)
    with pytest.raises(KeyboardInterrupt):
        write_table(pd.DataFrame({"a": ["new", Interrupting()]}), path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["a\nold\n"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    """When the new table cannot be written, the file that was there is untouched."""
    path = tmp_path / "t.parquet"
    write_table(pd.DataFrame({"a": ["old"]}), path)
    with pytest.raises(StoreError, match=r"t\.parquet could not be written"):
        write_table(pd.DataFrame({"a": [{"x": 1}, "text", 3]}), path)
    assert read_table(path)["a"].tolist() == ["old"]
    assert [file.name for file in tmp_path.iterdir()] == ["t.parquet"]
