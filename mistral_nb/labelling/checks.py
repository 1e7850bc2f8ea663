"""Checking a reply against a JSON schema: compiled once, fast enough for every row.

It covers what label schemas use (draft 2020-12): type, enum, const, properties, required,
additionalProperties, items, prefixItems, anyOf, oneOf, allOf, `$ref` inside the schema, and
the limits on numbers, texts and lists. Other keywords are left to the server.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mistral_nb.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["compile_check", "deref"]

_INT64 = 2**63


def compile_check(schema: dict[str, Any]) -> Callable[[Any], str | None]:
    """Turn a JSON schema into a function that checks values.

    Args:
        schema: JSON schema; `$ref` may point inside it.

    Returns:
        A function of a value that returns what is wrong with it, or None.

    Raises:
        SchemaError: A `$ref` leads nowhere, or a pattern is not a regular expression.
    """
    check = _Compiler(schema).compile(schema)

    def checked(value: Any) -> str | None:
        fault = check(value)
        return None if fault is None else _told(fault)

    return checked


def deref(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    """Follow `$ref` until there is none.

    Args:
        schema: A schema, perhaps a reference.
        root: The whole schema that references point into.

    Returns:
        The schema meant; keywords beside the reference win.

    Raises:
        SchemaError: A reference leads nowhere, in a circle, or out of the schema.
    """
    for _ in range(50):
        if not isinstance(schema, dict):
            return {}
        if "$ref" not in schema:
            return schema
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**_target(str(schema["$ref"]), root), **rest}
    raise SchemaError("The schema's references lead in a circle.")


def _target(ref: str, root: dict[str, Any]) -> dict[str, Any]:
    if not ref.startswith("#"):
        raise SchemaError(f"The schema refers to {ref!r}; only references inside it are possible.")
    found: Any = root
    for part in ref[1:].strip("/").split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if key:
            found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise SchemaError(f"The schema refers to {ref!r}, which is not in it.")
    return found


_Fault = tuple[Any, ...]
"""What is wrong, and before it the steps to the place where: only faults cost anything."""


class _Compiler:
    """Compiles the schemas of one root; references are compiled once, when first used.

    Each keyword becomes a function of a value that returns a fault or None.
    """

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._refs: dict[str, Any] = {}

    def compile(self, schema: Any) -> Any:
        if not isinstance(schema, dict):
            return _nothing if schema is False else _ok
        checks = []
        if "$ref" in schema:
            checks.append(self._ref(str(schema["$ref"])))
        for keyword, make in _MAKERS.items():
            if keyword in schema:
                checks.append(make(self, schema[keyword], schema))
        if not checks:
            return _ok
        return checks[0] if len(checks) == 1 else _all(checks)

    def _ref(self, ref: str) -> Any:
        if ref not in self._refs:
            target = _target(ref, self._root)
            self._refs[ref] = None  # a schema may contain itself
            self._refs[ref] = self.compile(target)

        def check(value: Any) -> _Fault | None:
            found: _Fault | None = self._refs[ref](value)
            return found

        return check

    def type(self, wanted: Any, _: Any) -> Any:
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        unknown = [name for name in names if name not in _TYPES]
        if unknown:
            raise SchemaError(f"The schema has the type {unknown[0]!r}, which JSON does not have.")
        tests = [_TYPES[name] for name in names]
        said = " or ".join(names)
        if len(tests) == 1:
            test = tests[0]
            return lambda value: None if test(value) else (f"{_short(value)} is no {said}",)
        return lambda value: (
            None if any(each(value) for each in tests) else (f"{_short(value)} is no {said}",)
        )

    def enum(self, allowed: Any, _: Any) -> Any:
        texts = frozenset(each for each in allowed if isinstance(each, str))
        others = [each for each in allowed if not isinstance(each, str)]

        def check(value: Any) -> _Fault | None:
            if isinstance(value, str):
                if value in texts:
                    return None
            elif any(_same(value, other) for other in others):
                return None
            return (f"{_short(value)} is not one of the allowed values",)

        return check

    def const(self, wanted: Any, _: Any) -> Any:
        return self.enum([wanted], _)

    def properties(self, properties: dict[str, Any], _: Any) -> Any:
        checks = [(name, self.compile(each)) for name, each in properties.items()]

        def check(value: Any) -> _Fault | None:
            if isinstance(value, dict):
                for name, test in checks:
                    if name in value and (fault := test(value[name])) is not None:
                        return (name, *fault)
            return None

        return check

    def required(self, names: list[str], _: Any) -> Any:
        wanted = frozenset(names)

        def check(value: Any) -> _Fault | None:
            if isinstance(value, dict) and not value.keys() >= wanted:
                missing = next(name for name in names if name not in value)
                return (f"{missing!r} is missing",)
            return None

        return check

    def additional(self, allowed: Any, schema: dict[str, Any]) -> Any:
        known = frozenset(schema.get("properties", ()))
        test = self.compile(allowed)

        def check(value: Any) -> _Fault | None:
            if isinstance(value, dict):
                for name in value:
                    if name in known:
                        continue
                    if allowed is False:
                        return (f"{_short(name)} is not in the schema",)
                    if (fault := test(value[name])) is not None:
                        return (name, *fault)
            return None

        return check

    def items(self, each: Any, schema: dict[str, Any]) -> Any:
        test = self.compile(each)
        start = len(schema.get("prefixItems", ()))

        def check(value: Any) -> _Fault | None:
            if isinstance(value, list):
                for number, item in enumerate(value[start:], start):
                    if (fault := test(item)) is not None:
                        return (number, *fault)
            return None

        return check

    def prefix_items(self, schemas: list[Any], _: Any) -> Any:
        tests = [self.compile(each) for each in schemas]

        def check(value: Any) -> _Fault | None:
            if isinstance(value, list):
                for number, (test, item) in enumerate(zip(tests, value, strict=False)):
                    if (fault := test(item)) is not None:
                        return (number, *fault)
            return None

        return check

    def any_of(self, schemas: list[Any], _: Any) -> Any:
        tests = [self.compile(each) for each in schemas]

        def check(value: Any) -> _Fault | None:
            faults: list[_Fault | None] = [test(value) for test in tests]
            return None if None in faults else faults[0]

        return check

    def all_of(self, schemas: list[Any], _: Any) -> Any:
        return _all([self.compile(each) for each in schemas])

    def pattern(self, pattern: str, _: Any) -> Any:
        try:
            search = re.compile(pattern).search
        except re.error as error:
            raise SchemaError(f"The pattern {pattern!r} cannot be used: {error}.") from error
        return lambda value: (
            (f"{_short(value)} does not match {pattern!r}",)
            if isinstance(value, str) and not search(value)
            else None
        )


def _limit(kinds: tuple[type, ...], measure: Any, holds: Any, words: str) -> Any:
    def make(_: _Compiler, limit: Any, __: Any) -> Any:
        def check(value: Any) -> _Fault | None:
            if not isinstance(value, kinds) or isinstance(value, bool):
                return None
            if holds(measure(value), limit):
                return None
            return (f"{_short(value)} {words} {limit}",)

        return check

    return make


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _integer(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer() and abs(value) < _INT64
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _INT64


_TYPES: dict[str, Any] = {
    "string": lambda v: isinstance(v, str),
    "integer": _integer,
    "number": _number,
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
}
_NUMBERS = (int, float)
_MAKERS: dict[str, Any] = {
    "type": _Compiler.type,
    "enum": _Compiler.enum,
    "const": _Compiler.const,
    "required": _Compiler.required,
    "properties": _Compiler.properties,
    "additionalProperties": _Compiler.additional,
    "prefixItems": _Compiler.prefix_items,
    "items": _Compiler.items,
    "anyOf": _Compiler.any_of,
    "oneOf": _Compiler.any_of,  # a reply that fits two alternatives is still a good reply
    "allOf": _Compiler.all_of,
    "pattern": _Compiler.pattern,
    "minimum": _limit(_NUMBERS, lambda v: v, lambda v, n: v >= n, "is below"),
    "maximum": _limit(_NUMBERS, lambda v: v, lambda v, n: v <= n, "is above"),
    "exclusiveMinimum": _limit(_NUMBERS, lambda v: v, lambda v, n: v > n, "is not above"),
    "exclusiveMaximum": _limit(_NUMBERS, lambda v: v, lambda v, n: v < n, "is not below"),
    "minLength": _limit((str,), len, lambda v, n: v >= n, "is shorter than"),
    "maxLength": _limit((str,), len, lambda v, n: v <= n, "is longer than"),
    "minItems": _limit((list,), len, lambda v, n: v >= n, "has fewer items than"),
    "maxItems": _limit((list,), len, lambda v, n: v <= n, "has more items than"),
}


def _all(checks: list[Any]) -> Any:
    def check(value: Any) -> _Fault | None:
        for test in checks:
            if (fault := test(value)) is not None:
                return tuple(fault)
        return None

    return check


def _ok(_: Any) -> None:
    return None


def _nothing(_: Any) -> _Fault:
    return ("nothing is allowed here",)


def _same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) is isinstance(other, bool)


def _told(fault: _Fault) -> str:
    """Say a fault with its place, as in `a.b[0]: 'x' is no integer`."""
    *steps, words = fault
    place = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in steps)
    return f"{place.lstrip('.')}: {words}" if place else str(words)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - one line
