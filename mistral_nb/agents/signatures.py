"""A function's signature and docstring, as the JSON schema and validator of its arguments."""

from __future__ import annotations

import functools
import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from mistral_nb.agents.functions import inner
from mistral_nb.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Signature", "read_signature"]

_SECTION = re.compile(r"^([A-Z][A-Za-z ]*):\s*$")
_PARAMETER = re.compile(r"^\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")


class _Schema(GenerateJsonSchema):
    ignored_warning_kinds: set[Any] = {"non-serializable-default", "skipped-choice"}  # noqa: RUF012


@dataclass(frozen=True)
class Signature:
    """What a function can be called with.

    Attributes:
        description: The docstring up to its sections.
        schema: JSON schema of the arguments.
        model: Validates them; its fields have the parameters' names as aliases.
        positional: Parameters that must be given by position.
    """

    description: str
    schema: dict[str, Any]
    model: type[BaseModel]
    positional: tuple[str, ...]


def read_signature(function: Callable[..., Any], name: str) -> Signature:
    """Read what a function can be called with.

    Args:
        function: A function, method, partial or object that can be called.
        name: Its name, for messages.

    Raises:
        InputError: A model could not call it; the message says what to change.
    """
    target = inner(function)
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise InputError(
            f"Tool {name} yields, but a model is told one result: return a list instead."
        )
    summary, described = _docstring(inspect.getdoc(target) or "")
    parameters = _parameters(function, name)
    try:
        model = _model(name, parameters, _hints(target, name), described)
        schema = model.model_json_schema(by_alias=True, schema_generator=_Schema)
    except PydanticUserError as error:
        raise InputError(
            f"Tool {name}: a parameter has a type that no JSON can carry "
            f"({str(error).splitlines()[0]}). Use str, int, float, bool, list, dict, Literal "
            "or pydantic models."
        ) from error
    positional = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_ONLY)
    return Signature(summary, _tidy(schema), model, positional)


def _parameters(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    """Return the parameters that the model may fill."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError) as error:
        raise InputError(
            f"Tool {name} does not tell its parameters. Wrap it in a function with annotations."
        ) from error
    bound: set[str] = set()
    wrapper: Any = function
    while isinstance(wrapper, functools.partial):
        bound |= wrapper.keywords.keys()
        wrapper = wrapper.func
    for each in found:
        if each.kind in {each.VAR_POSITIONAL, each.VAR_KEYWORD}:
            stars = "*" if each.kind is each.VAR_POSITIONAL else "**"
            raise InputError(
                f"Tool {name} takes {stars}{each.name}: a model cannot know what to send there. "
                "Name every parameter, or take a list or a dict."
            )
        if each.annotation is each.empty and each.name not in bound:
            raise InputError(
                f"Tool {name}: the parameter {each.name} has no annotation. "
                f"Write its type, e.g. {each.name}: str, so that the model knows what to send."
            )
    return [each for each in found if each.name not in bound]


def _hints(target: Any, name: str) -> dict[str, Any]:
    target = target if inspect.isroutine(target) else type(target).__call__
    try:
        return get_type_hints(target, include_extras=True)
    except (NameError, TypeError) as error:
        raise InputError(f"Tool {name}: an annotation cannot be read: {error}.") from error


def _model(
    name: str,
    parameters: Sequence[inspect.Parameter],
    hints: Mapping[str, Any],
    described: Mapping[str, str],
) -> type[BaseModel]:
    """Build the model of the arguments: no field may be called ``_x`` or ``json``, an alias may."""
    fields: dict[str, Any] = {}
    for number, each in enumerate(parameters):
        options: dict[str, Any] = {"alias": each.name}
        if each.name in described:
            options["description"] = described[each.name]
        if each.default is not each.empty:
            options["default"] = each.default
        fields[f"p{number}"] = (hints.get(each.name, each.annotation), Field(**options))
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
    return create_model(name, __config__=config, **fields)


def _tidy(schema: dict[str, Any]) -> dict[str, Any]:
    """Drop the titles that pydantic makes up: they cost tokens and say nothing."""
    schema.pop("title", None)
    for each in schema.get("properties", {}).values():
        each.pop("title", None)
    return schema


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """Read a Google-style docstring: what stands before its sections, and its ``Args``."""
    summary: list[str] = []
    described: dict[str, list[str]] = {}
    section, current, indent = "", "", 0
    for line in text.splitlines():
        heading = _SECTION.match(line)
        if heading:
            section, current = heading.group(1), ""
        elif not section:
            summary.append(line)
        elif section in {"Args", "Arguments", "Parameters"} and line.strip():
            depth = len(line) - len(line.lstrip())
            found = _PARAMETER.match(line.strip())
            if found and (not current or depth <= indent):
                current, indent = found.group(1), depth
                described[current] = [found.group(2)]
            elif current:
                described[current].append(line.strip())
    joined = {name: " ".join(filter(None, lines)) for name, lines in described.items()}
    return "\n".join(summary).strip(), joined
