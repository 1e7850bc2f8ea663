"""What every foreign client is asked, so that their tests read alike."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

MODEL = "mistral-small-latest"
THINKER = "magistral-small-latest"
SUM = "2+2?"
FOUR = "2+2 = 4"
WEATHER = "Weather in Paris?"
SUNNY = "Sunny, 22C"
FACT = "It has 22 degrees in Paris"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
BATCH = "".join(
    json.dumps(
        {"custom_id": str(n), "body": {"messages": [{"role": "user", "content": f"{n}+1?"}]}}
    )
    + "\n"
    for n in range(3)
).encode()
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
}


class Answer(BaseModel):
    """What is to be read out of FACT."""

    city: str
    degrees: int


PARIS = Answer(city="Paris", degrees=22)


def user(text: str) -> list[dict[str, str]]:
    """Return the messages of one question."""
    return [{"role": "user", "content": text}]


def sums(output: bytes) -> list[tuple[str, str]]:
    """Return the (custom_id, text) of a batch's output, in order of the ids."""
    lines = [json.loads(line) for line in output.splitlines()]
    return sorted(
        (line["custom_id"], line["response"]["body"]["choices"][0]["message"]["content"])
        for line in lines
    )


SUMS = [("0", "0+1 = 1"), ("1", "1+1 = 2"), ("2", "2+1 = 3")]
