"""The official SDK, unchanged but for the URL, over real HTTP: sync and async."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from mistralai.client import Mistral, models
from mistralai.client.errors import HTTPValidationError, SDKError

from mistral_nb.simulator import Faults
from tests.contract.test_openapi import parts
from tests.simulator.conftest import ENDED, row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mistral_nb.simulator import Simulator

MODEL = "mistral-small-latest"
QUESTION = [{"role": "user", "content": "Weather in Paris?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
def fast(make_simulator: Any) -> Simulator:
    return make_simulator(chunk_delay=0, batch_rate=0)


@pytest.fixture
def sdk(fast: Simulator) -> Iterator[Mistral]:
    with Mistral(api_key="k", server_url=fast.url, timeout_ms=20_000) as made:
        yield made


def known(reply: Any) -> Any:
    """Assert that the SDK understood every part of a reply."""
    assert [part for part in parts(reply) if "Unknown" in type(part).__name__] == []
    return reply


def text_of(message: Any) -> str:
    content = message.content
    return content if isinstance(content, str) else content[-1].text


def test_chat_plain(sdk: Mistral) -> None:
    """Text, usage and cached tokens arrive as the SDK's own types."""
    reply = known(sdk.chat.complete(model=MODEL, messages=[{"role": "user", "content": "2+2?"}]))
    assert text_of(reply.choices[0].message) == "2+2 = 4"
    assert reply.usage.additional_properties["prompt_tokens_details"] == {"cached_tokens": 0}


def test_chat_stream(sdk: Mistral) -> None:
    """Chunks are CompletionEvents; the last has usage and finish_reason."""
    with sdk.chat.stream(model=MODEL, messages=QUESTION) as stream:
        chunks = [known(event.data) for event in stream]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens > 0


def test_thinking_is_parsed(sdk: Mistral) -> None:
    """Reasoning replies hold ThinkChunk and TextChunk, plain and streamed."""
    asked: dict[str, Any] = {"model": "magistral-small-latest", "messages": QUESTION}
    content = known(sdk.chat.complete(**asked)).choices[0].message.content
    assert [type(part) for part in content] == [models.ThinkChunk, models.TextChunk]
    with sdk.chat.stream(**asked) as stream:
        kinds = {
            type(part)
            for event in stream
            for part in known(event.data).choices[0].delta.content or ()
        }
    assert kinds == {models.ThinkChunk, models.TextChunk}


def test_a_tool_round_trip(sdk: Mistral) -> None:
    """Call, result, answer: the SDK's own messages are sent back unchanged."""
    first = known(sdk.chat.complete(model=MODEL, messages=QUESTION, tools=[WEATHER]))
    message = first.choices[0].message
    call = message.tool_calls[0]
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result = {
        "role": "tool",
        "content": "Sunny, 22C",
        "tool_call_id": call.id,
        "name": "get_weather",
    }
    second = sdk.chat.complete(model=MODEL, messages=[*QUESTION, message, result], tools=[WEATHER])
    assert "Sunny, 22C" in text_of(second.choices[0].message)


def test_structured_output(sdk: Mistral) -> None:
    """chat.parse gives an instance of the pydantic model."""
    from pydantic import BaseModel

    class Answer(BaseModel):
        city: str
        degrees: int

    reply = sdk.chat.parse(
        Answer, model=MODEL, messages=[{"role": "user", "content": "It has 22 degrees in Paris"}]
    )
    assert reply.choices[0].message.parsed == Answer(city="Paris", degrees=22)


def test_everything_at_once_async(fast: Simulator) -> None:
    """The async client streams, completes and lists side by side on one loop."""

    async def work() -> None:
        async with Mistral(api_key="k", server_url=fast.url) as sdk:
            stream = await sdk.chat.stream_async(model=MODEL, messages=QUESTION)

            async def drain() -> int:
                async with stream:
                    return len([known(event.data) async for event in stream])

            counted, reply, listed = await asyncio.gather(
                drain(),
                sdk.chat.complete_async(model=MODEL, messages=QUESTION),
                sdk.models.list_async(),
            )
            assert counted > 3
            known(reply)
            assert MODEL in {card.id for card in known(listed).data}

    asyncio.run(work())


def test_files(sdk: Mistral) -> None:
    """Upload, list, retrieve, download, sign and delete."""
    sent = known(
        sdk.files.upload(file={"file_name": "a.jsonl", "content": b"{}\n"}, purpose="batch")
    )
    listed = known(sdk.files.list(purpose="batch", page_size=1))
    assert [file.id for file in listed.data] == [sent.id]
    assert known(sdk.files.retrieve(file_id=sent.id)).num_lines == 1
    assert sdk.files.download(file_id=sent.id).read() == b"{}\n"
    assert sdk.files.get_signed_url(file_id=sent.id).url.startswith("http")
    assert known(sdk.files.delete(file_id=sent.id)).deleted


def ended(sdk: Mistral, job: Any) -> Any:
    limit = time.monotonic() + 20
    while job.status not in ENDED:
        assert time.monotonic() < limit
        time.sleep(0.02)
        job = known(sdk.batch.jobs.get(job_id=job.id))
    return job


def test_a_batch_from_a_file(sdk: Mistral) -> None:
    """The job is found by its metadata, and its output lines hold chat replies."""
    lines = b"\n".join(orjson.dumps(row(n)) for n in range(5))
    sent = sdk.files.upload(file={"file_name": "a.jsonl", "content": lines}, purpose="batch")
    job = known(
        sdk.batch.jobs.create(
            input_files=[sent.id],
            endpoint="/v1/chat/completions",
            model=MODEL,
            metadata={"run": "one", "shard": "3"},
        )
    )
    sdk.batch.jobs.create(
        input_files=[sent.id], endpoint="/v1/chat/completions", model=MODEL, metadata={"run": "two"}
    )
    found = known(
        sdk.batch.jobs.list(metadata={"run": "one"}, status=["QUEUED", "RUNNING", "SUCCESS"])
    )
    assert [each.id for each in found.data] == [job.id]
    done = ended(sdk, job)
    assert (done.status, done.succeeded_requests) == ("SUCCESS", 5)
    output = sdk.files.download(file_id=done.output_file).read()
    for line in output.splitlines():
        known(models.ChatCompletionResponse.model_validate(orjson.loads(line)["response"]["body"]))


def test_an_inline_batch(sdk: Mistral) -> None:
    """Requests in the body, results in the job; a batch of embeddings works alike."""
    job = sdk.batch.jobs.create(
        requests=[{"custom_id": "a", "body": {"input": "text"}}, {"body": {"input": 3}}],
        endpoint="/v1/embeddings",
        model="mistral-embed",
    )
    done = ended(sdk, job)
    assert (done.succeeded_requests, done.failed_requests) == (1, 1)
    full = known(sdk.batch.jobs.get(job_id=job.id, inline=True))
    good = next(line for line in full.outputs if line["custom_id"] == "a")
    assert len(good["response"]["body"]["data"][0]["embedding"]) == 1024
    sdk.batch.jobs.delete(job_id=job.id)
    with pytest.raises(SDKError) as caught:
        sdk.batch.jobs.get(job_id=job.id)
    assert caught.value.status_code == 404


def test_refusals_raise_what_the_real_api_raises(fast: Simulator) -> None:
    """401, 400 and 429 are SDKError, 422 with a detail list is HTTPValidationError."""
    with Mistral(api_key="wrong", server_url=fast.url) as sdk, pytest.raises(SDKError) as caught:
        sdk.chat.complete(model=MODEL, messages=QUESTION)
    assert caught.value.status_code == 401
    with Mistral(api_key="k", server_url=fast.url) as sdk:
        with pytest.raises(SDKError) as caught:
            sdk.chat.complete(model="nobody", messages=QUESTION)
        assert caught.value.status_code == 400
        with pytest.raises(HTTPValidationError) as refused:
            sdk.chat.complete(model=MODEL, messages=QUESTION, temperature=9)
        assert refused.value.data.detail[0].loc == ["body", "temperature"]
        fast.faults = Faults(rate_limit_rate=1, retry_after=3)
        with pytest.raises(SDKError) as caught:
            sdk.chat.complete(model=MODEL, messages=QUESTION)
        assert (caught.value.status_code, caught.value.headers["retry-after"]) == (429, "3")


def test_the_header_that_breaks_sdk_streams_can_be_sent(fast: Simulator) -> None:
    """deprecation=True reproduces the SDK's trap: ResponseNotRead before the first chunk."""
    import httpx2

    fast.faults = Faults(deprecation=True)
    with (
        Mistral(api_key="k", server_url=fast.url) as sdk,
        pytest.raises(httpx2.ResponseNotRead),
    ):
        sdk.chat.stream(model=MODEL, messages=QUESTION)
