"""The two ways to get a labelling run: start it, or go on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from mistral_nb.labelling.asked import Asked
from mistral_nb.labelling.dry_run import Estimate
from mistral_nb.labelling.dry_run import dry_run as estimate
from mistral_nb.labelling.folder import RunFolder
from mistral_nb.labelling.handle import Run
from mistral_nb.labelling.plan import make_plan, server_of
from mistral_nb.labelling.requests import Limits
from mistral_nb.labelling.work import Options, check_limit

if TYPE_CHECKING:
    import pandas as pd

    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus
    from mistral_nb.labelling.crews import Crews

__all__ = ["resume", "start_run"]

SHARD_LINES = (100_000, 5_000)
"""Requests in a shard: for the Batch API, and for a queue, from where answers come with each."""


@overload
def start_run(
    connection: Connection,
    bus: EventBus,
    df: Any,
    *,
    prompt: Any = ...,
    dry_run: Literal[True],
    **options: Any,
) -> Estimate: ...
@overload
def start_run(
    connection: Connection,
    bus: EventBus,
    df: Any,
    *,
    prompt: Any = ...,
    dry_run: Literal[False] = ...,
    **options: Any,
) -> Run: ...
def start_run(
    connection: Connection,
    bus: EventBus,
    df: Any,
    *,
    prompt: Any = None,
    schema: Any = None,
    labels: Any = None,
    column: str | None = None,
    prefix: str = "",
    flatten: bool = True,
    endpoint: str = "chat",
    examples: Any = None,
    images: Any = None,
    documents: Any = None,
    suffix: Any = None,
    system: str | None = None,
    model: str | None = None,
    name: str | None = None,
    mode: str | None = None,
    reuse: bool = True,
    fresh: bool = False,
    dry_run: bool = False,
    max_cost: float | None = None,
    sample: int | None = None,
    retries: int | None = None,
    patience: float = 3600.0,
    timeout_hours: int = 24,
    shard_lines: int | None = None,
    shard_bytes: int = 500_000_000,
    concurrency: int | None = None,
    rpm: int | None = None,
    tpm: int | None = None,
    crews: Crews | None = None,
    **options: Any,
) -> Run | Estimate:
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
        flatten: False keeps nested values as objects, in one column each.
        endpoint: Who answers: ``"chat"``; ``"embeddings"`` (a column of vectors);
            ``"moderations"`` (flags and scores); ``"classifications"`` by a fine-tuned
            classifier, named with ``model=`` (label and scores); ``"fim"`` (code between prompt
            and ``suffix``); ``"ocr"`` (the text of ``documents``, as Markdown; with a schema
            also its columns).
        examples: Labelled rows (a table or a list of dicts) with the columns that the prompt
            needs and the right answers in columns named as the result's; they come before each
            row as questions with their answers.
        images: Column of images beside the text: web addresses, data URLs, local paths, bytes,
            or lists of them. Local files are sent with the request, up to 10 MB each.
        documents: Column of documents, likewise, up to 50 MB each.
        suffix: Template or function for the text after the gap, with ``endpoint="fim"``.
        labels: Labels to choose from, for one categorical column ``label``.
        column: Another name for that column (or for ``reply``, without schema and labels).
        prefix: Put before the name of every result column.
        system: System prompt.
        model: Model that answers; else the session's, or the usual one of the endpoint.
        name: What to call the run; else a name made from its content.
        mode: ``"batch"`` (the default) is the Batch API, at half the price; ``"online"`` sends
            requests one by one, many at once, for answers in seconds, and is the default of a
            sample; ``"queue"`` leaves them to the workers of a queue, on this machine or
            others; ``"auto"`` is online up to 200 rows, batch above.
        reuse: Take over answers of earlier runs to the very same requests.
        fresh: Send everything again and pay again, in a run of its own (``name-2``), whatever
            earlier runs answered; one that was left unfinished goes on.
        dry_run: Send nothing; return what would be sent, with its tokens and cost.
        max_cost: US dollars that the run may come to by list price. A run that costs more in any
            case is refused before anything is sent; one that reaches the limit sends nothing
            more, and goes on with ``mnb.resume(name, max_cost=...)``.
        sample: Label only so many rows, drawn at random but always the same, and say what all
            would cost; the run of all rows then takes their answers over.
        retries: How often a failed request is sent again; default 1 in batch mode (a round of
            it each), 5 online (of these at most 2 for replies that do not fit the schema).
        patience: Seconds without any answer of the server before the run stops waiting.
        timeout_hours: Hours the server has for each batch job, 168 at most.
        shard_lines: Most requests in a batch file; default 100,000, through a queue 5,000.
        shard_bytes: Most bytes in a batch file.
        concurrency: Online: most requests at once; default 32, at most 1,000.
        rpm: Online: most requests a minute; None leaves it to the server's limits.
        tpm: Online: most tokens a minute; likewise.
        crews: Who works on the queue of ``mode="queue"``, which is the default with it.
        **options: Options of the request: temperature, max_tokens, random_seed, ...

    Returns:
        The run, at once; with ``dry_run`` the estimate, when all requests were made.

    Raises:
        InputError: An argument cannot be used; nothing was sent.
    """
    asked = Asked(
        prompt,
        schema,
        labels,
        column,
        flatten,
        system,
        model,
        endpoint,
        suffix,
        images,
        documents,
        examples,
        options,
    )
    plan = make_plan(
        df,
        asked,
        prefix=prefix,
        usual_model=connection.settings.model,
        name=name,
        mode="queue" if mode is None and crews is not None else mode,
        reuse=reuse and not fresh,
        fresh=fresh,
        sample=sample,
        options=Options(
            retries,
            patience,
            timeout_hours,
            Limits(
                SHARD_LINES[crews is not None] if shard_lines is None else shard_lines, shard_bytes
            ),
            concurrency,
            rpm,
            tpm,
            max_cost,
        ),
        crews=crews,
        server=server_of(connection),
        home=connection.settings.home,
    )
    return estimate(plan) if dry_run else Run(connection, bus, plan, name, crews=crews)


def resume(
    connection: Connection,
    bus: EventBus,
    name: str,
    df: pd.DataFrame | None = None,
    *,
    max_cost: float | None = None,
    crews: Crews | None = None,
) -> Run:
    """Go on with a run, in any process.

    Args:
        connection: The server it was sent to.
        bus: Where the run's events are published.
        name: The run's name.
        df: Its table; only needed if that holds objects that no file can keep.
        max_cost: Another limit in US dollars, what was paid before included; None keeps the
            run's own, ``math.inf`` lifts it.
        crews: Who works on its queue, for a run in queue mode.

    Returns:
        The run, at once; it fails with RunError if there is no run of this name.

    Raises:
        InputError: The name cannot be one, or the limit is no amount.
    """
    RunFolder.of(connection.settings.home, name)
    check_limit(max_cost)
    return Run(connection, bus, None, name, df, max_cost=max_cost, crews=crews)
