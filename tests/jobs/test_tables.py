"""Laws of the job file: leases, tokens, limits and what is forgotten, with clocks held still."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from mistral_nb.jobs import paid, reading, tables
from mistral_nb.jobs.engine import MOST_STALLS
from mistral_nb.jobs.model import Limit, Outcome, make_spec
from mistral_nb.store import open_store

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from mistral_nb.jobs.model import Claim


class Clock:
    """A clock that goes only when told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tables, "time", clock)
    monkeypatch.setattr(paid, "time", clock)
    return clock


@pytest.fixture
def db(tmp_path: Path, clock: Clock) -> Iterator[sqlite3.Connection]:
    connection = open_store(tmp_path / "jobs.sqlite", tables.MIGRATIONS)
    yield connection
    connection.close()


def add(db: sqlite3.Connection, number: int = 1, **options: object) -> None:
    tables.add(db, [make_spec("x", n, job_id=f"j{n}", **options) for n in range(number)])


def take(
    db: sqlite3.Connection, worker: str = "w", want: int = 5, **options: object
) -> list[Claim]:
    limit = options.get("limit")
    return tables.take(db, tables.Take(worker, want, 30.0, MOST_STALLS, limit))[0]


def test_a_lost_lease_gives_the_job_to_another(db: sqlite3.Connection, clock: Clock) -> None:
    """Who lost his lease can no longer end the job, tell its progress or begin to pay."""
    add(db)
    (old,) = take(db, "one")
    clock.now += 29
    tables.beat(db, "one", 30.0)
    clock.now += 29
    assert take(db, "two") == []
    clock.now += 2
    (new,) = take(db, "two")
    assert (new.spec, new.attempt) == (old.spec, old.attempt)
    assert tables.finish(db, old, Outcome("completed", b"1"), "") is False
    tables.progress(db, old, b"99")
    assert paid.begin(db, old, "call", again=False) == ("lost", None)
    assert paid.begin(db, new, "call", again=False) == ("new", None)
    assert tables.finish(db, new, Outcome("completed", b"2"), "") is True
    found = reading.get(db, "j0")
    assert (found.status, found.result, found.progress, found.stalls) == ("completed", 2, None, 1)


def test_who_asks_is_alive(db: sqlite3.Connection, clock: Clock) -> None:
    """A worker that asks after the machine slept keeps its jobs, however old its leases look."""
    add(db)
    (claim,) = take(db)
    clock.now += 86_400
    assert take(db) == []
    assert take(db, "another") == []
    assert tables.finish(db, claim, Outcome("completed", b"1"), "")


def test_a_job_that_loses_every_worker_fails(db: sqlite3.Connection, clock: Clock) -> None:
    """After five lost workers one more is the end, as a failure that says why."""
    add(db)
    for number in range(MOST_STALLS + 1):
        assert len(take(db, f"worker {number}")) == 1
        clock.now += 31
    assert take(db) == []
    found = reading.get(db, "j0")
    assert (found.status, found.stalls) == ("failed", MOST_STALLS + 1)
    assert "worker was lost 6 times" in found.error


@pytest.mark.parametrize("end", ["lost", "handed back", "failed"])
def test_a_cancel_outlives_the_worker(db: sqlite3.Connection, clock: Clock, end: str) -> None:
    """A job cancelled while under way never runs again, however its worker went."""
    add(db)
    (claim,) = take(db)
    assert tables.cancel(db, "j0", active=True) is True
    if end == "handed back":
        tables.finish(db, claim, Outcome("queued"), "")
    elif end == "failed":
        tables.finish(db, claim, Outcome("delayed", error="no luck", delay=1), "")
    clock.now += 31
    assert take(db, "another") == []
    assert reading.get(db, "j0").status == "cancelled"


def test_suspects_are_taken_one_at_a_time(db: sqlite3.Connection, clock: Clock) -> None:
    """Jobs that lost their worker twice run beside fresh jobs, but not beside each other."""
    add(db, 3)
    for number in range(2):
        assert len(take(db, f"worker {number}")) == 3
        clock.now += 31
    tables.add(db, [make_spec("x", 9, job_id="fresh")])
    assert {claim.spec.id for claim in take(db)} == {"j0", "fresh"}
    assert take(db) == []
    assert [claim.spec.id for claim in take(db, "another")] == ["j1"]


def test_a_limit_counts_every_start(db: sqlite3.Connection, clock: Clock) -> None:
    """Starts of all workers count, for exactly the limit's time."""
    add(db, 10)
    limit = Limit(3, 1.0)
    assert len(take(db, "one", 2, limit=limit)) == 2
    clock.now += 0.5
    assert len(take(db, "two", 5, limit=limit)) == 1
    assert take(db, "one", limit=limit) == []
    clock.now += 0.51
    assert len(take(db, "one", limit=limit)) == 2
    _, wait = tables.take(db, tables.Take("one", 1, 30.0, MOST_STALLS, limit))
    assert wait == pytest.approx(0.49, abs=0.001)


def test_a_hold_stops_starts_and_payments(db: sqlite3.Connection, clock: Clock) -> None:
    """While the server wants a pause no job starts and no paid call begins."""
    add(db, 2)
    (claim,) = take(db, want=1)
    paid.hold(db, 2.0)
    assert take(db) == []
    state, wait = paid.begin(db, claim, "call", again=False)
    assert (state, float(wait)) == ("wait", pytest.approx(2000, abs=2))
    clock.now += 2.01
    assert len(take(db)) == 1
    assert paid.begin(db, claim, "call", again=False) == ("new", None)


def test_old_jobs_are_forgotten(db: sqlite3.Connection, clock: Clock) -> None:
    """What ended before a time goes, with what was paid for it; the rest stays."""
    add(db, 2)
    first, _ = take(db)
    paid.begin(db, first, "call", again=False)
    paid.end(db, first, "call", b"1")
    tables.finish(db, first, Outcome("completed", b"1"), "")
    tables.forget(db, clock.now + 1)
    assert reading.get(db, "j0") is None
    assert reading.get(db, "j1") is not None
    assert db.execute("SELECT count(*) FROM paid").fetchone()[0] == 0


def test_old_news_is_forgotten_but_for_the_last(db: sqlite3.Connection, clock: Clock) -> None:
    """Events go after a while, but not the latest: the next one has a number of its own."""
    add(db, 3)
    last = reading.last_event(db)
    clock.now += 1000
    tables.forget(db, clock.now - 2000)
    assert db.execute("SELECT count(*) FROM event").fetchone()[0] == 1
    tables.cancel(db, "j0", active=True)
    news, _ = reading.events_after(db, last)
    assert [(each.job_id, each.kind) for each in news] == [("j0", "cancelled")]


def test_a_big_queue_is_read_by_its_indexes(db: sqlite3.Connection) -> None:
    """Taking, promoting and recovering look at no job that is not concerned."""
    now = time.time()
    for sql in (
        (
            "SELECT seq FROM job WHERE status = 'queued' AND (stalls < 2 OR seq = 1) "
            "ORDER BY priority, seq LIMIT 5"
        ),
        "SELECT seq FROM job WHERE status = 'queued' AND stalls >= 2 ORDER BY priority, seq LIMIT 1",
        f"SELECT id FROM job WHERE status = 'delayed' AND due <= {now}",
        f"SELECT seq FROM job WHERE status = 'active' AND lease < {now}",
    ):
        plan = " ".join(row["detail"] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}"))
        assert "USING INDEX job_" in plan or "USING COVERING INDEX job_" in plan, plan
        assert "TEMP B-TREE" not in plan
