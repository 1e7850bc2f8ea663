"""Moderation and classification: scores from the words of a text, always the same."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from mistral_nb.simulator import tokens
from mistral_nb.simulator.bodies import (
    ChatClassificationRequest,
    ChatModerationRequest,
    ClassificationRequest,
)
from mistral_nb.simulator.catalogue import find_model
from mistral_nb.simulator.reading import plain_text
from mistral_nb.simulator.validation import ApiProblem, check, invalid_model
from mistral_nb.simulator.words import chance, ranked, stems

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["classify", "classify_chat", "moderate", "moderate_chat"]

THRESHOLD = 0.5
_SIGNS = {
    "sexual": "sex sexual naked nude porn erotic",
    "hate_and_discrimination": "hate racist inferior vermin subhuman sexist slur",
    "violence_and_threats": "kill murder shoot stab beat attack bomb hurt violence threat",
    "dangerous": "explosive bomb poison weapon detonator",
    "criminal": "steal fraud launder counterfeit smuggle hack burglary",
    "selfharm": "suicide suicidal selfharm cutting overdose",
    "health": "diagnosis dose medication symptom prescription disease cure",
    "financial": "invest stock portfolio loan mortgage crypto dividend",
    "law": "lawsuit sue lawyer contract legal liability court",
    "pii": "passport iban ssn phone address email",
    "jailbreaking": "jailbreak ignore previous instructions unrestricted pretend",
}
_MERGED = "dangerous_and_criminal_content"
"""What the first moderation model has in place of `dangerous` and `criminal`."""
_FIRST_MODEL = "mistral-moderation-2411"


def moderate(raw: bytes | dict[str, Any], *, seed: int, number: int) -> tuple[dict[str, Any], int]:
    """Answer ``/v1/moderations``.

    Args:
        raw: The body, encoded or parsed.
        seed: The simulator's seed.
        number: Which request this is; makes its id its own.

    Returns:
        The body of the reply, and how many tokens it cost.

    Raises:
        ApiProblem: The API would refuse it.
    """
    return _moderated(*_texts(raw), seed, number)


def moderate_chat(
    raw: bytes | dict[str, Any], *, seed: int, number: int
) -> tuple[dict[str, Any], int]:
    """Answer ``/v1/chat/moderations``; see :func:`moderate`."""
    request: ChatModerationRequest = check(ChatModerationRequest, raw)
    chats = request.model_dump(mode="json", exclude_unset=True)["input"]
    chats = chats if chats and isinstance(chats[0], list) else [chats]
    return _moderated(request.model, [_last(chat) for chat in chats], seed, number)


def classify(raw: bytes | dict[str, Any], *, seed: int, number: int) -> tuple[dict[str, Any], int]:
    """Answer ``/v1/classifications``; see :func:`moderate`."""
    return _classified(*_texts(raw), seed, number)


def classify_chat(
    raw: bytes | dict[str, Any], *, seed: int, number: int
) -> tuple[dict[str, Any], int]:
    """Answer ``/v1/chat/classifications``; see :func:`moderate`."""
    request: ChatClassificationRequest = check(ChatClassificationRequest, raw)
    chats = request.model_dump(mode="json", exclude_unset=True)["input"]
    chats = chats if isinstance(chats, list) else [chats]
    return _classified(request.model, [_last(each["messages"]) for each in chats], seed, number)


def _texts(raw: bytes | dict[str, Any]) -> tuple[str, list[str]]:
    request: ClassificationRequest = check(ClassificationRequest, raw)
    texts = request.input
    return request.model, [texts] if isinstance(texts, str) else texts


def _moderated(
    model: str, texts: Sequence[str], seed: int, number: int
) -> tuple[dict[str, Any], int]:
    known = find_model(model)
    if known is None or "moderation" not in known.can:
        raise invalid_model(model)
    results = []
    for text in texts:
        scores = {name: _score(name, text, seed) for name in _SIGNS}
        if known.id == _FIRST_MODEL:
            both = max(scores.pop("dangerous"), scores.pop("criminal"))
            scores = {**scores, _MERGED: both}
            del scores["jailbreaking"]
        flags = {name: score >= THRESHOLD for name, score in scores.items()}
        results.append({"categories": flags, "category_scores": scores})
    return _reply(model, results, seed, number), _counted(texts, known.context)


def _classified(
    model: str, texts: Sequence[str], seed: int, number: int
) -> tuple[dict[str, Any], int]:
    known = find_model(model)
    if known is None or "classification" not in known.can:
        raise invalid_model(model)
    results = [
        {target: {"scores": _shares(labels, text, seed)} for target, labels in known.targets}
        for text in texts
    ]
    return _reply(model, results, seed, number), _counted(texts, known.context)


def _score(category: str, text: str, seed: int) -> float:
    """Each telling word brings a text half-way nearer to certainty."""
    hits = len(stems(_SIGNS[category]) & stems(text))
    noise = chance(seed, category, text) * 0.004
    return round(1 - 0.4 * 0.5 ** (hits - 1) - noise if hits else noise, 9)


def _shares(labels: Sequence[str], text: str, seed: int) -> dict[str, float]:
    """Share certainty out among labels, by their words in the text; they add up to 1."""
    weights = [
        0.05 + score + 0.02 * chance(seed, labels[place], text)
        for score, place in ranked(labels, text)
    ]
    total = sum(weights)
    return {label: round(weight / total, 6) for label, weight in zip(labels, weights, strict=True)}


def _last(messages: Sequence[dict[str, Any]]) -> str:
    if not messages:
        message = "Conversation must have at least one message"
        raise ApiProblem.of(400, message, "invalid_request_message_order", "3230")
    return plain_text(messages[-1].get("content"))


def _counted(texts: Sequence[str], longest: int) -> int:
    lengths = [tokens.count(text) for text in texts]
    if max(lengths, default=0) > longest:
        raise ApiProblem.of(
            400,
            f"Input has {max(lengths)} tokens, exceeding max context length of {longest}",
            "invalid_request_prompt",
            "3210",
        )
    return sum(lengths)


def _reply(model: str, results: list[dict[str, Any]], seed: int, number: int) -> dict[str, Any]:
    name = uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}:{number}:{model}").hex
    return {"id": name, "model": model, "results": results}
