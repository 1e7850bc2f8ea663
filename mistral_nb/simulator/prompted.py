"""A JSON schema that stands in the prompt itself, where no response_format carries it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mistral_nb.simulator.reading import plain_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["PromptedForm", "prompted_form"]

SIGN = '"properties"'
"""Every schema of an object holds it; texts without it are not looked through."""
MOST_TRIES = 200
"""So many braces of one text may turn out to open no JSON."""

_READER = json.JSONDecoder()
_SEGMENT = re.compile(r"(?<=[.?!])\s+|\n+")
_ASKING = re.compile(
    r"\b(?:answer|respond|reply|return|output|provide|produce|generate|conforms?|match\w*|"
    r"compatible|format\w*)\b",
    re.IGNORECASE,
)
_FORM = re.compile(r"json|schema|formatted|^\W*$", re.IGNORECASE)
_FENCE = "```json"


@dataclass(frozen=True)
class PromptedForm:
    """What a prompt asks a reply to look like.

    Attributes:
        schema: JSON schema of the object wanted.
        about: What the object is about, without the words on its form.
        fenced: True if it is to stand in a block of Markdown code.
    """

    schema: dict[str, Any]
    about: str
    fenced: bool


def prompted_form(messages: Sequence[Mapping[str, Any]]) -> PromptedForm | None:
    """Find the form that the instructions or the user's words ask for.

    Args:
        messages: As in a chat request.

    Returns:
        The last schema that is asked for in JSON, or None. An earlier one is an example.
    """
    told = [m for m in messages if m["role"] in {"system", "user"}]
    texts = [plain_text(m.get("content")) for m in told]
    schema: dict[str, Any] | None = None
    for place, text in enumerate(texts):
        if SIGN not in text:
            continue
        found, words = _cut_schemas(text)
        texts[place] = words
        if found and "json" in words.lower() and _ASKING.search(words):
            schema = found[-1]
    if schema is None:
        return None
    asked = (text for m, text in zip(told, texts, strict=True) if m["role"] == "user")
    about = next(filter(None, map(_without_form, reversed(list(asked)))), "")
    results = [plain_text(m.get("content")) for m in messages if m["role"] == "tool"]
    fenced = any(_FENCE in text for text in texts)
    return PromptedForm(schema, "\n".join(results) or about, fenced)


def _cut_schemas(text: str) -> tuple[list[dict[str, Any]], str]:
    """Return the schemas in a text, and the text without them."""
    found, kept, done = [], [], 0
    for start, end, value in _objects(text):
        if isinstance(value.get("properties"), dict):
            found.append(value)
            kept.append(text[done:start])
            done = end
    return found, "".join([*kept, text[done:]])


def _objects(text: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield the outermost JSON objects of a text with their places."""
    place = text.find("{")
    for _ in range(MOST_TRIES):
        if place < 0:
            return
        try:
            value, end = _READER.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            yield place, end, value
        place = text.find("{", end)


def _without_form(text: str) -> str:
    """Leave out the sentences that speak of the form."""
    segments = _SEGMENT.split(text)
    return "\n".join(segment for segment in segments if not _FORM.search(segment))
