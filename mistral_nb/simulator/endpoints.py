"""Endpoints that give one JSON reply, by path: the same answers online and in a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mistral_nb.simulator.chat import complete
from mistral_nb.simulator.classifiers import classify, classify_chat, moderate, moderate_chat
from mistral_nb.simulator.embedding import embed
from mistral_nb.simulator.fim import complete_fim
from mistral_nb.simulator.ocr import read_document

if TYPE_CHECKING:
    from mistral_nb.simulator.state import State

__all__ = ["ENDPOINTS", "PLAIN", "answer_body"]

ENDPOINTS = {
    "/v1/chat/completions": "chat",
    "/v1/fim/completions": "fim",
    "/v1/embeddings": "embed",
    "/v1/moderations": "moderation",
    "/v1/chat/moderations": "moderation",
    "/v1/classifications": "classification",
    "/v1/chat/classifications": "classification",
    "/v1/ocr": "ocr",
}
"""Path -> what a model must be able to do there."""

_COMPLETIONS: dict[str, Any] = {
    "/v1/chat/completions": complete,
    "/v1/fim/completions": complete_fim,
}
_CLASSIFIERS: dict[str, Any] = {
    "/v1/moderations": moderate,
    "/v1/chat/moderations": moderate_chat,
    "/v1/classifications": classify,
    "/v1/chat/classifications": classify_chat,
}
PLAIN = ENDPOINTS.keys() - _COMPLETIONS.keys()
"""Paths that never stream."""


def answer_body(
    endpoint: str, body: bytes | dict[str, Any], *, number: int, state: State
) -> tuple[dict[str, Any], int]:
    """Answer a request that is not streamed.

    Args:
        endpoint: Path, one of ``ENDPOINTS``.
        body: The request's body, encoded or parsed.
        number: Which request this is; makes its id its own.
        state: Has the seed and the uploaded files.

    Returns:
        The body of the reply, and how many tokens it cost.

    Raises:
        ApiProblem: The API would refuse it.
    """
    seed = state.seed
    if endpoint in _COMPLETIONS:
        _, done = _COMPLETIONS[endpoint](body, seed=seed, number=number)
        return done.body(), done.usage["total_tokens"]
    if endpoint in _CLASSIFIERS:
        found: tuple[dict[str, Any], int] = _CLASSIFIERS[endpoint](body, seed=seed, number=number)
        return found
    if endpoint == "/v1/ocr":
        return read_document(body, seed=seed, read_file=lambda name: _file(state, name))
    reply = embed(body, seed=seed, number=number)
    return reply, reply["usage"]["total_tokens"]


def _file(state: State, name: str) -> bytes | None:
    if state.file(name) is None:
        return None
    try:
        return state.file_path(name).read_bytes()
    except OSError:
        return None
