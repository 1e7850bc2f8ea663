"""Python functions as tools: their signature becomes a JSON schema, arguments are validated."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel, ValidationError

from mistral_nb.agents.consent import check_approve
from mistral_nb.agents.functions import called, inner
from mistral_nb.agents.signatures import read_signature
from mistral_nb.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Tool", "ToolSet", "tool"]

CONNECTORS = ("web_search", "web_search_premium", "code_interpreter", "image_generation")
"""Connectors that need no more than their name."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(frozen=True)
class Tool:
    """A function that the model may ask for.

    Attributes:
        name: As the model knows it.
        description: What it is for.
        parameters: JSON schema of its arguments.
        function: What is called.
        approve: Consent for this tool alone; None leaves it to the conversation.
        timeout: Seconds it may take; None leaves it to the conversation.
        arguments: Model that checks the arguments; None passes them on as they are, where the
            tool's own server checks them.
        positional: Names of parameters that take no keyword.

    Raises:
        InputError: The name, ``approve`` or ``timeout`` cannot be used.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    function: Callable[..., Any] = field(repr=False)
    approve: Any = None
    timeout: float | None = None
    arguments: type[BaseModel] | None = field(default=None, repr=False)
    positional: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.approve is not None:
            check_approve(self.approve)
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)

    def as_wire(self) -> dict[str, Any]:
        """Return it as the API takes it."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
        }
        return {"type": "function", "function": function}

    def bind(self, arguments: object) -> dict[str, Any]:
        """Check arguments and turn them into what the function's annotations say.

        Args:
            arguments: An object, or what a model wrote in its place.

        Returns:
            Values by parameter; parameters that were left out keep their defaults.

        Raises:
            InputError: They do not fit; the message tells a model, or a person, how.
        """
        if not isinstance(arguments, dict):
            raise InputError(
                f"The arguments of {self.name} must be a JSON object, not {str(arguments)[:200]!r}."
            )
        if self.arguments is None:
            return dict(arguments)
        try:
            # As JSON: so "2026-01-31" becomes a date, and a str is never read as bytes.
            made = self.arguments.model_validate_json(orjson.dumps(arguments))
        except ValidationError as error:
            lines = "; ".join(_problem(each) for each in error.errors(include_url=False)[:10])
            raise InputError(
                f"The arguments do not fit {self.name}: {lines}. "
                f"Its parameters: {orjson.dumps(self.parameters).decode()[:2000]}"
            ) from None
        except (TypeError, orjson.JSONEncodeError) as error:
            raise InputError(f"The arguments of {self.name} are no JSON: {error}") from None
        fields = type(made).model_fields
        return {
            str(info.alias): getattr(made, name)
            for name, info in fields.items()
            if name in made.model_fields_set
        }

    async def call(self, values: Mapping[str, Any]) -> Any:
        """Call the function; a plain one in a thread of its own, so that the loop goes on.

        Args:
            values: As :meth:`bind` gave them.

        Returns:
            What it returned.

        Raises:
            Exception: What it raised; also for KeyboardInterrupt and SystemExit, which
                would otherwise end more than the tool.
        """
        args = [values[name] for name in self.positional if name in values]
        named = {name: value for name, value in values.items() if name not in self.positional}
        return await called(functools.partial(self.function, *args, **named), f"tool {self.name}")


def tool(
    function: Any,
    *,
    name: str | None = None,
    description: str | None = None,
    approve: Any = None,
    timeout: float | None = None,
) -> Tool:
    """Make a tool from a function, a method, a partial or an object that can be called.

    Args:
        function: Its parameters need annotations; its docstring (Google style) describes
            it and them. What a partial has bound, the model does not see. A coroutine
            function runs on the toolkit's loop and must not block it. Of a tool, as an MCP
            server has them, another one is made.
        name: Name for the model; else the function's own.
        description: Description for the model; else the docstring's.
        approve: Consent for this tool alone: ``"ask"``, ``"always"``, ``"never"`` or a
            function, as for a conversation.
        timeout: Seconds it may take; else the conversation's ``tool_timeout``.

    Returns:
        The tool.

    Raises:
        InputError: No schema can be made of it, or an option cannot be used; the message says
            what to change.
    """
    asked = {"name": name, "description": description, "approve": approve, "timeout": timeout}
    given = {option: value for option, value in asked.items() if value is not None}
    if isinstance(function, Tool):
        return replace(function, **given) if given else function
    if not callable(function):
        raise InputError(
            f"A tool must be a function or a connector's name, not {function!r}. "
            f"Connectors are: {', '.join(CONNECTORS)}."
        )
    target = inner(function)
    own = name or getattr(target, "__name__", None) or _snake(type(target).__name__)
    _check_name(own)
    found = read_signature(function, own)
    made = Tool(
        name=own,
        description=found.description,
        parameters=found.schema,
        function=function,
        arguments=found.model,
        positional=found.positional,
    )
    return replace(made, **given)


def _check_name(name: str) -> None:
    """Refuse what the API does not take as the name of a tool.

    Raises:
        InputError: It is none.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"A tool cannot be called {name!r}: letters, digits, _ and - only, at most 64. "
            "Give it a name: mnb.agents.tool(function, name=...)."
        )


def check_seconds(name: str, seconds: Any) -> None:
    """Refuse what is no time that a tool may take.

    Raises:
        InputError: It is none; infinity is one.
    """
    if not isinstance(seconds, int | float) or not seconds > 0:
        raise InputError(f"{name} must be a number of seconds above 0, not {seconds!r}.")


class ToolSet:
    """The tools of a conversation: your functions, and the server's connectors.

    Args:
        tools: Functions, :class:`Tool` objects, MCP servers, names of connectors, or the API's own
            objects for connectors (dicts or models of the SDK).

    Attributes:
        own: Your tools by name.
        connectors: The rest, as the API takes them.

    Raises:
        InputError: Something is no tool, or two have one name.
    """

    def __init__(self, tools: Iterable[Any] = ()) -> None:
        self.own: dict[str, Tool] = {}
        self.connectors: list[dict[str, Any]] = []
        for each in _flat(listed(tools)):
            connector = _connector(each)
            if connector is not None:
                self.connectors.append(connector)
                continue
            made = tool(each)
            if made.name in self.own:
                raise _collision(made.name)
            self.own[made.name] = made
        for connector in self.connectors:
            if connector["type"] in self.own:
                raise _collision(connector["type"])

    def as_wire(self) -> list[dict[str, Any]]:
        """Return all of them as the API takes them."""
        return [*(each.as_wire() for each in self.own.values()), *self.connectors]


def _collision(name: str) -> InputError:
    return InputError(
        f"Two tools are called {name!r}. Rename one: mnb.agents.tool(function, name=...)."
    )


def listed(tools: Iterable[Any]) -> list[Any]:
    """Return what was given as ``tools=`` as a list.

    Raises:
        InputError: It is none.
    """
    if isinstance(tools, str) or callable(tools) or not isinstance(tools, Iterable):
        raise InputError("tools must be a list: tools=[...], even for one.")
    return list(tools)


def _flat(tools: Iterable[Any]) -> Iterator[Any]:
    """Yield tools, with those of a server in its place."""
    for each in tools:
        if isinstance(each, Iterable) and not isinstance(each, str | dict | BaseModel):
            yield from each
        else:
            yield each


def _connector(value: Any) -> dict[str, Any] | None:
    """Return a connector as the API takes it; None if the value is none."""
    if isinstance(value, str):
        if value not in CONNECTORS:
            raise InputError(
                f"There is no connector {value!r}. Those with no more than a name are: "
                f"{', '.join(CONNECTORS)}; a library is "
                '{"type": "document_library", "library_ids": [...]}.'
            )
        return {"type": value}
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_unset=True, by_alias=True) | {
            "type": getattr(value, "type", None)
        }
    if isinstance(value, dict):
        if "type" not in value:
            raise InputError(f"A connector needs a type, as in {{'type': 'web_search'}}: {value}")
        return value
    return None


def _problem(error: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in error["loc"])
    return f"{place}: {error['msg']}" if place else str(error["msg"])


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
