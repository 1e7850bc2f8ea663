"""What a call of `label` asks for: checked at once, before anything is built or sent."""

from __future__ import annotations

import shutil
import time
import uuid
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mistral_nb.errors import InputError, RunError
from mistral_nb.labelling.folder import RunFolder
from mistral_nb.labelling.ledger import Ledger, RunRecord
from mistral_nb.labelling.merge import Names
from mistral_nb.labelling.prompts import Prompt, compile_prompt
from mistral_nb.labelling.recipe import Recipe
from mistral_nb.labelling.requests import (
    Limits,
    ShardWriter,
    content_digest,
    write_requests,
)
from mistral_nb.labelling.reuse import Reuse
from mistral_nb.labelling.schemas import Schema, compile_schema
from mistral_nb.labelling.sources import Source, as_source
from mistral_nb.labelling.work import Options

if TYPE_CHECKING:
    from pathlib import Path

    from mistral_nb.client import Connection

__all__ = ["Plan", "check_server", "make_plan", "restore", "server_of"]

MODES = ("batch", "online", "auto")
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
        if self.name is None:
            self.name = f"run-{digest[:8]}"
        folder = RunFolder.of(self.home, self.name)
        if folder.exists:
            with closing(Ledger(folder.ledger)) as ledger:
                self._compare(ledger, digest)
                ledger.update_run(spec=self.spec)  # column names may differ: they cost nothing
        return folder

    def note(self, record: RunRecord) -> str:
        """Say which engine a run has, where that was not what was asked for in so many words."""
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
            if not folder.adopt(fresh):  # another process made it meanwhile
                with closing(Ledger(folder.ledger)) as ledger:
                    self._compare(ledger, digest)
        finally:
            shutil.rmtree(fresh.path, ignore_errors=True)

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
    prompt: Any,
    *,
    schema: Any,
    labels: Any,
    column: str | None,
    prefix: str,
    system: str | None,
    model: str,
    name: str | None,
    mode: str,
    reuse: bool,
    options: Options,
    chat_options: dict[str, Any],
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
    if mode not in MODES:
        raise InputError(
            f"mode={mode!r} is not possible: use mode='batch' (the Batch API at half the price), "
            "mode='online' (at once) or mode='auto' (by the number of rows)."
        )
    auto = mode == "auto"
    if auto:
        few = source.rows is not None and source.rows <= AUTO_ROWS
        mode = "online" if few else "batch"
    options = options.settled(mode, auto=auto)
    if name is not None:
        RunFolder.of(home, name)
    compiled = compile_schema(schema, labels, column)
    names = Names(compiled, column, prefix)
    names.check(source.columns)
    recipe = Recipe(model, system, compiled, chat_options)
    prompted = compile_prompt(prompt, source.columns)
    spec = {
        "prompt": prompted.source,
        "schema": compiled.record() if compiled else None,
        "column": column,
        "prefix": prefix,
        "options": asdict(options),
        **recipe.describe(),
    }
    return Plan(
        source,
        prompted,
        recipe,
        compiled,
        names,
        spec,
        name,
        mode,
        auto,
        options,
        reuse,
        server,
        home,
    )


def restore(record: RunRecord) -> tuple[Schema | None, Names, Options]:
    """Make what is needed to go on with a run from what its ledger kept."""
    spec = record.spec
    schema = Schema.restore(spec["schema"]) if spec["schema"] else None
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
    before, after = there.spec.get("options_sent", {}), plan.spec.get("options_sent", {})
    if before != after:
        changed = sorted(k for k in {*before, *after} if before.get(k) != after.get(k))
        name = "schema" if changed == ["response_format"] else changed[0]
        return f"its {name} is another one"
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - one line
