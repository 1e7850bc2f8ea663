"""What an engine is given to do its work: the seam between a run and the ways to send it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mistral_nb.client import Connection
    from mistral_nb.labelling.folder import RunFolder
    from mistral_nb.labelling.ledger import Ledger, RunRecord, Shard
    from mistral_nb.labelling.requests import Limits

__all__ = ["Engine", "Options", "Work"]


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it changes what is asked.

    Attributes:
        retries: How often a failed request is sent again.
        patience: Seconds the server may be silent before the run gives up waiting.
        timeout_hours: Hours the server has for a batch job.
        limits: How large a shard may be.
    """

    retries: int
    patience: float
    timeout_hours: int
    limits: Limits


@dataclass
class Work:
    """One run, as an engine sees it.

    Attributes:
        connection: The server.
        folder: The run's files.
        ledger: The run's ledger, with every request in it.
        record: What the run is.
        options: How to carry it out.
        validate: Returns what is wrong with a reply's text, or None.
        report: Told the shards under way, and what is worth saying, when these change.
        recount: Counts the ledger's rows again, after answers were written.
        cancelled: Set when the run was cancelled.
    """

    connection: Connection
    folder: RunFolder
    ledger: Ledger
    record: RunRecord
    options: Options
    validate: Callable[[str], str | None] | None
    report: Callable[[Sequence[Shard], str], None]
    recount: Callable[[], Awaitable[None]]
    cancelled: anyio.Event = field(default_factory=anyio.Event)

    async def do(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run blocking work (files, SQLite, parsing) in a thread; the loop stays free."""
        return await anyio.to_thread.run_sync(function, *args)


class Engine(Protocol):
    """A way to get every open request of a run answered."""

    async def run(self) -> None:
        """Return when every request has an answer in the ledger, good or not."""
