"""pydantic-ai: agents on its Mistral model."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb.simulator import Faults
from tests.foreign.asking import FACT, FOUR, MODEL, PARIS, SUM, SUNNY, THINKER, WEATHER, Answer

if TYPE_CHECKING:
    from mistral_nb.simulator import Simulator

peer = pytest.importorskip("pydantic_ai", reason="make foreign installs it")
pytestmark = pytest.mark.foreign


def agent(server: Simulator, model: str = MODEL, key: str = "k", **options: Any) -> Any:
    from pydantic_ai.models.mistral import MistralModel
    from pydantic_ai.providers.mistral import MistralProvider

    provider = MistralProvider(api_key=key, base_url=server.url)
    return peer.Agent(MistralModel(model, provider=provider), **options)


def parts(result: Any) -> list[str]:
    """Return the kinds of all parts of a run's messages."""
    return [part.part_kind for message in result.all_messages() for part in message.parts]


def test_chat(server: Simulator) -> None:
    """A run has text and usage, and goes on from its own messages."""
    first = agent(server).run_sync(SUM)
    assert first.output == FOUR
    assert first.usage.output_tokens > 0
    second = agent(server).run_sync("Say: more", message_history=first.all_messages())
    assert second.output == "more"
    assert parts(second) == ["user-prompt", "text", "user-prompt", "text"]


def test_a_stream(server: Simulator) -> None:
    """Its pieces join to the plain reply."""
    plain = agent(server).run_sync(WEATHER).output

    async def gathered() -> list[str]:
        async with agent(server).run_stream(WEATHER) as result:
            return [piece async for piece in result.stream_text(delta=True, debounce_by=None)]

    pieces = asyncio.run(gathered())
    assert len(pieces) > 5
    assert "".join(pieces) == plain


def test_reasoning(server: Simulator) -> None:
    """Thinking is a part of its own, plain and streamed."""
    plain = agent(server, THINKER).run_sync(WEATHER)
    assert parts(plain) == ["user-prompt", "thinking", "text"]

    async def gathered() -> Any:
        async with agent(server, THINKER).run_stream(WEATHER) as result:
            assert await result.get_output() == plain.output
            return result

    assert parts(asyncio.run(gathered())) == ["user-prompt", "thinking", "text"]


def test_tools(server: Simulator) -> None:
    """The agent calls a Python function and answers from its result."""
    made = agent(server, instructions="Be brief.")
    asked = []

    @made.tool_plain
    def get_weather(city: str) -> str:
        """Weather in a city."""
        asked.append(city)
        return SUNNY

    result = made.run_sync(WEATHER)
    assert asked == ["Paris"]
    assert SUNNY in result.output
    assert parts(result) == ["user-prompt", "tool-call", "tool-return", "text"]


def test_structured_output(server: Simulator) -> None:
    """An output type comes back filled: by a tool, plain and streamed, and by a prompt."""
    assert agent(server, output_type=Answer).run_sync(FACT).output == PARIS

    async def gathered() -> Any:
        async with agent(server, output_type=Answer).run_stream(FACT) as result:
            return [each async for each in result.stream_output(debounce_by=None)]

    assert asyncio.run(gathered())[-1] == PARIS
    prompted = agent(server, output_type=peer.PromptedOutput(Answer))
    assert prompted.run_sync(FACT).output == PARIS


def test_images(server: Simulator) -> None:
    """An image beside the text is understood by models that see."""
    image = peer.ImageUrl("https://example.com/red-bicycle.png")
    assert agent(server).run_sync(["Say: seen", image]).output == "seen"


@pytest.mark.parametrize(
    ("options", "settings", "error", "status"),
    [
        ({"key": "wrong"}, {}, "ModelAuthenticationError", 401),
        ({"model": "nobody"}, {}, "ModelRequestRejectedError", 400),
        ({}, {"temperature": 9}, "ModelRequestRejectedError", 422),
    ],
)
def test_refusals(server: Simulator, options: Any, settings: Any, error: str, status: int) -> None:
    """Each refusal is the library's own error for it."""
    with pytest.raises(getattr(peer.exceptions, error)) as caught:
        agent(server, **options).run_sync(SUM, model_settings=settings)
    assert caught.value.status_code == status


def test_a_prompt_that_is_too_long(server: Simulator) -> None:
    """Code 3051 is known as an overflow of the context window."""
    with pytest.raises(peer.exceptions.ModelContextWindowExceededError):
        agent(server).run_sync("word " * 300_000)


def test_rate_limits(server: Simulator) -> None:
    """A 429 is a ModelRateLimitError, plain and streamed."""
    server.faults = Faults(rate_limit_rate=1, retry_after=7)
    with pytest.raises(peer.exceptions.ModelRateLimitError) as caught:
        agent(server).run_sync(SUM)
    assert caught.value.headers["retry-after"] == "7"

    async def stream() -> None:
        async with agent(server).run_stream(SUM) as result:
            await result.get_output()

    with pytest.raises(peer.exceptions.ModelRateLimitError):
        asyncio.run(stream())
