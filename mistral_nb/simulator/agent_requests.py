"""Request bodies of agents and conversations, as the API accepts them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from mistral_nb.simulator.equipment import (
    Guardrail,
    Prediction,
    ReasoningEffort,
    ResponseFormat,
    Strict,
    Tool,
    ToolChoiceWord,
    Typed,
)
from mistral_nb.simulator.validation import (  # noqa: TC001 - pydantic reads them
    DocumentURLChunk,
    ImageURLChunk,
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


class CompletionArgs(Strict):
    stop: str | list[str] | None = None
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    temperature: float | None = Field(None, ge=0, le=1)
    top_p: float | None = Field(None, ge=0, le=1)
    max_tokens: int | None = Field(None, ge=0)
    random_seed: int | None = Field(None, ge=0)
    prediction: Prediction | None = None
    response_format: ResponseFormat | None = None
    tool_choice: ToolChoiceWord = "auto"
    reasoning_effort: ReasoningEffort | None = None


NO_ARGS = CompletionArgs.model_validate({})


class _Equipment(Strict):
    """What a model is given, by an agent or for one conversation."""

    instructions: str | None = None
    tools: list[Tool] | None = None
    completion_args: CompletionArgs | None = None
    guardrails: list[Guardrail] | None = None
    name: str | None = None
    description: str | None = None
    metadata: dict[str, Any] | None = None
    model: str | None = None


class CreateAgent(_Equipment):
    """Body of ``POST /v1/agents``."""

    model: str
    name: str
    tools: list[Tool] = Field(default_factory=list)
    completion_args: CompletionArgs = Field(default=NO_ARGS)
    handoffs: list[str] | None = Field(None, min_length=1)
    version_message: str | None = Field(None, max_length=500)


class UpdateAgent(_Equipment):
    """Body of ``PATCH /v1/agents/{agent_id}``: what is left out stays as it is."""

    tools: list[Tool] = Field(default_factory=list)
    completion_args: CompletionArgs = Field(default=NO_ARGS)
    handoffs: list[str] | None = Field(None, min_length=1)
    deployment_chat: bool | None = None
    version_message: str | None = Field(None, max_length=500)


class ToolFileChunk(Typed):
    type: Literal["tool_file"] = "tool_file"
    tool: str
    file_id: str
    file_name: str | None = None
    file_type: str | None = None


class _Entry(Strict):
    object: Literal["entry"] = "entry"
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    completed_at: datetime | None = None
    id: str = ""


class MessageInput(_Entry):
    type: Literal["message.input"] = "message.input"
    role: Literal["assistant", "user"]
    content: str | list[TextChunk | ImageURLChunk | ToolFileChunk | DocumentURLChunk | ThinkChunk]
    prefix: bool = False


class _Answered(_Entry):
    agent_id: str | None = None
    model: str | None = None


class MessageOutput(_Answered):
    type: Literal["message.output"] = "message.output"
    role: Literal["assistant"] = "assistant"
    content: (
        str
        | list[
            TextChunk
            | ImageURLChunk
            | ToolFileChunk
            | DocumentURLChunk
            | ThinkChunk
            | ToolReferenceChunk
        ]
    )


class FunctionCall(_Answered):
    type: Literal["function.call"] = "function.call"
    tool_call_id: str
    name: str
    arguments: dict[str, Any] | str
    confirmation_status: Literal["pending", "allowed", "denied"] | None = None


class FunctionResult(_Entry):
    type: Literal["function.result"] = "function.result"
    tool_call_id: str
    result: str


class ToolExecution(_Answered):
    type: Literal["tool.execution"] = "tool.execution"
    name: str
    arguments: str
    info: dict[str, Any] | None = None


class AgentHandoff(_Entry):
    type: Literal["agent.handoff"] = "agent.handoff"
    previous_agent_id: str
    previous_agent_name: str
    next_agent_id: str
    next_agent_name: str


_KINDS: dict[str, type[_Entry]] = {
    "message.input": MessageInput,
    "message.output": MessageOutput,
    "function.result": FunctionResult,
    "function.call": FunctionCall,
    "tool.execution": ToolExecution,
    "agent.handoff": AgentHandoff,
}


def _entry_type(value: Any) -> str:
    """Return an entry's type; one that does not say it is of the first that it can be."""
    if not isinstance(value, dict):
        return str(getattr(value, "type", "message.input"))
    if "type" in value:
        return str(value["type"])
    alike = [name for name, kind in _KINDS.items() if _has_fields_of(kind, value)]
    for name in alike:  # an input and an output may differ in their chunks alone
        with suppress(ValidationError):
            _KINDS[name].model_validate(value)
            return name
    return alike[0] if alike else "message.input"


def _has_fields_of(kind: type[_Entry], value: dict[str, Any]) -> bool:
    needed = {name for name, field in kind.model_fields.items() if field.is_required()}
    return needed <= value.keys() <= kind.model_fields.keys()


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
    stream: bool | None = False
    store: bool | None = True
    handoff_execution: Handoffs | None = "server"
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
    """Body of ``POST /v1/conversations``, the only one of these that takes unknown fields."""

    model_config = ConfigDict(extra="ignore")

    inputs: str | list[Entry]
    agent_id: str | None = None
    agent_version: AgentVersion | None = None

    @model_validator(mode="after")
    def _either(self) -> StartRequest:
        if (self.model is None) == (self.agent_id is None):
            raise ValueError("Either model or agent_id must be given, and not both")
        return self


class _Further(_Inputs):
    """What goes on with a conversation: nothing here may be null."""

    stream: bool = False
    store: bool = True
    handoff_execution: Handoffs = "server"
    completion_args: CompletionArgs = Field(default=NO_ARGS)


class Confirmation(Strict):
    tool_call_id: str
    confirmation: Literal["allow", "deny"]


class AppendRequest(_Further):
    """Body of ``POST /v1/conversations/{conversation_id}``."""

    tool_confirmations: list[Confirmation] | None = None


class RestartRequest(_Further):
    """Body of ``POST /v1/conversations/{conversation_id}/restart``."""

    from_entry_id: str
    agent_version: AgentVersion | None = None
    guardrails: list[Guardrail] | None = None
    metadata: dict[str, Any] | None = None


class ForgetRequest(BaseModel):
    """Body of ``POST /simulator/forget``; without an id, everything is forgotten."""

    conversation_id: str | None = None
