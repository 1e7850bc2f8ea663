"""``/v1/batch/jobs``: create, list, read, cancel and delete batch jobs."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.simulator.batch import MAX_ROWS
from mistral_nb.simulator.catalogue import find_model
from mistral_nb.simulator.encoding import encoded
from mistral_nb.simulator.endpoints import ENDPOINTS
from mistral_nb.simulator.replies import (
    JsonReply,
    query_bool,
    query_choices,
    query_int,
    query_object,
    read_body,
)
from mistral_nb.simulator.state import STATUSES, TERMINAL, State
from mistral_nb.simulator.validation import (
    ApiProblem,
    JobRequest,
    check,
    invalid_model,
    unprocessable,
)

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["cancel", "create", "delete", "listing", "retrieve"]

_EPOCH = datetime.fromtimestamp(0, UTC)
KNOWN_QUERY = frozenset(
    {
        "page",
        "page_size",
        "model",
        "agent_id",
        "metadata",
        "created_after",
        "created_by_me",
        "status",
        "order_by",
    }
)


async def create(request: Request) -> Response:
    """``POST /v1/batch/jobs``."""
    state: State = request.app.state.store
    wanted: JobRequest = check(JobRequest, await read_body(request))
    _check_job(wanted)
    _check_files(state, wanted)
    files = [str(each) for each in wanted.input_files or ()]
    job_id = state.new_id("job", wanted.endpoint, wanted.model, files)
    if wanted.requests is not None:
        lines = (encoded(row.model_dump()) + b"\n" for row in wanted.requests)
        path = state.part_path(job_id, "input")
        await asyncio.to_thread(path.write_bytes, b"".join(lines))
    state.add_job(
        job_id,
        endpoint=wanted.endpoint,
        model=wanted.model,
        agent_id=wanted.agent_id,
        metadata=wanted.metadata,
        input_files=files,
        timeout_hours=wanted.timeout_hours,
    )
    state.count("jobs_created")
    request.app.state.worker.wake()
    row = state.job(job_id)
    assert row is not None
    return JsonReply(shown(row))


def _check_job(wanted: JobRequest) -> None:
    if wanted.endpoint not in ENDPOINTS:
        raise ApiProblem.of(
            501,
            f"The simulator runs no batches for {wanted.endpoint}, only for "
            f"{', '.join(sorted(ENDPOINTS))}.",
            "not_simulated",
        )
    if (wanted.input_files is None) == (wanted.requests is None):
        message = "Exactly one of input_files and requests must be given"
        raise unprocessable(("body", "input_files"), message, "value_error")
    if wanted.agent_id is not None:
        raise ApiProblem.of(501, "The simulator runs no agents in batches.", "not_simulated")
    if wanted.model is None:
        raise unprocessable(("body", "model"), "Either model or agent_id is required", "missing")
    model = find_model(wanted.model)
    if model is None or ENDPOINTS[wanted.endpoint] not in model.can:
        raise invalid_model(wanted.model)


def _check_files(state: State, wanted: JobRequest) -> None:
    total = 0
    for number, file_id in enumerate(wanted.input_files or ()):
        row = state.file(str(file_id))
        if row is None:
            raise ApiProblem(404, {"detail": f"No file matches the given query: {file_id}"})
        if row["purpose"] != "batch":
            message = f"File {file_id} has purpose {row['purpose']}, not batch"
            raise unprocessable(("body", "input_files", number), message, "value_error")
        total += row["num_lines"] or 0
    if wanted.input_files is not None and not wanted.input_files:
        raise unprocessable(("body", "input_files"), "At least one file is needed", "too_short")
    if total > MAX_ROWS:
        message = f"{total} requests in one job, more than {MAX_ROWS}"
        raise unprocessable(("body", "input_files"), message, "value_error")


async def listing(request: Request) -> Response:
    """``GET /v1/batch/jobs``: metadata filters come as bare query parameters."""
    query = request.query_params
    rows = request.app.state.store.jobs()
    for name in ("model", "agent_id"):
        if wanted := query.get(name):
            rows = [row for row in rows if row[name] == wanted]
    if statuses := query_choices(request, "status", STATUSES):
        rows = [row for row in rows if row["status"] in statuses]
    metadata = {key: value for key, value in query.items() if key not in KNOWN_QUERY}
    metadata |= query_object(request, "metadata")
    query_bool(request, "created_by_me", False)  # every job here is
    if metadata:
        rows = [row for row in rows if metadata.items() <= _metadata(row).items()]
    if after := query.get("created_after"):
        moment = _moment(after)
        rows = [row for row in rows if row["created_at"] > moment]
    order = query_choices(request, "order_by", ("created", "-created"))
    if order != ["created"]:
        rows.reverse()
    page, size = query_int(request, "page", 0), query_int(request, "page_size", 100, 1)
    data = [shown(row) for row in rows[page * size : (page + 1) * size]]
    return JsonReply({"data": data, "object": "list", "total": len(rows)})


async def retrieve(request: Request) -> Response:
    """``GET /v1/batch/jobs/{job_id}``."""
    inline = query_bool(request, "inline", False)
    row = _known(request)
    body = shown(row)
    if inline and row["status"] in TERMINAL:
        body["outputs"] = await asyncio.to_thread(_outputs, request.app.state.store, row)
    return JsonReply(body)


async def cancel(request: Request) -> Response:
    """``POST /v1/batch/jobs/{job_id}/cancel``."""
    row = _known(request)
    request.app.state.store.request_cancel(row["id"])
    request.app.state.worker.wake()
    return JsonReply(shown(_known(request)))


async def delete(request: Request) -> Response:
    """``DELETE /v1/batch/jobs/{job_id}``."""
    row = _known(request)
    request.app.state.store.delete_job(row["id"])
    return JsonReply({"id": row["id"], "object": "batch", "deleted": True})


def shown(row: sqlite3.Row) -> dict[str, Any]:
    """Return a job as the API shows it."""

    def second(value: float | None) -> int | None:
        return None if value is None else int(value)

    return {
        "id": row["id"],
        "object": "batch",
        "input_files": orjson.loads(row["input_files"]),
        "metadata": orjson.loads(row["metadata"]),
        "endpoint": row["endpoint"],
        "model": row["model"],
        "agent_id": row["agent_id"],
        "output_file": row["output_file"],
        "error_file": row["error_file"],
        "errors": orjson.loads(row["errors"]),
        "outputs": None,
        "status": row["status"],
        "created_at": int(row["created_at"]),
        "total_requests": row["total"],
        "completed_requests": row["succeeded"] + row["failed"],
        "succeeded_requests": row["succeeded"],
        "failed_requests": row["failed"],
        "started_at": second(row["started_at"]),
        "completed_at": second(row["completed_at"]),
    }


def _known(request: Request) -> sqlite3.Row:
    job_id = str(request.path_params["job_id"])
    try:
        job_id = str(uuid.UUID(job_id))
    except ValueError as error:
        message = "Input should be a valid UUID"
        raise unprocessable(("path", "job_id"), message, "uuid_parsing", job_id) from error
    row: sqlite3.Row | None = request.app.state.store.job(job_id)
    if row is None:
        raise ApiProblem(404, {"detail": "No batch job matches the given query."})
    return row


def _outputs(state: State, row: sqlite3.Row) -> list[Any]:
    found = []
    for name in ("output_file", "error_file"):
        if row[name] is None or not state.file_path(row[name]).exists():
            continue
        for line in state.file_path(row[name]).read_bytes().splitlines():
            try:
                found.append(orjson.loads(line))
            except orjson.JSONDecodeError:  # a line cut by a fault
                continue
    return found


def _metadata(row: sqlite3.Row) -> dict[str, Any]:
    return orjson.loads(row["metadata"]) or {}


def _moment(text: str) -> float:
    """Return the seconds since the epoch of a moment; one without a zone is in UTC."""
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError as error:
        message = "Input should be a valid datetime"
        raise unprocessable(
            ("query", "created_after"), message, "datetime_parsing", text
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH).total_seconds()  # timestamp() has no year 1, nor 1969 everywhere
