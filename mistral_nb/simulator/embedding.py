"""Embedding vectors: texts that share words lie near each other, always in the same place."""

from __future__ import annotations

import hashlib
import time
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mistral_nb.simulator import tokens
from mistral_nb.simulator.catalogue import find_model
from mistral_nb.simulator.validation import ApiProblem, EmbeddingRequest, check, invalid_model
from mistral_nb.simulator.words import stems

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["embed"]


def embed(raw: bytes | dict[str, Any], *, seed: int, number: int) -> dict[str, Any]:
    """Validate a request for embeddings and answer it.

    Args:
        raw: Body of ``/v1/embeddings``, encoded or parsed.
        seed: The simulator's seed.
        number: Which request this is; makes its id its own.

    Returns:
        The body of the reply.

    Raises:
        ApiProblem: The API would refuse it.
    """
    request: EmbeddingRequest = check(EmbeddingRequest, raw)
    known = find_model(request.model)
    if known is None or "embed" not in known.can:
        raise invalid_model(request.model)
    texts = [request.input] if isinstance(request.input, str) else request.input
    used = 0
    for text in texts:
        length = tokens.count(text)
        if length > known.context:
            raise ApiProblem.of(
                400,
                f"Input has {length} tokens, exceeding max context length of {known.context}",
                "invalid_request_prompt",
                "3210",
            )
        used += length
    dimension = min(request.output_dimension or known.dimension, known.dimension)
    return {
        "id": uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}:{number}").hex,
        "object": "list",
        "created": int(time.time()),
        "model": request.model,
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(text, dimension)}
            for index, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": used, "completion_tokens": 0, "total_tokens": used},
    }


def _vector(text: str, dimension: int) -> list[float]:
    """Add up one direction a word, and a little of the text's own; length 1."""
    total = 0.15 * _direction(text, dimension)
    for stem in sorted(stems(text)):  # in one order, or the last digits of a sum would differ
        total = total + _direction(stem, dimension)
    length = float((total @ total) ** 0.5)
    return [round(value, 6) for value in (total / length).tolist()]


@lru_cache(maxsize=4096)
def _direction(word: str, dimension: int) -> NDArray[np.float64]:
    import numpy as np

    digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
    generator = np.random.default_rng(int.from_bytes(digest))
    direction: NDArray[np.float64] = generator.standard_normal(dimension) / dimension**0.5
    return direction
