"""Request bodies of the endpoints beside chat: fim, moderations, classifications, ocr."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mistral_nb.simulator.equipment import ResponseFormat, Strict
from mistral_nb.simulator.validation import (
    CompletionRequest,
    DocumentURLChunk,
    FileChunk,
    ImageURLChunk,
    Message,
)

__all__ = [
    "ChatClassificationRequest",
    "ChatModerationRequest",
    "ClassificationRequest",
    "FimRequest",
    "OcrRequest",
]


class FimRequest(CompletionRequest):
    """Body of ``POST /v1/fim/completions``."""

    prompt: str
    suffix: str | None = ""
    min_tokens: int | None = Field(None, ge=0)
    prompt_cache_key: str | None = None


class ClassificationRequest(Strict):
    """Body of ``POST /v1/moderations`` and ``POST /v1/classifications``."""

    model: str
    input: str | list[str]
    metadata: dict[str, Any] | None = None


class ChatModerationRequest(Strict):
    """Body of ``POST /v1/chat/moderations``."""

    model: str
    input: list[Message] | list[list[Message]]


class InstructRequest(Strict):
    """One chat to classify."""

    messages: list[Message]


class ChatClassificationRequest(Strict):
    """Body of ``POST /v1/chat/classifications``."""

    model: str
    input: InstructRequest | list[InstructRequest]


class OcrRequest(Strict):
    """Body of ``POST /v1/ocr``."""

    model: str | None
    document: FileChunk | DocumentURLChunk | ImageURLChunk
    pages: str | list[int] | None = None
    include_image_base64: bool | None = None
    image_limit: int | None = None
    image_min_size: int | None = None
    bbox_annotation_format: ResponseFormat | None = None
    document_annotation_format: ResponseFormat | None = None
    document_annotation_prompt: str | None = None
    table_format: Literal["markdown", "html"] | None = None
    extract_header: bool = False
    extract_footer: bool = False
    include_blocks: bool = True
    confidence_scores_granularity: Literal["word", "page", "block"] | None = None
