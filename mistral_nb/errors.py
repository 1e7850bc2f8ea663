"""Every exception the toolkit raises on purpose, and what each one means.

```
MistralNbError
├── SettingsError               a setting is missing, malformed or cannot work
├── MissingPackage (ImportError)  a package that only some people need is not installed
├── InputError (ValueError)     data or arguments cannot be used; raised before anything is sent
│   ├── TemplateError           a prompt template does not fit the table
│   └── SchemaError             a result schema cannot be turned into JSON schema
├── PortTaken (OSError)         a server of ours cannot listen where it was told to
├── ServerUnreachable           no server answered at the address
├── ApiError                    the server answered with a refusal
│   ├── AuthenticationError     401, 403: the key is wrong or may not do this
│   ├── NotFoundError           404: no such model, file or job
│   ├── InvalidRequestError     400, 413, 422: the request itself is wrong
│   ├── RateLimitError          429: too many requests or tokens
│   └── ServerError             5xx: the server failed
├── StreamError                 a reply ended before it was complete; ``partial`` keeps its text
│   ├── StreamCut               the connection closed, or the end came without a finish reason
│   ├── StreamStalled           no data arrived for ``timeout`` seconds
│   ├── StreamMalformed         a chunk was not what the API describes
│   └── StreamRefused           the server sent an error object inside the stream
├── WaitTimeout (TimeoutError)  the wait ended; the work itself goes on
├── StoreError                  a local file (ledger, history) cannot be read or written
├── RunError                    a labelling run cannot go on as asked
│   └── CostLimitError          it would cost more than its ``max_cost``
├── JobError                    a background job did not end well; ``status`` says how
└── WebhookRefused              a delivery that came in is forged, too old or malformed
```

A message says what happened and what to do about it. The class says the rest: its docstring has
lines that begin with *When*, *Why*, *What to do* and *Settings*, and a notebook shows the last
three below the message (:mod:`mistral_nb.widgets.error_panel`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.streaming import Reply

__all__ = [
    "ApiError",
    "AuthenticationError",
    "CostLimitError",
    "InputError",
    "InvalidRequestError",
    "JobError",
    "MissingPackage",
    "MistralNbError",
    "NotFoundError",
    "PortTaken",
    "RateLimitError",
    "RunError",
    "SchemaError",
    "ServerError",
    "ServerUnreachable",
    "SettingsError",
    "StoreError",
    "StreamCut",
    "StreamError",
    "StreamMalformed",
    "StreamRefused",
    "StreamStalled",
    "TemplateError",
    "WaitTimeout",
    "WebhookRefused",
    "explanation",
]

LABELS = ("When", "Why", "What to do", "Settings")
_LABELLED = re.compile(
    rf"^({'|'.join(LABELS)}): (.+?)(?=\n\n|\n(?:{'|'.join(LABELS)}):|\Z)", re.MULTILINE | re.DOTALL
)


class MistralNbError(Exception):
    """Base of everything this package raises on purpose: ``except`` it to catch all of that.

    When: Raised itself where no class below fits: something failed in a way not foreseen.
    Why: The message says what is known.
    What to do: Read the cause in the traceback; where it was a matter of chance, try again.

    Args:
        message: What happened and what to do, in plain words. Characters that would steer a
            terminal are left out, as part of it may come from a server.
    """

    presenter: ClassVar[Callable[[MistralNbError], list[str]] | None] = None
    """Shows an error in IPython and returns the lines to print; set from the floors above."""
    shown_in: object = None
    """Execution count of a cell whose live view tells of it already."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))

    def __reduce__(self) -> tuple[Any, ...]:
        # As the built-in one would call the class with `args` only, an error with more
        # attributes could not be sent to another process.
        return _remade, (type(self), self.args), self.__dict__

    def _render_traceback_(self) -> list[str]:
        """Return the lines IPython prints in place of a traceback: its own protocol."""
        import traceback

        present = type(self).presenter
        return traceback.format_exception(self) if present is None else present(self)


class SettingsError(MistralNbError):
    """A setting is missing, malformed or cannot work; the message names it.

    When: A session, queue or relay is made, before anything is sent.
    Why: An argument, or the environment variable of that setting, holds something else than it
        should: a pasted key with a line break, an address without ``http://``, a word for a number.
    What to do: Put the setting right and connect again. Environment variables are read once, at
        ``mnb.connect``.
    Settings: ``api_key`` (MISTRAL_API_KEY), ``server_url`` (MISTRAL_SERVER_URL), ``model``
        (MISTRAL_MODEL), ``home`` (MISTRAL_NB_HOME), ``timeout``.
    """


class MissingPackage(MistralNbError, ImportError):  # noqa: N818 - reads as the sentence it is
    """A package that only some people need is not installed; the message has the command.

    When: Something is used for the first time that needs it: Redis, Dask, MCP, plots, measures.
    Why: The toolkit installs it only on request, as one of its extras.
    What to do: Run the command in a terminal, or in a cell with ``%pip`` in place of ``pip``; then
        run the cell again. The kernel need not be started anew.

    Args:
        what: What needs it, such as ``"A queue in Redis"``.
        package: The package.
        extra: The extra that brings it, such as ``"redis"``.
    """

    def __init__(self, what: str, package: str, extra: str) -> None:
        command = f'pip install "mistral-nb[{extra}]"'
        super().__init__(f"{what} needs {package}, which is not installed. Install it: {command}")


class InputError(MistralNbError, ValueError):
    """Data or arguments cannot be used; the message names the row, column or argument.

    When: A call is made, before anything is sent or paid.
    Why: A value is missing, of another type, or does not fit the others.
    What to do: Change what the message names and run the cell again.
    """


class TemplateError(InputError):
    """A prompt template does not fit the table it is filled from.

    When: ``label`` reads its prompt, before anything is sent or paid.
    Why: A name in braces is no column, or braces that are meant as they are stand alone.
    What to do: Compare the names in braces with ``df.columns``; double literal braces: ``{{ }}``.
    """


class SchemaError(InputError):
    """A result schema cannot be turned into JSON schema.

    When: ``label`` or ``process_batch`` reads ``schema=``, before anything is sent or paid.
    Why: A field has a type that JSON lacks, or the schema is not an object with fields.
    What to do: Use a pydantic model whose fields are texts, numbers, booleans, lists, ``Literal``,
        enums or further models; for one choice among names ``labels=[...]`` is enough.
    """


class PortTaken(MistralNbError, OSError):  # noqa: N818
    """A server of ours cannot listen where it was told to.

    When: A relay, a receiver of webhooks or the simulator starts.
    Why: Another program, perhaps an earlier kernel, listens at that port; ports below 1024 need
        rights; or the host is not an address of this machine.
    What to do: Leave ``port`` out, or give 0, for any free one; or end the other program.
    Settings: ``port`` and ``host`` of the call.
    """


class ServerUnreachable(MistralNbError):  # noqa: N818
    """No server answered at the address in ``server_url``.

    When: A request is sent, or its answer is waited for.
    Why: There is no network, a firewall or proxy is in between, the address or its certificate is
        wrong, or the server is not running or too busy.
    What to do: Open the address in a browser on this machine. If it opens there, look at the proxy
        (HTTPS_PROXY, NO_PROXY); for slow answers raise ``timeout``. What was answered is kept.
    Settings: ``server_url`` (MISTRAL_SERVER_URL), ``timeout``, HTTPS_PROXY, NO_PROXY,
        SSL_CERT_FILE.

    Attributes:
        sent: False if the request surely never left; else it may have been carried out.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class ApiError(MistralNbError):
    """The server answered with a refusal.

    When: A request came to the server, and none of the classes below says it closer.
    Why: The message holds the server's own words.
    What to do: Look the status up at the server's documentation; ``status_code`` and ``code`` have
        it for programs.

    Attributes:
        status_code: HTTP status.
        code: Mistral's own error code, e.g. ``"1300"``, or None.
        retry_after: Seconds the server asked to wait, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.code = code
        self.retry_after = retry_after


class AuthenticationError(ApiError):
    """401 or 403: the key is wrong, has expired, or may not do this.

    When: The first request with a key, or the first one of a new kind.
    Why: The key was mistyped, withdrawn or made for another server, or its workspace may not use
        this model or operation (403).
    What to do: Copy the key again from the console of the server it belongs to, then
        ``mnb.connect(api_key=...)``. Without any key the built-in simulator answers.
    Settings: ``api_key`` (MISTRAL_API_KEY), ``server_url`` (MISTRAL_SERVER_URL).
    """


class NotFoundError(ApiError):
    """404: no such model, file, job, agent or conversation.

    When: A request names something, or goes to an address, that the server does not have.
    Why: The name is mistyped or was retired, it belongs to another workspace, or ``server_url``
        leads to something that is not Mistral's API.
    What to do: ``session.models()`` lists the models there are. For other things check the id and
        that the key is of the workspace that made it.
    Settings: ``model`` (MISTRAL_MODEL), ``server_url`` (MISTRAL_SERVER_URL).
    """


class InvalidRequestError(ApiError):
    """400, 413 or 422: the request itself is wrong; repeating it cannot help.

    When: The server has looked at the request and refuses it.
    Why: An option has a value the model does not take, the messages are in an order it does not
        allow, or the text is longer than the model's context.
    What to do: Change what the message names. ``session.models()`` tells each model's context.
    """


class RateLimitError(ApiError):
    """429: too many requests or tokens; ``retry_after`` may say how long to wait.

    When: Requests come faster than the workspace may send them.
    Why: Limits count requests and tokens a minute over everything that uses the same workspace;
        ``session.connection.rate_limits`` shows what the server last said of them.
    What to do: Wait a minute and run the cell again. For many rows use ``label``: in batch mode no
        such limit holds, and its online mode keeps to it by itself.
    Settings: ``concurrency`` of ``label`` and ``process_batch``.
    """


class ServerError(ApiError):
    """5xx: the server failed; the same request may work later.

    When: The request was fine as far as one can tell, but the server or a gateway before it broke.
    Why: It is overloaded, being updated, or met a fault of its own.
    What to do: Run the cell again in a moment. If it stays so, look at the server's status page, or
        try a shorter request or another model.
    Settings: ``model`` (MISTRAL_MODEL), ``server_url`` (MISTRAL_SERVER_URL).
    """


class StreamError(MistralNbError):
    """A reply ended before it was complete.

    When: A reply has begun to arrive, and none of the classes below says it closer.
    Why: The connection or the server failed on the way.
    What to do: ``error.partial`` has the text so far; ``handle.retry()`` asks again.

    Attributes:
        partial: What had arrived, as a ``Reply`` with ``finish_reason=None``; never None
            once the stream has begun.
    """

    def __init__(self, message: str, *, partial: Reply | None = None) -> None:
        super().__init__(message)
        self.partial = partial


class StreamCut(StreamError):  # noqa: N818
    """The connection closed early, or the stream ended without a finish reason.

    When: A reply is arriving.
    Why: The network changed, a proxy closed a connection it took for idle, or the server stopped.
    What to do: ``error.partial`` has the text so far; ``handle.retry()`` asks again.
    """


class StreamStalled(StreamError):  # noqa: N818
    """No data arrived for the number of seconds in the ``timeout`` setting.

    When: A reply is arriving, or is waited for.
    Why: The server is overloaded, thinks for longer than that, or the connection died unnoticed.
    What to do: ``error.partial`` has the text so far; ``handle.retry()`` asks again. For a model
        that thinks long, connect with a larger ``timeout``.
    Settings: ``timeout`` of ``mnb.connect``, in seconds.
    """


class StreamMalformed(StreamError):  # noqa: N818
    """A chunk was not JSON, or not of the shape the API describes.

    When: A reply is arriving.
    Why: The server speaks another dialect than Mistral's API, or a proxy changed what it sent.
    What to do: ``error.partial`` has the text so far. Check that ``server_url`` is a server that
        streams as Mistral's does.
    Settings: ``server_url`` (MISTRAL_SERVER_URL).
    """


class StreamRefused(StreamError):  # noqa: N818
    """The server sent an error object in the middle of the stream.

    When: A reply is arriving.
    Why: The server met a limit or a fault after it had begun to answer; the message has its words.
    What to do: ``error.partial`` has the text so far; ``handle.retry()`` asks again.
    """


class WaitTimeout(MistralNbError, TimeoutError):  # noqa: N818
    """The wait ended, the work did not: ask again, or stop it.

    When: ``result(timeout=...)``, ``mnb.run(..., timeout=...)`` or a receiver's ``wait`` is out of
        time.
    Why: The work takes longer than the seconds that were given.
    What to do: Wait again, with more seconds or none; or end it with ``stop()``.
    Settings: ``timeout`` of the call.
    """


class StoreError(MistralNbError):
    """A local file (ledger, history, simulator state) cannot be read or written.

    When: Something is saved before it is sent, or read again when work goes on.
    Why: The disk is full, the home folder cannot be written, another process holds the file, or it
        is damaged or of a newer version.
    What to do: What the message says; then run the same call again: what had been saved is kept,
        and nothing is paid twice.
    Settings: ``home`` (MISTRAL_NB_HOME).
    """


class RunError(MistralNbError):
    """A labelling run cannot go on as asked; the message says what to do.

    When: A run is resumed, changed or forgotten, or comes to an end.
    Why: Its table, server or folder is not the one it was started with, another process follows it,
        or the server no longer has what belongs to it.
    What to do: Follow the message; ``mnb.runs()`` lists the runs. What was answered is kept.
    """


class CostLimitError(RunError):
    """A run would cost more than its ``max_cost``; what was answered until then is kept.

    When: Before a run's requests are sent, or between them.
    Why: The tokens of the rows, at the model's price, come to more than was allowed.
    What to do: ``mnb.resume(name, max_cost=...)`` goes on with a higher limit; ``dry_run=True``
        tells the cost beforehand, and ``sample=`` or a smaller model lower it.
    Settings: ``max_cost`` of ``label``, in US dollars.
    """


class JobError(MistralNbError):
    """A background job did not end well.

    When: The result of a job is asked for.
    Why: Its handler failed at every attempt, it was cancelled, or a worker was lost while it ran
        and nobody can tell how far it came ("uncertain").
    What to do: ``job.replay()`` puts it in the queue again; ``queue.jobs()`` lists what there is.

    Attributes:
        job_id: The job.
        status: ``"failed"``, ``"cancelled"`` or ``"uncertain"``; or ``"queued"`` or ``"delayed"``
            where it waits and the worker here has stopped, for the server refuses its key.
    """

    def __init__(self, message: str, *, job_id: str, status: str) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.status = status


class WebhookRefused(MistralNbError):  # noqa: N818
    """A delivery that came in must not be believed; the message says why.

    When: A webhook is verified, before anything in it is used.
    Why: It is forged or changed, older than five minutes, or signed with another secret.
    What to do: Answer it with status 401 and forget it. If it should have been right, compare the
        secrets of both sides and their clocks.
    Settings: ``secret`` (MISTRAL_NB_WEBHOOK_SECRET).
    """


def explanation(kind: type[MistralNbError]) -> dict[str, str]:
    """Return what the docstring of a class teaches.

    Args:
        kind: A class of this module, or one derived from it.

    Returns:
        Label (``"When"``, ``"Why"``, ``"What to do"``, ``"Settings"``) -> text in one line; from
        the nearest class that has any. Empty where Python was told to drop docstrings.
    """
    import inspect

    for each in kind.__mro__:
        found = _LABELLED.findall(inspect.cleandoc(each.__doc__ or ""))
        if found:
            return {label: " ".join(text.split()) for label, text in found}
    return {}


def printable(text: str) -> str:
    """Return a text without the characters that would steer a terminal."""
    return text if text.isprintable() else "".join(filter(_is_shown, text))


def _is_shown(character: str) -> bool:
    return character.isprintable() or character in "\n\t"


def _remade(kind: type[MistralNbError], args: tuple[Any, ...]) -> MistralNbError:
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def __dir__() -> list[str]:
    return sorted(__all__)
