"""What requests give a model beside messages: tools, guardrails, forms of the reply."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

__all__ = [
    "FunctionTool",
    "Guardrail",
    "Prediction",
    "ReasoningEffort",
    "ResponseFormat",
    "Strict",
    "Tool",
    "ToolChoice",
    "ToolChoiceWord",
    "Typed",
]

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
ToolChoiceWord = Literal["auto", "none", "any", "required"]


class Strict(BaseModel):
    """A part of a body in which unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Typed(Strict):
    """A part whose ``type`` may be left out where its other fields tell it."""

    def model_post_init(self, _: Any) -> None:
        """Count the type as given: whoever reads the part goes by it."""
        self.model_fields_set.add("type")


class Function(Strict):
    name: str
    description: str = ""
    strict: bool = False
    parameters: dict[str, Any]


class FunctionTool(Typed):
    """A function of the client's that the model may call."""

    type: Literal["function"] = "function"
    function: Function


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


def _tool_kind(value: Any) -> str:
    """Return which class a tool is of; one that names no type is a function (recorded)."""
    found = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    found = "function" if found is None else str(found)
    return found if found in {"function", "document_library", "connector"} else "built-in"


Tool = Annotated[
    Annotated[FunctionTool, Tag("function")]
    | Annotated[BuiltInTool, Tag("built-in")]
    | Annotated[DocumentLibrary, Tag("document_library")]
    | Annotated[CustomConnector, Tag("connector")],
    Discriminator(_tool_kind),
]


class FunctionName(Strict):
    name: str


class ToolChoice(Strict):
    """The one function that the model is to call."""

    type: Literal["function"] = "function"
    function: FunctionName


class Prediction(Strict):
    """What the reply will probably hold; the simulated model does not look at it."""

    type: Literal["content"] = "content"
    content: str = ""


class JsonSchema(Strict):
    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool = False


class ResponseFormat(Strict):
    """The form that a reply is to have."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None


class _Thresholds(BaseModel):
    sexual: float | None = None
    hate_and_discrimination: float | None = None
    violence_and_threats: float | None = None
    selfharm: float | None = None
    health: float | None = None
    financial: float | None = None
    law: float | None = None
    pii: float | None = None


class _FirstThresholds(_Thresholds):
    dangerous_and_criminal_content: float | None = None


class _SecondThresholds(_Thresholds):
    dangerous: float | None = None
    criminal: float | None = None
    jailbreaking: float | None = None


class _Moderation(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    model_name: str = ""
    ignore_other_categories: bool = False
    action: Literal["none", "block"] = "none"


class _FirstModeration(_Moderation):
    custom_category_thresholds: _FirstThresholds | None = None


class _SecondModeration(_Moderation):
    custom_category_thresholds: _SecondThresholds | None = None


class Guardrail(BaseModel):
    """A moderation beside the model; the simulated one never steps in."""

    block_on_error: bool = False
    moderation_llm_v1: _FirstModeration | None = None
    moderation_llm_v2: _SecondModeration | None = None
