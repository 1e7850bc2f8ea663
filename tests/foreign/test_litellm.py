"""litellm: its mistral provider, for everything it offers of the API."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb.simulator import Faults
from tests.foreign.asking import (
    BATCH,
    FACT,
    FOUR,
    MODEL,
    PARIS,
    SUM,
    SUMS,
    SUNNY,
    THINKER,
    TOOL,
    WEATHER,
    Answer,
    sums,
    user,
)

if TYPE_CHECKING:
    from mistral_nb.simulator import Simulator

pytestmark = pytest.mark.foreign


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Any:
    found = pytest.importorskip("litellm", reason="make foreign installs it")
    monkeypatch.setattr(found, "suppress_debug_info", True)
    return found


@pytest.fixture
def at(server: Simulator) -> dict[str, str]:
    """Where to ask, and with which key."""
    return {"api_base": f"{server.url}/v1", "api_key": "k"}


@pytest.fixture
def ask(peer: Any, at: dict[str, str]) -> Any:
    """Ask one question; every option of litellm's can be given."""

    def ask(text: str, model: str = MODEL, **options: Any) -> Any:
        options = {"messages": user(text), **at, **options}
        return peer.completion(model=f"mistral/{model}", **options)

    return ask


def joined(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_chat(ask: Any) -> None:
    """A reply has text, usage and the reason it ended."""
    reply = ask(SUM)
    assert reply.choices[0].message.content == FOUR
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_streams(peer: Any, at: dict[str, str], ask: Any) -> None:
    """Chunks join to the plain reply, sync and async; usage comes when asked for."""
    plain = ask(WEATHER).choices[0].message.content
    chunks = list(ask(WEATHER, stream=True, stream_options={"include_usage": True}))
    assert joined(chunks) == plain
    assert chunks[-1].usage.completion_tokens > 0

    async def gathered() -> list[Any]:
        asked = {"model": f"mistral/{MODEL}", "messages": user(WEATHER), **at}
        return [chunk async for chunk in await peer.acompletion(**asked, stream=True)]

    assert joined(asyncio.run(gathered())) == plain


def test_reasoning(ask: Any) -> None:
    """Thinking is told apart from the text, plain and streamed."""
    said = ask(WEATHER, THINKER).choices[0].message
    assert said.reasoning_content.startswith("The user is asking")
    deltas = [chunk.choices[0].delta for chunk in ask(WEATHER, THINKER, stream=True)]
    thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert thought == said.reasoning_content
    assert "".join(delta.content or "" for delta in deltas) == said.content


def test_tools(peer: Any, ask: Any) -> None:
    """A tool is called, plain and streamed, and its result answered."""
    said = ask(WEATHER, tools=[TOOL]).choices[0].message
    (call,) = said.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "Paris"}')
    result = {"role": "tool", "content": SUNNY, "tool_call_id": call.id, "name": "get_weather"}
    second = ask("", messages=[*user(WEATHER), said, result], tools=[TOOL])
    assert SUNNY in second.choices[0].message.content
    chunks = list(ask(WEATHER, tools=[TOOL], tool_choice="required", stream=True))
    whole = peer.stream_chunk_builder(chunks).choices[0].message
    assert [each.function.arguments for each in whole.tool_calls] == [call.function.arguments]


def test_structured_output(ask: Any) -> None:
    """A pydantic class as response_format is obeyed."""
    reply = ask(FACT, response_format=Answer)
    assert Answer.model_validate_json(reply.choices[0].message.content) == PARIS


def test_embeddings(peer: Any, at: dict[str, str]) -> None:
    """Texts become vectors in their order."""
    made = peer.embedding(model="mistral/mistral-embed", input=["tide", "moon"], **at)
    assert [(each["index"], len(each["embedding"])) for each in made.data] == [(0, 1024), (1, 1024)]
    assert made.usage.prompt_tokens > 0


def test_documents_and_code(peer: Any, at: dict[str, str]) -> None:
    """OCR reads a document; the codestral provider fills code in."""
    link = {"type": "document_url", "document_url": "https://example.com/annual-report.pdf"}
    read = peer.ocr(model="mistral/mistral-ocr-latest", document=link, **at)
    assert read.pages[0].markdown == "annual report"
    filled = peer.text_completion(
        model="text-completion-codestral/codestral-latest",
        prompt="def add(",
        api_key=at["api_key"],
        api_base=f"{at['api_base']}/fim/completions",
    )
    assert filled.choices[0].text


def test_a_batch_from_a_file(peer: Any, at: dict[str, str]) -> None:
    """A file is uploaded, listed, run as a batch, and its output read."""
    here: dict[str, Any] = {**at, "custom_llm_provider": "mistral"}
    sent = peer.create_file(file=("rows.jsonl", BATCH), purpose="batch", **here)
    assert sent.id in {each.id for each in peer.file_list(**here)}
    assert peer.file_content(sent.id, **here).content == BATCH
    job = peer.create_batch(
        completion_window="24h",
        endpoint="/v1/chat/completions",
        input_file_id=sent.id,
        model=f"mistral/{MODEL}",
        **here,
    )
    limit = time.monotonic() + 20
    while job.status != "completed":
        assert time.monotonic() < limit, job
        time.sleep(0.02)
        job = peer.retrieve_batch(job.id, model=f"mistral/{MODEL}", **here)
    assert sums(peer.file_content(job.output_file_id, **here).content) == SUMS
    assert peer.file_delete(sent.id, **here).deleted


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"api_key": "wrong"}, "AuthenticationError"),
        ({"model": "nobody"}, "BadRequestError"),
        ({"temperature": 9}, "BadRequestError"),
        ({"text": "word " * 300_000}, "BadRequestError"),
    ],
    ids=["key", "model", "temperature", "length"],
)
def test_refusals(peer: Any, ask: Any, options: dict[str, Any], error: str) -> None:
    """Each refusal is litellm's own error for it."""
    with pytest.raises(getattr(peer, error), match="MistralException"):
        ask(**{"text": SUM, **options})


def test_a_wrong_address(peer: Any, server: Simulator, ask: Any) -> None:
    """A path that is not there is a NotFoundError."""
    with pytest.raises(peer.NotFoundError):
        ask(SUM, api_base=f"{server.url}/v9")


def test_rate_limits(peer: Any, server: Simulator, ask: Any) -> None:
    """A 429 is a RateLimitError; retries outlast some of them."""
    server.faults = Faults(rate_limit_rate=1, retry_after=0)
    with pytest.raises(peer.RateLimitError):
        ask(SUM, num_retries=1)
    server.faults = Faults(rate_limit_rate=0.5, retry_after=0, seed=3)
    assert [ask(SUM, num_retries=12).choices[0].message.content for _ in range(6)] == [FOUR] * 6


def test_failures(peer: Any, server: Simulator, ask: Any) -> None:
    """A 500 is an InternalServerError."""
    server.faults = Faults(error_rate=1)
    with pytest.raises(peer.InternalServerError):
        ask(SUM)
