"""Request bodies of agents and conversations, as the API accepts them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from mistral_nb.simulator.validation import (
    DocumentURLChunk,
    FunctionTool,
    ImageURLChunk,
    Prediction,
    ResponseFormat,
    Strict,
    TextChunk,
    ThinkChunk,
    ToolReferenceChunk,
)

__all__ = [
    "AppendRequest",
    "CreateAgent",
    "ForgetRequest",
    "RestartRequest",
    "StartRequest",
    "UpdateAgent",
]

AgentVersion = int | str
Handoffs = Literal["client", "server"]


class ToolConfiguration(Strict):
    exclude: list[str] | None = None
    include: list[str] | None = None
    requires_confirmation: list[str] | None = None


class BuiltInTool(Strict):
    type: Literal["web_search", "web_search_premium", "code_interpreter", "image_generation"]
    tool_configuration: ToolConfiguration | None = None


class DocumentLibrary(Strict):
    type: Literal["document_library"]
    tool_configuration: ToolConfiguration | None = None
    library_ids: list[str] = Field(min_length=1)


class TokenAuth(Strict):
    type: Literal["oauth2-token", "api-key"]
    value: str


class CustomConnector(Strict):
    type: Literal["connector"]
    connector_id: str
    authorization: TokenAuth | None = None
    tool_configuration: ToolConfiguration | None = None


Tool = Annotated[
    FunctionTool | BuiltInTool | DocumentLibrary | CustomConnector, Field(discriminator="type")
]


class CompletionArgs(Strict):
    stop: str | list[str] | None = None
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    temperature: float | None = Field(None, ge=0, le=1.5)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=0)
    random_seed: int | None = Field(None, ge=0)
    prediction: Prediction | None = None
    response_format: ResponseFormat | None = None
    tool_choice: Literal["auto", "none", "any", "required"] = "auto"
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None


class _Equipment(Strict):
    """What a model is given, by an agent or for one conversation."""

    instructions: str | None = None
    tools: list[Tool] | None = None
    completion_args: CompletionArgs | None = None
    guardrails: list[dict[str, Any]] | None = None
    name: str | None = None
    description: str | None = None
    metadata: dict[str, Any] | None = None
    model: str | None = None


class CreateAgent(_Equipment):
    """Body of ``POST /v1/agents``."""

    model: str
    name: str
    handoffs: list[str] | None = Field(None, min_length=1)
    version_message: str | None = None


class UpdateAgent(_Equipment):
    """Body of ``PATCH /v1/agents/{agent_id}``: what is left out stays as it is."""

    handoffs: list[str] | None = Field(None, min_length=1)
    deployment_chat: bool | None = None
    version_message: str | None = None


class ToolFileChunk(Strict):
    type: Literal["tool_file"]
    tool: str
    file_id: str
    file_name: str | None = None
    file_type: str | None = None


class _Entry(Strict):
    object: Literal["entry"] = "entry"
    created_at: str | None = None
    completed_at: str | None = None
    id: str | None = None


class MessageInput(_Entry):
    type: Literal["message.input"] = "message.input"
    role: Literal["assistant", "user"]
    content: (
        str
        | list[
            Annotated[
                TextChunk | ImageURLChunk | ToolFileChunk | DocumentURLChunk | ThinkChunk,
                Field(discriminator="type"),
            ]
        ]
    )
    prefix: bool = False


class _Answered(_Entry):
    agent_id: str | None = None
    model: str | None = None


class MessageOutput(_Answered):
    type: Literal["message.output"]
    role: Literal["assistant"] = "assistant"
    content: (
        str
        | list[
            Annotated[
                TextChunk
                | ImageURLChunk
                | ToolFileChunk
                | DocumentURLChunk
                | ThinkChunk
                | ToolReferenceChunk,
                Field(discriminator="type"),
            ]
        ]
    )


class FunctionCall(_Answered):
    type: Literal["function.call"]
    tool_call_id: str
    name: str
    arguments: dict[str, Any] | str
    confirmation_status: Literal["pending", "allowed", "denied"] | None = None


class FunctionResult(_Entry):
    type: Literal["function.result"]
    tool_call_id: str
    result: str


class ToolExecution(_Answered):
    type: Literal["tool.execution"]
    name: str
    arguments: str
    info: dict[str, Any] | None = None


class AgentHandoff(_Entry):
    type: Literal["agent.handoff"]
    previous_agent_id: str
    previous_agent_name: str
    next_agent_id: str
    next_agent_name: str


def _entry_type(value: Any) -> str:
    """Return an entry's type; one that says nothing is a message of the user's."""
    found = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return str(found or "message.input")


Entry = Annotated[
    Annotated[MessageInput, Tag("message.input")]
    | Annotated[MessageOutput, Tag("message.output")]
    | Annotated[FunctionCall, Tag("function.call")]
    | Annotated[FunctionResult, Tag("function.result")]
    | Annotated[ToolExecution, Tag("tool.execution")]
    | Annotated[AgentHandoff, Tag("agent.handoff")],
    Discriminator(_entry_type),
]


class _Inputs(Strict):
    inputs: str | list[Entry] = Field(default_factory=list)
    stream: bool | None = None
    store: bool | None = None
    handoff_execution: Handoffs | None = None
    completion_args: CompletionArgs | None = None

    def entries(self) -> list[dict[str, Any]]:
        """Return the inputs as entries of the API's own form."""
        if isinstance(self.inputs, str):
            return [{"type": "message.input", "role": "user", "content": self.inputs}]
        return [
            {**each.model_dump(mode="json", exclude_unset=True), "type": each.type}
            for each in self.inputs
        ]


class StartRequest(_Inputs, _Equipment):
    """Body of ``POST /v1/conversations``."""

    inputs: str | list[Entry]
    agent_id: str | None = None
    agent_version: AgentVersion | None = None

    @model_validator(mode="after")
    def _either(self) -> StartRequest:
        if (self.model is None) == (self.agent_id is None):
            raise ValueError("Either model or agent_id must be given, and not both")
        return self


class Confirmation(Strict):
    tool_call_id: str
    confirmation: Literal["allow", "deny"]


class AppendRequest(_Inputs):
    """Body of ``POST /v1/conversations/{conversation_id}``."""

    tool_confirmations: list[Confirmation] | None = None


class RestartRequest(_Inputs):
    """Body of ``POST /v1/conversations/{conversation_id}/restart``."""

    from_entry_id: str
    agent_version: AgentVersion | None = None
    guardrails: list[dict[str, Any]] | None = None
    metadata: dict[str, Any] | None = None


class ForgetRequest(BaseModel):
    """Body of ``POST /simulator/forget``; without an id, everything is forgotten."""

    conversation_id: str | None = None
