"""The endpoints that can label rows: where each is, and what its requests hold."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from mistral_nb.errors import InputError

__all__ = ["CHAT", "Endpoint", "endpoint_at", "find_endpoint"]

_LINK = {"type": "document_url", "document_url": "https://example.com/"}
_CHAT = [{"role": "user", "content": ""}]


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of the API.

    Attributes:
        name: What people write.
        path: Where requests go.
        request: The SDK's model of a request.
        field: Where the row's own part goes in a request.
        sample: A value of that field, to check options with.
        model: Model that answers if none is named; None for the session's, "" for none.
        schema_in: Option that takes a schema of the caller's, if there is one.
        taken: Options that are not for the caller to set, beside the field.
    """

    name: str
    path: str
    request: str
    field: str
    sample: Any = ""
    model: str | None = None
    schema_in: str | None = None
    taken: frozenset[str] = frozenset()

    @property
    def chat(self) -> bool:
        """Whether a row is a list of messages."""
        return self.path.startswith("/v1/chat/")

    def model_for(self, asked: str | None, usual: str) -> str:
        """Choose the model.

        Args:
            asked: What the caller named, if anything.
            usual: The session's model.

        Raises:
            InputError: None was named, and the endpoint has no usual one.
        """
        if asked or self.model is None:
            return asked or usual
        if not self.model:
            raise InputError(
                f"endpoint={self.name!r} needs model=: the name of your fine-tuned classifier."
            )
        return self.model


def find_endpoint(name: Any) -> Endpoint:
    """Return the endpoint with a name, written `embeddings` or `/v1/embeddings`.

    Raises:
        InputError: There is none; the message names them.
    """
    if isinstance(name, str):
        for each in _ALL:
            if name in {each.name, each.path, each.path.removeprefix("/v1/")}:
                return each
    known = [each.name for each in _ALL]
    near = get_close_matches(str(name), known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Choose one of {', '.join(known)}."
    raise InputError(f"endpoint={name!r} cannot label rows. {hint}")


def endpoint_at(path: str) -> Endpoint:
    """Return the endpoint at a path that a ledger keeps."""
    return next(each for each in _ALL if each.path == path)


CHAT = Endpoint(
    "chat",
    "/v1/chat/completions",
    "ChatCompletionRequest",
    "messages",
    _CHAT,
    schema_in="response_format",
    taken=frozenset({"stream", "n"}),
)
_MODERATION = "mistral-moderation-latest"
_ALL = (
    CHAT,
    Endpoint(
        "embeddings",
        "/v1/embeddings",
        "EmbeddingRequest",
        "input",
        model="mistral-embed",
        taken=frozenset({"encoding_format"}),
    ),
    Endpoint("moderations", "/v1/moderations", "ClassificationRequest", "input", model=_MODERATION),
    Endpoint(
        "chat/moderations",
        "/v1/chat/moderations",
        "ChatModerationRequest",
        "input",
        _CHAT,
        model=_MODERATION,
    ),
    Endpoint("classifications", "/v1/classifications", "ClassificationRequest", "input", model=""),
    Endpoint(
        "chat/classifications",
        "/v1/chat/classifications",
        "ChatClassificationRequest",
        "input",
        {"messages": _CHAT},
        model="",
    ),
    Endpoint(
        "fim",
        "/v1/fim/completions",
        "FIMCompletionRequest",
        "prompt",
        model="codestral-latest",
        taken=frozenset({"stream", "suffix"}),
    ),
    Endpoint(
        "ocr",
        "/v1/ocr",
        "OCRRequest",
        "document",
        _LINK,
        model="mistral-ocr-latest",
        schema_in="document_annotation_format",
    ),
)
