"""Files over HTTP: what was sent comes back, and nothing in a name is trusted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.simulator.conftest import Api


def listed(api: Api, **query: Any) -> list[str]:
    return [file["filename"] for file in api.get("/v1/files", **query).json()["data"]]


def test_what_was_uploaded_comes_back(api: Api) -> None:
    """Content is byte for byte the same; size, lines and kind are told."""
    data = b'{"a": 1}\n\n\x00\xff{"b": 2}'
    sent = api.http.post(
        "/v1/files", data={"purpose": "batch"}, files={"file": ("rows.jsonl", data)}
    ).json()
    assert (sent["bytes"], sent["num_lines"]) == (len(data), 3)
    assert (sent["purpose"], sent["sample_type"], sent["source"]) == (
        "batch",
        "batch_request",
        "upload",
    )
    assert sent["mimetype"] == "application/jsonl"
    assert api.get(f"/v1/files/{sent['id']}/content").content == data
    assert api.get(f"/v1/files/{sent['id']}").json() == {**sent, "deleted": False}


def test_files_are_filtered_and_paged(api: Api) -> None:
    """Newest first, pages from 0, filters by purpose, source, kind and name."""
    for name in ("one.jsonl", "two.jsonl", "three.jsonl"):
        api.upload([{}], name)
    api.upload([b"text"], "scan.pdf", purpose="ocr")
    assert listed(api) == ["scan.pdf", "three.jsonl", "two.jsonl", "one.jsonl"]
    assert listed(api, page=1, page_size=3) == ["one.jsonl"]
    assert listed(api, purpose="ocr") == ["scan.pdf"]
    assert listed(api, search="TWO") == ["two.jsonl"]
    assert listed(api, sample_type=["batch_request"], source=["mistral"]) == []
    assert listed(api, mimetypes=["application/pdf"]) == ["scan.pdf"]
    assert api.get("/v1/files").json()["total"] == 4
    assert api.get("/v1/files", include_total="false").json()["total"] is None


@pytest.mark.parametrize(
    "query",
    [{"page": "x"}, {"page": -1}, {"page_size": 0}, {"source": "moon"}, {"include_total": "maybe"}],
    ids=str,
)
def test_a_bad_query_is_refused(api: Api, query: dict[str, Any]) -> None:
    """422 that names the parameter."""
    reply = api.get("/v1/files", **query)
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["query", *query]


@pytest.mark.parametrize(
    ("data", "files", "field"),
    [
        ({"purpose": "batch"}, {"other": ("a.jsonl", b"x")}, "file"),
        ({"purpose": "theft"}, {"file": ("a.jsonl", b"x")}, "purpose"),
        ({"visibility": "world"}, {"file": ("a.jsonl", b"x")}, "visibility"),
        ({"expiry": "soon"}, {"file": ("a.jsonl", b"x")}, "expiry"),
    ],
)
def test_a_bad_upload_is_refused(api: Api, data: dict, files: dict, field: str) -> None:
    """422 that names the form's field; nothing is kept."""
    reply = api.http.post("/v1/files", data=data, files=files)
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["body", field]
    assert listed(api) == []


def test_an_upload_that_is_no_form_is_refused(api: Api) -> None:
    """JSON in place of multipart is 422, not a failure."""
    assert api.post("/v1/files", {"file": "x"}).status_code == 422


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..", "/abs", "a\\b:c", "<script>", "x" * 3000, "ä 🃏.jsonl"]
)
def test_a_hostile_name_is_only_a_name(api: Api, tmp_path: Path, name: str) -> None:
    """It is shown as sent and used as no path: content lies under an id of our own."""
    file_id = api.upload([b"secret"], name)
    assert api.get(f"/v1/files/{file_id}").json()["filename"] == name
    assert api.get(f"/v1/files/{file_id}/content").content == b"secret"
    kept = [
        path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"secret"
    ]
    assert [path.parent.name for path in kept] == ["files"]
    assert kept[0].name == file_id


@pytest.mark.parametrize("file_id", ["..%2Fstate.sqlite", "nope", "state.sqlite"])
def test_an_id_is_a_uuid(api: Api, file_id: str) -> None:
    """Anything else in the path is refused before a file is touched."""
    assert api.get(f"/v1/files/{file_id}/content").status_code in {404, 422}


@pytest.mark.parametrize(
    ("method", "end"), [("GET", ""), ("DELETE", ""), ("GET", "/content"), ("GET", "/url")]
)
def test_an_unknown_file_is_not_found(api: Api, method: str, end: str) -> None:
    """404 with a detail, for every way to ask."""
    reply = api.http.request(method, f"/v1/files/00000000-0000-4000-8000-000000000000{end}")
    assert reply.status_code == 404
    assert "detail" in reply.json()


def test_a_deleted_file_is_gone(api: Api, tmp_path: Path) -> None:
    """Row and content go; asking again is 404."""
    file_id = api.upload([b"x"])
    assert api.http.delete(f"/v1/files/{file_id}").json()["deleted"] is True
    assert api.get(f"/v1/files/{file_id}").status_code == 404
    assert list(tmp_path.rglob(file_id)) == []


def test_a_file_whose_content_is_gone_is_not_found(api: Api, tmp_path: Path) -> None:
    """404, with the form of every other, when somebody has removed it from the folder."""
    file_id = api.upload([b"x"])
    (content,) = tmp_path.rglob(file_id)
    content.unlink()
    reply = api.get(f"/v1/files/{file_id}/content")
    assert (reply.status_code, reply.json().keys()) == (404, {"detail"})


def test_a_signed_address_needs_no_key_and_cannot_be_forged(api: Api) -> None:
    """It works without a key until it expires, for its own file only."""
    one, two = api.upload([b"one"], "a.jsonl"), api.upload([b"two"], "b.jsonl")
    url = api.get(f"/v1/files/{one}/url").json()["url"]
    assert httpx2.get(url).content == b"one"
    assert httpx2.get(url.replace(one, two)).status_code == 403
    assert httpx2.get(url.replace("se=", "se=9")).status_code == 403
    assert httpx2.get(url.partition("?")[0]).status_code == 403
    assert api.get(f"/v1/files/{one}/url", expiry=169).status_code == 422


def test_an_expired_file_is_gone(api: Api) -> None:
    """After its hour a file is neither listed nor found."""
    sent = api.http.post(
        "/v1/files", data={"expiry": "1"}, files={"file": ("a.jsonl", b"x")}
    ).json()
    assert 3500 < sent["expires_at"] - time.time() <= 3600
    state = api.simulator._core.state
    with state.lock:
        state.db.execute("UPDATE files SET expires_at = 1")
    assert listed(api) == []
    assert api.get(f"/v1/files/{sent['id']}").status_code == 404
