"""Which operations of the description the simulator offers, and how the SDK names their replies."""

from __future__ import annotations

from typing import Any

from mistralai.client import models

from tests.contract.schema import document

__all__ = ["NOT_OFFERED", "OFFERED", "described", "sdk_type"]

OFFERED = {
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model_id}"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/fim/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/moderations"),
    ("POST", "/v1/chat/moderations"),
    ("POST", "/v1/classifications"),
    ("POST", "/v1/chat/classifications"),
    ("POST", "/v1/ocr"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files"),
    ("GET", "/v1/files/{file_id}"),
    ("DELETE", "/v1/files/{file_id}"),
    ("GET", "/v1/files/{file_id}/content"),
    ("GET", "/v1/files/{file_id}/url"),
    ("POST", "/v1/batch/jobs"),
    ("GET", "/v1/batch/jobs"),
    ("GET", "/v1/batch/jobs/{job_id}"),
    ("DELETE", "/v1/batch/jobs/{job_id}"),
    ("POST", "/v1/batch/jobs/{job_id}/cancel"),
    ("POST", "/v1/agents"),
    ("GET", "/v1/agents"),
    ("GET", "/v1/agents/pages"),
    ("GET", "/v1/agents/{agent_id}"),
    ("PATCH", "/v1/agents/{agent_id}"),
    ("DELETE", "/v1/agents/{agent_id}"),
    ("PATCH", "/v1/agents/{agent_id}/version"),
    ("GET", "/v1/agents/{agent_id}/versions"),
    ("GET", "/v1/agents/{agent_id}/versions/{version}"),
    ("PUT", "/v1/agents/{agent_id}/aliases"),
    ("GET", "/v1/agents/{agent_id}/aliases"),
    ("DELETE", "/v1/agents/{agent_id}/aliases"),
    ("POST", "/v1/conversations"),
    ("POST", "/v1/conversations#stream"),
    ("GET", "/v1/conversations"),
    ("GET", "/v1/conversations/{conversation_id}"),
    ("DELETE", "/v1/conversations/{conversation_id}"),
    ("POST", "/v1/conversations/{conversation_id}"),
    ("POST", "/v1/conversations/{conversation_id}#stream"),
    ("GET", "/v1/conversations/{conversation_id}/history"),
    ("GET", "/v1/conversations/{conversation_id}/messages"),
    ("POST", "/v1/conversations/{conversation_id}/restart"),
    ("POST", "/v1/conversations/{conversation_id}/restart#stream"),
}
NOT_OFFERED = {
    ("DELETE", "/v1/models/{model_id}"),
    ("POST", "/v1/agents/completions"),
}
"""These answer 501."""

_CONVERSATION = models.ModelConversation | models.AgentConversation
_UNNAMED: dict[tuple[str, str], Any] = {
    ("GET", "/v1/models/{model_id}"): models.BaseModelCard | models.FTModelCard,
    ("GET", "/v1/conversations"): list[_CONVERSATION],
    ("GET", "/v1/conversations/{conversation_id}"): _CONVERSATION,
    ("GET", "/v1/agents"): list[models.Agent],
    ("GET", "/v1/agents/{agent_id}/versions"): list[models.Agent],
    ("GET", "/v1/agents/{agent_id}/aliases"): list[models.AgentAliasResponse],
}
_RENAMED = {"GetSignedUrlResponse": "GetSignedURLResponse"}


def described(method: str, path: str) -> dict[str, Any]:
    """Return an operation of the description."""
    found: dict[str, Any] = document()["paths"][path][method.lower()]
    return found


def sdk_type(method: str, path: str, media: str) -> Any:
    """Return what the SDK reads a good reply as."""
    if (method, path) in _UNNAMED:
        return _UNNAMED[method, path]
    good = next(s for s in described(method, path)["responses"] if s.startswith("2"))
    schema = described(method, path)["responses"][good]["content"][media]["schema"]
    name = schema["$ref"].rpartition("/")[2]
    return getattr(models, _RENAMED.get(name, name))
