"""The API's own description: checks bodies against the schema of an operation's response."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema
import yaml

from tests.conftest import SHARED

__all__ = ["component", "component_of", "document", "faults", "operations", "response"]


@cache
def document() -> dict[str, Any]:
    """Return the description, read once."""
    text = (SHARED / "wire" / "openapi.yaml").read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def operations() -> list[tuple[str, str]]:
    """Return every operation as (METHOD, path); a fragment of a path is never sent."""
    found = {
        (method.upper(), path)
        for path, item in document()["paths"].items()
        for method in item
        if method in {"get", "post", "put", "patch", "delete"}
    }
    return sorted(found)


@cache
def _validator(where: str) -> jsonschema.Draft202012Validator:
    # The whole document comes along, so that "#/components/..." leads somewhere.
    return jsonschema.Draft202012Validator({**document(), "$ref": where})


def component(name: str) -> str:
    """Return the place of a named schema."""
    assert name in document()["components"]["schemas"], name
    return f"#/components/schemas/{name}"


def component_of(described: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a named schema of a description; the name may be a reference to it."""
    found: dict[str, Any] = described["components"]["schemas"][name.rpartition("/")[2]]
    return found


def response(method: str, path: str, status: int = 200) -> str:
    """Return the place of the schema of an operation's JSON response."""
    content = document()["paths"][path][method.lower()]["responses"][str(status)]["content"]
    assert "schema" in content["application/json"]
    escaped = path.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D")
    return f"#/paths/{escaped}/{method.lower()}/responses/{status}/content/application~1json/schema"


def faults(body: Any, where: str) -> list[str]:
    """Return what is wrong with a body, in words; empty if nothing is."""
    body = _without_recorded_extras(body)
    found = [f"{error.json_path}: {error.message}" for error in _validator(where).iter_errors(body)]
    # A plain chat reply has no "data", which the description requires of it (recorded).
    chat = isinstance(body, dict) and body.get("object") == "chat.completion"
    return [each for each in found if not (chat and each == "$: 'data' is a required property")]


def _without_recorded_extras(body: Any) -> Any:
    """Leave out what real replies have (recorded), but the description forbids."""
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("data"), dict):  # an event of a stream
        body = {**body, "data": _without_recorded_extras(body["data"])}
    if isinstance(body.get("usage"), dict):
        usage = {k: v for k, v in body["usage"].items() if k != "prompt_tokens_details"}
        body = {**body, "usage": usage}
    return body
