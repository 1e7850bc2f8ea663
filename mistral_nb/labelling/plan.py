"""What a call of `label` asks for: checked at once, before anything is built or sent."""

from __future__ import annotations

import itertools
import random
import time
import uuid
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mistral_nb.errors import InputError, RunError
from mistral_nb.labelling.asked import restore_schema
from mistral_nb.labelling.budget import Budget, require_price
from mistral_nb.labelling.folder import RunFolder
from mistral_nb.labelling.ledger import Ledger, RunRecord
from mistral_nb.labelling.merge import Names
from mistral_nb.labelling.requests import (
    Limits,
    ShardWriter,
    content_digest,
    write_requests,
)
from mistral_nb.labelling.reuse import Reuse
from mistral_nb.labelling.sources import FrameSource, Source, as_source
from mistral_nb.labelling.work import Options

if TYPE_CHECKING:
    from pathlib import Path

    from mistral_nb.client import Connection
    from mistral_nb.labelling.asked import Asked
    from mistral_nb.labelling.crews import Crews
    from mistral_nb.labelling.prompts import Prompt
    from mistral_nb.labelling.recipe import Recipe
    from mistral_nb.labelling.schemas import Schema

__all__ = ["Plan", "check_server", "make_plan", "restore", "server_of"]

MODES = ("batch", "online", "queue", "auto")
AUTO_ROWS = 200
"""Up to so many rows, `auto` goes online: answers in seconds are worth more than half a price."""


@dataclass
class Plan:
    """A labelling run as asked for.

    Attributes:
        source: The rows.
        prompt: Makes each row's text or messages.
        recipe: Makes requests of them.
        schema: What replies must look like, or None.
        names: Names of the result columns.
        spec: What the ledger keeps of all this.
        name: The run's name; None until its content is known.
        mode: Engine.
        auto: Whether the number of rows chose it.
        options: How to carry it out.
        reuse: Whether answers of earlier runs may be taken over.
        fresh: Whether everything is to be sent again, in a run of its own.
        server: Address, or ``"simulator"``.
        home: Folder of all runs.
    """

    source: Source
    prompt: Prompt
    recipe: Recipe
    schema: Schema | None
    names: Names
    spec: dict[str, Any]
    name: str | None
    mode: str
    auto: bool
    options: Options
    reuse: bool
    fresh: bool
    server: str
    home: Path

    def find(self) -> RunFolder:
        """Find the run of this content, or where it will be; reads the whole table.

        Raises:
            InputError: A run of this name has other content, or the prompt fails on a row.
        """
        if self.name is not None and not RunFolder.of(self.home, self.name).exists:
            return RunFolder.of(self.home, self.name)
        digest = content_digest(self.source.requests(self.prompt, self.recipe, bodies=False))
        folder = self.settle(digest)
        if folder.exists:
            with closing(Ledger(folder.ledger)) as ledger:
                ledger.update_run(spec=self.spec)  # column names may differ: they cost nothing
        return folder

    def settle(self, digest: str) -> RunFolder:
        """Settle which run this content is; a run without a name takes it from the content.

        Args:
            digest: Content hash over all requests.

        Returns:
            The run's folder, which may not be there yet.

        Raises:
            InputError: A run of this name has other content.
        """
        if self.name is None:
            self.name = f"run-{digest[:8]}"
        first = self.name
        for number in itertools.count(2):
            folder = RunFolder.of(self.home, self.name)
            if not folder.exists:
                break
            with closing(Ledger(folder.ledger)) as ledger:
                self._compare(ledger, digest)
                if not self.fresh or _goes_on(ledger.run()):
                    break
            self.name = f"{first}-{number}"
        return folder

    def note(self, record: RunRecord) -> str:
        """Say which engine a run has, where that was not what was asked for in so many words."""
        if self.fresh:
            return f"Everything is sent again, as the run {record.name!r}."
        if record.mode != self.mode and record.status == "running":
            return f"The run was started in {record.mode} mode and goes on in it."
        if self.auto and record.mode == self.mode:
            few = "up to" if self.mode == "online" else "more than"
            return f"Mode auto chose {self.mode} ({few} {AUTO_ROWS} rows)."
        return ""

    def build(self, folder: RunFolder) -> None:
        """Write every request, the table and the ledger, and only then let the run exist.

        Raises:
            InputError: The prompt fails on a row.
            StoreError: The disk is full.
        """
        assert self.name is not None
        fresh = RunFolder.fresh(self.home)
        try:
            fresh.lock(self.name)
            with ExitStack() as stack:
                ledger = stack.enter_context(closing(Ledger(fresh.ledger)))
                model, endpoint = self.recipe.model, self.recipe.endpoint
                reuse = None
                if self.reuse:
                    reuse = stack.enter_context(Reuse(self.home, self.server, model, endpoint))
                requests = self.source.requests(self.prompt, self.recipe)
                writer = ShardWriter(fresh, self.options.limits)
                digest = write_requests(requests, ledger, writer, reuse)
                self.source.keep(fresh)
                counts = ledger.counts()
                ledger.write_run(self._record(digest, counts))
                Budget.of(fresh, ledger, self.schema, self.options.max_cost)  # refuses here
            if not folder.adopt(fresh):  # another process made it meanwhile
                with closing(Ledger(folder.ledger)) as ledger:
                    self._compare(ledger, digest)
        finally:
            fresh.remove()

    def _record(self, digest: str, counts: dict[str, int]) -> RunRecord:
        assert self.name is not None
        now = time.time()
        return RunRecord(
            uid=uuid.uuid4().hex,
            name=self.name,
            digest=digest,
            mode=self.mode,
            model=self.recipe.model,
            endpoint=self.recipe.endpoint,
            server=self.server,
            rows=counts["total"],
            spec=self.spec,
            status="running",
            created=now,
            updated=now,
            counts=counts,
        )

    def _compare(self, ledger: Ledger, digest: str) -> None:
        """Refuse to go on with a run of other content, and say what is other."""
        there = ledger.run()
        if there.digest == digest and there.server == self.server:
            return
        other = _difference(there, self)
        if other is None:
            requests = self.source.requests(self.prompt, self.recipe, bodies=False)
            row = ledger.first_other((each.row, each.digest) for each in requests)
            other = f"row {row} asks something else" if row is not None else "the rows differ"
        raise InputError(
            f"A run named {self.name!r} exists, but {other}. Choose another name=, or remove "
            f"the old run with mnb.forget({self.name!r}). Nothing was sent."
        )


def make_plan(
    df: Any,
    asked: Asked,
    *,
    prefix: str,
    usual_model: str,
    name: str | None,
    mode: str | None,
    reuse: bool,
    fresh: bool,
    sample: int | None,
    options: Options,
    crews: Crews | None,
    server: str,
    home: Path,
) -> Plan:
    """Check everything that can be checked without reading the rows.

    Returns:
        The plan; the arguments are those of :func:`mistral_nb.labelling.start_run`.

    Raises:
        InputError: An argument cannot be used; the message names it.
    """
    source = as_source(df)
    if mode is not None and mode not in MODES:
        raise InputError(
            f"mode={mode!r} is not possible: use mode='batch' (the Batch API at half the price), "
            "mode='online' (at once), mode='queue' (by workers) or mode='auto' (by the number "
            "of rows)."
        )
    if (mode == "queue") != (crews is not None):
        raise InputError("mode='queue' and queue= go together: queue=mnb.Queue(...) will do.")
    whole = source
    if sample is not None:
        source = _sampled(whole, sample)
        name = None if name is None else f"{name}-sample-{sample}"
    auto = mode == "auto"
    whole_mode = _engine(mode or "batch", whole)
    mode = whole_mode if sample is None else _engine(mode or "online", source)
    options = options.settled(mode, auto=auto)
    if name is not None:
        RunFolder.of(home, name)
    question = asked.question(source.columns, usual_model)
    names = Names(question.schema, asked.column, prefix)
    names.check(source.columns)
    spec = {
        "prefix": prefix,
        "options": asdict(options),
        "fresh": fresh,
        **question.spec,
    }
    if crews is not None:
        spec["queue"] = crews.where
    if sample is not None:
        spec["sample_of"] = {"rows": whole.rows, "mode": whole_mode}
    if options.max_cost is not None:
        require_price(question.recipe.model)
    return Plan(
        source,
        question.prompt,
        question.recipe,
        question.schema,
        names,
        spec,
        name,
        mode,
        auto,
        options,
        reuse,
        fresh,
        server,
        home,
    )


def _engine(mode: str, source: Source) -> str:
    """Resolve mode auto by the number of rows."""
    if mode != "auto":
        return mode
    return "online" if source.rows is not None and source.rows <= AUTO_ROWS else "batch"


def _sampled(source: Source, rows: int) -> Source:
    """Draw rows at random, but always the same ones of a table."""
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise InputError(f"sample must be a number of rows above 0, not {rows!r}.")
    if not isinstance(source, FrameSource):
        raise InputError("sample= is for a table in memory: give a part of the files instead.")
    if rows >= len(source.df):
        return source
    drawn = random.Random(len(source.df)).sample(range(len(source.df)), rows)  # noqa: S311
    return source.take(sorted(drawn))


def _goes_on(record: RunRecord) -> bool:
    """Return True for a run with fresh=True that was left before its end: it is gone on with."""
    return bool(record.spec.get("fresh")) and record.status not in {"done", "cancelled"}


def restore(record: RunRecord) -> tuple[Schema | None, Names, Options]:
    """Make what is needed to go on with a run from what its ledger kept."""
    spec = record.spec
    schema = restore_schema(spec, record.endpoint, record.model)
    names = Names(schema, spec["column"], spec["prefix"])
    kept = dict(spec["options"])
    return schema, names, Options(**{**kept, "limits": Limits(**kept["limits"])})


def server_of(connection: Connection) -> str:
    """Name the server that a connection reaches, the same in every process."""
    # The built-in simulator has another port each time; its state is one.
    return "simulator" if connection.simulated else connection.base_url


def check_server(record: RunRecord, server: str) -> None:
    """Refuse to look for a run's jobs at another server than they were sent to.

    Raises:
        RunError: Names both.
    """
    if record.server != server:
        words = {"simulator": "the built-in simulator"}
        raise RunError(
            f"The run {record.name!r} was sent to {words.get(record.server, record.server)}, but "
            f"this session talks to {words.get(server, server)}. Connect to the former to go on."
        )


def _difference(there: RunRecord, plan: Plan) -> str | None:
    """Return the first difference that can be said in a few words."""
    pairs = (
        ("server", there.server, plan.server),
        ("endpoint", there.endpoint, plan.recipe.endpoint),
        ("model", there.model, plan.recipe.model),
        (
            "number of rows",
            there.rows,
            there.rows if plan.source.rows is None else plan.source.rows,
        ),
        ("system prompt", there.spec.get("system"), plan.recipe.system),
        ("prompt", there.spec.get("prompt"), plan.prompt.source),
    )
    for what, old, new in pairs:
        if old != new:
            return f"its {what} is {_short(old)}, not {_short(new)}"
    if there.spec.get("examples") != plan.spec.get("examples"):
        return "its examples are other ones"
    before, after = there.spec.get("options_sent", {}), plan.spec.get("options_sent", {})
    if before != after:
        changed = sorted(k for k in {*before, *after} if before.get(k) != after.get(k))
        name = "schema" if changed == ["response_format"] else changed[0]
        return f"its {name} is another one"
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - one line
