"""The handle of a labelling run: it follows the run to its end, and tells how it goes."""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pandas as pd

from mistral_nb.errors import CostLimitError, MistralNbError, RunError
from mistral_nb.events import RunComplete, RunProgress, RunStart
from mistral_nb.events import RunError as RunFailed
from mistral_nb.labelling.batch import BatchEngine
from mistral_nb.labelling.budget import Budget
from mistral_nb.labelling.catalogue import no_such_run
from mistral_nb.labelling.crews import Gone
from mistral_nb.labelling.folder import RunFolder
from mistral_nb.labelling.judging import Judged
from mistral_nb.labelling.ledger import Ledger, RunRecord
from mistral_nb.labelling.online_runs import OnlineEngine
from mistral_nb.labelling.plan import Plan, check_server, restore, server_of
from mistral_nb.labelling.remote import Remote
from mistral_nb.labelling.sequels import Sequels
from mistral_nb.labelling.sources import kept_source
from mistral_nb.labelling.telling import GOING_ON, Told
from mistral_nb.labelling.totals import summary
from mistral_nb.labelling.work import Engine, Options, Work
from mistral_nb.portal import Handle, in_kernel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus, Record
    from mistral_nb.labelling.crews import Crews
    from mistral_nb.labelling.ledger import Shard
    from mistral_nb.labelling.schemas import Schema
    from mistral_nb.labelling.sources import Target

__all__ = ["Run"]

VIEW_LIMIT = 2.0
"""Seconds that views may take for their last look."""
ENGINES: dict[str, Callable[[Work], Engine]] = {
    "batch": BatchEngine,
    "queue": BatchEngine,
    "online": OnlineEngine,
}
_following: dict[str, Run] = {}
"""The runs that this process follows, by folder; used on the portal's loop only."""


class Run(Told, Judged, Sequels, Handle[pd.DataFrame]):
    """One labelling of one table; ``await`` it or call ``.result()`` for the labelled table.

    Leaving it (an interrupt, a closed kernel, ``stop()``) only detaches: batch jobs go on at
    the server and ``mnb.resume(name)`` goes on here. Only :meth:`cancel` ends a run.

    Args:
        connection: The server.
        bus: Where its events are published.
        plan: What was asked for, or None to go on with a run.
        name: The run's name; None until its content is known.
        df: The table, for going on with a run whose table could not be kept.
        max_cost: A limit in US dollars in place of the run's own.
        crews: Where its batch jobs go, in queue mode.
        first: Awaited before anything is sent, in place of another handle that follows the
            run; for a run that has ended, too.
    """

    def __init__(
        self,
        connection: Connection,
        bus: EventBus,
        plan: Plan | None,
        name: str | None,
        df: pd.DataFrame | None = None,
        *,
        max_cost: float | None = None,
        crews: Crews | None = None,
        first: Callable[[Work], Awaitable[None]] | None = None,
    ) -> None:
        self._connection = connection
        self._bus = bus
        self._plan = plan
        self._name = name
        self._df = df
        self._max_cost = max_cost
        self._crews = crews
        self._first = first
        self._target: Target | None = plan.source if plan else None
        self._model = plan.recipe.model if plan else ""
        self._mode = plan.mode if plan else "batch"
        self._status = "preparing"
        self._message = ""
        total = 0 if plan is None else plan.source.rows or 0
        self._base = {"total": total, "done": 0, "failed": 0, "reused": 0}
        self._counts = {**self._base, "running": 0, "waiting": total}
        self._started = False
        self._cancel_asked = self._paused = False
        self._work: Work | None = None
        self._leader: Run | None = None
        self._left = asyncio.Event()
        self._views: list[Callable[[], Awaitable[object]]] = []
        super().__init__(connection.portal, self._follow_to_end)

    def stop(self) -> None:
        """Stop following the run; its batch jobs go on, online nothing more is sent.

        ``mnb.resume(name)`` goes on; :meth:`cancel` ends a run.
        """
        if self._future.cancel():
            self._status = "detached"

    def cancel(self) -> None:
        """Cancel the run: its batch jobs, or what was not sent yet.

        What was answered until then is kept and billed.

        The run then ends soon: its result has the answers so far.

        Raises:
            RunError: This handle no longer follows the run.
        """
        self._steer(self._cancel_now, "cancel")

    def pause(self) -> None:
        """Send nothing new until :meth:`unpause`; what is under way ends.

        Online, requests under way end and no other starts. Otherwise no further batch job is
        created, or shard added to the queue; those that are there go on and are billed. A pause
        ends with this kernel: ``mnb.resume(name)`` goes on at once.

        Raises:
            RunError: This handle no longer follows the run.
        """
        self._steer(partial(self._pause_now, True), "pause")

    def unpause(self) -> None:
        """Go on after :meth:`pause`.

        Raises:
            RunError: This handle no longer follows the run.
        """
        self._steer(partial(self._pause_now, False), "unpause")

    def _steer(self, function: Callable[[], object], verb: str) -> None:
        """Have a wish carried out on the portal's loop; a run that has ended needs none."""
        if not self._future.done():
            self._portal.call_soon(function)
        elif self._status not in {"done", "cancelled"}:
            raise RunError(
                f"This handle no longer follows the run. Use mnb.resume({self.name!r}).{verb}()."
            )

    def finish_with(self, work: Callable[[], Awaitable[object]]) -> None:
        """Have ``work`` awaited at the run's end, before its result is given (views).

        Args:
            work: Coroutine function.
        """
        self._views.append(work)

    # Following

    async def _follow_to_end(self) -> pd.DataFrame:
        try:
            return await self._carry_out_or_tell()
        finally:
            with anyio.move_on_after(VIEW_LIMIT, shield=True):
                for work in self._views:
                    with suppress(Exception):  # the result is unharmed by what a view does
                        await work()

    async def _carry_out_or_tell(self) -> pd.DataFrame:
        try:
            return await self._carry_out()
        except asyncio.CancelledError:
            self._status = "detached"
            raise
        except Exception as error:
            self._status = "failed"
            self._message = str(error)
            self._start()
            self._publish(RunFailed(self.name, error=error, counts=self.counts))
            raise

    async def _carry_out(self) -> pd.DataFrame:
        plan = self._plan
        if plan is not None and plan.source.rows == 0:
            self._start()
            empty = await _thread(plan.source.merged, None, plan.schema, plan.names)
            return self._complete(empty, "The table has no rows; nothing was sent.")
        folder = await self._prepare()
        while (leader := _following.get(str(folder.path))) is not None:
            if self._first is not None:
                leader.stop()
            await self._wait_for(leader)
        _following[str(folder.path)] = self
        try:
            folder.lock(self.name)
            with closing(await _thread(Ledger, folder.ledger)) as ledger:
                return await self._finish(folder, ledger)
        finally:
            folder.unlock()
            del _following[str(folder.path)]
            self._left.set()

    async def _prepare(self) -> RunFolder:
        """Find the run's folder; build the run if there is none yet."""
        plan = self._plan
        if plan is None:
            folder: RunFolder = self._folder()
            if not folder.exists:
                raise RunError(await _thread(no_such_run, folder, self.name))
            self._target = await _thread(kept_source, folder, self.name, self._df)
            return folder
        folder = await _thread(plan.find)
        self._name = plan.name
        self._start()
        if not folder.exists:
            await self._remote(plan.options).check(plan.recipe.model)
            await _thread(plan.build, folder)
        else:
            await _thread(plan.source.keep, folder)  # the same rows may come from elsewhere now
        return folder

    async def _wait_for(self, leader: Run) -> None:
        """Let another handle of this process, which follows the run already, do the work."""
        self._leader = leader
        self._start()
        try:
            # Not for its future: a stopped one is done before its work has unwound.
            await leader._left.wait()
        finally:
            self._leader = None

    async def _finish(self, folder: RunFolder, ledger: Ledger) -> pd.DataFrame:
        record = await _thread(ledger.run)
        self._model = record.model
        schema, names, options = restore(record)
        if self._plan is not None:
            schema, names, options = self._plan.schema, self._plan.names, self._plan.options
        if self._max_cost is not None:
            options = replace(options, max_cost=self._max_cost)
            await _thread(
                lambda: ledger.update_run(spec={**record.spec, "options": asdict(options)})
            )
        self._mode = record.mode
        note = self._plan.note(record) if self._plan is not None else ""
        await self._recount(ledger)
        self._tell([], note)
        self._start()
        if self._first is not None or record.status not in {"done", "cancelled"}:
            self._status = "running"
            try:
                record = await self._send(folder, ledger, record, schema, options)
            except (CostLimitError, Gone):  # they say how to go on; nothing is under way
                await self._recount(ledger)
                self._tell([], "")
                raise
            except MistralNbError as error:
                await self._add_way_on(ledger, error)
                raise
        assert self._target is not None
        merged = await _thread(self._target.merged, ledger, schema, names)
        self._status = record.status
        said = await _thread(summary, ledger, record)
        return self._complete(merged, f"{note} {said}".strip())

    async def _send(
        self,
        folder: RunFolder,
        ledger: Ledger,
        record: RunRecord,
        schema: Schema | None,
        options: Options,
    ) -> RunRecord:
        """Have the engine answer every open request."""
        check_server(record, server_of(self._connection))
        work = Work(
            connection=self._connection,
            folder=folder,
            ledger=ledger,
            record=record,
            options=options,
            validate=schema.fault if schema else None,
            report=self._tell,
            recount=lambda: self._recount(ledger),
            crews=self._crews,
            paused=self._paused,
        )
        if self._first is not None:
            await self._first(work)
            work.record = record = await _thread(ledger.run)
            self._mode = record.mode
            await self._recount(ledger)
        work.budget = await _thread(Budget.of, folder, ledger, schema, options.max_cost)
        self._work = work
        if self._cancel_asked or record.status == "cancelling":
            self._cancel_now()
        await ENGINES[record.mode](work).run()
        ended = "cancelled" if work.cancelled.is_set() else "done"
        await _thread(lambda: ledger.update_run(status=ended, counts=ledger.counts()))
        await self._recount(ledger)
        self._tell([], "")
        return replace(record, status=ended)

    async def _recount(self, ledger: Ledger) -> None:
        self._base = await _thread(ledger.counts)
        await _thread(lambda: ledger.update_run(counts=self._base))

    def _tell(self, shards: Sequence[Shard], message: str) -> None:
        """Work out the counts with the shards under way; publish them if they changed."""
        sent = [shard for shard in shards if shard.state in {"submitted", "ended"}]
        again = sum(shard.lines for shard in shards if shard.round)
        done = self._base["done"] + sum(max(0, each.completed - each.failed) for each in sent)
        failed = max(0, self._base["failed"] - again) + sum(each.failed for each in sent)
        running = sum(max(0, each.lines - each.completed) for each in sent)
        waiting = max(0, self._base["total"] - done - failed - running)
        counts = {**self._base, "done": done, "failed": failed}
        counts |= {"running": running, "waiting": waiting}
        if counts != self._counts or message != self._message:
            self._counts, self._message = counts, message
            if self._started:
                self._publish(RunProgress(self.name, self.counts, self.message))

    def _cancel_now(self) -> None:
        """Take note of a cancel, on the portal's loop; the engine does the rest."""
        self._cancel_asked = True
        if self._leader is not None:
            self._leader._cancel_now()  # noqa: SLF001 - the same class
        if self._work is not None and not self._work.cancelled.is_set():
            self._work.cancel()
            self._portal.spawn(_thread, self._work_cancelling)

    def _pause_now(self, paused: bool) -> None:
        """Take note of a pause or its end, likewise."""
        self._paused = paused
        if self._leader is not None:
            self._leader._pause_now(paused)  # noqa: SLF001 - the same class
        if self._work is not None:
            self._work.pause(paused)
        if self._started and self._status in GOING_ON:
            self._publish(RunProgress(self.name, self.counts, self.message))

    def _work_cancelling(self) -> None:
        if self._work is not None and self._status == "running":
            self._work.ledger.update_run(status="cancelling")

    async def _add_way_on(self, ledger: Ledger, error: MistralNbError) -> None:
        """Say in the error itself that nothing paid for is lost."""
        shards = await _thread(ledger.shards)
        jobs = sum(1 for shard in shards if shard.state == "submitted")
        where = "in the queue" if self._mode == "queue" else "at the server"
        lives = f"Its {jobs} batch job(s) go on {where}. " if jobs else ""
        way = f"The run {self.name!r} is kept. {lives}Go on with mnb.resume({self.name!r})."
        error.args = (f"{error} {way}",)

    # Telling

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._publish(RunStart(self.name, self.counts, self._message))

    def _complete(self, df: pd.DataFrame, message: str) -> pd.DataFrame:
        self._message = message
        if self._status not in {"done", "cancelled"}:
            self._status = "done"
        self._publish(RunComplete(self.name, self.counts, message))
        return df

    def _publish(self, record: Record) -> None:
        self._bus.publish_nowait(record)

    def _interrupted(self) -> bool:
        print(
            f"Stopped waiting. The run {self.name!r} goes on: wait again with run.result(), or "
            f"take it up later, in a new kernel too, with mnb.resume({self.name!r}). "
            "To end it: run.cancel().",
            file=sys.stdout if in_kernel() else sys.stderr,  # a script's stdout may be a pipe
        )
        return False

    def _remote(self, options: Options) -> Remote:
        return Remote(self._connection, options.patience, lambda text: self._tell([], text))

    def _successor(self, first: Callable[[Work], Awaitable[None]]) -> Run:
        """Return another handle that does something first."""
        plan = replace(self._plan, fresh=False) if self._plan is not None else None
        return Run(
            self._connection,
            self._bus,
            plan,
            self._name,
            self._df,
            crews=self._crews,
            first=first,
        )

    def _folder(self) -> RunFolder:
        return RunFolder.of(self._connection.settings.home, self.name)

    @contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        folder = self._folder()
        if self._name is None or not folder.exists:
            if self.done():
                raise RunError(
                    f"Nothing is kept of the run {self.name!r}: nothing was sent, or it was "
                    "forgotten."
                )
            raise RunError(f"The run {self.name!r} has nothing to tell yet. Ask again in a moment.")
        with closing(Ledger(folder.ledger)) as ledger:
            yield ledger


async def _thread(function: Callable[..., Any], *args: Any) -> Any:
    """Run blocking work in a thread, so that the loop stays free."""
    return await anyio.to_thread.run_sync(function, *args)
