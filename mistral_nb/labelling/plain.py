"""Models of which the JSON schema says all: replies that fit it need no second check by pydantic.

Most label models are like this: a flat model of texts, numbers, choices and yes or no. Pydantic
would accept every reply that the JSON schema accepts, and change nothing in it. Whatever is not
known to be so (validators, serialisers, aliases, dates, nested models, ...) counts as not plain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import TypeAdapter

__all__ = ["is_plain"]

_MODELS = {
    "model": {"cls", "config", "custom_init", "root_model", "schema", "ref", "metadata"},
    "dataclass": {"cls", "config", "fields", "frozen", "post_init", "slots", "schema", "ref"},
}
_FIELDS = {
    "model-field": {"schema", "metadata"},
    "dataclass-field": {"schema", "metadata", "name", "kw_only", "init"},
}
_SCALARS = {
    "str": {"min_length", "max_length"},
    "int": {"ge", "gt", "le", "lt"},
    "float": {"ge", "gt", "le", "lt"},
    "bool": set[str](),
    "literal": {"expected"},
}
_WRAPPERS = {"nullable": {"schema"}, "default": {"schema", "default"}}
_CONFIG = {"title"}
_NOTES = {"description", "title", "examples"}


def is_plain(adapter: TypeAdapter[Any]) -> bool:
    """Return whether pydantic's check adds nothing to that of the JSON schema.

    Args:
        adapter: Of a model or a dataclass; anything else is not plain.

    Returns:
        False also where it is not known.
    """
    schema: Any = adapter.core_schema
    kind = schema["type"]
    if kind not in _MODELS or not _only(schema, _MODELS[kind]) or _own_code(kind, schema):
        return False
    inner = schema["schema"]
    if inner["type"] not in {"model-fields", "dataclass-args"} or inner.get("computed_fields"):
        return False  # a validator around them, or values of the model's own
    fields = inner["fields"]
    each = fields.values() if isinstance(fields, dict) else fields
    return all(_plain_field(field) for field in each)


def _own_code(kind: str, schema: Mapping[str, Any]) -> bool:
    """Return whether a class has a say beyond its fields."""
    if set(schema.get("config", ())) - _CONFIG:
        return True
    if kind == "dataclass":
        return bool(schema.get("post_init"))
    from pydantic import BaseModel

    cls = schema["cls"]
    hook = cls.__get_pydantic_json_schema__.__func__
    return (
        bool(schema.get("custom_init") or schema.get("root_model"))
        or hook is not BaseModel.__get_pydantic_json_schema__.__func__  # type: ignore[attr-defined]
        or bool(set(cls.model_config) - _CONFIG)
    )


def _plain_field(field: Mapping[str, Any]) -> bool:
    if field["type"] not in _FIELDS or not _only(field, _FIELDS[field["type"]]):
        return False
    notes = dict(field.get("metadata") or {})
    updates = notes.pop("pydantic_js_updates", {})
    return not notes and set(updates) <= _NOTES and _plain_value(field["schema"])


def _plain_value(schema: Mapping[str, Any], *, item: bool = False) -> bool:
    kind = schema["type"]
    if kind in _WRAPPERS and not item:
        return _only(schema, _WRAPPERS[kind]) and _plain_value(schema["schema"])
    if kind == "list" and not item:
        inner = schema.get("items_schema")
        return (
            _only(schema, {"items_schema", "min_length", "max_length"})
            and inner is not None
            and inner["type"] in {"str", "bool", "literal"}
            and _plain_value(inner, item=True)
        )
    if kind == "literal" and not all(type(each) in {str, int, bool} for each in schema["expected"]):
        return False
    return kind in _SCALARS and _only(schema, _SCALARS[kind])


def _only(schema: Mapping[str, Any], known: set[str]) -> bool:
    return schema.keys() <= known | {"type"}
