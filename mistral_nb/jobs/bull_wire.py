"""Jobs as BullMQ keeps them in Redis, and back in our terms: options, hashes, events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.jobs.engine import MOST_STALLS
from mistral_nb.jobs.model import STATUSES, Note, Snapshot, Spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mistral_nb.jobs.model import Status

__all__ = [
    "KEPT_FOR",
    "KINDS",
    "bull_states",
    "marked",
    "note_of",
    "options_of",
    "snapshot_of",
    "spec_of",
]

KEPT_FOR = 7 * 24 * 3600
"""Seconds that ended jobs stay in Redis."""
OURS = "mnb"
"""Our options of a job, beside BullMQ's own: a Node worker leaves them alone."""
KINDS: dict[str, Status] = {
    "waiting": "queued",
    "prioritized": "queued",
    "paused": "queued",
    "waiting-children": "queued",
    "delayed": "delayed",
    "active": "active",
    "completed": "completed",
    "failed": "failed",
}
"""BullMQ's states in our words; also the events that enter them."""


def marked(status: Status, error: str | None) -> str:
    """Return a failure's reason that says which of our ends it was: BullMQ knows only failed."""
    return f"{error}" if status == "failed" else f"[{status}] {error}"


def _unmarked(reason: str) -> tuple[Status, str]:
    for status in STATUSES:
        if reason.startswith(f"[{status}] "):
            return status, reason.removeprefix(f"[{status}] ")
    return "failed", reason


def options_of(spec: Spec) -> dict[str, Any]:
    """Return BullMQ's options of a job."""
    kept = {"age": KEPT_FOR}
    options: dict[str, Any] = {
        "jobId": spec.id,
        "attempts": spec.attempts,
        "backoff": {"type": "exponential", "delay": round(spec.backoff * 1000)},
        "removeOnComplete": kept,
        "removeOnFail": kept,
        "stackTraceLimit": 1,
        OURS: {"timeout": spec.timeout},
    }
    if spec.delay:
        options["delay"] = round(spec.delay * 1000)
    if spec.priority:
        options["priority"] = spec.priority
    if spec.callback_url is not None:
        options[OURS]["callbackUrl"] = spec.callback_url
    return options


def spec_of(job: Any) -> Spec:
    """Return a job of BullMQ in our terms; one that a Node producer added as well."""
    ours = job.opts.get(OURS) or {}
    backoff = job.opts.get("backoff") or {}
    wait = backoff if isinstance(backoff, int | float) else backoff.get("delay") or 0
    return Spec(
        id=str(job.id),
        name=job.name,
        data=orjson.dumps(job.data),
        attempts=max(1, int(job.opts.get("attempts") or 1)),
        backoff=float(wait) / 1000,
        timeout=float(ours.get("timeout") or 120.0),
        callback_url=ours.get("callbackUrl"),
    )


def bull_states(statuses: Sequence[Status]) -> list[str]:
    """Return the states of BullMQ where jobs in ours may be."""
    asked = set(statuses)
    if asked & {"cancelled", "uncertain"}:
        asked.add("failed")
    return [kind for kind, status in KINDS.items() if status in asked and kind != "paused"]


def snapshot_of(job_id: str, raw: dict[str, Any], status: Status) -> Snapshot:
    """Read a job's hash."""
    options = _loaded(raw.get("opts"))
    options = options if isinstance(options, dict) else {}
    ours = options.get(OURS)
    error = raw.get("failedReason")
    if error is not None and status in {"failed", "cancelled"}:
        status, error = _unmarked(error)
    stalls = int(raw.get("stc") or 0)
    if status == "failed" and error and "stalled more than" in error:
        error = (
            f"Its worker was lost {max(stalls, MOST_STALLS + 1)} times: it may be what kills them."
        )
    added, delay = _seconds(raw.get("timestamp")), float(raw.get("delay") or 0) / 1000
    return Snapshot(
        id=job_id,
        name=raw.get("name", ""),
        status=status,
        data=_loaded(raw.get("data")),
        attempts_made=int(raw.get("atm") or raw.get("attemptsMade") or 0),  # old and new BullMQ
        attempts=max(1, int(options.get("attempts") or 1)),
        stalls=stalls,
        priority=int(raw.get("priority") or 0),
        progress=_loaded(raw.get("progress")) if raw.get("progress") != "0" else None,
        result=_loaded(raw.get("returnvalue")),
        error=error,
        callback_url=ours.get("callbackUrl") if isinstance(ours, dict) else None,
        added_at=added,
        due_at=added + delay if status == "delayed" and added is not None else None,
        started_at=_seconds(raw.get("processedOn")),
        ended_at=_seconds(raw.get("finishedOn")),
    )


def note_of(entry_id: str, fields: dict[str, str]) -> Note | None:
    """Read an entry of BullMQ's stream of events; None for what says nothing about a status."""
    event, job_id = fields.get("event", ""), fields.get("jobId")
    at = int(entry_id.split("-", maxsplit=1)[0]) / 1000
    if job_id is None:
        return None
    if event in {"progress", "completed"}:
        body = fields.get("data" if event == "progress" else "returnvalue")
        return Note(job_id, event, orjson.dumps(_loaded(body)), at)
    if event == "failed":
        status, error = _unmarked(fields.get("failedReason", ""))
        return Note(job_id, status, orjson.dumps(error), at)
    if event == "stalled":
        return Note(job_id, event, None, at)
    return Note(job_id, KINDS[event], None, at) if event in KINDS else None


def _loaded(text: str | None) -> Any:
    """Read JSON that any producer or worker wrote."""
    if text is None:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _seconds(milliseconds: str | None) -> float | None:
    return None if milliseconds is None else int(milliseconds) / 1000
