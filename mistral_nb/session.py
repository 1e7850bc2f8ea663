"""A session: one connection, one event bus, and the verbs that people use."""

from __future__ import annotations

import atexit
import tempfile
import threading
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

from mistral_nb import portal
from mistral_nb.client import Connection
from mistral_nb.errors import InputError
from mistral_nb.events import EventBus
from mistral_nb.replies import current_cell
from mistral_nb.services import Services
from mistral_nb.settings import Settings, resolve
from mistral_nb.streaming import StreamHandle, start_stream

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    import pandas as pd

    from mistral_nb.jobs import Queue
    from mistral_nb.labelling import Estimate, ListRun, Run
    from mistral_nb.widgets.review import Review

__all__ = ["Session", "connect", "default_session"]


class Session(Services):
    """Everything one conversation with a server needs; made by :func:`connect`.

    Args:
        settings: Where the server is, which key and model to use, where files are kept.

    Attributes:
        connection: The SDK's client (``connection.sdk``), its loop and its rate limits.
        events: The bus on which streams and runs publish what happens.
    """

    def __init__(self, settings: Settings) -> None:
        connection = Connection(settings)
        super().__init__(connection, EventBus(connection.portal))

    def __repr__(self) -> str:
        return repr(self.connection).replace("Connection", "Session", 1)

    @property
    def settings(self) -> Settings:
        """The frozen settings this session was made with."""
        return self.connection.settings

    def stream(
        self,
        messages: str | Sequence[Any],
        *,
        model: str | None = None,
        system: str | None = None,
        show: bool | None = None,
        settle: bool = True,
        callback_url: str | None = None,
        **options: Any,
    ) -> StreamHandle:
        """Ask for a reply; it shows as it arrives, and the handle is there at once.

        Args:
            messages: A prompt, or messages (dicts, models of the SDK, earlier replies).
            model: Model to ask; else the session's.
            system: System prompt.
            show: True shows it live (in a cell, or as text on stdout), False does not;
                None shows it in notebooks and IPython only.
            settle: Replace the live view by static output at the end (see README).
            callback_url: Told by a signed webhook when the reply has ended.
            **options: Options of the SDK's `chat.stream`: temperature, max_tokens, tools,
                response_format, random_seed, ...

        Returns:
            A handle: ``await`` it or call ``.result()`` for the Reply, iterate it for its
            text, ``.stop()`` it, or ignore it.

        Raises:
            InputError: The prompt is empty, or an option is unknown.
        """
        shown = portal.in_ipython() if show is None else show
        if shown:  # before it starts: a quick error must not overtake the import of its view
            from mistral_nb import widgets
        handle = start_stream(
            self.connection,
            self.events,
            messages,
            model=model,
            system=system,
            shown_in=current_cell() if shown and portal.in_kernel() else None,
            **options,
        )
        if callback_url is not None:
            told = {"requestId": handle.request_id, "model": handle.model}
            self._call_back(callback_url, handle, "chat", lambda: {**told, "text": handle.text})
        if shown:
            widgets.show(handle, settle=settle)
        return handle

    @overload
    def label(
        self, df: Any, prompt: Any = ..., *, dry_run: Literal[True], **options: Any
    ) -> Estimate: ...
    @overload
    def label(
        self,
        df: Any,
        prompt: Any = ...,
        *,
        show: bool | None = None,
        dry_run: Literal[False] = ...,
        **options: Any,
    ) -> Run: ...
    def label(
        self,
        df: Any,
        prompt: Any = None,
        *,
        show: bool | None = None,
        dry_run: bool = False,
        callback_url: str | None = None,
        queue: Queue | None = None,
        **options: Any,
    ) -> Run | Estimate:
        """Label every row of a table; see :func:`mistral_nb.labelling.start_run`.

        Args:
            df: Rows to label, shape (rows, columns): of pandas, polars, Arrow or Dask.
            prompt: Template with ``{column}`` places, or a function of a row; None for OCR.
            show: True shows progress, False does not; None shows it in notebooks and
                terminals.
            dry_run: Send nothing; return what would be sent, with its tokens and cost.
            callback_url: Told by a signed webhook when the run has ended in this process.
            queue: Its workers, on this machine or others, send the requests. ``mode="queue"``
                alone takes the queue in the home folder.
            **options: ``labels``: names to choose from, or ``schema``: a pydantic model, whose
                fields become columns. ``model``, ``system``; ``name`` of the run. ``mode``:
                ``"batch"`` (half the price), ``"online"`` (at once), ``"queue"`` or ``"auto"``.
                ``max_cost`` in US dollars, ``sample`` of so many rows, ``fresh``. ``endpoint``,
                ``examples``, ``images``, ``documents``, ``temperature``, ...: all are told at
                :func:`mistral_nb.labelling.start_run`.

        Returns:
            The run: ``await`` it or call ``.result()`` for the labelled table, of the kind and
            with the rows of ``df``: the result's columns, and ``_error``. With ``dry_run`` the
            estimate.

        Raises:
            InputError: An argument cannot be used; nothing was sent.
        """
        from mistral_nb.labelling import start_run

        if queue is not None or options.get("mode") == "queue":
            options["crews"] = self._crews(queue)
        if dry_run:
            return start_run(
                self.connection, self.events, df, prompt=prompt, dry_run=True, **options
            )
        run = start_run(self.connection, self.events, df, prompt=prompt, **options)
        if callback_url is not None:
            told = {"run": run.name}
            self._call_back(callback_url, run, "run", lambda: {**told, "counts": run.counts})
        return self._shown(run, show)

    def label_files(
        self,
        source: str | os.PathLike[str],
        out: str | os.PathLike[str],
        prompt: Any,
        **options: Any,
    ) -> Any:
        """Label a data set in files, larger than memory, into files of the same names.

        Args:
            source: A .parquet, .csv or .jsonl file, or a folder of them.
            out: Folder for the labelled parts, as parquet; made if it is not there.
            prompt: Template with ``{column}`` places, or a function of a row.
            **options: As for :meth:`label`.

        Returns:
            The run; its result has one row a part: its name, rows and failed rows. With
            ``dry_run`` the estimate.

        Raises:
            InputError: The files do not fit together, or ``out`` holds files of others.
        """
        from mistral_nb.labelling import FilesSource

        return self.label(FilesSource(source, out), prompt, **options)

    def process_batch(
        self, prompts: Iterable[Any], concurrency: int = 5, **options: Any
    ) -> ListRun:
        """Ask a list of prompts at once; see :func:`mistral_nb.labelling.process_batch`.

        Args:
            prompts: Texts, or lists of messages.
            concurrency: Most requests at once.
            **options: ``model``, ``system``, ``schema``, ``on_progress``, ...

        Returns:
            A handle: ``await`` it or call ``.result()`` for one result a prompt, in order, each
            with its ``content`` or its ``error``.

        Raises:
            InputError: An argument cannot be used; nothing was sent.
        """
        from mistral_nb.labelling import process_batch

        return process_batch(self.connection, prompts, concurrency, **options)

    def resume(
        self,
        name: str,
        df: pd.DataFrame | None = None,
        *,
        show: bool | None = None,
        max_cost: float | None = None,
        queue: Queue | None = None,
    ) -> Run:
        """Go on with a run that a closed kernel or an interrupt left behind.

        Args:
            name: The run's name.
            df: Its table; only needed if that holds Python objects no file can keep.
            show: As for :meth:`label`.
            max_cost: Another limit in US dollars, what was paid before included.
            queue: For a run in queue mode, unless its queue is in the home folder.

        Returns:
            The run; rows that were paid for are not sent again.

        Raises:
            RunError: There is no such run, or it cannot go on from here.
            InputError: ``df`` is not the table that it was started with.
        """
        from mistral_nb.labelling import resume

        crews = self._crews(queue)
        run = resume(self.connection, self.events, name, df, max_cost=max_cost, crews=crews)
        return self._shown(run, show)

    def forget(self, name: str) -> None:
        """Delete what is kept about a labelling run: requests, answers, table and ledger.

        Args:
            name: The run's name.

        Raises:
            RunError: There is no such run, or it still goes on.
        """
        from mistral_nb.labelling import forget

        forget(self.settings, name)

    def runs(self) -> pd.DataFrame:
        """Return all labelling runs of this home folder, the latest first."""
        from mistral_nb.labelling import list_runs

        return list_runs(self.settings)

    def review(self, run: Run, column: str | None = None, **options: Any) -> Review:
        """Accept, correct or skip a run's labels row by row, with the keyboard.

        Decisions are saved as they are made; the same call goes on where it was.

        Args:
            run: A run; its end is waited for.
            column: The result column to review; needed only where there are several.
            **options: ``text``, ``labels``, ``gold``, ``agreement``, ``where``,
                ``context_columns``: see :func:`mistral_nb.widgets.review.review`. ``others`` may
                be runs of the same rows.

        Returns:
            The review; ``review.table`` has the table with the decisions at any time.

        Raises:
            InputError: It is no run, or it has nothing to review: no rows, no column.
        """
        from mistral_nb.labelling import Run, labellings, reviews_file
        from mistral_nb.widgets.review import review

        if not isinstance(run, Run):
            raise InputError(
                f"run must be what mnb.label or mnb.resume(name) gives, not {type(run).__name__}."
            )
        table, known = run.to_review(column, options.pop("text", None))
        if (others := options.get("others")) is not None:
            options["others"] = labellings(others, known["label"])
        store = reviews_file(self.settings, run.name)
        return review(table, store=store, **{**known, **options})

    def usage(self) -> pd.DataFrame:
        """Return the tokens that this session's replies were billed for.

        Replies are those of streams, asked again or through a relay as well, and turns of
        conversations. Not among them are runs, which have ``run.usage`` and ``run.cost``, the
        results of :meth:`process_batch`, which have their own, and what was stopped or cut
        before the server told its count.

        Returns:
            One row a model or agent: replies, prompt_tokens, completion_tokens, total_tokens,
            cached_tokens.
        """
        import pandas as pd

        fields = ["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"]
        rows = [
            {"model": model, "replies": replies, **asdict(usage)}
            for model, replies, usage in self.connection.tally.rows()
        ]
        return pd.DataFrame(rows, columns=["model", "replies", *fields]).set_index("model")

    def models(self) -> pd.DataFrame:
        """Return the models the server offers, one row each, with what they can do.

        Returns:
            One row a model: context (tokens), can; missing where the server does not say.

        Raises:
            ApiError: The server refused, e.g. AuthenticationError.
            ServerUnreachable: No server answered.
        """
        import pandas as pd

        rows = [
            {
                "model": model["id"],
                "context": model.get("max_context_length"),
                "can": _abilities(model.get("capabilities")),
            }
            for model in portal.run(self.connection.models())
        ]
        table = pd.DataFrame(rows, columns=["model", "context", "can"])
        return table.drop_duplicates("model").set_index("model")

    def _shown(self, run: Run, show: bool | None) -> Run:
        run.present = partial(self._shown, show=show)
        if show is not False:
            from mistral_nb.widgets import run_view

            run_view.show(run, force=bool(show))
        return run


def _abilities(told: object) -> str:
    """Name what a model can do, in either form that servers send."""
    if isinstance(told, dict):
        told = [name for name, able in told.items() if able]
    return ", ".join(map(str, told)) if isinstance(told, list) else ""


def connect(
    api_key: str | None = None,
    server_url: str | None = None,
    model: str | None = None,
    *,
    home: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    simulator: bool = False,
) -> Session:
    """Make a session, and make it the one that module-level calls use.

    Args:
        api_key: Mistral API key; else ``MISTRAL_API_KEY``, else a Colab or Kaggle secret;
            with none of them and no ``server_url``, the built-in simulator answers.
        server_url: Any server that speaks Mistral's API (vLLM, llama.cpp, a gateway); else
            ``MISTRAL_SERVER_URL``, else Mistral's own.
        model: Default model; else ``MISTRAL_MODEL``, else ``mistral-small-latest``.
        home: Folder for the ledger and other local files; else ``MISTRAL_NB_HOME``, else
            the platform's user data folder.
        timeout: Longest silence of the server in seconds; default 120.
        simulator: Practise: the built-in simulator answers even where a key is set, nothing
            is paid, and files go to a folder that is deleted at the end, unless ``home``
            names one.

    Returns:
        The session.

    Raises:
        SettingsError: A setting is malformed; the message names it.
    """
    if simulator and home is None:
        home = _passing_home()
    session = Session(resolve(api_key, server_url, model, home, timeout, simulator=simulator))
    _default.set(session)
    return session


def _passing_home() -> str:
    """Make a home folder that goes when Python ends."""
    home = tempfile.TemporaryDirectory(prefix="mistral-nb-", ignore_cleanup_errors=True)
    atexit.register(home.cleanup)
    return home.name


class _Default:
    """The session behind ``mnb.stream`` and ``mnb.label``, made at first use."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._lock = threading.Lock()

    def set(self, session: Session) -> None:
        with self._lock:
            self._session = session

    def get(self) -> Session:
        with self._lock:
            if self._session is None:
                self._session = Session(resolve())
            return self._session


_default = _Default()


def default_session() -> Session:
    """Return the session that module-level calls use."""
    return _default.get()
