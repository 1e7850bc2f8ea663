"""``/v1/files``: upload straight to disk, list, read, delete, and signed addresses."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import mimetypes
import shutil
import time
import uuid
from typing import TYPE_CHECKING, Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import FileResponse, Response

from mistral_nb.simulator.replies import JsonReply, arriving, query_bool, query_choices, query_int
from mistral_nb.simulator.validation import ApiProblem, chosen, unprocessable

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from starlette.requests import Request

    from mistral_nb.simulator.state import State

__all__ = ["content", "delete", "download_signed", "listing", "retrieve", "signed_url", "upload"]

MAX_BYTES = 512 * 1024 * 1024
MAX_HOURS = 100 * 366 * 24
"""What asks to be kept for longer is kept for a century."""
PURPOSES = ("fine-tune", "batch", "ocr")
VISIBILITIES = ("workspace", "user")
FILTERS = {
    "purpose": PURPOSES,
    "sample_type": ("pretrain", "instruct", "batch_request", "batch_result", "batch_error"),
    "source": ("upload", "repository", "mistral"),
}
COLUMNS = (
    "id",
    "bytes",
    "created_at",
    "filename",
    "purpose",
    "sample_type",
    "num_lines",
    "mimetype",
    "source",
    "signature",
    "expires_at",
    "visibility",
)


async def upload(request: Request) -> Response:
    """``POST /v1/files``."""
    state: State = request.app.state.store
    sent_in = arriving(request, MAX_BYTES + 65_536)
    parser = MultiPartParser(request.headers, sent_in, max_files=1)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:
        raise unprocessable(("body", "file"), "Field required", "missing") from error
    try:
        sent = form.get("file")
        if not isinstance(sent, UploadFile):
            raise unprocessable(("body", "file"), "Field required", "missing")
        purpose = chosen(("body", "purpose"), form.get("purpose") or "fine-tune", PURPOSES)
        visibility = form.get("visibility") or "workspace"
        visibility = chosen(("body", "visibility"), visibility, VISIBILITIES)
        hours = _hours(form.get("expiry"))
        file_id = state.new_id("file", sent.filename, sent.size)
        path = state.file_path(file_id)
        lines, signature = await asyncio.to_thread(_keep, sent, path)
        state.add_file(
            id=file_id,
            filename=sent.filename or "file",
            purpose=purpose,
            sample_type="batch_request" if purpose == "batch" else "instruct",
            source="upload",
            bytes=path.stat().st_size,
            num_lines=lines if (sent.filename or "").endswith(".jsonl") else None,
            mimetype=_mimetype(sent),
            signature=signature,
            expires_at=int(time.time()) + hours * 3600 if hours else None,
            visibility=visibility,
        )
    finally:
        await form.close()
    state.count("files_uploaded")
    row = state.file(file_id)
    assert row is not None
    return JsonReply(shown(row))


async def listing(request: Request) -> Response:
    """``GET /v1/files``."""
    query = request.query_params
    rows = [row for row in request.app.state.store.files() if not _expired(row)]
    for name, choices in FILTERS.items():
        if wanted := query_choices(request, name, choices):
            rows = [row for row in rows if row[name] in wanted]
    if wanted := query.getlist("mimetypes"):
        rows = [row for row in rows if row["mimetype"] in wanted]
    if search := query.get("search"):
        rows = [row for row in rows if search.lower() in row["filename"].lower()]
    page, size = query_int(request, "page", 0), query_int(request, "page_size", 100, 1)
    body: dict[str, Any] = {
        "data": [shown(row) for row in rows[page * size : (page + 1) * size]],
        "object": "list",
        "total": len(rows) if query_bool(request, "include_total", True) else None,
    }
    return JsonReply(body)


async def retrieve(request: Request) -> Response:
    """``GET /v1/files/{file_id}``."""
    return JsonReply({**shown(_known(request)), "deleted": False})


async def delete(request: Request) -> Response:
    """``DELETE /v1/files/{file_id}``."""
    row = _known(request)
    request.app.state.store.delete_file(row["id"])
    return JsonReply({"id": row["id"], "object": "file", "deleted": True})


async def content(request: Request) -> Response:
    """``GET /v1/files/{file_id}/content``."""
    return _download(request, _known(request))


async def signed_url(request: Request) -> Response:
    """``GET /v1/files/{file_id}/url``: an address that needs no key until it expires."""
    hours = query_int(request, "expiry", 24, 1, 168)
    row = _known(request)
    until = int(time.time()) + hours * 3600
    where = str(request.base_url).rstrip("/")
    signature = _signature(request, row["id"], until)
    return JsonReply({"url": f"{where}/simulator/files/{row['id']}?se={until}&sig={signature}"})


async def download_signed(request: Request) -> Response:
    """``GET /simulator/files/{file_id}``: where a signed address leads."""
    until = query_int(request, "se", 0)
    file_id = str(request.path_params["file_id"])
    given = request.query_params.get("sig", "")
    expected = _signature(request, file_id, until)
    if until < time.time() or not hmac.compare_digest(given.encode(), expected.encode()):
        raise ApiProblem.of(403, "The signature is wrong or has expired", "forbidden")
    return _download(request, _known(request))


def shown(row: sqlite3.Row) -> dict[str, Any]:
    """Return a file as the API shows it."""
    return {"object": "file", **{name: row[name] for name in COLUMNS}}


def _known(request: Request) -> sqlite3.Row:
    file_id = str(request.path_params["file_id"])
    try:
        uuid.UUID(file_id)
    except ValueError as error:
        message = "Input should be a valid UUID"
        raise unprocessable(("path", "file_id"), message, "uuid_parsing", file_id) from error
    row: sqlite3.Row | None = request.app.state.store.file(str(uuid.UUID(file_id)))
    if row is None or _expired(row):
        raise _missing()
    return row


def _missing() -> ApiProblem:
    return ApiProblem(404, {"detail": "No file matches the given query."})


def _expired(row: sqlite3.Row) -> bool:
    return row["expires_at"] is not None and row["expires_at"] < time.time()


def _download(request: Request, row: sqlite3.Row) -> Response:
    path: Path = request.app.state.store.file_path(row["id"])
    if not path.exists():  # deleted since, or by a person
        raise _missing()
    # The client's file name goes into no header: it may hold anything.
    return FileResponse(path, media_type="application/octet-stream")


def _signature(request: Request, file_id: str, until: int) -> str:
    secret: bytes = request.app.state.secret
    return hmac.new(secret, f"{file_id}:{until}".encode(), "sha256").hexdigest()


def _keep(sent: UploadFile, path: Path) -> tuple[int, str]:
    """Copy an upload into place; return its number of lines and a checksum."""
    sent.file.seek(0)
    digest = hashlib.md5(usedforsecurity=False)
    part = path.with_suffix(".part")
    lines, last = 0, b"\n"
    with part.open("wb") as file:
        while data := sent.file.read(1 << 20):
            digest.update(data)
            lines += data.count(b"\n")
            last = data[-1:]
            file.write(data)
    shutil.move(part, path)
    return lines + (last != b"\n"), digest.hexdigest()


def _mimetype(sent: UploadFile) -> str:
    if (sent.filename or "").endswith(".jsonl"):
        return "application/jsonl"
    return mimetypes.guess_type(sent.filename or "")[0] or "application/octet-stream"


def _hours(value: object) -> int | None:
    if value in {None, ""}:
        return None
    try:
        return min(max(1, int(str(value))), MAX_HOURS)
    except ValueError as error:
        message = "Input should be a valid integer"
        raise unprocessable(("body", "expiry"), message, "int_parsing", str(value)) from error
