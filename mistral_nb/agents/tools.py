"""Python functions as tools: their signature becomes a JSON schema, arguments are validated."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel, ValidationError

from mistral_nb.agents.signatures import inner, read_signature
from mistral_nb.agents.threads import contained, in_thread
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
        arguments: Model that checks the arguments; None passes them on as they are.
        positional: Names of parameters that take no keyword.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    function: Callable[..., Any] = field(repr=False)
    approve: Any = None
    timeout: float | None = None
    arguments: type[BaseModel] | None = field(default=None, repr=False)
    """Validates the arguments; None takes any object (the tool's own server does it)."""
    positional: tuple[str, ...] = field(default=(), repr=False)

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
        if _is_async(self.function):
            try:
                return await self.function(*args, **named)
            except (KeyboardInterrupt, SystemExit) as raised:  # either would end the loop
                raise contained(raised) from raised
        result = await in_thread(
            functools.partial(self.function, *args, **named), f"tool {self.name}"
        )
        return await result if inspect.isawaitable(result) else result


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
            it and them. What a partial has bound, the model does not see.
        name: Name for the model; else the function's own.
        description: Description for the model; else the docstring's.
        approve: Consent for this tool alone: ``"ask"``, ``"always"``, ``"never"`` or a
            function, as for a conversation.
        timeout: Seconds it may take; else the conversation's ``tool_timeout``.

    Returns:
        The tool.

    Raises:
        InputError: No schema can be made of it; the message says what to change.
    """
    if isinstance(function, Tool):
        return function
    if not callable(function):
        raise InputError(
            f"A tool must be a function or a connector's name, not {function!r}. "
            f"Connectors are: {', '.join(CONNECTORS)}."
        )
    target = inner(function)
    called = name or getattr(target, "__name__", None) or _snake(type(target).__name__)
    if not _NAME.fullmatch(called):
        raise InputError(
            f"A tool cannot be called {called!r}: letters, digits, _ and - only, at most 64. "
            "Give it a name: mnb.agents.tool(function, name=...)."
        )
    found = read_signature(function, called)
    return Tool(
        name=called,
        description=found.description if description is None else description,
        parameters=found.schema,
        function=function,
        approve=approve,
        timeout=timeout,
        arguments=found.model,
        positional=found.positional,
    )


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


def _is_async(function: Callable[..., Any]) -> bool:
    target = inner(function)
    return inspect.iscoroutinefunction(target) or (
        not inspect.isroutine(target)
        and inspect.iscoroutinefunction(getattr(type(target), "__call__", None))  # noqa: B004
    )


def _problem(error: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in error["loc"])
    return f"{place}: {error['msg']}" if place else str(error["msg"])


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
