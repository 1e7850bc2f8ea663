"""The description made specific to one simulator: its models, files and ids, so requests succeed.

What a schema alone can't say, and the API's server asks for all the same, stands here too.
"""

from __future__ import annotations

import base64
from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING, Any

from tests.contract.schema import component_of, document
from tests.pictures import pdf, png

if TYPE_CHECKING:
    from tests.simulator.conftest import Api

__all__ = ["PROMPTS", "SCHEMA", "World", "grounded", "read_leniently", "settled", "tagged"]

CALL = "call00001"
SMALL = "mistral-small-latest"
CHATS = [SMALL, "magistral-medium-latest", "codestral-latest"]
CLASSIFIER = "ft:classifier:ministral-3b-latest:simulator:20260101:tickets"
MODELS = {
    "ChatCompletionRequest": CHATS,
    "FIMCompletionRequest": ["codestral-latest"],
    "EmbeddingRequest": ["mistral-embed", "codestral-embed"],
    "ClassificationRequest": ["mistral-moderation-latest", CLASSIFIER],
    "ChatModerationRequest": ["mistral-moderation-latest", "mistral-moderation-2411"],
    "ChatClassificationRequest": [CLASSIFIER],
    "OCRRequest": ["mistral-ocr-latest"],
    "CreateAgentRequest": CHATS,
    "UpdateAgentRequest": CHATS,
    "CreateBatchJobRequest": [SMALL],
}
PROMPTS = [
    "Weather in Paris and Rome?",
    "Explain tides",
    "2+2?",
    "Is it good or bad?",
    "Run code to calculate 12 * 12, then draw an image of a cat",
    "add 2 and 3",
    "",
    "\u2028🦊 \x00",
]
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 2},
        "when": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        "degrees": {"type": "array", "items": {"type": "integer", "minimum": 3}, "minItems": 2},
        "mood": {"enum": ["good", "bad", 3]},
    },
    "required": ["city", "degrees"],
}


class World:
    """One of everything that requests can name, made anew where a request removes it.

    Args:
        api: A client to the simulator that holds it.
    """

    def __init__(self, api: Api) -> None:
        self.api = api
        api.simulator.batch_rate = 0
        self.kept = {name: getattr(self, f"new_{name}")() for name in _PLACES}
        self.entry = api.get(f"/v1/conversations/{self.kept['conversation_id']}/history").json()[
            "entries"
        ][0]["id"]
        self.batch_file = api.upload([{"custom_id": "1", "body": {"messages": []}}])

    def path(self, template: str, method: str) -> dict[str, str]:
        """Return the ids for a path; new ones if the request leaves what they name in no use.

        It may remove it, or add a call to a conversation that then waits for the result.
        """
        names = [name for name in _PLACES if f"{{{name}}}" in template]
        waits = method == "POST" and template.partition("#")[0].endswith("{conversation_id}")
        spent = method == "DELETE" or waits
        return {n: getattr(self, f"new_{n}")() if spent else self.kept[n] for n in names}

    def new_model_id(self) -> str:
        return SMALL

    def new_agent_id(self) -> str:
        made = self.api.post("/v1/agents", {"model": SMALL, "name": "Desk"}).json()["id"]
        self.api.http.put(f"/v1/agents/{made}/aliases?alias=stable&version=0")
        return made

    def new_conversation_id(self) -> str:
        body = {"model": SMALL, "inputs": "Explain tides"}
        return self.api.post("/v1/conversations", body).json()["conversation_id"]

    def new_file_id(self) -> str:
        sent = {"file": ("a.pdf", pdf("hello"))}
        return self.api.http.post("/v1/files", data={"purpose": "ocr"}, files=sent).json()["id"]

    def new_job_id(self) -> str:
        rows = [{"custom_id": "1", "body": {"messages": [{"role": "user", "content": "Hi"}]}}]
        body = {"endpoint": "/v1/chat/completions", "model": SMALL, "requests": rows}
        return self.api.ended(self.api.post("/v1/batch/jobs", body).json())["id"]


_PLACES = ("model_id", "agent_id", "conversation_id", "file_id", "job_id")


def grounded(world: World) -> dict[str, Any]:
    """Return the description in which names are those of things that are there."""
    made = tagged()
    for kind, names in MODELS.items():
        component_of(made, kind)["properties"]["model"] = {"enum": names}
    agent = world.kept["agent_id"]
    _bodies(made, agent, world)
    _chunks(made, world.kept["file_id"])
    for path, item in made["paths"].items():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                _parameter(parameter, path)
    aliases = made["paths"]["/v1/agents/{agent_id}/aliases"]["delete"]["parameters"]
    next(each for each in aliases if each["name"] == "alias")["schema"] = {"const": "stable"}
    return made


@cache
def _tagged() -> dict[str, Any]:
    made = deepcopy(document())
    del made["security"]  # a test sends its own key
    _require_tags(made, made)
    return made


def tagged() -> dict[str, Any]:
    """Return the description in which what tells kinds apart must be there.

    The server's own library cannot choose without it, whether it has a default or not.
    """
    return deepcopy(_tagged())


def _require_tags(node: Any, root: dict[str, Any]) -> None:
    if isinstance(node, list):
        for each in node:
            _require_tags(each, root)
    elif isinstance(node, dict):
        for each in node.values():
            _require_tags(each, root)
        if "oneOf" in node and "discriminator" in node:
            told = node.pop("discriminator")
            node["oneOf"] = [
                _with_tag(component_of(root, each["$ref"]), told["propertyName"])
                if each["$ref"] != told["mapping"].get("function")  # recorded without a type
                else each
                for each in node["oneOf"]
            ]


def _with_tag(kind: dict[str, Any], tag: str) -> dict[str, Any]:
    return {**kind, "required": sorted({tag, *kind.get("required", ())})}


def _bodies(made: dict[str, Any], agent: str, world: World) -> None:
    _starts(made, agent)
    for name in ("ConversationAppend", "ConversationRestart"):
        for kind in ("Request", "StreamRequest"):
            said = component_of(made, f"{name}{kind}")["allOf"][1]
            said["required"] = ["stream"]
    for name in ("CreateAgentRequest", "UpdateAgentRequest"):
        items = {"type": "array", "items": {"const": agent}, "minItems": 1, "maxItems": 2}
        component_of(made, name)["properties"]["handoffs"] = items
    append = component_of(made, "AppendConversationRequest")["properties"]
    append["tool_confirmations"] = {"type": "null"}  # no call waits in a new conversation
    restart = component_of(made, "RestartConversationRequest")["properties"]
    restart["from_entry_id"] = {"const": world.entry}
    restart["agent_version"] = {"type": "null"}
    for name in ("FunctionResultEntry", "FunctionCallEntry"):
        component_of(made, name)["properties"]["tool_call_id"] = {"const": CALL}
    _jobs(component_of(made, "CreateBatchJobRequest"), world.batch_file)
    _annotations(component_of(made, "OCRRequest")["properties"])
    upload = made["paths"]["/v1/files"]["post"]["requestBody"]["content"]["multipart/form-data"]
    upload["schema"]["properties"]["expiry"] = {"type": "integer", "minimum": 1}
    for name in ("JsonSchema", "Function"):
        place = {"JsonSchema": "schema", "Function": "parameters"}[name]
        free = {"anyOf": [{"const": SCHEMA}, {"type": "object"}]}
        component_of(made, name)["properties"][place] = free
    component_of(made, "UserMessage")["properties"]["content"] = {
        "anyOf": [
            {"enum": PROMPTS},
            {"type": "array", "items": {"$ref": "#/components/schemas/ContentChunk"}},
        ]
    }


def _annotations(properties: dict[str, Any]) -> None:
    """Annotations have a JSON schema, as the description says in words."""
    form = {
        "type": "object",
        "properties": {
            "type": {"const": "json_schema"},
            "json_schema": {"$ref": "#/components/schemas/JsonSchema"},
        },
        "required": ["type", "json_schema"],
        "additionalProperties": False,
    }
    for name in ("document_annotation_format", "bbox_annotation_format"):
        properties[name] = {"anyOf": [form, {"type": "null"}]}


def _starts(made: dict[str, Any], agent: str) -> None:
    """A conversation starts with a model or an agent, which brings what a model is given."""
    start = component_of(made, "ConversationRequestBase")
    start["properties"]["model"] = {"enum": CHATS}
    start["properties"]["agent_id"] = {"const": agent}
    either = [
        ("model", ("agent_id", "agent_version")),
        ("agent_id", ("model", "instructions", "tools")),
    ]
    # Exactly one of them, which the schema does not say.
    start_kinds = []
    for needed, left_out in either:
        kind = deepcopy(start)
        kind["required"] = ["inputs", needed]
        for name in left_out:
            del kind["properties"][name]
        if "agent_version" in kind["properties"]:
            kind["properties"]["agent_version"] = {"enum": [0, "0", "stable"]}
        start_kinds.append(kind)
    for name, stream in (("ConversationRequest", False), ("ConversationStreamRequest", True)):
        kinds = deepcopy(start_kinds)
        for kind in kinds:
            kind["properties"]["stream"] = {"const": stream}
            kind["required"] += ["stream"]
        made["components"]["schemas"][name] = {"anyOf": kinds}


def _jobs(kind: dict[str, Any], file: str) -> None:
    """A job has a model, and either files or requests; the simulator's has no agent."""
    properties = kind["properties"]
    properties["endpoint"] = {"const": "/v1/chat/completions"}
    del properties["agent_id"]
    kind["required"] = ["endpoint", "model"]
    one = {"type": "array", "items": {"const": file}, "minItems": 1, "maxItems": 2}
    some = {**properties["requests"]["anyOf"][0], "minItems": 1, "maxItems": 3}
    kinds = []
    for name, schema in (("input_files", one), ("requests", some)):
        rest = {k: v for k, v in properties.items() if k not in {"input_files", "requests"}}
        kinds.append(
            {**kind, "properties": {**rest, name: schema}, "required": [*kind["required"], name]}
        )
    kind.clear()
    kind["anyOf"] = kinds


def _chunks(made: dict[str, Any], file: str) -> None:
    url = "data:image/png;base64," + base64.b64encode(png("a receipt")).decode()
    urls = {"enum": [url, "https://example.com/red_bicycle.png"]}
    component_of(made, "FileChunk")["properties"]["file_id"] = {"const": file}
    component_of(made, "DocumentURLChunk")["properties"]["document_url"] = urls
    component_of(made, "ImageURL")["properties"]["url"] = urls
    image = component_of(made, "ImageURLChunk")["properties"]["image_url"]
    image["anyOf"] = [urls if each.get("type") == "string" else each for each in image["anyOf"]]


def _parameter(parameter: dict[str, Any], path: str) -> None:
    """Leave out null, which a query cannot say, and pages before the first."""
    schema = parameter.get("schema")
    if schema is None:
        return
    if "anyOf" in schema:
        kinds = [kind for kind in schema["anyOf"] if kind.get("type") != "null"]
        schema = parameter["schema"] = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    name = parameter["name"]
    if name in {"page", "page_size", "expiry"}:
        schema["minimum"] = 0 if name == "page" else 1
    if path.endswith("/url"):
        schema["maximum"] = 168
    if name in {"version", "agent_version"}:
        parameter["schema"] = {"enum": [0] if parameter["in"] == "query" else ["0", "stable"]}
    if name == "page_token":
        parameter["schema"] = {"enum": ["0", "1"]}
    if name == "metadata":
        parameter["schema"] = {"const": '{"a":"b"}'}


def settled(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the tool messages of a chat where they answer a call, which the schema does not ask."""
    results = [message for message in messages if message["role"] == "tool"]
    made = []
    for message in messages:
        if message["role"] == "tool":
            continue
        made.append(message)
        for call in message.get("tool_calls") or ():
            call["id"] = CALL
            made.append(results.pop() if results else {"role": "tool", "content": "done"})
    return made


def read_leniently(schema: Any) -> Any:
    """Return a schema that also takes what the server's library reads as the right thing.

    It takes ``"5"`` for 5 and 1 for true; a moment may be a number.
    """
    if isinstance(schema, list):
        return [read_leniently(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: read_leniently(each) for name, each in schema.items()}
    kind = made.get("type")
    if isinstance(kind, str) and kind in {"integer", "number", "boolean"}:
        made["type"] = ["integer", "number", "boolean", "string"]
        made.pop("enum", None)
    if made.get("format") == "date-time":
        made["type"] = ["string", "integer", "number"]
    return made
