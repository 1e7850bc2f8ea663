"""What an engine is given to do its work: the seam between a run and the ways to send it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from mistral_nb.errors import InputError
from mistral_nb.labelling.bounds import check_amount, check_pace, check_whole

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mistral_nb.client import Connection
    from mistral_nb.labelling.budget import Budget
    from mistral_nb.labelling.crews import Crews
    from mistral_nb.labelling.folder import RunFolder
    from mistral_nb.labelling.ledger import Ledger, RunRecord, Shard
    from mistral_nb.labelling.requests import Limits

__all__ = ["Engine", "Options", "Work", "check_limit"]

RETRIES = {"batch": 1, "queue": 1, "online": 5}
"""A round of a batch is hours; online, a retry is seconds, and mostly free. Workers of a queue
repeat by themselves what passes."""
CONCURRENCY = 32
MOST_HOURS = 168
"""A week: the API gives no batch job more."""


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it changes what is asked.

    Attributes:
        retries: How often a failed request is sent again; None is as usual in its mode.
        patience: Seconds the server may be silent before the run gives up waiting.
        timeout_hours: Hours the server has for a batch job.
        limits: How large a shard may be.
        concurrency: Most requests at once, online.
        rpm: Most requests a minute, online; None leaves it to the server.
        tpm: Most tokens a minute, online; likewise.
        max_cost: US dollars that the run may come to; None for no limit.
    """

    retries: int | None
    patience: float
    timeout_hours: int
    limits: Limits
    concurrency: int | None = None
    rpm: int | None = None
    tpm: int | None = None
    max_cost: float | None = None

    def settled(self, mode: str, *, auto: bool = False) -> Options:
        """Fill in what is usual in a mode, and refuse what means nothing in it.

        Args:
            mode: ``"batch"``, ``"online"`` or ``"queue"``.
            auto: Whether the number of rows chose it; then nothing is refused.

        Returns:
            Options without None, but for the limits that the server sets.

        Raises:
            InputError: An option is of the other mode, or cannot be.
        """
        pace = {"concurrency": self.concurrency, "rpm": self.rpm, "tpm": self.tpm}
        given = [name for name, number in pace.items() if number is not None]
        if given and mode != "online" and not auto:
            who = "the server sets" if mode == "batch" else "each worker's own options set"
            raise InputError(f"{given[0]}= is for mode='online': in {mode} mode {who} the pace.")
        check_pace(**pace)
        if self.retries is not None:
            check_whole("retries", self.retries, least=0)
        check_amount("patience", self.patience, "seconds")
        check_whole("timeout_hours", self.timeout_hours, most=MOST_HOURS)
        check_limit(self.max_cost)
        return replace(
            self,
            retries=RETRIES[mode] if self.retries is None else self.retries,
            concurrency=CONCURRENCY if self.concurrency is None else self.concurrency,
        )


def check_limit(max_cost: float | None) -> None:
    """Refuse a limit that is no amount of money.

    Raises:
        InputError: It is not above zero.
    """
    if max_cost is not None:
        check_amount("max_cost", max_cost, "US dollars")


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
        crews: Where batch jobs go in place of the Batch API.
        budget: What may be spent; None for no limit.
        cancelled: Set when the run was cancelled.
        paused: True while nothing new may be sent.
    """

    connection: Connection
    folder: RunFolder
    ledger: Ledger
    record: RunRecord
    options: Options
    validate: Callable[[str], str | None] | None
    report: Callable[[Sequence[Shard], str], None]
    recount: Callable[[], Awaitable[None]]
    crews: Crews | None = None
    budget: Budget | None = None
    cancelled: anyio.Event = field(default_factory=anyio.Event)
    paused: bool = False
    _wish: anyio.Event = field(default_factory=anyio.Event)

    def cancel(self) -> None:
        """Have the engine end the run; on the portal's loop, like all that follows."""
        self.cancelled.set()
        self._stir()

    def pause(self, paused: bool) -> None:
        """Have the engine send nothing new until further notice, or go on."""
        self.paused = paused
        self._stir()

    def _stir(self) -> None:
        self._wish.set()
        self._wish = anyio.Event()

    async def wish(self) -> None:
        """Return when the run is paused, goes on, or is cancelled."""
        if not self.cancelled.is_set():
            await self._wish.wait()

    async def may_send(self) -> None:
        """Return once something new may be sent: not during a pause, unless it is cancelled."""
        while self.paused and not self.cancelled.is_set():
            await self.wish()

    async def do(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run blocking work (files, SQLite, parsing) in a thread; the loop stays free."""
        return await anyio.to_thread.run_sync(function, *args)


class Engine(Protocol):
    """A way to get every open request of a run answered."""

    async def run(self) -> None:
        """Return when every request has an answer in the ledger, good or not."""
