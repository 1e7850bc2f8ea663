"""The simulator's HTTP against the API's own description, operation by operation."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

import httpx2
import orjson
import pytest
from mistralai.client import models
from pydantic import BaseModel

from mistral_nb.simulator import Faults
from tests.conftest import SHARED
from tests.contract.schema import component, faults, operations, response
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
OFFERED = {
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/fim/completions"),
    ("POST", "/v1/moderations"),
    ("POST", "/v1/chat/moderations"),
    ("POST", "/v1/classifications"),
    ("POST", "/v1/chat/classifications"),
    ("POST", "/v1/ocr"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model_id}"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files"),
    ("GET", "/v1/files/{file_id}"),
    ("DELETE", "/v1/files/{file_id}"),
    ("GET", "/v1/files/{file_id}/content"),
    ("GET", "/v1/files/{file_id}/url"),
    ("POST", "/v1/batch/jobs"),
    ("GET", "/v1/batch/jobs"),
    ("GET", "/v1/batch/jobs/{job_id}"),
    ("DELETE", "/v1/batch/jobs/{job_id}"),
    ("POST", "/v1/batch/jobs/{job_id}/cancel"),
    *((method, path) for method, path in operations() if path.startswith("/v1/conversations")),
    *((method, path) for method, path in operations() if path.startswith("/v1/agents")),
} - {("POST", "/v1/agents/completions")}
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


@pytest.mark.parametrize(("method", "path"), [o for o in operations() if o not in OFFERED])
def test_what_is_not_simulated_says_so(api: Api, method: str, path: str) -> None:
    """501 and a sentence that names the request and what to do instead."""
    where = re.sub(r"\{\w+\}", "x", path)
    reply = api.http.request(method, where)
    assert reply.status_code == 501
    assert reply.json()["message"].startswith(f"The simulator does not offer {method} {where}. ")
    assert "MISTRAL_API_KEY" in reply.json()["message"]


@pytest.mark.parametrize("path", ["/v1/nonsense", "/v1", "/v1/files/a/b/c", "/x", "/simulator"])
def test_unknown_paths_are_not_found(api: Api, path: str) -> None:
    """404 for what neither the API nor the simulator has."""
    assert api.get(path).status_code == 404


@pytest.mark.parametrize("key", [None, "Bearer wrong-key", "Bearer", "Basic dGVzdA=="])
def test_a_bad_key_is_refused(api: Api, key: str | None) -> None:
    """401 with the API's short body, whatever the path."""
    headers = {} if key is None else {"authorization": key}
    for path in ("/v1/models", "/v1/files", "/v1/batch/jobs"):
        reply = httpx2.get(api.simulator.url + path, headers=headers)
        assert (reply.status_code, reply.json()) == (401, {"detail": "Unauthorized"})


@pytest.mark.parametrize("path", ["/v1/files/{}", "/v1/files/{}/content", "/v1/batch/jobs/{}"])
def test_ids_that_nobody_has_are_not_found(api: Api, path: str) -> None:
    """404 for a good id without an object, 422 for what is no id at all."""
    assert api.get(path.format(uuid.uuid4())).status_code == 404
    refused = api.get(path.format("no-id"))
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["type"] == "uuid_parsing"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {}),
        ("/v1/chat/completions", {"model": "m", "messages": [], "temperature": 9}),
        ("/v1/embeddings", {"model": "mistral-embed"}),
        ("/v1/batch/jobs", {"endpoint": "/v1/nothing", "model": "mistral-small-latest"}),
        ("/v1/batch/jobs", {"endpoint": "/v1/chat/completions", "model": "mistral-small-latest"}),
    ],
)
def test_a_bad_body_is_listed(api: Api, path: str, body: dict) -> None:
    """422 whose detail is a list of entries with loc, msg and type."""
    reply = api.post(path, body)
    assert reply.status_code == 422
    assert faults(reply.json(), component("HTTPValidationError")) == []
    assert reply.json()["detail"]


def test_an_unknown_model_of_a_job_is_refused(api: Api) -> None:
    """400 with type invalid_model, as for chat."""
    body = {"endpoint": "/v1/chat/completions", "model": "nobody", "requests": [row(1)]}
    reply = api.post("/v1/batch/jobs", body)
    assert (reply.status_code, reply.json()["type"]) == (400, "invalid_model")


@pytest.mark.parametrize("say", [True, False])
def test_too_many_requests_are_refused(
    make_api: Callable[..., Api],
    say: bool,
) -> None:
    """429 with the recorded body and rate headers; Retry-After only if it is asked for."""
    limited = make_api(requests_per_minute=1, tokens_per_minute=100_000, send_retry_after=say)
    first, second = limited.chat("a"), limited.chat("b")
    assert first.headers["x-ratelimit-remaining-req-minute"] == "0"
    assert int(first.headers["x-ratelimit-tokens-query-cost"]) > 0
    assert second.status_code == 429
    assert second.json() == {
        "object": "error",
        "message": "Rate limit exceeded",
        "type": "rate_limited",
        "param": None,
        "code": "1300",
        "raw_status_code": 429,
    }
    assert second.headers["x-ratelimit-limit-req-minute"] == "1"
    assert int(second.headers["x-ratelimit-remaining-tokens-minute"]) < 100_000
    assert ("retry-after" in second.headers) == say
    if say:
        assert 0 < int(second.headers["retry-after"]) <= 60


def test_a_fault_is_a_server_error_in_the_usual_form(api: Api) -> None:
    """5xx come as objects with message, type and code."""
    api.simulator.faults = Faults(error_rate=1, error_status=503)
    reply = api.chat("a")
    assert reply.status_code == 503
    assert set(reply.json()) == {"object", "message", "type", "param", "code"}
