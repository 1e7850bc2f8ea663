"""Request bodies as the API accepts them, and its refusals in the API's own shapes."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID  # noqa: TC003 - pydantic reads it

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from mistral_nb.simulator.equipment import (
    Guardrail,
    Prediction,
    ReasoningEffort,
    ResponseFormat,
    Strict,
    Tool,
    ToolChoice,
    ToolChoiceWord,
    Typed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ApiProblem",
    "ChatRequest",
    "CompletionRequest",
    "EmbeddingRequest",
    "JobRequest",
    "check",
    "chosen",
    "invalid_model",
    "unprocessable",
]


class ApiProblem(Exception):  # noqa: N818 - it is the reply, not a failure of ours
    """A refusal, ready to be sent.

    Attributes:
        status: HTTP status.
        body: The JSON body.
        headers: Further headers.
    """

    def __init__(
        self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(str(body.get("message") or body.get("detail")))
        self.status = status
        self.body = body
        self.headers = headers or {}

    @classmethod
    def of(cls, status: int, message: str, kind: str, code: str | None = None) -> ApiProblem:
        """Build a refusal in Mistral's usual form."""
        body = {"object": "error", "message": message, "type": kind, "param": None, "code": code}
        return cls(status, body)


def invalid_model(name: object) -> ApiProblem:
    """Return the refusal of a model that does not exist."""
    return ApiProblem.of(400, f"Invalid model: {name}", "invalid_model", "1500")


def unprocessable(
    loc: tuple[str | int, ...], message: str, kind: str, value: object = None
) -> ApiProblem:
    """Return a 422 with one entry in ``detail``."""
    return ApiProblem(
        422, {"detail": [{"type": kind, "loc": list(loc), "msg": message, "input": value}]}
    )


def chosen(loc: tuple[str | int, ...], value: object, choices: Sequence[str]) -> str:
    """Return a value that is one of some choices.

    Raises:
        ApiProblem: 422; it is not.
    """
    if value not in choices:
        listed = " or ".join(", ".join(map(repr, choices)).rsplit(", ", 1))
        raise unprocessable(loc, f"Input should be {listed}", "enum", str(value))
    return str(value)


class TextChunk(Typed):
    type: Literal["text"] = "text"
    text: str


class ReferenceChunk(Typed):
    type: Literal["reference"] = "reference"
    reference_ids: list[int | str]


class ToolReferenceChunk(Typed):
    type: Literal["tool_reference"] = "tool_reference"
    tool: str
    title: str
    url: str | None = None
    favicon: str | None = None
    description: str | None = None


class ThinkChunk(Typed):
    type: Literal["thinking"] = "thinking"
    thinking: list[TextChunk | ToolReferenceChunk | ReferenceChunk]
    signature: str | None = None
    closed: bool = True


class ImageURL(Strict):
    url: str
    detail: Literal["low", "auto", "high"] | None = None


class ImageURLChunk(Typed):
    type: Literal["image_url"] = "image_url"
    image_url: ImageURL | str


class DocumentURLChunk(Typed):
    type: Literal["document_url"] = "document_url"
    document_url: str
    document_name: str | None = None


class FileChunk(Typed):
    type: Literal["file"] = "file"
    file_id: UUID


class AudioChunk(Typed):
    type: Literal["input_audio"] = "input_audio"
    input_audio: str


SystemChunk = Annotated[TextChunk | ThinkChunk, Field(discriminator="type")]
ContentChunk = Annotated[
    TextChunk
    | ImageURLChunk
    | DocumentURLChunk
    | ReferenceChunk
    | FileChunk
    | ThinkChunk
    | AudioChunk,
    Field(discriminator="type"),
]


class FunctionCall(Strict):
    name: str
    arguments: dict[str, Any] | str


class ToolCall(Strict):
    id: str = "null"
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int = 0


class SystemMessage(Strict):
    role: Literal["system"]
    content: str | list[SystemChunk]


class UserMessage(Strict):
    role: Literal["user"]
    content: str | list[ContentChunk] | None


class AssistantMessage(Strict):
    role: Literal["assistant"]
    content: str | list[ContentChunk] | None = None
    tool_calls: list[ToolCall] | None = None
    prefix: bool = False


class ToolMessage(Strict):
    role: Literal["tool"]
    content: str | list[ContentChunk] | None
    tool_call_id: str | None = None
    name: str | None = None


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


class CompletionRequest(Strict):
    """What every request for a completion may hold."""

    model: str
    temperature: float | None = Field(None, ge=0, le=1.5)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=0)
    stream: bool = False
    stop: str | list[str] | None = None
    random_seed: int | None = Field(None, ge=0)
    metadata: dict[str, Any] | None = None


class ChatRequest(CompletionRequest):
    """Body of ``POST /v1/chat/completions``."""

    messages: list[Message]
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | ToolChoiceWord = "auto"
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    n: int | None = Field(None, ge=1)
    prediction: Prediction | None = None
    parallel_tool_calls: bool = True
    reasoning_effort: ReasoningEffort | None = None
    prompt_mode: Literal["reasoning"] | None = None
    guardrails: list[Guardrail] | None = None
    prompt_cache_key: str | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    safe_prompt: bool = False


class EmbeddingRequest(Strict):
    """Body of ``POST /v1/embeddings``."""

    model: str
    input: str | list[str]
    metadata: dict[str, Any] | None = None
    output_dimension: int | None = Field(None, gt=0)
    output_dtype: Literal["float", "int8", "uint8", "binary", "ubinary"] = "float"
    encoding_format: Literal["float", "base64"] = "float"


class JobRow(BaseModel):
    """One request of a batch: a line of its file, or an entry of ``requests``."""

    custom_id: str | None = None
    body: dict[str, Any]


Endpoint = Literal[
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/fim/completions",
    "/v1/moderations",
    "/v1/chat/moderations",
    "/v1/ocr",
    "/v1/classifications",
    "/v1/chat/classifications",
    "/v1/conversations",
    "/v1/audio/transcriptions",
]


class JobRequest(BaseModel):
    """Body of ``POST /v1/batch/jobs``."""

    endpoint: Endpoint
    input_files: list[UUID] | None = None
    requests: list[JobRow] | None = Field(None, max_length=10_000)
    model: str | None = None
    agent_id: str | None = None
    metadata: (
        dict[
            Annotated[str, Field(min_length=1, max_length=32)],
            Annotated[str, Field(min_length=1, max_length=512)],
        ]
        | None
    ) = None
    timeout_hours: int = Field(24, ge=1, le=168)


@cache
def _adapter(kind: type[BaseModel]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def check(kind: type[BaseModel], body: bytes | dict[str, Any]) -> Any:
    """Validate a body.

    Args:
        kind: One of the request classes above.
        body: JSON, encoded or parsed.

    Returns:
        An instance of ``kind``.

    Raises:
        ApiProblem: 422 with pydantic's list, as the API words it.
    """
    adapter = _adapter(kind)
    try:
        if isinstance(body, bytes):
            return adapter.validate_json(body)
        return adapter.validate_python(body)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False)
        listed = [
            {
                "type": e["type"],
                "loc": ["body", *e["loc"]],
                "msg": e["msg"],
                "input": _shown(e["input"]),
            }
            for e in detail[:50]
        ]
        raise ApiProblem(422, {"detail": listed}) from error


def _shown(value: Any) -> Any:
    """Shorten an input that is quoted in a refusal: requests may be megabytes."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return value[:1000]
    return value if len(str(value)) < 2000 else f"({type(value).__name__}, shortened)"  # noqa: PLR2004
