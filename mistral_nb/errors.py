"""Every exception the toolkit raises, and what each one means.

```
MistralNbError
├── SettingsError             a setting is missing, malformed or cannot work
├── InputError (ValueError)   data or arguments cannot be used; raised before anything is sent
│   ├── TemplateError         a prompt template does not fit the table
│   └── SchemaError           a result schema cannot be turned into JSON schema
├── ServerUnreachable         no server answered at the address
├── ApiError                  the server answered with a refusal
│   ├── AuthenticationError   401, 403: the key is wrong or may not do this
│   ├── NotFoundError         404: no such model, file or job
│   ├── InvalidRequestError   400, 413, 422: the request itself is wrong
│   ├── RateLimitError        429: too many requests or tokens
│   └── ServerError           5xx: the server failed
├── StreamError               a reply ended before it was complete; ``partial`` keeps its text
│   ├── StreamCut             the connection closed, or the end came without a finish reason
│   ├── StreamStalled         no data arrived for ``timeout`` seconds
│   ├── StreamMalformed       a chunk was not what the API describes
│   └── StreamRefused         the server sent an error object inside the stream
├── WaitTimeout (TimeoutError)  the wait ended; the work itself goes on
├── StoreError                a local file (ledger, history) cannot be read or written
├── RunError                  a labelling run cannot go on as asked
├── JobError                  a background job did not end well; ``status`` says how
└── WebhookRefused            a delivery that came in is forged, too old or malformed
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mistral_nb.streaming import Reply

__all__ = [
    "ApiError",
    "AuthenticationError",
    "CostLimitError",
    "InputError",
    "InvalidRequestError",
    "JobError",
    "MistralNbError",
    "NotFoundError",
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
]


class MistralNbError(Exception):
    """Base of everything this package raises on purpose."""


class SettingsError(MistralNbError):
    """A setting is missing, malformed or cannot work; the message names it."""


class InputError(MistralNbError, ValueError):
    """Data or arguments cannot be used; the message names the row, column or argument."""


class TemplateError(InputError):
    """A prompt template does not fit the table it is filled from."""


class SchemaError(InputError):
    """A result schema cannot be turned into JSON schema."""


class ServerUnreachable(MistralNbError):  # noqa: N818 - reads as the sentence it is
    """No server answered at the address in ``server_url``.

    Attributes:
        sent: False if the request surely never left; else it may have been carried out.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class ApiError(MistralNbError):
    """The server answered with a refusal.

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
    """401 or 403: the key is wrong, has expired, or may not do this."""


class NotFoundError(ApiError):
    """404: no such model, file, job or conversation."""


class InvalidRequestError(ApiError):
    """400, 413 or 422: the request itself is wrong; repeating it cannot help."""


class RateLimitError(ApiError):
    """429: too many requests or tokens; ``retry_after`` may say how long to wait."""


class ServerError(ApiError):
    """5xx: the server failed; the same request may work later."""


class StreamError(MistralNbError):
    """A reply ended before it was complete.

    Attributes:
        partial: What had arrived, as a ``Reply`` with ``finish_reason=None``; never None
            once the stream has begun.
    """

    def __init__(self, message: str, *, partial: Reply | None = None) -> None:
        super().__init__(message)
        self.partial = partial


class StreamCut(StreamError):  # noqa: N818
    """The connection closed early, or the stream ended without a finish reason."""


class StreamStalled(StreamError):  # noqa: N818
    """No data arrived for the number of seconds in the ``timeout`` setting."""


class StreamMalformed(StreamError):  # noqa: N818
    """A chunk was not JSON, or not of the shape the API describes."""


class StreamRefused(StreamError):  # noqa: N818
    """The server sent an error object in the middle of the stream."""


class WaitTimeout(MistralNbError, TimeoutError):  # noqa: N818
    """The wait ended, the work did not: ask again, or stop it."""


class StoreError(MistralNbError):
    """A local file (ledger, history, simulator state) cannot be read or written."""


class RunError(MistralNbError):
    """A labelling run cannot go on as asked; the message says what to do."""


class CostLimitError(RunError):
    """A run would cost more than its ``max_cost``; what was answered until then is kept."""


class JobError(MistralNbError):
    """A background job did not end well.

    Attributes:
        job_id: The job.
        status: ``"failed"``, ``"cancelled"`` or ``"uncertain"``.
    """

    def __init__(self, message: str, *, job_id: str, status: str) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.status = status


class WebhookRefused(MistralNbError):  # noqa: N818
    """A delivery that came in must not be believed; the message says why."""
