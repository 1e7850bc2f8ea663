"""The engine of online runs: the requests on disk go out, many at once, through the ledger.

A request is written to the ledger before it is sent and its answer when it came, in groups.
So a kill loses at most what was under way; that is listed as `uncertain` and sent again.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import anyio
import orjson

from mistral_nb.errors import StoreError
from mistral_nb.labelling.answers import error_text, failed
from mistral_nb.labelling.flights import Flights
from mistral_nb.labelling.folder import open_requests
from mistral_nb.labelling.ledger import Answer, Shard
from mistral_nb.labelling.online import Outgoing, Sender
from mistral_nb.labelling.pieces import in_pieces
from mistral_nb.labelling.results import reader_at
from mistral_nb.labelling.throttle import Throttle
from mistral_nb.labelling.verdicts import Fault
from mistral_nb.labelling.work import CONCURRENCY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence

    from mistral_nb.labelling.flights import Ended
    from mistral_nb.labelling.online import Outcome
    from mistral_nb.labelling.work import Work

__all__ = ["OnlineEngine"]

RECHECKS = 2
"""Most further attempts for replies that do not fit the schema: each is paid for."""
SYNC_EVERY = 0.5
"""Seconds of answers that a power cut, but no kill, may cost."""
TELL_EVERY = 0.2
KEEP_EVERY = 3.0
"""Seconds between two looks at the progress, and between two notes of it for other processes."""
CANCEL_GRACE = 30.0
"""Seconds that requests under way get when the run is cancelled: they are paid for."""
READ_AT_ONCE = 200
CANCELLED = Answer(error="cancelled before it was answered")
_unsaved: dict[str, list[Outcome]] = {}
"""By run: answers that are paid for and could not be written down. The run's next handle in
this process writes them; in another process they count as uncertain."""


class OnlineEngine:
    """Sends a run's open requests, many at once.

    Args:
        work: The run.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._read = reader_at(work.record.endpoint)
        self._flights = Flights(work.ledger)
        self._base = {"done": 0, "failed": 0}
        self._ended = self._failed = 0
        self._note = ""
        self._used_up = False
        self._kept = time.monotonic()

    async def run(self) -> None:
        """Get every open request its answer.

        Raises:
            MistralNbError: No request can work, the server answers nothing but errors, or
                the ledger cannot be written.
        """
        work, options = self._work, self._work.options
        retries = options.retries or 0
        if unsaved := _unsaved.get(work.record.uid):
            await work.do(self._write, (), unsaved)
            del _unsaved[work.record.uid]
        again = await work.do(self._flights.land)
        if again:
            await work.recount()
            self._note = (
                f"{again:,} requests were under way when the run was left; they are sent again "
                "(see run.report)."
            )
        self._base = await work.do(work.ledger.counts)
        self._sender = Sender(
            work.connection,
            work.record.endpoint,
            commit=self._commit,
            check=self._check,
            throttle=Throttle(
                options.concurrency or CONCURRENCY,
                rpm=options.rpm,
                tpm=options.tpm,
                hold=lambda: work.connection.wait_until,
                may_start=self._affordable,
            ),
            attempts=retries + 1,
            rechecks=min(RECHECKS, retries),
            proven=self._base["done"] > self._base["reused"],
        )
        beside = [asyncio.create_task(each) for each in (self._look_after(), self._keep_safe())]
        try:
            await self._send()
        finally:
            for task in beside:
                task.cancel()

    async def _send(self) -> None:
        ledger = self._work.ledger
        await self._work.do(ledger.wait_for_disk, False)
        try:
            if not self._work.cancelled.is_set():
                async with aclosing(self._open()) as requests:
                    await self._sender.send(requests)
            if self._work.cancelled.is_set():
                await self._work.do(self._flights.land)
                await self._work.do(self._flights.close, CANCELLED)
            elif self._used_up:
                await self._require_all()
        finally:
            if self._sender.unsaved:
                _unsaved[self._work.record.uid] = list(self._sender.unsaved)
            with anyio.CancelScope(shield=True):
                await self._work.do(ledger.wait_for_disk, True)
                await self._work.recount()

    async def _open(self) -> AsyncGenerator[Outgoing]:
        """Read the requests without an answer from the run's files, some at a time."""
        work = self._work
        for shard in await work.do(work.ledger.shards):
            rows = await work.do(self._flights.open, shard.id)
            if not rows:
                continue
            with open_requests(work.folder.requests(shard.id)) as file:
                wanted = _requests(file, rows, orjson.dumps(work.record.model))
                blocks = in_pieces(wanted, READ_AT_ONCE)
                while block := await work.do(next, blocks, None):
                    for each in block:
                        yield each

    async def _keep_safe(self) -> None:
        """Bring to the disk what commits have left to the operating system."""
        while True:
            await anyio.sleep(SYNC_EVERY)
            with suppress(StoreError):  # then commits fail as well, and say so
                await self._work.do(self._work.ledger.sync)

    async def _look_after(self) -> None:
        """Tell how it goes; pause it, and end it, when that is wished."""
        paused = False
        while not self._work.cancelled.is_set():
            if self._work.paused != paused:
                paused = self._work.paused
                (self._sender.pause if paused else self._sender.resume)()
            self._end_if_used_up()
            self._tell()
            with anyio.move_on_after(TELL_EVERY):
                await self._work.wish()
        self._sender.stop(CANCEL_GRACE)
        while True:
            self._tell()
            await anyio.sleep(TELL_EVERY)

    def _tell(self) -> None:
        # As one shard, so that progress has the same words whatever the engine.
        under_way = Shard(
            id=0,
            round=0,
            lines=self._ended + self._sender.pace().in_flight,
            bytes=0,
            sha="",
            state="submitted",
            completed=self._ended,
            failed=self._failed,
        )
        self._work.report([under_way], self._sender.pace().waiting or self._note)

    # What is written down

    async def _commit(self, begun: Sequence[str], outcomes: Sequence[Outcome]) -> None:
        await self._work.do(self._write, begun, outcomes)
        undone = sum(1 for each in outcomes if each.undone)
        self._ended += len(outcomes) - undone
        self._failed += sum(1 for each in outcomes if each.error is not None) - undone

    def _write(self, begun: Sequence[str], outcomes: Sequence[Outcome]) -> None:
        self._flights.write(map(_row, begun), [self._end(outcome) for outcome in outcomes])
        if time.monotonic() - self._kept >= KEEP_EVERY:
            self._kept = time.monotonic()
            done = self._base["done"] + self._ended - self._failed
            counts = {**self._base, "done": done, "failed": self._base["failed"] + self._failed}
            self._work.ledger.update_run(counts=counts)

    def _end(self, outcome: Outcome) -> Ended:
        if outcome.undone:
            return _row(outcome.custom_id), ()
        answers = [self._answer(body, 200) for body in outcome.discarded]
        if outcome.body is None:
            reason = error_text(str(outcome.error))
            answers.append(Answer(error=reason, again=outcome.again, status=outcome.status))
        elif all(outcome.body is not each for each in outcome.discarded):
            answers.append(self._answer(outcome.body, outcome.status, good=outcome.error is None))
        # Of a request sent more than once, the last attempt was measured.
        answers[-1] = answers[-1]._replace(seconds=outcome.seconds)
        return _row(outcome.custom_id), tuple(answers)

    def _answer(self, body: bytes, status: int | None, *, good: bool = False) -> Answer:
        answer = self._read(orjson.loads(body), status)
        return answer if good else self._checked(answer)

    def _checked(self, answer: Answer) -> Answer:
        if answer.error is not None or answer.text is None or self._work.validate is None:
            return answer
        wrong = self._work.validate(answer.text)
        return answer if wrong is None else failed(answer, wrong)

    # What may be spent

    def _affordable(self, under_way: int) -> bool:
        budget = self._work.budget
        return budget is None or budget.affordable(under_way)

    def _end_if_used_up(self) -> None:
        """End the run once nothing is under way and the next request may cost too much."""
        if not self._used_up and not self._sender.pace().in_flight and not self._affordable(0):
            self._used_up = True
            self._sender.stop(0)

    async def _require_all(self) -> None:
        """Raise CostLimitError unless the answers that still came were the last ones."""
        await self._work.do(self._flights.land)
        counts = await self._work.do(self._work.ledger.counts)
        assert self._work.budget is not None
        if counts["done"] + counts["failed"] < counts["total"]:
            raise self._work.budget.error(counts, self._work.record.name)

    def _check(self, reply: dict[str, Any]) -> Fault | None:
        answer = self._checked(self._read(reply, 200))
        if self._work.budget is not None:
            self._work.budget.take(answer)
        return None if answer.error is None else Fault(answer.error, again=answer.again)


def _requests(lines: Iterable[bytes], rows: set[int], model: bytes) -> Iterator[Outgoing]:
    """Yield the requests of these rows from lines ``{"custom_id":"...","body":{...}}``.

    A batch job names its model once, so the lines hold none.
    """
    for line in lines:
        name = line[14 : line.index(b'"', 14)].decode()
        if _row(name) in rows:
            body = line[14 + len(name) + len('","body":{') : line.rindex(b"}")]
            yield Outgoing(name, b'{"model":%b,%b' % (model, body))


def _row(name: str) -> int:
    """Return the row in a custom_id of ours."""
    return int(name[1 : name.index("-")])
