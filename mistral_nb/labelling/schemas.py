"""Result schemas: what a reply must look like, and which columns it becomes.

A pydantic model, a dataclass, a `Literal`, an `Enum`, a list of labels or a JSON schema all
become one thing: a strict `response_format` for the request, a check for the reply, and a
list of columns with the kind of each. The JSON schema alone says all of it, so a run can be
finished in a process that does not have the model.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import orjson

from mistral_nb.errors import InputError, SchemaError
from mistral_nb.labelling.checks import compile_check, deref
from mistral_nb.labelling.labels import fold, is_choice, label_schema, meant
from mistral_nb.labelling.plain import is_plain

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["Column", "Invalid", "Kind", "Schema", "compile_schema"]

Kind = Literal["category", "string", "integer", "number", "boolean", "vector", "object"]
VECTOR_TYPES = ("float32", "int8", "uint8")
"""As the `format` of an array of numbers: it becomes a numpy array of this type."""
_KINDS: dict[str, Kind] = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
}


class Invalid(Exception):  # noqa: N818 - not an error of the program: a finding about a reply
    """A reply does not fit the schema; the message says where."""


@dataclass(frozen=True)
class Column:
    """One result column: where its value is in the reply, and what it is.

    Attributes:
        name: The column's name; nested values are joined by dots, as in `person.age`.
        path: Keys that lead to the value.
        kind: Decides the dtype.
        categories: Allowed values of a `category`, in the schema's order; a `vector`'s type.
        default: Value when the reply leaves it out.
    """

    name: str
    path: tuple[str, ...]
    kind: Kind
    categories: tuple[Any, ...] = ()
    default: Any = None

    def value(self, data: Any) -> Any:
        """Return this column's value from a reply, or the default."""
        for key in self.path:
            if not isinstance(data, dict) or key not in data:
                return self.default
            data = data[key]
        return data


class Schema:
    """What a reply must look like.

    Args:
        name: Name shown to the model.
        json_schema: Its JSON schema; the top level must be an object.
        rename: New name of the only column, if any.
        flatten: Whether nested values become columns of their own (`a.b`), or stay objects.
        adapter: Pydantic's own check, where the model is at hand.
        choice: Whether it is a choice of labels: an answer may then spell one in another case.

    Raises:
        SchemaError: The schema is not an object with properties.
    """

    def __init__(
        self,
        name: str,
        json_schema: dict[str, Any],
        *,
        rename: str | None = None,
        flatten: bool = True,
        adapter: TypeAdapter[Any] | None = None,
        choice: bool = False,
    ) -> None:
        self.name = re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "Result"
        self.json_schema = json_schema
        self.rename = rename
        self.flatten = flatten
        self.columns = _columns(json_schema, flatten=flatten)
        if rename is not None:
            if len(self.columns) > 1:
                raise SchemaError(
                    f"column={rename!r} can name only one column; the schema has "
                    f"{len(self.columns)}. Use prefix= instead."
                )
            self.columns = (dataclasses.replace(self.columns[0], name=rename),)
        self.choice = choice
        self._labels = frozenset(self.columns[0].categories if choice else ())
        self._meant = meant(self._labels)
        nested = any(len(each.path) > 1 for each in self.columns)
        # Most schemas are flat, and every row is read: a third quicker.
        self._flat = None if nested else [(each.path[0], each.default) for each in self.columns]
        self._check = compile_check(json_schema)
        # Pydantic is asked only where it knows more than the JSON schema: it takes longer.
        self._adapter = None if adapter is None or is_plain(adapter) else adapter

    @property
    def response_format(self) -> dict[str, Any]:
        """The strict `response_format` of a chat request, made by the SDK's own helper."""
        from mistralai.extra import response_format_from_pydantic_model

        class Named:  # all that the helper asks of a pydantic model
            __name__ = self.name

            @staticmethod
            def model_json_schema() -> dict[str, Any]:
                copied: dict[str, Any] = orjson.loads(orjson.dumps(self.json_schema))
                return copied

        helper: Any = response_format_from_pydantic_model
        try:
            made: dict[str, Any] = helper(Named())
        except (TypeError, ValueError, RecursionError) as error:
            raise SchemaError(f"The schema cannot be made strict: {error}.") from error
        return made

    def record(self) -> dict[str, Any]:
        """Return what the ledger keeps, for :meth:`restore`."""
        return {
            "name": self.name,
            "json_schema": self.json_schema,
            "rename": self.rename,
            "flatten": self.flatten,
            "choice": self.choice,
        }

    @classmethod
    def restore(cls, record: dict[str, Any]) -> Schema:
        """Make the schema again from the ledger."""
        return cls(
            record["name"],
            record["json_schema"],
            rename=record["rename"],
            flatten=record.get("flatten", True),
            choice=record.get("choice", False),
        )

    def parse(self, text: str) -> tuple[Any, ...]:
        """Check a reply and read it.

        Args:
            text: JSON text.

        Returns:
            One value a column.

        Raises:
            Invalid: The text is no JSON or does not fit the schema.
        """
        data = self._loaded(text)
        self._require(data)
        return self._values(text, data)

    def _loaded(self, text: str) -> Any:
        try:
            data = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise Invalid(f"the reply is not JSON ({error})") from None
        if self._meant and isinstance(data, dict):
            said = data.get("label")
            if isinstance(said, str) and said not in self._labels:
                data["label"] = self._meant.get(fold(said), said)
        return data

    def _require(self, data: Any) -> None:
        try:
            wrong = self._check(data)
        except RecursionError:
            wrong = "nested too deeply"
        if wrong is not None:
            raise Invalid(f"the reply does not fit the schema: {wrong}")

    def read(self, text: str) -> tuple[Any, ...]:
        """Read a reply that was checked before, as :meth:`parse` does."""
        return self._values(text, self._loaded(text))

    def _values(self, text: str, data: Any) -> tuple[Any, ...]:
        if self._adapter is not None:
            data = self._validated(text)
        if self._flat is not None and isinstance(data, dict):
            return tuple([data.get(key, default) for key, default in self._flat])
        return tuple([column.value(data) for column in self.columns])

    def fault(self, text: str) -> str | None:
        """Return what is wrong with a reply, or None."""
        try:
            data = self._loaded(text)
            self._require(data)
            if self._adapter is not None:
                self._validated(text)
        except Invalid as wrong:
            return str(wrong)
        return None

    def _validated(self, text: str) -> Any:
        """Let the model's own validators have their say, and take what they made of it."""
        from pydantic import ValidationError

        assert self._adapter is not None
        try:
            made = self._adapter.validate_json(text)
            return self._adapter.dump_python(made, mode="json", by_alias=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            wrong = f"{place}: {first['msg']}" if place else first["msg"]
            raise Invalid(f"the reply does not fit the schema: {wrong}") from None
        except Exception as error:  # a validator of the caller's own may raise anything
            raise Invalid(f"the schema's own check failed: {error}") from None


def compile_schema(
    schema: Any = None, labels: Any = None, column: str | None = None, *, flatten: bool = True
) -> Schema | None:
    """Make one schema of whatever was given.

    Args:
        schema: Pydantic model, dataclass, TypedDict, `Literal`, `Enum`, list of labels, or a
            JSON schema as a dict.
        labels: Labels to choose from, for a single column.
        column: Name of that single column, by default `label`.
        flatten: Whether nested values become columns of their own (`a.b`), or stay objects.

    Returns:
        The schema, or None if neither was given.

    Raises:
        SchemaError: It cannot be turned into a JSON schema, or has no columns.
        InputError: Both were given, or labels that cannot be used.
    """
    if schema is not None and labels is not None:
        raise InputError("Give schema= or labels=, not both.")
    if labels is None and is_choice(schema):
        schema, labels = None, schema
    if labels is not None:
        return Schema("Label", label_schema(labels), rename=column, choice=True)
    if schema is None:
        return None
    if isinstance(schema, Mapping):
        given = _given(schema)
        return Schema(str(given.get("title") or "Result"), given, rename=column, flatten=flatten)
    if isinstance(schema, (str, bytes, int, float)):
        raise SchemaError(
            "schema must be a pydantic model, a dataclass, Literal[...], an Enum or a JSON schema "
            f"as a dict, not {schema!r}. For labels to choose from use labels=[...]."
        )
    name = str(getattr(schema, "__name__", "Result"))
    adapter, made = _from_type(schema, name)
    return Schema(name, made, rename=column, flatten=flatten, adapter=adapter)


def _given(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Take a JSON schema from a dict, also one wrapped as a `response_format`."""
    wrapped = schema.get("json_schema")
    if schema.get("type") == "json_schema" and isinstance(wrapped, Mapping):
        schema = wrapped.get("schema", wrapped)
    try:
        copied: dict[str, Any] = orjson.loads(orjson.dumps(dict(schema)))
    except TypeError as error:
        raise SchemaError(f"The JSON schema holds something that is not JSON: {error}.") from error
    if "properties" in copied:
        copied.setdefault("type", "object")
    return copied


def _from_type(schema: Any, name: str) -> tuple[TypeAdapter[Any], dict[str, Any]]:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(schema)
        return adapter, adapter.json_schema()
    except (PydanticUserError, TypeError, NameError, RecursionError) as error:
        # What follows is advice to authors of pydantic types.
        reason = re.split(r"\n|\. Set `", str(error), maxsplit=1)[0].rstrip(".")
        raise SchemaError(
            f"{name} cannot be turned into a JSON schema: {reason}. Give its fields types "
            "that JSON has: str, int, float, bool, Literal, Enum, list, or another model."
        ) from error


def _columns(root: dict[str, Any], *, flatten: bool = True) -> tuple[Column, ...]:
    top = _effective(root, root)
    if top.get("type") != "object" or not top.get("properties"):
        raise SchemaError(
            "A result schema must be an object with properties at its top level: they become "
            "the columns. Wrap it in a model with one field, or use labels=."
        )
    found = list(_walk(top["properties"], root, (), (), flatten=flatten))
    names = [column.name for column in found]
    for name in names:
        if names.count(name) > 1:
            raise SchemaError(f"The schema leads to two columns named {name!r}. Rename one field.")
    return tuple(found)


def _walk(
    properties: dict[str, Any],
    root: dict[str, Any],
    path: tuple[str, ...],
    above: tuple[int, ...],
    *,
    flatten: bool,
) -> Iterable[Column]:
    above = (*above, id(properties))
    for name, raw in properties.items():
        here = (*path, str(name))
        part = _effective(raw, root)
        inner = part.get("properties")
        # A model that contains itself has no end of columns: it stays one column of objects.
        if flatten and part.get("type") == "object" and inner and id(inner) not in above:
            yield from _walk(inner, root, here, above, flatten=flatten)
            continue
        kind, categories = _kind(part)
        default = raw.get("default") if isinstance(raw, dict) else None
        yield Column(".".join(here), here, kind, categories, default)


def _effective(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    """Return the schema behind references and `| None`."""
    found = deref(schema, root)
    for keyword in ("anyOf", "oneOf", "allOf"):
        if keyword not in found:
            continue
        parts = [deref(each, root) for each in found[keyword]]
        parts = [each for each in parts if each.get("type") != "null"]
        if len(parts) == 1:
            return _effective(parts[0], root)
        if keyword != "allOf" and all("enum" in each or "const" in each for each in parts):
            values = [v for each in parts for v in each.get("enum", [each.get("const")])]
            return {"enum": values}
        if keyword != "allOf" and {each.get("type") for each in parts} == {"integer", "number"}:
            return {"type": "number"}
        return {}
    types = found.get("type")
    if isinstance(types, list):
        others = [each for each in types if each != "null"]
        return {**found, "type": others[0]} if len(others) == 1 else {**found, "type": None}
    return found


def _kind(schema: dict[str, Any]) -> tuple[Kind, tuple[Any, ...]]:
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if choices is not None:
        values = [each for each in choices if each is not None]
        if all(isinstance(each, bool) for each in values):
            return "boolean", ()
        if all(isinstance(each, (str, int, float)) for each in values):
            return "category", tuple(dict.fromkeys(values))
        return "object", ()
    if schema.get("type") == "array" and schema.get("format") in VECTOR_TYPES:
        return "vector", (schema["format"],)
    return _KINDS.get(str(schema.get("type")), "object"), ()
