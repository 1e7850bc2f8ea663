"""instructor: typed answers, over the openai SDK and over Mistral's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.foreign.asking import FACT, MODEL, PARIS, Answer, user

if TYPE_CHECKING:
    from mistral_nb.simulator import Simulator

peer = pytest.importorskip("instructor", reason="make foreign installs it")
pytestmark = pytest.mark.foreign
ASKED: dict[str, Any] = {"model": MODEL, "messages": user(FACT), "response_model": Answer}
FOUND = PARIS.model_dump()  # instructor answers with classes of its own


def over_openai(server: Simulator, mode: str) -> Any:
    from openai import OpenAI

    made = OpenAI(api_key="k", base_url=f"{server.url}/v1")
    return peer.from_openai(made, mode=peer.Mode[mode]).chat.completions


@pytest.mark.parametrize("mode", ["TOOLS", "JSON", "JSON_SCHEMA", "MD_JSON"])
def test_every_mode(server: Simulator, mode: str) -> None:
    """By a tool, a schema, or a schema in the prompt, with or without a code block."""
    assert over_openai(server, mode).create(**ASKED, max_retries=1).model_dump() == FOUND


def test_streams(server: Simulator) -> None:
    """The last of the partial objects is whole; a list streams its items."""
    asking = over_openai(server, "TOOLS")
    assert list(asking.create_partial(**ASKED))[-1].model_dump() == FOUND
    assert [each.model_dump() for each in asking.create_iterable(**ASKED)] == [FOUND]


def test_over_the_official_sdk(server: Simulator) -> None:
    """Mistral's own client, wrapped."""
    from mistralai.client import Mistral

    with Mistral(api_key="k", server_url=server.url) as sdk:
        made = peer.from_mistral(sdk)
        assert made.chat.completions.create(**ASKED, max_retries=1).model_dump() == FOUND
