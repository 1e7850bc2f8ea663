"""The two ways to get a labelling run: start it, or go on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mistral_nb.errors import InputError
from mistral_nb.labelling.folder import RunFolder
from mistral_nb.labelling.handle import Run
from mistral_nb.labelling.plan import make_plan, server_of
from mistral_nb.labelling.requests import Limits
from mistral_nb.labelling.work import Options

if TYPE_CHECKING:
    import pandas as pd

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus

__all__ = ["resume", "start_run"]


def start_run(
    connection: Connection,
    bus: EventBus,
    df: pd.DataFrame,
    *,
    prompt: Any,
    schema: Any = None,
    labels: Any = None,
    column: str | None = None,
    prefix: str = "",
    system: str | None = None,
    model: str | None = None,
    name: str | None = None,
    mode: str = "batch",
    reuse: bool = True,
    retries: int | None = None,
    patience: float = 3600.0,
    timeout_hours: int = 24,
    shard_lines: int = 100_000,
    shard_bytes: int = 500_000_000,
    concurrency: int | None = None,
    rpm: int | None = None,
    tpm: int | None = None,
    **options: Any,
) -> Run:
    """Label every row of a table.

    Called again with the same content, it goes on with the run there is: rows that were
    answered are not sent again, and a finished run costs nothing.

    Args:
        connection: The server.
        bus: Where the run's events are published.
        df: The table, shape (rows, columns); any index.
        prompt: Template with ``{column}`` places, or a function of a row (a dict of column
            to cell) that returns a text, a list of messages, or None to leave the row out.
        schema: What a reply must look like: pydantic model, dataclass, ``Literal``, ``Enum``
            or JSON schema; its fields become columns, nested ones as ``a.b``.
        labels: Labels to choose from, for one categorical column ``label``.
        column: Another name for that column (or for ``reply``, without schema and labels).
        prefix: Put before the name of every result column.
        system: System prompt.
        model: Model that answers; else the session's.
        name: What to call the run; else a name made from its content.
        mode: ``"batch"`` is the Batch API, at half the price; ``"online"`` sends requests one by
            one, many at once, for answers in seconds; ``"auto"`` is online up to 200 rows, batch
            above.
        reuse: Take over answers of earlier runs to the very same requests.
        retries: How often a failed request is sent again; default 1 in batch mode (a round of
            it each), 5 online (of these at most 2 for replies that do not fit the schema).
        patience: Seconds without any answer of the server before the run stops waiting.
        timeout_hours: Hours the server has for each batch job.
        shard_lines: Most requests in a batch file.
        shard_bytes: Most bytes in a batch file.
        concurrency: Online: most requests at once; default 32.
        rpm: Online: most requests a minute; None leaves it to the server's limits.
        tpm: Online: most tokens a minute; likewise.
        **options: Options of a chat request: temperature, max_tokens, random_seed, ...

    Returns:
        The run, at once.

    Raises:
        InputError: An argument cannot be used; nothing was sent.
    """
    if retries is not None and retries < 0:
        raise InputError(f"retries must be 0 or more, not {retries!r}.")
    if patience <= 0:
        raise InputError(f"patience must be a number of seconds above 0, not {patience!r}.")
    plan = make_plan(
        df,
        prompt,
        schema=schema,
        labels=labels,
        column=column,
        prefix=prefix,
        system=system,
        model=model or connection.settings.model,
        name=name,
        mode=mode,
        reuse=reuse,
        options=Options(
            retries,
            patience,
            timeout_hours,
            Limits(shard_lines, shard_bytes),
            concurrency,
            rpm,
            tpm,
        ),
        chat_options=options,
        server=server_of(connection),
        home=connection.settings.home,
    )
    return Run(connection, bus, plan, name)


def resume(connection: Connection, bus: EventBus, name: str, df: pd.DataFrame | None = None) -> Run:
    """Go on with a run, in any process.

    Args:
        connection: The server it was sent to.
        bus: Where the run's events are published.
        name: The run's name.
        df: Its table; only needed if that holds objects that no file can keep.

    Returns:
        The run, at once; it fails with RunError if there is no run of this name.

    Raises:
        InputError: The name cannot be one.
    """
    RunFolder.of(connection.settings.home, name)
    return Run(connection, bus, None, name, df)
