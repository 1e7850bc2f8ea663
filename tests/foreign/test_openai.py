"""The openai SDK: Mistral's chat, embeddings, models, files and moderations speak its language."""

from __future__ import annotations

import asyncio
import json
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
    SUNNY,
    TOOL,
    WEATHER,
    Answer,
    user,
)

if TYPE_CHECKING:
    from mistral_nb.simulator import Simulator

peer = pytest.importorskip("openai", reason="make foreign installs it")
pytestmark = pytest.mark.foreign


def client(server: Simulator, key: str = "k", path: str = "/v1", **options: Any) -> Any:
    return peer.OpenAI(api_key=key, base_url=server.url + path, **options)


def ask(client: Any, text: str, **options: Any) -> Any:
    options = {"model": MODEL, "messages": user(text), **options}
    return client.chat.completions.create(**options)


def test_chat(server: Simulator) -> None:
    """A reply has text, usage and the reason it ended."""
    reply = ask(client(server), SUM)
    assert reply.choices[0].message.content == FOUR
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.prompt_tokens_details.cached_tokens == 0


def test_streams(server: Simulator) -> None:
    """Chunks join to the plain reply, sync and async."""
    plain = ask(client(server), WEATHER).choices[0].message.content
    chunks = list(ask(client(server), WEATHER, stream=True))
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == plain
    assert chunks[-1].usage.completion_tokens > 0

    async def gathered() -> str:
        async with peer.AsyncOpenAI(api_key="k", base_url=f"{server.url}/v1") as made:
            stream = await ask(made, WEATHER, stream=True)
            return "".join([chunk.choices[0].delta.content async for chunk in stream])

    assert asyncio.run(gathered()) == plain


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "pieces"])
def test_tools(make_simulator: Any, whole: bool) -> None:
    """A tool is called, plain and streamed whole or in pieces, and its result answered."""
    made = client(make_simulator(chunk_delay=0, whole_calls=whole))
    said = ask(made, WEATHER, tools=[TOOL]).choices[0].message
    (call,) = said.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result = {"role": "tool", "content": SUNNY, "tool_call_id": call.id}
    second = ask(made, "", messages=[*user(WEATHER), said, result], tools=[TOOL])
    assert SUNNY in second.choices[0].message.content
    options = {"model": MODEL, "messages": user(WEATHER), "tools": [TOOL]}
    with made.chat.completions.stream(**options) as stream:
        final = stream.get_final_completion()
    assert [each.function.arguments for each in final.choices[0].message.tool_calls] == [
        call.function.arguments
    ]


def test_structured_output(server: Simulator) -> None:
    """A pydantic class comes back filled."""
    options = {"model": MODEL, "messages": user(FACT), "response_format": Answer}
    reply = client(server).chat.completions.parse(**options)
    assert reply.choices[0].message.parsed == PARIS


def test_embeddings(server: Simulator) -> None:
    """Vectors are the same as numbers and as base64, which this client asks for by itself."""
    embeddings = client(server).embeddings
    asked: dict[str, Any] = {"model": "mistral-embed", "input": ["tide", "moon"]}
    packed = [each.embedding for each in embeddings.create(**asked).data]
    plain = [each.embedding for each in embeddings.create(**asked, encoding_format="float").data]
    assert [len(vector) for vector in packed] == [1024, 1024]
    assert packed == [pytest.approx(vector, abs=1e-6) for vector in plain]


def test_models_files_and_moderations(server: Simulator) -> None:
    """Their routes and shapes are shared as well."""
    made = client(server)
    assert MODEL in {card.id for card in made.models.list()}
    sent = made.files.create(file=("rows.jsonl", BATCH), purpose="batch")
    assert (sent.bytes, sent.filename) == (len(BATCH), "rows.jsonl")
    assert made.files.content(sent.id).read() == BATCH
    assert [each.id for each in made.files.list().data] == [sent.id]
    assert made.files.delete(sent.id).deleted
    asked = {"model": "mistral-moderation-latest", "input": "I will kill you"}
    assert made.moderations.create(**asked).results[0].category_scores


@pytest.mark.parametrize(
    ("made", "asked", "error"),
    [
        ({"key": "wrong"}, {}, "AuthenticationError"),
        ({}, {"model": "nobody"}, "BadRequestError"),
        ({}, {"temperature": 9}, "UnprocessableEntityError"),
        ({}, {"seed": 1}, "UnprocessableEntityError"),  # the API's word is random_seed
        ({"path": "/v9"}, {}, "NotFoundError"),
    ],
)
def test_refusals(server: Simulator, made: Any, asked: Any, error: str) -> None:
    """Each refusal is the client's own error for it."""
    with pytest.raises(getattr(peer, error)):
        ask(client(server, **made), SUM, **asked)


def test_rate_limits(server: Simulator) -> None:
    """A 429 is a RateLimitError with its headers; the client's own retries outlast some."""
    server.faults = Faults(rate_limit_rate=1, retry_after=7)
    with pytest.raises(peer.RateLimitError) as caught:
        ask(client(server, max_retries=0), SUM)
    assert caught.value.response.headers["retry-after"] == "7"
    server.faults = Faults(rate_limit_rate=0.5, retry_after=0, seed=3)
    patient = client(server, max_retries=12)
    assert [ask(patient, SUM).choices[0].message.content for _ in range(3)] == [FOUR] * 3
