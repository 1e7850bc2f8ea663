"""langchain-mistralai: the chat model and the embeddings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from mistral_nb.simulator import Faults
from tests.foreign.asking import FACT, FOUR, MODEL, PARIS, SUM, SUNNY, THINKER, WEATHER, Answer

if TYPE_CHECKING:
    from mistral_nb.simulator import Simulator

peer = pytest.importorskip("langchain_mistralai", reason="make foreign installs it")
pytestmark = pytest.mark.foreign


def chat(server: Simulator, model: str = MODEL, key: str = "k", **options: Any) -> Any:
    return peer.ChatMistralAI(model=model, api_key=key, endpoint=f"{server.url}/v1", **options)


@pytest.fixture
def get_weather() -> Any:
    from langchain_core.tools import tool

    @tool
    def get_weather(city: str) -> str:
        """Weather in a city."""
        return f"{SUNNY} in {city}"

    return get_weather


def test_chat(server: Simulator) -> None:
    """A reply has text, usage and the reason it ended; a batch keeps its order."""
    reply = chat(server).invoke(SUM)
    assert reply.content == FOUR
    assert reply.usage_metadata["total_tokens"] > 0
    assert reply.response_metadata["finish_reason"] == "stop"
    assert [each.content for each in chat(server).batch([SUM, "3+3?"])] == [FOUR, "3+3 = 6"]


def test_streams(server: Simulator) -> None:
    """Chunks join to the plain reply, sync and async; the last tells the usage."""
    plain = chat(server).invoke(WEATHER).content
    chunks = list(chat(server).stream(WEATHER))
    assert len(chunks) > 5
    assert "".join(chunk.content for chunk in chunks) == plain
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata)

    async def gathered() -> str:
        return "".join([chunk.content async for chunk in chat(server).astream(WEATHER)])

    assert asyncio.run(gathered()) == plain


def test_reasoning(server: Simulator) -> None:
    """Thinking streams as content blocks of its own."""
    whole = None
    for chunk in chat(server, THINKER).stream(WEATHER):
        whole = chunk if whole is None else whole + chunk
    assert [block["type"] for block in whole.content_blocks] == ["reasoning", "text"]


def test_tools(server: Simulator, get_weather: Any) -> None:
    """A bound tool is called, plain and streamed; its result is answered."""
    from langchain_core.messages import HumanMessage

    model = chat(server).bind_tools([get_weather])
    asked = HumanMessage(WEATHER)
    call = model.invoke([asked])
    assert [(each["name"], each["args"]) for each in call.tool_calls] == [
        ("get_weather", {"city": "Paris"})
    ]
    result = get_weather.invoke(call.tool_calls[0])
    assert f"{SUNNY} in Paris" in model.invoke([asked, call, result]).content
    whole = None
    for chunk in model.stream([asked]):
        whole = chunk if whole is None else whole + chunk
    assert whole.tool_calls == call.tool_calls


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(server: Simulator, method: str) -> None:
    """A pydantic class comes back filled, by a schema and by a tool, plain and streamed."""
    asking = chat(server).with_structured_output(Answer, method=method)
    assert asking.invoke(FACT) == PARIS
    assert list(asking.stream(FACT))[-1] == PARIS


def test_json_mode(server: Simulator) -> None:
    """In JSON mode the schema stands in the prompt, as LangChain's own parser words it."""
    from langchain_core.output_parsers import PydanticOutputParser

    form = PydanticOutputParser(pydantic_object=Answer).get_format_instructions()
    asking = chat(server).with_structured_output(Answer, method="json_mode")
    assert asking.invoke([("system", form), ("user", FACT)]) == PARIS
    assert asking.invoke(f"{FACT}\n{form}") == PARIS


def test_embeddings(server: Simulator) -> None:
    """Documents become vectors in their order; a query gets the vector of its text."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    made = peer.MistralAIEmbeddings(
        api_key="k", endpoint=f"{server.url}/v1/", tokenizer=tokenizer, wait_time=0
    )
    vectors = made.embed_documents(["tide", "moon"])
    assert [len(vector) for vector in vectors] == [1024, 1024]
    assert made.embed_query("moon") == vectors[1]
    assert asyncio.run(made.aembed_documents(["tide", "moon"])) == vectors


def test_refusals(server: Simulator) -> None:
    """Each refusal is an HTTPStatusError with the API's words, plain and streamed."""
    refused = [
        (401, chat(server, key="wrong"), "Unauthorized"),
        (400, chat(server, model="nobody"), "Invalid model: nobody"),
        (422, chat(server, model_kwargs={"colour": "red"}), "extra_forbidden"),
        (
            404,
            peer.ChatMistralAI(model=MODEL, api_key="k", endpoint=f"{server.url}/v9"),
            "no Route matched",
        ),
    ]
    for status, model, words in refused:
        for ask in (model.invoke, lambda text, model=model: list(model.stream(text))):
            with pytest.raises(httpx.HTTPStatusError, match=words) as caught:
                ask(WEATHER)
            assert caught.value.response.status_code == status


def test_rate_limits(server: Simulator) -> None:
    """A 429 is an HTTPStatusError with its Retry-After; with_retry outlasts some of them."""
    server.faults = Faults(rate_limit_rate=1, retry_after=7)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        chat(server, max_retries=1).invoke(SUM)
    assert caught.value.response.headers["retry-after"] == "7"
    server.faults = Faults(rate_limit_rate=0.5, seed=3)
    patient = chat(server).with_retry(
        retry_if_exception_type=(httpx.HTTPStatusError,),
        wait_exponential_jitter=False,
        stop_after_attempt=12,
    )
    assert [each.content for each in patient.batch([SUM] * 6)] == [FOUR] * 6
