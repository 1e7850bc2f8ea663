"""Sending requests again: those that failed, and those that a batch job will not answer.

A batch sends them in new shards, lines copied as they are; online they are simply open again.
In either mode the answers there are stay in the ledger, with what they cost.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import orjson

from mistral_nb.errors import RunError
from mistral_nb.labelling.batch import STILL, BatchEngine, still
from mistral_nb.labelling.budget import UNSENT
from mistral_nb.labelling.requests import rewrite
from mistral_nb.labelling.work import RETRIES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Sequence

    from mistral_nb.labelling.ledger import Ledger, RunRecord, Shard
    from mistral_nb.labelling.work import Work

__all__ = ["move_to_online", "resubmit", "retry_failed"]


async def retry_failed(work: Work) -> None:
    """Make all requests that failed ready to be sent again, whatever the reason was.

    Args:
        work: The run.
    """
    await work.do(_retry_failed, work)


def _retry_failed(work: Work) -> None:
    rows = _failed(work.ledger)
    if not rows:
        return
    # First the status: if the process ends in between, the run goes on, and nothing is lost.
    work.ledger.update_run(status="running")
    if work.record.mode != "online":
        rewrite(work.folder, work.ledger, work.options.limits, rows)
    else:
        with work.ledger.writing() as db:
            _reopen(db, rows)


async def resubmit(work: Work, shards: Sequence[int]) -> None:
    """Cancel batch jobs that do not move, and put what they did not answer in new ones.

    Args:
        work: The run.
        shards: Their numbers; none means all that have not moved for long.

    Raises:
        RunError: There is none, or a number is of no job under way.
    """
    there = await work.do(work.ledger.shards)
    chosen = _chosen(there, shards, work.record)
    await BatchEngine(work).give_up(chosen)
    await work.do(_rewrite_given_up, work, {shard.id for shard in chosen})


def _rewrite_given_up(work: Work, given_up: Collection[int]) -> None:
    if rows := _failed(work.ledger, given_up, again=True):
        rewrite(work.folder, work.ledger, work.options.limits, rows)


async def move_to_online(work: Work) -> None:
    """Cancel all batch jobs of a run, take what they answered, and leave the rest to online.

    Args:
        work: The run; its options change.

    Raises:
        RunError: The run is online already.
    """
    if work.record.mode == "online":
        raise RunError(f"The run {work.record.name!r} is online already.")
    there = await work.do(work.ledger.shards)
    unsent = {shard.id for shard in there if shard.state in UNSENT}
    under_way = [shard for shard in there if shard.state != "done" and shard.id not in unsent]
    await BatchEngine(work).give_up(under_way)
    work.options = replace(work.options, retries=RETRIES["online"])
    await work.do(_go_online, work, {shard.id for shard in under_way}, unsent)


def _go_online(work: Work, given_up: set[int], unsent: set[int]) -> None:
    rows = {**_failed(work.ledger, given_up, again=True), **_failed(work.ledger, unsent)}
    spec = {**work.record.spec, "options": asdict(work.options)}
    with work.ledger.writing() as db:  # the change of engine and all that it needs, or nothing
        _reopen(db, rows)
        db.executemany("UPDATE shard SET state = 'done' WHERE id = ?", ((id_,) for id_ in unsent))
        sql = "UPDATE run SET mode = 'online', status = 'running', spec = ?"
        db.execute(sql, (orjson.dumps(spec).decode(),))


def _chosen(there: list[Shard], numbers: Sequence[int], record: RunRecord) -> list[Shard]:
    jobs = {shard.id: shard for shard in there if shard.state in {"submitted", "ended"}}
    if not jobs:
        raise RunError(f"The run {record.name!r} has no batch job under way: nothing to resubmit.")
    ages = ", ".join(f"{each.id} ({still(each) / 60:.0f} min)" for each in jobs.values())
    if wrong := [number for number in numbers if number not in jobs]:
        raise RunError(
            f"Shard {wrong[0]} of the run {record.name!r} has no batch job under way. "
            f"Those that have one, and how long they have not moved: {ages}."
        )
    stuck = [shard for shard in jobs.values() if still(shard) >= STILL]
    found = [jobs[number] for number in numbers] or stuck
    if not found:
        raise RunError(
            f"No batch job of the run {record.name!r} has been without progress for long. Name "
            f"the shards to resubmit, e.g. run.resubmit({next(iter(jobs))}). Under way, and how "
            f"long they have not moved: {ages}."
        )
    return found


def _failed(
    ledger: Ledger, shards: Collection[int] | None = None, *, again: bool = False
) -> dict[int, int]:
    """Find requests whose answer is an error.

    Args:
        ledger: The run's ledger.
        shards: Only requests in these.
        again: Only errors that another try may not meet.

    Returns:
        Row -> the shard that its request is in.
    """
    sql = (
        "SELECT r.row, r.shard FROM request r JOIN attempt a ON a.row = r.row AND "
        "a.number = r.attempts WHERE a.error IS NOT NULL AND (a.again OR ?) ORDER BY r.row"
    )
    with ledger.reading() as db:
        found = dict(map(tuple, db.execute(sql, (not again,))))
    return found if shards is None else {row: id_ for row, id_ in found.items() if id_ in shards}


def _reopen(db: sqlite3.Connection, rows: Iterable[int]) -> None:
    """Leave requests without a valid answer, as if they had never been sent."""
    sql = "UPDATE request SET attempts = attempts + 1 WHERE row = ?"
    db.executemany(sql, ((row,) for row in rows))
