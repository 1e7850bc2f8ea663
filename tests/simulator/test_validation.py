"""Requests are validated as strictly as the API does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb.simulator.validation import ApiProblem, ChatRequest, JobRequest, check

if TYPE_CHECKING:
    from tests.simulator.conftest import Api

GOOD: dict[str, Any] = {
    "model": "mistral-small-latest",
    "messages": [{"role": "user", "content": "hi"}],
}


def detail(body: Any, kind: type = ChatRequest) -> list[dict[str, Any]]:
    with pytest.raises(ApiProblem) as caught:
        check(kind, body)
    assert caught.value.status == 422
    return caught.value.body["detail"]


@pytest.mark.parametrize(
    ("change", "kind", "loc"),
    [
        ({"store": False}, "extra_forbidden", ["body", "store"]),
        ({"temperature": 1.6}, "less_than_equal", ["body", "temperature"]),
        ({"top_p": 0}, "greater_than", ["body", "top_p"]),
        ({"max_tokens": -1}, "greater_than_equal", ["body", "max_tokens"]),
        ({"n": 0}, "greater_than_equal", ["body", "n"]),
        ({"messages": "hi"}, "list_type", ["body", "messages"]),
        ({"messages": [{"role": "user"}]}, "missing", ["body", "messages", 0, "user", "content"]),
        (
            {"messages": [{"role": "king", "content": ""}]},
            "union_tag_invalid",
            ["body", "messages", 0],
        ),
        (
            {"response_format": {"type": "xml"}},
            "literal_error",
            ["body", "response_format", "type"],
        ),
        ({"random_seed": "x"}, "int_parsing", ["body", "random_seed"]),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], kind: str, loc: list[Any]) -> None:
    """The detail list gives type and place of what is wrong, as pydantic words it."""
    (problem,) = detail({**GOOD, **change})
    assert (problem["type"], problem["loc"]) == (kind, loc)
    assert set(problem) == {"type", "loc", "msg", "input"}


def test_missing_fields_are_all_listed() -> None:
    """Every missing field has its entry."""
    assert {p["loc"][-1] for p in detail({})} == {"model", "messages"}


@pytest.mark.parametrize("raw", [b"{", b"", b"[1]", b"\xff"])
def test_a_body_that_is_no_object_is_refused(raw: bytes) -> None:
    """Broken JSON and other kinds of it are 422, too."""
    assert detail(raw)


def test_a_huge_input_is_not_quoted_in_full() -> None:
    """The refusal of a megabyte is small."""
    problems = detail({**GOOD, "messages": "x" * 1_000_000})
    assert len(str(problems)) < 3000


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "/v1/other"},
        {"timeout_hours": 0},
        {"timeout_hours": 169},
        {"metadata": {"": "x"}},
        {"metadata": {"k" * 33: "x"}},
        {"metadata": {"k": ""}},
        {"metadata": {"k": "v" * 513}},
        {"input_files": ["not-a-uuid"]},
        {"requests": [{"custom_id": "1"}]},
    ],
)
def test_a_batch_job_has_limits(change: dict[str, Any]) -> None:
    """Endpoint, hours, metadata and ids are checked."""
    assert detail({"endpoint": "/v1/chat/completions", "model": "m", **change}, JobRequest)


def test_every_kind_of_content_is_accepted() -> None:
    """Text, image, document, file, audio, reference and thinking chunks are all valid."""
    content = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "https://x", "detail": "low"}},
        {"type": "image_url", "image_url": "https://x"},
        {"type": "document_url", "document_url": "https://x"},
        {"type": "file", "file_id": "00000000-0000-4000-8000-000000000000"},
        {"type": "input_audio", "input_audio": "YQ=="},
        {"type": "reference", "reference_ids": [1, "a"]},
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
    ]
    check(ChatRequest, {**GOOD, "messages": [{"role": "user", "content": content}]})


def test_a_refusal_travels_over_http(api: Api) -> None:
    """The 422 body is the detail list and nothing else."""
    response = api.post("/v1/chat/completions", {**GOOD, "store": True})
    assert response.status_code == 422
    assert list(response.json()) == ["detail"]


def test_a_body_over_the_limit_is_refused(api: Api) -> None:
    """More than 80 MB of JSON is 413, and the server lives on."""
    response = api.http.post("/v1/chat/completions", content=b" " * (81 * 1024 * 1024))
    assert response.status_code == 413
    assert api.chat("2+2?").status_code == 200
