"""The official Python SDK: what tests/contract/test_sdk.py has not asked, sync and async."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from mistralai.client import Mistral
from mistralai.client.errors import SDKError
from mistralai.client.utils import BackoffStrategy, RetryConfig

from mistral_nb.simulator import Faults
from tests.contract.test_sdk import known
from tests.foreign.asking import (
    BATCH,
    FACT,
    FOUR,
    MODEL,
    PARIS,
    SUM,
    SUMS,
    SUNNY,
    TOOL,
    WEATHER,
    Answer,
    sums,
    user,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mistral_nb.simulator import Simulator

pytestmark = pytest.mark.foreign
CODE: dict[str, Any] = {"model": "codestral-latest", "prompt": "def add("}


def on_loop(server: Simulator, work: Callable[[Mistral], Awaitable[None]]) -> None:
    """Run async work with a client of its own."""

    async def run() -> None:
        async with Mistral(api_key="k", server_url=server.url, timeout_ms=20_000) as sdk:
            await work(sdk)

    asyncio.run(run())


def said(events: list[Any]) -> str:
    """Join the text of a conversation's events."""
    deltas = [event.data for event in events if event.event == "message.output.delta"]
    return "".join(delta.content for delta in deltas)


def test_typed_answers_and_tools_async(server: Simulator) -> None:
    """A schema is parsed and a tool's call streamed by the async client."""

    async def work(sdk: Mistral) -> None:
        reply = await sdk.chat.parse_async(Answer, model=MODEL, messages=user(FACT))
        assert reply.choices[0].message.parsed == PARIS
        asked: dict[str, Any] = {"model": MODEL, "messages": user(WEATHER), "tools": [TOOL]}
        async with await sdk.chat.stream_async(**asked) as stream:
            chunks = [known(event.data) async for event in stream]
        calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
        assert [call.function.name for call in calls] == ["get_weather"]

    on_loop(server, work)


def test_vectors_code_and_documents_async(server: Simulator) -> None:
    """Embeddings, FIM (plain and streamed), OCR and the classifiers on one loop."""

    async def work(sdk: Mistral) -> None:
        made = await sdk.embeddings.create_async(model="mistral-embed", inputs=["tide", "moon"])
        assert [len(each.embedding) for each in known(made).data] == [1024, 1024]
        plain = known(await sdk.fim.complete_async(**CODE)).choices[0].message.content
        async with await sdk.fim.stream_async(**CODE) as stream:
            pieces = [known(event.data).choices[0].delta.content or "" async for event in stream]
        assert "".join(pieces) == plain
        link = {"type": "document_url", "document_url": "https://example.com/annual-report.pdf"}
        read = known(await sdk.ocr.process_async(model="mistral-ocr-latest", document=link))
        assert read.pages[0].markdown == "annual report"
        moderation = "mistral-moderation-latest"
        found = await sdk.classifiers.moderate_async(model=moderation, inputs="I will kill you")
        assert any(known(found).results[0].categories.values())

    on_loop(server, work)


def test_a_batch_async(server: Simulator) -> None:
    """A file goes up, runs as a job, and its output comes down as a stream of bytes."""

    async def work(sdk: Mistral) -> None:
        sent = await sdk.files.upload_async(
            file={"file_name": "rows.jsonl", "content": BATCH}, purpose="batch"
        )
        job = await sdk.batch.jobs.create_async(
            input_files=[known(sent).id], endpoint="/v1/chat/completions", model=MODEL
        )
        limit = time.monotonic() + 20
        while known(job).status in {"QUEUED", "RUNNING"}:
            assert time.monotonic() < limit
            await asyncio.sleep(0.02)
            job = await sdk.batch.jobs.get_async(job_id=job.id)
        assert job.status == "SUCCESS"
        output = await sdk.files.download_async(file_id=job.output_file)
        assert sums(await output.aread()) == SUMS

    on_loop(server, work)


def test_an_agent_async(server: Simulator) -> None:
    """It is made, changed, asked in a stream, answered with a tool's result, and removed."""

    async def work(sdk: Mistral) -> None:
        agents, conversations = sdk.beta.agents, sdk.beta.conversations
        agent = known(await agents.create_async(model=MODEL, name="guide", tools=[TOOL]))
        changed = known(await agents.update_async(agent_id=agent.id, name="scout"))
        assert (changed.name, changed.version) == ("scout", agent.version + 1)
        assert [each.id for each in known(await agents.list_async())] == [agent.id]
        started = await conversations.start_stream_async(agent_id=agent.id, inputs=WEATHER)
        async with started as stream:
            events = [known(event) async for event in stream]
        calls = [event.data for event in events if event.event == "function.call.delta"]
        assert {call.name for call in calls} == {"get_weather"}
        result = {"type": "function.result", "tool_call_id": calls[0].tool_call_id}
        appended = await conversations.append_stream_async(
            conversation_id=events[0].data.conversation_id, inputs=[{**result, "result": SUNNY}]
        )
        async with appended as stream:
            assert SUNNY in said([known(event) async for event in stream])
        await agents.delete_async(agent_id=agent.id)
        with pytest.raises(SDKError) as caught:
            await agents.get_async(agent_id=agent.id)
        assert caught.value.status_code == 404

    on_loop(server, work)


def test_a_conversation_branches(server: Simulator) -> None:
    """Plain and streamed rounds, then another branch from the first reply."""
    with Mistral(api_key="k", server_url=server.url) as sdk:
        conversations = sdk.beta.conversations
        first = known(conversations.start(model=MODEL, inputs="Say: one"))
        asked = {"conversation_id": first.conversation_id}
        with conversations.append_stream(**asked, inputs="Say: two") as stream:
            assert said([known(event) for event in stream]) == "two"
        entries = known(conversations.get_history(**asked)).entries
        branch = known(
            conversations.restart(**asked, inputs="Say: three", from_entry_id=entries[1].id)
        )
        assert branch.conversation_id != first.conversation_id
        assert branch.outputs[-1].content == "three"
        assert len(known(conversations.get_messages(**asked)).messages) == 4


def test_retries_outlast_rate_limits(server: Simulator) -> None:
    """With a RetryConfig, refusals in between are not seen; without one they are."""
    server.faults = Faults(rate_limit_rate=0.5, seed=3)
    retries = RetryConfig(
        "backoff", BackoffStrategy(5, 20, 1.5, 20_000), retry_connection_errors=True
    )
    with Mistral(api_key="k", server_url=server.url) as sdk:
        for _ in range(6):
            reply = sdk.chat.complete(model=MODEL, messages=user(SUM), retries=retries)
            assert reply.choices[0].message.content == FOUR
        server.faults = Faults(rate_limit_rate=1)
        with pytest.raises(SDKError) as caught:
            sdk.chat.complete(model=MODEL, messages=user(SUM))
        assert caught.value.status_code == 429


def test_what_is_not_there_is_said(server: Simulator) -> None:
    """404 for an unknown model, file, job or conversation: SDKError with the API's words."""
    nobody = "00000000-0000-4000-8000-000000000000"
    with Mistral(api_key="k", server_url=server.url) as sdk:
        for ask in (
            lambda: sdk.models.retrieve(model_id="nobody"),
            lambda: sdk.files.retrieve(file_id=nobody),
            lambda: sdk.batch.jobs.get(job_id=nobody),
            lambda: sdk.beta.conversations.get(conversation_id="conv_nobody"),
        ):
            with pytest.raises(SDKError, match=r"(?i)not found|no ") as caught:
                ask()
            assert caught.value.status_code == 404
