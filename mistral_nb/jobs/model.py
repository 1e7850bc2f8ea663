"""What a job is, in the words that both engines and everyone above them share."""

from __future__ import annotations

import math
import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import orjson

from mistral_nb.errors import InputError
from mistral_nb.portal import in_kernel
from mistral_nb.records import (
    JobActive,
    JobCancelled,
    JobCompleted,
    JobDelayed,
    JobFailed,
    JobProgress,
    JobQueued,
    JobRecord,
    JobStalled,
    JobUncertain,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CALLBACK",
    "ENDED",
    "STATUSES",
    "Claim",
    "Limit",
    "Note",
    "OnUncertain",
    "Outcome",
    "Snapshot",
    "Spec",
    "Status",
    "callback_for",
    "checked_id",
    "encode",
    "make_spec",
]

Status = Literal["queued", "delayed", "active", "completed", "failed", "cancelled", "uncertain"]
"""Where a job is. The last four are ends; ``uncertain``: a paid call of it may or may not have
been carried out, and it is not repeated unasked."""
STATUSES: tuple[Status, ...] = (
    "queued",
    "delayed",
    "active",
    "completed",
    "failed",
    "cancelled",
    "uncertain",
)
ENDED: frozenset[Status] = frozenset({"completed", "failed", "cancelled", "uncertain"})
OnUncertain = Literal["ask", "retry"]
CALLBACK = "webhook"
"""Name of the job that tells a ``callback_url`` how another job ended."""
HIGHEST_PRIORITY_NUMBER = 2**21
LONGEST_ERROR = 2000
"""Characters kept of an error's text."""
_ID = re.compile(r"(?!\d+\Z)[A-Za-z0-9._@=+,-]{1,200}")


@dataclass(frozen=True, slots=True)
class Spec:
    """A job as it is added.

    Attributes:
        id: The same id is the same job.
        name: Names its handler.
        data: JSON for the handler.
        attempts: Most attempts, the first included.
        backoff: Seconds before the first repeat; each further wait is twice the last.
        timeout: Most seconds an attempt may take.
        delay: Seconds before the first attempt.
        priority: 0 goes first, then 1, 2, 3, ... (BullMQ's order).
        callback_url: Told when the job has ended.
    """

    id: str
    name: str
    data: bytes
    attempts: int = 3
    backoff: float = 1.0
    timeout: float = 120.0
    delay: float = 0.0
    priority: int = 0
    callback_url: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A job in a worker's hands.

    Attributes:
        spec: The job.
        attempt: Number of this attempt, from 1.
        token: Proves that it is still in these hands (the fencing token).
        ref: The engine's own handle of it.
    """

    spec: Spec
    attempt: int
    token: int | str
    ref: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        status: An end; or ``delayed``: a failure, again after ``delay``; or ``queued``:
            handed back, as if it had never been taken, for after ``delay``.
        result: JSON that the handler returned.
        error: Why it is no success.
        delay: Seconds before the next attempt.
    """

    status: Status
    result: bytes | None = None
    error: str | None = None
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``starts`` starts in any ``seconds``, over all workers of a queue."""

    starts: int
    seconds: float

    def __post_init__(self) -> None:
        if not (
            isinstance(self.starts, int)
            and isinstance(self.seconds, int | float)
            and self.starts >= 1
            and 0 < self.seconds < math.inf
        ):
            raise InputError(
                "limiter must be (starts, seconds), both above 0, such as (10, 1.0), "
                f"not {(self.starts, self.seconds)!r}."
            )

    def __str__(self) -> str:
        return f"{self.starts}/{self.seconds:g}s"

    @classmethod
    def of(cls, limiter: Any) -> Limit:
        """Make a limit of a pair (starts, seconds).

        Raises:
            InputError: It is no such pair.
        """
        if not isinstance(limiter, tuple | list) or len(limiter) != 2:  # noqa: PLR2004 - a pair
            raise InputError(
                f"limiter must be (starts, seconds), such as (10, 1.0), not {limiter!r}."
            )
        return cls(*limiter)

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read ``10/1s``, ``10/s`` or ``600/m``.

        Raises:
            InputError: It reads otherwise.
        """
        found = re.fullmatch(r"(\d+)/(\d+(?:\.\d+)?)?([smh])", text.strip())
        if found is None:
            raise InputError(f"A limit reads like 10/1s or 600/m, not {text!r}.")
        starts, number, unit = found.groups()
        return cls(int(starts), float(number or 1) * {"s": 1, "m": 60, "h": 3600}[unit])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job at one moment; times in seconds since the epoch, None for what has not been.

    Attributes:
        id: Its id.
        name: Names its handler.
        status: Where it is.
        data: What it was given.
        attempts_made: Attempts that have ended.
        attempts: Most attempts.
        stalls: How often its worker was lost.
        priority: 0 goes first.
        progress: What its handler told last.
        result: What its handler returned.
        error: Why it failed, or what failed last.
        callback_url: Told when it has ended.
        added_at: When it was added.
        due_at: When it may start, if it is delayed.
        started_at: When its last attempt began.
        ended_at: When it ended.
    """

    id: str
    name: str
    status: Status
    data: Any = field(default=None, repr=False)
    attempts_made: int = 0
    attempts: int = 1
    stalls: int = 0
    priority: int = 0
    progress: Any = None
    result: Any = field(default=None, repr=False)
    error: str | None = None
    callback_url: str | None = None
    added_at: float | None = None
    due_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None

    @property
    def ended(self) -> bool:
        """True once nothing more happens to it unless it is replayed."""
        return self.status in ENDED

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it, without its data: ``jobId``, ``status``, ..."""
        return {
            "jobId": self.id,
            "name": self.name,
            "status": self.status,
            "attemptsMade": self.attempts_made,
            "attempts": self.attempts,
            "stalls": self.stalls,
            "priority": self.priority,
            "progress": self.progress,
            "result": self.result,
            "error": self.error,
            "addedAt": self.added_at,
            "dueAt": self.due_at,
            "startedAt": self.started_at,
            "endedAt": self.ended_at,
        }


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that happened to a job, as an engine's log has it.

    Attributes:
        job_id: The job.
        kind: A status, ``progress`` or ``stalled``.
        body: JSON: the result, the progress, or the error's text.
        at: When, in seconds since the epoch.
    """

    job_id: str
    kind: str
    body: bytes | None
    at: float

    def record(self, queue: str) -> JobRecord | None:
        """Return the bus's record of it; None for a kind this version does not know."""
        kind = _RECORDS.get(self.kind)
        if kind is None:
            return None
        value = None if self.body is None else orjson.loads(self.body)
        more = {} if (name := _VALUES.get(kind)) is None else {name: value}
        return kind(self.job_id, queue, self.at, **more)


_RECORDS: dict[str, type[JobRecord]] = {
    each.name.removeprefix("job:"): each
    for each in (
        JobQueued,
        JobDelayed,
        JobActive,
        JobProgress,
        JobStalled,
        JobCompleted,
        JobFailed,
        JobCancelled,
        JobUncertain,
    )
}
_VALUES: dict[type[JobRecord], str] = {
    JobProgress: "progress",
    JobCompleted: "result",
    JobDelayed: "error",
    JobFailed: "error",
    JobCancelled: "error",
    JobUncertain: "error",
}


def note_of(snapshot: Snapshot) -> Note:
    """Return a job's present state as the note that led to it."""
    value = snapshot.result if snapshot.status == "completed" else snapshot.error
    times = (snapshot.ended_at, snapshot.started_at, snapshot.added_at)
    at = next((each for each in times if each is not None), 0.0)
    return Note(snapshot.id, snapshot.status, orjson.dumps(value), at)


def encode(value: Any, what: str) -> bytes:
    """Encode a value as JSON.

    Raises:
        InputError: It is not JSON; the message names ``what``.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise InputError(f"{what} must be a value that JSON can hold: {error}.") from error


def checked_id(job_id: str) -> str:
    """Return a job id that both engines and a URL can hold.

    Raises:
        InputError: It is not such an id.
    """
    if not isinstance(job_id, str) or not _ID.fullmatch(job_id):
        raise InputError(
            "job_id must be 1 to 200 letters, digits or any of . _ @ = + , - and not only "
            f"digits, not {job_id!r}."
        )
    return job_id


def make_spec(
    name: str,
    data: Any = None,
    job_id: str | None = None,
    attempts: int = 3,
    backoff: float = 1.0,
    timeout: float = 120.0,
    delay: float = 0.0,
    priority: int = 0,
    callback_url: str | None = None,
) -> Spec:
    """Check the arguments of ``Queue.add`` and make a job of them.

    Raises:
        InputError: One of them cannot be used; the message names it.
    """
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"name must be the name of a handler, not {name!r}.")
    if not isinstance(attempts, int) or attempts < 1:
        raise InputError(f"attempts must be a whole number from 1, not {attempts!r}.")
    for what, seconds, least in (
        ("backoff", backoff, 0),
        ("timeout", timeout, 0.001),
        ("delay", delay, 0),
    ):
        if not isinstance(seconds, int | float) or not least <= seconds < math.inf:
            raise InputError(f"{what} must be a number of seconds from {least}, not {seconds!r}.")
    if not isinstance(priority, int) or not 0 <= priority <= HIGHEST_PRIORITY_NUMBER:
        raise InputError(
            f"priority must be a whole number from 0 (first) to {HIGHEST_PRIORITY_NUMBER}, "
            f"not {priority!r}."
        )
    if callback_url is not None and not (
        isinstance(callback_url, str) and callback_url.startswith(("http://", "https://"))
    ):
        raise InputError(f"callback_url must begin with http:// or https://, not {callback_url!r}.")
    return Spec(
        id=f"job-{uuid.uuid4().hex[:16]}" if job_id is None else checked_id(job_id),
        name=name,
        data=encode(data, "data"),
        attempts=attempts,
        backoff=float(backoff),
        timeout=float(timeout),
        delay=float(delay),
        priority=priority,
        callback_url=callback_url,
    )


def callback_for(spec: Spec, outcome: Outcome, status_base: str) -> Spec | None:
    """Return the job that tells a job's ``callback_url`` how it ended, if there is one."""
    if spec.callback_url is None or outcome.status not in ENDED:
        return None
    data: Mapping[str, Any] = {
        "url": spec.callback_url,
        "event": f"job.{outcome.status}",
        "timestamp": timestamp(),
        "data": {
            "jobId": spec.id,
            "name": spec.name,
            "status": outcome.status,
            "result": None if outcome.result is None else orjson.loads(outcome.result),
            "error": outcome.error,
            "statusUrl": status_url(status_base, spec.id),
        },
    }
    # One attempt more than the webhooks' short or long schedule has waits.
    attempts = 6 if in_kernel() else 9
    return Spec(
        f"callback-{spec.id}", CALLBACK, orjson.dumps(data), attempts=attempts, timeout=30.0
    )


def timestamp() -> str:
    """Return this moment as the body of a webhook has it: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def status_url(base: str, job_id: str) -> str:
    """Return the address where a job's status can be read."""
    return f"{base}/api/jobs/{job_id}"
