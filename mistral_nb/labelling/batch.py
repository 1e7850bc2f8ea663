"""The engine of shards: each goes through upload, job, poll, download and audit.

Who carries the jobs out is its crew: the Batch API, or the workers of a queue (`crews`).

Each step is written to the ledger before it is taken, so a process that is killed at any
moment is followed by one that goes on from there:

written -> uploading -> uploaded -> creating -> submitted -> ended -> done

Only *creating* costs money. Found in that state after a crash, the job is looked for by its
metadata before it may be created.
"""

from __future__ import annotations

import random
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import anyio

from mistral_nb.errors import ApiError, CostLimitError, MistralNbError, RunError
from mistral_nb.labelling.answers import Audit
from mistral_nb.labelling.budget import UNSENT
from mistral_nb.labelling.crews import ENDED, BatchState, Gone
from mistral_nb.labelling.ledger import Finding
from mistral_nb.labelling.remote import Remote
from mistral_nb.labelling.requests import rewrite
from mistral_nb.labelling.results import reader_at
from mistral_nb.labelling.totals import spent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mistral_nb.labelling.crews import Crew
    from mistral_nb.labelling.ledger import Answer, Shard
    from mistral_nb.labelling.work import Work

__all__ = ["STILL", "BatchEngine", "still"]

UPLOADS_AT_ONCE = 2
FIRST_PAUSE = 0.25
PAUSE_SHARE = 0.1
"""Pauses between polls grow with the job's age: a tenth of it, up to the crew's longest."""
CANCEL_PATIENCE = 60.0
"""Seconds that a job which is given up gets to end."""
LEFT_BEHIND = "LEFT_BEHIND"
"""Our own word for a job that did not end when it was cancelled."""
STILL = 1800.0
"""Seconds without progress after which a job's age is mentioned."""


class BatchEngine:
    """Sends a run in batch jobs.

    Args:
        work: The run.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._ledger = work.ledger
        self._crew = self._open_crew()
        self._uploads = anyio.Semaphore(UPLOADS_AT_ONCE)
        self._readings = anyio.Semaphore(1)  # each has all ids of its shard in memory
        self._shards: dict[int, Shard] = {}
        self._given_up: set[int] = set()
        self._note = ""
        self._problem = ""

    def _open_crew(self) -> Crew:
        work = self._work
        if work.record.mode == "batch":
            return Remote(work.connection, work.options.patience, self._trouble)
        if work.crews is None:
            name, where = work.record.name, work.record.spec.get("queue")
            raise RunError(
                f"The run {name!r} goes through the queue {where}: name it to go on, with "
                f"mnb.resume({name!r}, queue=mnb.Queue(...))."
            )
        return work.crews.open(work, self._trouble)

    async def run(self) -> None:
        """Follow all shards to their end, then send once more what is worth it.

        Raises:
            MistralNbError: A shard cannot go on; all others were followed to their end.
        """
        while True:
            shards = await self._work.do(self._ledger.shards)
            self._shards = {shard.id: shard for shard in shards if shard.state != "done"}
            if not self._shards:
                if self._work.cancelled.is_set() or not await self._work.do(self._repeat):
                    return
                continue
            self._tell()
            self._reserve()
            errors: list[MistralNbError] = []
            async with anyio.create_task_group() as group:
                for shard in self._shards.values():
                    group.start_soon(self._guarded, shard, errors)
            if errors:
                raise min(errors, key=lambda error: isinstance(error, CostLimitError))

    async def _guarded(self, shard: Shard, errors: list[MistralNbError]) -> None:
        """Follow a shard; its failure must not end the others, which are paid for too."""
        try:
            await self._follow(shard)
        except MistralNbError as error:
            if isinstance(error, Gone):
                error.args = (f"{error} {self._way_on(shard)}",)
            errors.append(error)
            if self._work.budget is not None:
                self._work.budget.lose(shard)

    def _reserve(self) -> None:
        """Set aside what jobs under way may cost."""
        budget = self._work.budget
        for shard in self._shards.values():
            if budget is not None and shard.state not in UNSENT:
                budget.reserve(shard)

    async def _afford(self, shard: Shard) -> None:
        """Wait until there is money for a shard.

        Raises:
            CostLimitError: There is none.
        """
        budget = self._work.budget
        if budget is not None and not await budget.afford(shard):
            counts = await self._work.do(self._ledger.counts)
            raise budget.error(counts, self._work.record.name)

    async def _follow(self, shard: Shard) -> None:
        if shard.state in UNSENT:
            await self._afford(shard)
        if shard.state in {"written", "uploading"}:
            async with self._uploads:
                shard = await self._upload(shard)
        if shard.state in {"uploaded", "creating"}:
            shard = await self._create(shard)
        if shard.state == "submitted":
            shard = await self._poll(shard)
        if shard.state == "ended":
            await self._collect(shard)

    async def _upload(self, shard: Shard) -> Shard:
        await self._work.may_send()
        if self._work.cancelled.is_set():
            return await self._never_sent(shard)
        again = shard.state == "uploading"
        await self._update(shard, state="uploading")
        path = self._work.folder.requests(shard.id)
        name = f"mistral_nb-{self._work.record.uid}-{shard.id:04d}-{shard.sha[:8]}.jsonl"
        file_id = await self._crew.upload(path, name, shard.bytes, maybe_there=again)
        return await self._update(shard, state="uploaded", file_id=file_id)

    async def _create(self, shard: Shard) -> Shard:
        again = shard.state == "creating"
        await self._work.may_send()
        if self._work.cancelled.is_set() and not again:
            return await self._never_sent(shard)
        await self._update(shard, state="creating")
        record = self._work.record
        assert shard.file_id is not None
        job = await self._crew.create_job(
            file_id=shard.file_id,
            endpoint=record.endpoint,
            model=record.model,
            metadata={
                "tool": "mistral_nb",
                "run": record.name,
                "run_id": record.uid,
                "shard": str(shard.id),
                "sha": shard.sha,
            },
            timeout_hours=self._work.options.timeout_hours,
            maybe_created=again,
        )
        return await self._update(
            shard, state="submitted", job_id=job.id, job_status=job.status, submitted=time.time()
        )

    async def _never_sent(self, shard: Shard) -> Shard:
        return await self._update(shard, state="ended", job_status="CANCELLED")

    async def _poll(self, shard: Shard) -> Shard:
        assert shard.job_id is not None
        asked = False
        while True:
            job = await self._look_at(shard)
            if job.status in ENDED:
                return await self._end(shard, job)
            if self._work.cancelled.is_set() and not asked:
                asked = True
                with suppress(ApiError):  # it may have ended meanwhile: the next poll tells
                    job = await self._crew.cancel(shard.job_id)
            now = (job.status, job.completed, job.failed)
            if now != (shard.job_status, shard.completed, shard.failed):
                shard = await self._update(
                    shard, job_status=now[0], completed=now[1], failed=now[2]
                )
            self._mention_age(shard)
            age = time.time() - (shard.submitted or time.time())
            longest = self._crew.longest_pause
            pause = longest if self._work.paused else max(FIRST_PAUSE, PAUSE_SHARE * age)
            with anyio.move_on_after(min(longest, pause) * random.uniform(0.8, 1.2)):  # noqa: S311
                if asked:
                    await anyio.sleep(longest)
                await self._work.wish()

    async def _look_at(self, shard: Shard) -> BatchState:
        assert shard.job_id is not None
        try:
            return await self._crew.job(shard.job_id)
        except Gone:
            if not self._abandoned(shard):
                raise
            return BatchState(shard.job_id, "CANCELLED", shard.completed, shard.failed)

    # Giving up

    def _abandoned(self, shard: Shard) -> bool:
        """Return True if the run can do without answers that a shard still owes."""
        return self._work.cancelled.is_set() or shard.id in self._given_up

    def _way_on(self, shard: Shard) -> str:
        """Say what can be done about a shard whose job or answers are gone."""
        resumed = f"mnb.resume({self._work.record.name!r})"
        return (
            f"Go on with {resumed} once it is there again. If it is gone for good, "
            f"{resumed}.resubmit({shard.id}) sends what it did not answer again, to be paid "
            f"again, and {resumed}.cancel() ends the run without it."
        )

    async def give_up(self, shards: Iterable[Shard]) -> None:
        """Cancel batch jobs and take what they answered; their other requests may go again.

        A job that does not even end is left behind. Should it answer after all, that is billed
        without being seen here: it is among the findings.

        Args:
            shards: Shards that were sent, perhaps.

        Raises:
            MistralNbError: The server refuses or is gone.
        """
        for shard in shards:
            self._given_up.add(shard.id)
            now = await self._create(shard) if shard.state == "creating" else shard
            if now.state == "submitted":
                now = await self._end_early(now)
            await self._collect(now)

    async def _end_early(self, shard: Shard) -> Shard:
        assert shard.job_id is not None
        with suppress(ApiError):  # it may have ended meanwhile: the next look tells
            await self._crew.cancel(shard.job_id)
        with anyio.move_on_after(CANCEL_PATIENCE):
            while True:
                job = await self._look_at(shard)
                if job.status in ENDED:
                    return await self._end(shard, job)
                self._note = f"Batch job {shard.job_id} is being cancelled ({job.status})."
                self._tell()
                await anyio.sleep(FIRST_PAUSE)
        return await self._update(shard, state="ended", job_status=LEFT_BEHIND)

    # Ending

    async def _end(self, shard: Shard, job: BatchState) -> Shard:
        return await self._update(
            shard,
            state="ended",
            job_status=job.status,
            completed=job.completed,
            failed=job.failed,
            output_file=job.output_file,
            error_file=job.error_file,
            message=job.message,
        )

    async def _collect(self, shard: Shard) -> None:
        """Bring an ended job's answers home: first to disk, then to the ledger."""
        for part, file_id in (("output", shard.output_file), ("error", shard.error_file)):
            path = self._work.folder.answers(shard.id, part)
            if file_id is None or path.exists():
                continue
            with suppress(Gone) if self._abandoned(shard) else nullcontext():
                await self._crew.download(file_id, path)
        async with self._readings:
            await self._work.do(self._read, shard)
        if self._work.budget is not None:
            paid = await self._work.do(spent, self._ledger, self._work.record.model)
            self._work.budget.settle(shard, paid)
        self._shards.pop(shard.id, None)
        await self._work.recount()
        self._tell()

    def _read(self, shard: Shard) -> None:
        """Match all answers of a shard with its requests (in a worker thread)."""
        read = reader_at(self._work.record.endpoint)
        audit = Audit(self._ledger.requests_of(shard.id), self._work.validate, read)

        def answers() -> Iterator[tuple[int, Answer]]:
            for part in ("output", "error"):
                path = self._work.folder.answers(shard.id, part)
                if path.exists():
                    yield from audit.read(path, part)
            reason, again = _unanswered(shard)
            if shard.id in self._given_up:
                reason, again = f"batch job {shard.job_id} was given up", True
            wished = self._work.cancelled.is_set() and shard.job_status == "CANCELLED"
            if audit.open and not wished:
                audit.findings.append(_gap(shard, audit))
            yield from audit.missing(reason, again=again)

        half_price = self._work.record.mode == "batch"
        self._ledger.finish_shard(shard, answers(), audit.findings, half_price=half_price)

    def _repeat(self) -> bool:
        """Write what is worth another try to new shards; False if there is nothing."""
        rows = self._ledger.to_repeat(self._work.options.retries or 0)
        if not rows:
            return False
        rewrite(self._work.folder, self._ledger, self._work.options.limits, rows)
        self._note = f"{len(rows):,} failed requests are sent once more."
        return True

    async def _update(self, shard: Shard, **values: Any) -> Shard:
        found: Shard = await self._work.do(lambda: self._ledger.update_shard(shard.id, **values))
        self._shards[shard.id] = found
        self._tell()
        return found

    def _trouble(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self._tell()

    def _mention_age(self, shard: Shard) -> None:
        if still(shard) < STILL:
            return
        note = (
            f"Batch job {shard.job_id} (shard {shard.id}) has been {shard.job_status} without "
            f"progress for {still(shard) / 3600:.1f} h. It may go on by itself; to not wait, "
            f"run.resubmit({shard.id}) or run.move_to_online()."
        )
        if note != self._note:
            self._note = note
            self._tell()

    def _tell(self) -> None:
        self._work.report(list(self._shards.values()), self._problem or self._note)


def still(shard: Shard) -> float:
    """Return for how many seconds nothing was seen to happen in a shard."""
    return time.time() - shard.changed


def _unanswered(shard: Shard) -> tuple[str, bool]:
    """Return why rows of an ended shard have no answer, and whether to send them again."""
    job = f"batch job {shard.job_id}"
    why = f": {shard.message}" if shard.message else ""
    if shard.job_status == "CANCELLED":
        return "cancelled before it was answered", False
    if shard.job_status == "TIMEOUT_EXCEEDED":
        return f"{job} ran out of time{why}", True
    if shard.job_status == "SUCCESS":
        return f"{job} gave no answer for this row", True
    return f"{job} ended as {shard.job_status}{why}", True


def _gap(shard: Shard, audit: Audit) -> Finding:
    count = len(audit.open)
    rows = ", ".join(map(str, sorted(audit.open)[:20])) + (", ..." if count > 20 else "")  # noqa: PLR2004
    detail = f"{count} of {shard.lines} requests have no answer ({shard.job_status}): rows {rows}"
    if shard.job_status == LEFT_BEHIND:
        detail += "; the job did not end when it was cancelled: what it answers is billed unseen"
    return Finding("missing", None, detail)
