"""What a run's ledger holds, as records: the run, its shards, its answers, what was odd."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

__all__ = ["Answer", "Finding", "RunRecord", "Shard", "ShardState"]

ShardState = Literal["written", "uploading", "uploaded", "creating", "submitted", "ended", "done"]
"""Each is committed before the step it names begins; `ended` means: download and read."""


@dataclass(frozen=True)
class RunRecord:
    """What a run is.

    Attributes:
        uid: Unique over all machines; batch jobs carry it.
        name: What people call it.
        digest: Content hash over all requests.
        mode: Engine.
        model: Model that answers.
        endpoint: API path that answers.
        server: Address, or ``"simulator"`` for the built-in one.
        rows: Rows of the table.
        spec: Prompt, schema, options and column names; never a key.
        status: ``running``, ``cancelling``, ``cancelled`` or ``done``.
        created: Seconds since the epoch.
        updated: Likewise.
        message: Last thing worth saying.
        counts: Rows by status when it last changed.
    """

    uid: str
    name: str
    digest: str
    mode: str
    model: str
    endpoint: str
    server: str
    rows: int
    spec: dict[str, Any]
    status: str
    created: float
    updated: float
    message: str = ""
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Shard:
    """A file of requests and the batch job that answers it."""

    id: int
    round: int
    lines: int
    bytes: int
    sha: str
    state: ShardState = "written"
    file_id: str | None = None
    job_id: str | None = None
    job_status: str | None = None
    completed: int = 0
    failed: int = 0
    output_file: str | None = None
    error_file: str | None = None
    message: str = ""
    submitted: float | None = None
    changed: float = 0.0


class Answer(NamedTuple):
    """What came back for a request.

    Attributes:
        text: The reply's text; None if there is none.
        error: Why there is no good result; None if there is.
        again: True if sending the request again may help.
        status: HTTP status of the request, if known.
        finish: Finish reason.
        prompt_tokens: As billed.
        completion_tokens: As billed.
        cached_tokens: Part of the prompt tokens billed at the cached price.
        seconds: From sending the request to its answer; None where that was not measured.
    """

    text: str | None = None
    error: str | None = None
    again: bool = False
    status: int | None = None
    finish: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    seconds: float | None = None


class Finding(NamedTuple):
    """Something odd: kind is duplicate, unknown, missing, unreadable or uncertain."""

    kind: str
    custom_id: str | None
    detail: str
