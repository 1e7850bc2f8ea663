"""Laws of the ledger: what is written stays, in one piece or not at all."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from mistral_nb.errors import StoreError
from mistral_nb.labelling.ledger import Answer, Finding, Ledger, RunRecord, Shard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORD = RunRecord(
    "uid", "name", "digest", "batch", "m", "/v1/x", "server", 4, {"a": [1]}, "running", 1.0, 2.0
)
D = [bytes([n]) * 16 for n in range(4)]


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    """Four rows: two in shard 0, a twin of row 0, and one that was never sent."""
    with closing(Ledger(home / "ledger.sqlite3")) as made:
        made.add_requests([(0, D[0], None, 0, None), (1, D[1], None, 0, None)])
        made.add_requests([(2, D[0], 0, None, None), (3, None, None, None, "empty")])
        made.add_shards([Shard(0, 0, 2, 100, "sha")])
        made.write_run(RECORD)
        yield made


def results(ledger: Ledger) -> list[tuple[int, str | None, str | None]]:
    return [row for block in ledger.results() for row in block]


def test_the_run_is_what_was_written(ledger: Ledger) -> None:
    """The record comes back, with JSON parts and what was updated."""
    assert ledger.run() == RECORD
    ledger.update_run(status="done", counts={"done": 1})
    assert (ledger.run().status, ledger.run().counts) == ("done", {"done": 1})


def test_answers_reach_twins(ledger: Ledger) -> None:
    """An answer goes to its row and to every row with the same request."""
    answers = [(1, Answer(error="no", again=True)), (0, Answer("yes", prompt_tokens=5))]
    ledger.finish_shard(ledger.shards()[0], answers, [Finding("missing", None, "x")])
    assert results(ledger) == [
        (0, "yes", None),
        (1, None, "no"),
        (2, "yes", None),
        (3, None, "empty"),
    ]
    assert ledger.counts() == {"total": 4, "done": 2, "failed": 2, "reused": 0}
    assert ledger.usage() == (5, 0, 0)
    assert ledger.shards()[0].state == "done"
    assert [tuple(row) for row in ledger.findings()] == [(0, "missing", None, "x")]


def test_a_shard_is_finished_whole_or_not(ledger: Ledger) -> None:
    """A failure while answers are written leaves none of them."""

    def broken() -> Iterator[tuple[int, Answer]]:
        yield 0, Answer("yes")
        raise OSError

    with pytest.raises(OSError):
        ledger.finish_shard(ledger.shards()[0], broken(), [])
    assert ledger.shards()[0].state == "written"
    assert results(ledger)[0] == (0, None, "not answered yet")


def test_a_repeated_request_counts_once_in_results_and_twice_in_usage(ledger: Ledger) -> None:
    """The last attempt is the answer; every attempt was paid for."""
    ledger.finish_shard(
        ledger.shards()[0],
        [(0, Answer("yes")), (1, Answer("bad", "no", again=True, completion_tokens=3))],
        [],
    )
    assert ledger.to_repeat(1) == {1: 0}
    assert ledger.to_repeat(0) == {}
    ledger.add_shards([Shard(1, 1, 1, 50, "sha1")], [(1, 1)])
    ledger.finish_shard(ledger.shards()[1], [(1, Answer("good", completion_tokens=4))], [])
    assert results(ledger)[1] == (1, "good", None)
    assert ledger.usage() == (0, 7, 0)
    assert ledger.to_repeat(1) == {}


def test_good_answers_are_found_by_content(ledger: Ledger) -> None:
    """Other runs may take over good answers, never failed ones."""
    ledger.finish_shard(ledger.shards()[0], [(0, Answer("yes")), (1, Answer(error="no"))], [])
    found = ledger.answered([D[0], D[1], D[3]])
    assert {digest: answer.text for digest, answer in found.items()} == {D[0]: "yes"}


def test_failures_keep_the_raw_reply(ledger: Ledger) -> None:
    """An invalid reply's text is kept beside its error."""
    ledger.finish_shard(
        ledger.shards()[0], [(0, Answer("ok")), (1, Answer("raw", "not JSON", status=200))], []
    )
    assert [tuple(row) for row in ledger.failures()] == [
        (1, "not JSON", 200, "raw", 1),
        (3, "empty", None, None, 0),
    ]


def test_the_first_other_row_is_found(ledger: Ledger) -> None:
    """Compared row by row, the first other content is told."""
    same = [(0, D[0]), (1, D[1]), (2, D[0]), (3, None)]
    assert ledger.first_other(same) is None
    assert ledger.first_other([*same[:2], (2, D[3])]) == 2
    assert ledger.first_other([*same[:3], (3, D[0])]) == 3
    assert ledger.first_other([(9, D[0])]) == 9


def test_what_is_no_ledger_is_a_clear_error(home: Path) -> None:
    """A file of something else is a StoreError that names it."""
    home.mkdir()
    (home / "ledger.sqlite3").write_text("nonsense" * 1000)
    with pytest.raises(StoreError, match="ledger"):
        Ledger(home / "ledger.sqlite3")


def test_commits_wait_for_the_disk_unless_told_otherwise(tmp_path: Path) -> None:
    """A ledger waits for the disk; one that need not is brought there by `sync`, amid commits."""
    with closing(Ledger(tmp_path / "ledger.sqlite3")) as ledger:

        def level() -> int:
            with ledger.reading() as db:
                return int(db.execute("PRAGMA synchronous").fetchone()[0])

        full, normal = 2, 1
        assert level() == full
        ledger.wait_for_disk(False)
        assert level() == normal
        ledger.add_requests([(0, b"x", None, 0, None)])
        with ledger.writing() as db:
            ledger.sync()
            db.execute("DELETE FROM request")
        ledger.wait_for_disk(True)
        assert level() == full
        ledger.path.with_name("ledger.sqlite3-wal").unlink()
        with pytest.raises(StoreError, match="Check the disk"):
            ledger.sync()
