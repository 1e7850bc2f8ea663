"""What a screen shows of a run besides its counts: cost, errors by kind, batch jobs."""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.labelling.ledger import ROWS
from mistral_nb.labelling.totals import spent, usage_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mistral_nb.labelling.folder import RunFolder
    from mistral_nb.labelling.ledger import Ledger, Shard
    from mistral_nb.usage import Usage

__all__ = ["Details", "Example", "Failure", "details_of", "job_seconds"]

KINDS = 6
"""Kinds of errors told apart, the most frequent first; the rest is one kind."""
EXAMPLES = 3
"""Rows shown of each kind."""
TEXTS = 10_000
"""Different error texts looked at."""
CUT = 240
"""Characters of an error, a request or a reply that are kept."""
_OWN = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\S*\d\S*")
"""What makes two errors of one kind differ: what they quote, and what has digits in it."""


@dataclass(frozen=True)
class Example:
    """A row without a result.

    Attributes:
        row: Its number, from 0.
        error: Why there is none.
        asked: Beginning of what was asked.
        reply: Beginning of the reply, if there was one.
    """

    row: int
    error: str
    asked: str
    reply: str


@dataclass(frozen=True)
class Failure:
    """Errors of one kind.

    Attributes:
        rows: How many rows have it.
        status: HTTP status, if there was one.
        examples: Some of them.
    """

    rows: int
    status: int | None
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Details:
    """A run as its ledger has it.

    Attributes:
        created: When the run was made, in seconds since the epoch.
        usage: Tokens billed so far.
        cost: US dollars so far; None where the price is not known.
        projected: US dollars in the end, if rows go on costing what they cost so far; None
            where the price is not known or nothing was billed yet.
        failures: Errors by kind, the most frequent first.
        others: Rows with errors of further kinds.
        jobs: The shards that are or were sent as batch jobs.
    """

    created: float
    usage: Usage
    cost: float | None
    projected: float | None
    failures: tuple[Failure, ...] = ()
    others: int = 0
    jobs: tuple[Shard, ...] = ()


def details_of(ledger: Ledger, folder: RunFolder) -> Details:
    """Read what a screen shows; it takes longer the more rows there are.

    Args:
        ledger: The run's ledger.
        folder: The run's files.

    Returns:
        The run as it is now.
    """
    record, usage, shards = ledger.run(), usage_of(ledger), ledger.shards()
    dollars = spent(ledger, record.model)
    failures, others = _failures(ledger, folder)
    return Details(
        created=record.created,
        usage=usage,
        cost=dollars,
        projected=_projected(ledger, shards, dollars),
        failures=failures,
        others=others,
        jobs=tuple(each for each in shards if record.mode != "online" or each.job_id),
    )


def job_seconds(shards: Iterable[Shard]) -> dict[str, float]:
    """Return how long each batch job took until its answers were here.

    Args:
        shards: All shards of a run.

    Returns:
        A name for each job that was created and read -> seconds.
    """
    return {
        f"job {shard.id}": shard.changed - shard.submitted
        for shard in shards
        if shard.state == "done" and shard.submitted is not None
    }


def _projected(ledger: Ledger, shards: list[Shard], dollars: float | None) -> float | None:
    """Extend what was paid to all requests that are to be paid, each at least once."""
    with ledger.reading() as db:
        paid = db.execute("SELECT COUNT(*) FROM attempt WHERE number = 1").fetchone()[0]
    if dollars is None or not paid:
        return None
    return float(dollars * max(1.0, sum(each.lines for each in shards if not each.round) / paid))


def _failures(ledger: Ledger, folder: RunFolder) -> tuple[tuple[Failure, ...], int]:
    """Group the rows without a result by kind of error."""
    sql = (
        "SELECT error, status, COUNT(*), MIN(row), SUM(COUNT(*)) OVER () "  # noqa: S608
        f"FROM ({ROWS}) WHERE error IS NOT NULL GROUP BY error, status "
        "ORDER BY COUNT(*) DESC, MIN(row) LIMIT ?"
    )
    with ledger.reading() as db:
        found = [tuple(row) for row in db.execute(sql, (TEXTS,))]
    rows: dict[tuple[int | None, str], int] = {}
    texts: dict[tuple[int | None, str], dict[str, int]] = {}
    for error, status, count, first, _ in found:
        kind = (status, " ".join(_OWN.sub("", error).split())[:CUT])
        rows[kind] = rows.get(kind, 0) + count
        texts.setdefault(kind, {})[error] = first
    kinds = sorted(rows, key=lambda kind: -rows[kind])[:KINDS]
    failures = tuple(
        Failure(rows[kind], kind[0], _examples(ledger, folder, texts[kind])) for kind in kinds
    )
    return failures, (found[0][4] if found else 0) - sum(each.rows for each in failures)


def _examples(ledger: Ledger, folder: RunFolder, texts: dict[str, int]) -> tuple[Example, ...]:
    """Take the first row of each error text, or the first rows if there are few texts."""
    rows = sorted(texts.values())[:EXAMPLES]
    if len(texts) < EXAMPLES:
        marks = ", ".join("?" * len(texts))
        sql = f"SELECT row FROM ({ROWS}) WHERE error IN ({marks}) ORDER BY row LIMIT ?"  # noqa: S608
        with ledger.reading() as db:
            rows = [row for (row,) in db.execute(sql, (*texts, EXAMPLES))]
    marks = ", ".join("?" * len(rows))
    sql = (
        "SELECT x.row, x.error, x.text, x.answered_by, r.shard "  # noqa: S608 - marks only
        f"FROM ({ROWS}) x JOIN request r ON r.row = x.answered_by WHERE x.row IN ({marks})"
    )
    with ledger.reading() as db:
        found = [tuple(row) for row in db.execute(sql, rows)]
    return tuple(
        Example(
            row,
            _short(error),
            "" if shard is None else _short(_asked(folder.requests(shard), answered_by)),
            _short(text or ""),
        )
        for row, error, text, answered_by, shard in found
    )


def _asked(path: Path, row: int) -> str:
    """Find what a row asked in a file of requests; empty if that cannot be said."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as lines:
            start = lines.find(b'{"custom_id":"r%d-' % row)
            if start < 0:
                return ""
            lines.seek(start)
            body = orjson.loads(lines.readline())["body"]
    except (OSError, ValueError, KeyError):  # an empty file cannot be mapped
        return ""
    messages = body.get("messages")
    if messages:
        return _words(messages[-1].get("content"))
    return _words(next((body[name] for name in ("input", "inputs", "prompt") if name in body), ""))


def _words(content: Any) -> str:
    """Return the texts in a message's content, whichever form it has."""
    if isinstance(content, list):
        return " ".join(filter(None, map(_words, content)))
    if isinstance(content, dict):
        return _words(content.get("text", ""))
    return content if isinstance(content, str) else ""


def _short(text: str) -> str:
    text = " ".join(text[: 4 * CUT].split())
    return text if len(text) <= CUT else f"{text[: CUT - 1]}…"
