"""The simulator's HTTP against the API's own description, operation by operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from mistralai.client import models
from pydantic import BaseModel

from tests.conftest import SHARED
from tests.contract.schema import component, faults, response
from tests.simulator.conftest import row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.simulator.conftest import Api

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CHATS = [
    {},
    {"n": 2},
    {"max_tokens": 3},
    {"tools": [WEATHER]},
    {"model": "magistral-medium-latest"},
    {"response_format": {"type": "json_object"}},
]


def parts(value: object) -> Iterator[object]:
    """Yield every model inside a parsed reply."""
    yield value
    if isinstance(value, BaseModel):
        for _, field in value:
            yield from parts(field)
    elif isinstance(value, list):
        for each in value:
            yield from parts(each)


def agree(body: Any, where: str, kind: type[BaseModel]) -> None:
    """Assert that the description and the SDK's model both know a body."""
    assert faults(body, where) == []
    strange = [
        part for part in parts(kind.model_validate(body)) if "Unknown" in type(part).__name__
    ]
    assert strange == []


def test_the_validator_can_find_fault() -> None:
    """A body of the wrong shape is told from a right one."""
    where = response("GET", "/v1/batch/jobs/{job_id}")
    assert faults({"id": 3, "status": "ASLEEP"}, where)
    assert faults({"data": {}}, response("GET", "/v1/models"))
    assert faults({"id": "x", "model": "m", "choices": [{}]}, component("CompletionChunk"))


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_recorded_replies_never_have_data(number: int) -> None:
    """The field that the description requires and this suite does not is in no real reply."""
    path = SHARED / "wire" / "recorded" / f"chat-complete-{number}.json"
    assert "data" not in orjson.loads(path.read_bytes())["response"]


@pytest.mark.parametrize("options", CHATS, ids=str)
def test_a_plain_chat_reply_is_described(api: Api, options: dict) -> None:
    """Text, several choices, cut text, tool calls, thinking and JSON all validate."""
    body = api.chat("Weather in Paris?", **options).json()
    agree(body, response("POST", "/v1/chat/completions"), models.ChatCompletionResponse)


@pytest.mark.parametrize("options", CHATS, ids=str)
@pytest.mark.parametrize("whole", [True, False])
def test_every_chunk_of_a_stream_is_described(
    make_api: Callable[..., Api],
    options: dict,
    whole: bool,
) -> None:
    """Each event's data is a CompletionChunk, until [DONE]."""
    *chunks, done = make_api(whole_calls=whole).stream("Weather in Paris?", **options)
    assert done == b"[DONE]"
    assert chunks
    for chunk in chunks:
        agree(orjson.loads(chunk), component("CompletionChunk"), models.CompletionChunk)


def test_models_are_described(api: Api) -> None:
    """The list and each of its entries validate, and each is found by its name."""
    body = api.get("/v1/models").json()
    agree(body, response("GET", "/v1/models"), models.ModelList)
    for name in ("mistral-small-latest", "mistral-embed"):
        one = api.get(f"/v1/models/{name}").json()
        assert one in body["data"]
        agree(one, response("GET", "/v1/models/{model_id}"), models.BaseModelCard)


def test_embeddings_are_described(api: Api) -> None:
    """One text or several give vectors and usage."""
    for texts in ("a", ["a", "b"]):
        body = api.post("/v1/embeddings", {"model": "mistral-embed", "input": texts}).json()
        agree(body, response("POST", "/v1/embeddings"), models.EmbeddingResponse)


def test_files_are_described(api: Api) -> None:
    """Upload, list, get, url and delete validate; content gives the bytes back."""
    data = {"purpose": "batch"}
    sent = api.http.post("/v1/files", data=data, files={"file": ("a.jsonl", b"{}\n")}).json()
    agree(sent, response("POST", "/v1/files"), models.CreateFileResponse)
    agree(api.get("/v1/files").json(), response("GET", "/v1/files"), models.ListFilesResponse)
    path = f"/v1/files/{sent['id']}"
    agree(api.get(path).json(), response("GET", "/v1/files/{file_id}"), models.GetFileResponse)
    url = api.get(f"{path}/url").json()
    agree(url, response("GET", "/v1/files/{file_id}/url"), models.GetSignedURLResponse)
    assert api.get(f"{path}/content").content == b"{}\n"
    gone = api.http.delete(path).json()
    agree(gone, response("DELETE", "/v1/files/{file_id}"), models.DeleteFileResponse)


def test_batch_jobs_are_described(api: Api) -> None:
    """Create (from a file and inline), get, list, cancel and delete validate at every status."""
    api.simulator.batch_rate = None
    one = response("GET", "/v1/batch/jobs/{job_id}")
    made = api.job([row(1), row(2)], metadata={"a": "b"})
    agree(made, response("POST", "/v1/batch/jobs"), models.BatchJob)
    body = {"endpoint": "/v1/chat/completions", "model": "mistral-small-latest"}
    inline = api.post("/v1/batch/jobs", {**body, "requests": [row(3)]}).json()
    agree(inline, response("POST", "/v1/batch/jobs"), models.BatchJob)
    path = f"/v1/batch/jobs/{inline['id']}"
    asked = api.post(f"{path}/cancel", None).json()
    agree(asked, response("POST", "/v1/batch/jobs/{job_id}/cancel"), models.BatchJob)
    agree(api.ended(inline), one, models.BatchJob)
    api.simulator.batch_rate = 0
    ended = api.ended(made)
    agree(ended, one, models.BatchJob)
    agree(api.get(f"/v1/batch/jobs/{made['id']}", inline="true").json(), one, models.BatchJob)
    listed = api.get("/v1/batch/jobs").json()
    agree(listed, response("GET", "/v1/batch/jobs"), models.ListBatchJobsResponse)
    gone = api.http.delete(path).json()
    agree(gone, response("DELETE", "/v1/batch/jobs/{job_id}"), models.DeleteBatchJobResponse)
    for line in api.lines(ended["output_file"]):
        where = response("POST", "/v1/chat/completions")
        agree(line["response"]["body"], where, models.ChatCompletionResponse)
