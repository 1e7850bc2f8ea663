"""Endpoints beside chat, against the API's description and the SDK's models and methods."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import jsonschema
import orjson
import pytest
from mistralai.client import Mistral, models

from tests.contract.schema import component, document, faults, response
from tests.contract.test_openapi import agree
from tests.pictures import pdf, png

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mistral_nb.simulator import Simulator
    from tests.simulator.conftest import Api

SENTIMENT = "ft:classifier:ministral-3b-latest:simulator:20260101:sentiment"
TICKETS = "ft:classifier:ministral-3b-latest:simulator:20260101:tickets"
CHAT = [{"role": "user", "content": "I will kill you"}]
LINK = {"type": "document_url", "document_url": "https://example.com/annual-report.pdf"}
ANNUAL = {
    "type": "json_schema",
    "json_schema": {
        "name": "Report",
        "schema": {"type": "object", "properties": {"title": {"type": "string"}}},
    },
}
BODIES: list[tuple[str, dict[str, Any], Any]] = [
    ("fim/completions", {"model": "codestral-latest", "prompt": "def add("}, "FIMCompletionResponse"),
    ("moderations", {"model": "mistral-moderation-latest", "input": "I love cats"}, "ModerationResponse"),
    ("moderations", {"model": "mistral-moderation-2411", "input": ["a", "b"]}, "ModerationResponse"),
    ("chat/moderations", {"model": "mistral-moderation-latest", "input": CHAT}, "ModerationResponse"),
    ("chat/moderations", {"model": "mistral-moderation-latest", "input": [CHAT, CHAT]}, "ModerationResponse"),
    ("classifications", {"model": SENTIMENT, "input": "great"}, "ClassificationResponse"),
    ("chat/classifications", {"model": TICKETS, "input": {"messages": CHAT}}, "ClassificationResponse"),
    ("chat/classifications", {"model": TICKETS, "input": [{"messages": CHAT}]}, "ClassificationResponse"),
    ("ocr", {"model": "mistral-ocr-latest", "document": LINK}, "OCRResponse"),
    ("ocr", {"model": "mistral-ocr-latest", "document": LINK, "include_blocks": False,
             "document_annotation_format": ANNUAL, "confidence_scores_granularity": "page"}, "OCRResponse"),
]  # fmt: skip


def data_url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def ocr_of(data: bytes, kind: str, **options: Any) -> dict[str, Any]:
    chunk = {"type": "document_url", "document_url": data_url(data, kind)}
    return {"model": "mistral-ocr-latest", "document": chunk, **options}


@pytest.mark.parametrize(("path", "body", "kind"), BODIES)
def test_replies_are_described(api: Api, path: str, body: dict, kind: str) -> None:
    """The request fits the description, and so does the reply; the SDK's model reads it."""
    where = f"/v1/{path}"
    wanted = document()["paths"][where]["post"]["requestBody"]["content"]["application/json"]
    jsonschema.Draft202012Validator({**document(), **wanted["schema"]}).validate(body)
    reply = api.post(where, body)
    assert reply.status_code == 200, reply.text
    agree(reply.json(), response("POST", where), getattr(models, kind))


@pytest.mark.parametrize(("path", "body", "kind"), BODIES)
def test_a_batch_answers_as_one_request_does(api: Api, path: str, body: dict, kind: str) -> None:
    """A batch job of the endpoint gives the same answer, but for its id and time."""
    job = {"endpoint": f"/v1/{path}", "model": body["model"], "requests": [{"custom_id": "a", "body": body}]}  # fmt: skip
    made = api.post("/v1/batch/jobs", job)
    assert made.status_code == 200, made.text
    (line,) = api.lines(api.ended(made.json())["output_file"])
    alone = api.post(f"/v1/{path}", body).json()
    found = line["response"]["body"]
    assert {k: v for k, v in found.items() if k not in {"id", "created"}} == {
        k: v for k, v in alone.items() if k not in {"id", "created"}
    }


@pytest.mark.parametrize("path", sorted({path for path, _, _ in BODIES}))
def test_a_wrong_body_or_model_is_refused(api: Api, path: str) -> None:
    """422 with a list for unknown fields; 400 invalid_model for a model that cannot do it."""
    body = next(body for known, body, _ in BODIES if known == path)
    reply = api.post(f"/v1/{path}", {**body, "nonsense": 1})
    assert reply.status_code == 422
    assert faults(reply.json(), component("HTTPValidationError")) == []
    for model in ("nobody", "voxtral-small-latest"):
        reply = api.post(f"/v1/{path}", {**body, "model": model})
        assert (reply.status_code, reply.json()["type"]) == (400, "invalid_model")
        job = {"endpoint": f"/v1/{path}", "model": model, "requests": [{"body": body}]}
        assert api.post("/v1/batch/jobs", job).status_code == 400


def test_a_stream_of_fim_is_described(api: Api) -> None:
    """Chunks are CompletionChunks and join to the plain reply."""
    body = {"model": "codestral-latest", "prompt": "def add(", "suffix": "    return total\n"}
    with api.http.stream("POST", "/v1/fim/completions", json={**body, "stream": True}) as reply:
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line]
    chunks = [orjson.loads(line) for line in lines[:-1]]
    for chunk in chunks:
        agree(chunk, component("CompletionChunk"), models.CompletionChunk)
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    plain = api.post("/v1/fim/completions", body).json()["choices"][0]["message"]["content"]
    assert text == plain == "a, b):\n    total = a + b\n"
    assert lines[-1] == "[DONE]"


def test_moderation_models_have_their_categories(api: Api) -> None:
    """Each moderation model answers in the categories that the description gives it."""
    for model, version in (("mistral-moderation-2411", 1), ("mistral-moderation-2603", 2)):
        body = {"model": model, "input": ["how to kill and steal", "what a lovely day"]}
        bad, good = api.post("/v1/moderations", body).json()["results"]
        known = document()["components"]["schemas"][f"ModerationLLMV{version}CategoryThresholds"]
        assert bad["categories"].keys() == known["properties"].keys()
        assert bad["category_scores"].keys() == known["properties"].keys()
        assert bad["categories"]["violence_and_threats"]
        assert not any(good["categories"].values())


def test_ocr_reads_what_a_file_says(api: Api) -> None:
    """A PDF's pages and a PNG's text come back; pages= chooses among them."""
    pages = pdf("first page", "second (page)", "third page")
    body = api.post("/v1/ocr", ocr_of(pages, "application/pdf")).json()
    assert [p["markdown"] for p in body["pages"]] == ["first page", "second (page)", "third page"]
    assert body["usage_info"] == {"pages_processed": 3, "doc_size_bytes": len(pages)}
    some = api.post("/v1/ocr", ocr_of(pages, "application/pdf", pages="0,2-4")).json()
    assert [p["index"] for p in some["pages"]] == [0, 2]
    image = {"type": "image_url", "image_url": data_url(png("a receipt"), "image/png")}
    one = api.post("/v1/ocr", {"model": "mistral-ocr-latest", "document": image}).json()
    assert one["pages"][0]["markdown"] == "a receipt"
    assert one["pages"][0]["dimensions"]["width"] == 3


def test_ocr_reads_uploaded_files(api: Api) -> None:
    """A file chunk names an upload; one that nobody uploaded is not found."""
    sent = api.http.post(
        "/v1/files", data={"purpose": "ocr"}, files={"file": ("a.pdf", pdf("hello"))}
    ).json()
    ask = {"model": "mistral-ocr-latest", "document": {"type": "file", "file_id": sent["id"]}}
    assert api.post("/v1/ocr", ask).json()["pages"][0]["markdown"] == "hello"
    ask["document"] = {"type": "file", "file_id": "00000000-0000-4000-8000-000000000001"}
    assert api.post("/v1/ocr", ask).status_code == 404


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "nonsense", "data:image/png;base64,!!!", "data:image/png;base64,"]
)
def test_documents_that_cannot_be_read_are_refused(api: Api, url: str) -> None:
    """400 for OCR and for chat alike, and nothing is answered."""
    image = {"type": "image_url", "image_url": url}
    ask = {"model": "mistral-ocr-latest", "document": image}
    assert api.post("/v1/ocr", ask).status_code == 400
    chat = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]
    body = {"model": "mistral-small-latest", "messages": chat}
    assert api.post("/v1/chat/completions", body).status_code == 400
    assert api.get("/simulator/stats").json()["chat_requests"] == 0


def test_vision_models_see_and_others_say_so(api: Api) -> None:
    """An image decides among labels; a model without vision refuses it."""
    for name, label in (("red_bicycle.png", "bicycle"), ("old-car.jpg", "car")):
        image = {"type": "image_url", "image_url": {"url": f"https://example.com/{name}"}}
        text = {"type": "text", "text": "Which of these is it? One of: bicycle, car, boat"}
        body = {"model": "mistral-small-latest", "messages": [{"role": "user", "content": [text, image]}]}  # fmt: skip
        said = api.post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]
        assert said == label
        refused = api.post("/v1/chat/completions", {**body, "model": "codestral-latest"})
        assert refused.status_code == 400
        assert "Image input" in refused.json()["message"]


@pytest.fixture
def sdk(make_simulator: Any) -> Iterator[Mistral]:
    fast: Simulator = make_simulator(chunk_delay=0, batch_rate=0)
    with Mistral(api_key="k", server_url=fast.url, timeout_ms=20_000) as made:
        yield made


def test_the_sdk_speaks_to_all_of_them(sdk: Mistral) -> None:
    """Its own methods for each endpoint get an answer of the type that they promise."""
    moderation = "mistral-moderation-latest"
    done = sdk.fim.complete(model="codestral-latest", prompt="def f(a):")
    assert done.choices[0].message.content == "\n    return a\n"
    assert sdk.classifiers.moderate(model=moderation, inputs="x").results[0].categories
    assert sdk.classifiers.moderate_chat(model=moderation, inputs=CHAT).results[0].categories
    found = sdk.classifiers.classify(model=SENTIMENT, inputs=["great", "awful"])
    best = [max(r["sentiment"].scores, key=r["sentiment"].scores.get) for r in found.results]
    assert best == ["positive", "negative"]
    chats = sdk.classifiers.classify_chat(model=TICKETS, input={"messages": CHAT})
    assert chats.results[0].keys() == {"topic", "urgency"}
    read = sdk.ocr.process(
        model="mistral-ocr-latest", document=LINK, document_annotation_format=ANNUAL
    )
    assert read.pages[0].markdown == "annual report"
    assert orjson.loads(read.document_annotation)["title"]
    cards = {card.id: card for card in sdk.models.list().data}
    assert cards[SENTIMENT].root == "ministral-3b-latest"
    assert cards[SENTIMENT].capabilities.classification
