"""Values that are valid against a JSON schema, drawn from a text where it offers any."""

from __future__ import annotations

import math
import re
from typing import Any

from mistral_nb.simulator.numerals import Numerals, Range
from mistral_nb.simulator.patterns import MOST_LETTERS, matching
from mistral_nb.simulator.validation import ApiProblem
from mistral_nb.simulator.words import best, chance, overlap, ranked, stems

__all__ = ["fill"]

DEPTH = 8
"""Recursive schemas end here: deeper optional parts are left out."""
MOST_STEPS = 20_000
_UNUSABLE = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    re.error,
    Warning,  # of a strange pattern, where warnings are errors
)
"""What a schema that is none leads to."""
MOST_ITEMS = 1000

# Repetitions have an end, as what they look for: without one, the time grows with the square of
# a long text that has it nowhere.
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{0,190}\w")
_URL = re.compile(r"https?://[^\s<>\"')]+")
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_NAMES = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][\w'-]+(?: +[A-Z][\w'-]+)*")
_QUOTED = re.compile(r"[\"“`]([^\"”`]{1,80})[\"”`]")
_SENTENCE = re.compile(r".+?(?:[.!?](?=\s|$)|$)", re.DOTALL)

_PLACES = frozenset({"city", "location", "place", "town", "country", "name", "person", "author"})
_WHOLE = frozenset({"query", "question", "text", "expression", "prompt", "input", "search"})
_NOT_WORDS = frozenset({"format", "anyOf", "oneOf", "const", "properties"})
_FORMATS = {
    "date": "2026-01-15",
    "date-time": "2026-01-15T09:30:00Z",
    "time": "09:30:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
}


def fill(schema: Any, text: str, seed: object = 0) -> Any:
    """Make a value for a schema.

    Args:
        schema: JSON schema as ``response_format`` or a tool's ``parameters`` hold it.
        text: What the value is about.
        seed: Decides where the text does not.

    Returns:
        A JSON value, valid against the schema for the keywords that pydantic writes.

    Raises:
        ApiProblem: 400; the schema is none, or asks for more than anybody would write.
    """
    try:
        return _Filler(schema if isinstance(schema, dict) else {}, text, seed).value(schema, "", 0)
    except _UNUSABLE as error:
        reason = f"The JSON schema cannot be used: {error}"
        raise ApiProblem.of(400, reason, "invalid_request_error") from error


def _at_most(value: Any, most: int, what: str) -> int:
    """Return a whole number that is not out of all proportion."""
    number = int(value or 0)
    if number > most:
        raise ValueError(f"{what} is {number}, more than {most}")
    return number


class _Filler:
    def __init__(self, root: dict[str, Any], text: str, seed: object) -> None:
        self.root = root
        self.text = text
        self.seed = seed
        self.steps = 0
        self.numerals = Numerals(text)

    def value(self, schema: Any, name: str, depth: int) -> Any:
        self._step()
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._choice(schema["enum"], name)
        options = schema.get("anyOf") or schema.get("oneOf")
        if not options and isinstance(schema.get("type"), list):
            options = [{**schema, "type": each} for each in schema["type"]]
        if options:
            return self._one_of(options, name, depth)
        return self._of_type(schema, name, depth)

    def _step(self) -> None:
        """Count the work: schemas may refer to themselves many times over."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise ValueError("it refers to itself too often")

    def _of_type(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind == "boolean":
            return overlap(name, self.text) > 0
        if kind in {"integer", "number"}:
            return self._number(schema, name, whole=kind == "integer")
        return None if kind == "null" else self._string(schema, name)

    def _kind(self, schema: Any) -> str:
        """Return the type a schema names; nothing if it names none, or several."""
        kind = self._resolved(schema).get("type")
        return kind if isinstance(kind, str) else ""

    def _resolved(self, schema: Any, depth: int = 0) -> dict[str, Any]:
        while isinstance(schema, dict) and ("$ref" in schema or "allOf" in schema):
            self._step()
            depth += 1
            if depth > DEPTH:
                return {}
            if "$ref" in schema:
                rest = {key: value for key, value in schema.items() if key != "$ref"}
                schema = {**self._lookup(str(schema["$ref"])), **rest}
            else:
                parts = schema["allOf"]
                merged: dict[str, Any] = {k: v for k, v in schema.items() if k != "allOf"}
                for part in parts:
                    known = self._resolved(part, depth)
                    properties = {**merged.get("properties", {}), **known.get("properties", {})}
                    merged = {**known, **merged}
                    if properties:
                        merged["properties"] = properties
                schema = merged
        return schema if isinstance(schema, dict) else {}

    def _lookup(self, reference: str) -> dict[str, Any]:
        node: Any = self.root
        for part in filter(None, reference.removeprefix("#").split("/")):
            key = part.replace("~1", "/").replace("~0", "~")
            node = node.get(key, {}) if isinstance(node, dict) else {}
        return node if isinstance(node, dict) else {}

    def _choice(self, values: list[Any], name: str) -> Any:
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            low, high = min(values), max(values)
            wanted = self._scaled(low, high, name)
            return min(values, key=lambda v: abs(v - wanted))
        words = [v for v in values if isinstance(v, str)]
        if not words:
            return values[0]
        return words[best(words, self.text, (self.seed, name))[0]]

    def _one_of(self, options: list[Any], name: str, depth: int) -> Any:
        real = [o for o in options if self._kind(o) != "null"]
        if not real:
            return None
        if len(real) < len(options) and (depth >= DEPTH or not self._evidence(real[0], name)):
            return None
        simple = [o for o in real if self._kind(o) not in {"object", "array"}]
        return self.value((simple or real)[0] if depth >= DEPTH else real[0], name, depth + 1)

    def _evidence(self, schema: Any, name: str) -> bool:
        """Say whether the text offers something for an optional value."""
        schema, kind = self._resolved(schema), self._kind(schema)
        if schema.get("enum"):
            values = [str(v) for v in schema["enum"]]
            return max(score for score, _ in ranked(values, self.text)) > 0
        if kind in {"integer", "number"}:
            return self.numerals.left()
        if kind == "string":
            return self._found(schema, name) is not None
        return True

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = set(schema.get("required") or properties)
        self.numerals.reserve(properties)
        return {
            key: self.value(part, key, depth + 1)
            for key, part in properties.items()
            if key in required or depth < DEPTH
        }

    def _array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        least = _at_most(schema.get("minItems"), MOST_ITEMS, "minItems")
        most = max(least, min(int(schema.get("maxItems", 5)), 5))
        if prefix := schema.get("prefixItems"):
            return [self.value(part, name, depth + 1) for part in prefix]
        items = self._resolved(schema.get("items"))
        if items.get("enum"):
            return self._several(items["enum"], least, most, unique=bool(schema.get("uniqueItems")))
        if depth >= DEPTH and not least:
            return []
        kind = self._kind(items)
        if kind in {"", "string"} and not items.keys() & _NOT_WORDS:
            found = self._keywords(items, max(least, min(most, 3)))
        elif kind in {"integer", "number"}:
            most = max(least, min(int(schema.get("maxItems", MOST_ITEMS)), MOST_ITEMS))
            told = max(1, self.numerals.free(Range.of(items), name))
            found = [self.value(items, name, depth + 1) for _ in range(min(told, most))]
        else:
            found = [self.value(items, name, depth + 1)]
        while len(found) < least:
            extra = self.value(items, f"{name} {len(found)}", depth + 1)
            alike = schema.get("uniqueItems") and extra in found and isinstance(extra, str)
            found.append(f"{extra} {len(found)}" if alike else extra)
        return found[:most]

    def _several(self, values: list[Any], least: int, most: int, *, unique: bool) -> list[Any]:
        words = [str(v) for v in values]
        scores = sorted(ranked(words, self.text), key=lambda pair: (-pair[0], pair[1]))
        chosen = [values[number] for score, number in scores if score > 0][:most]
        if not chosen and most:
            chosen = [values[best(words, self.text, self.seed)[0]]]
        rest = (values[number] for _, number in scores if values[number] not in chosen)
        while len(chosen) < least:
            chosen.append(chosen[0] if not unique else next(rest, chosen[0]))
        return chosen

    def _keywords(self, schema: dict[str, Any], amount: int) -> list[str]:
        words = re.findall(r"[^\W\d_]{4,}", self.text)
        telling = sorted({w.lower() for w in words if stems(w)}, key=lambda w: (-len(w), w))
        return [self._fitted(word, schema) for word in telling[:amount]]

    def _number(self, schema: dict[str, Any], name: str, *, whole: bool) -> float:
        step = schema.get("multipleOf") or (1 if whole else 0)
        if not 0 <= step < math.inf:
            raise ValueError(f"multipleOf is {step}")
        wanted = Range.of(schema, step)
        value = self.numerals.take(wanted, name)
        if value is None:
            bottom = wanted.low if wanted.low is not None else min(0, wanted.high or 0)
            top = wanted.high if wanted.high is not None else bottom + 10
            value = self._scaled(bottom, top, name)
        if step:
            value = round(value / step) * step
            if wanted.low is not None and value < wanted.low:
                value += step
            if wanted.high is not None and value > wanted.high:
                value -= step
        return int(value) if whole else round(float(value), 4)

    def _scaled(self, low: float, high: float, name: str) -> float:
        """Place the text between two ends: by its mood, or by the always same throw."""
        (good, _), (bad, _) = ranked(("positive", "negative"), self.text)
        if good or bad:
            share = 0.5 + 0.5 * (good - bad) / (good + bad)
        else:
            share = 0.35 + 0.5 * chance(self.seed, name, self.text)
        if "confidence" in name.lower() or "probab" in name.lower():
            share = 0.6 + 0.39 * chance(self.seed, name, self.text)
        return low + (high - low) * share

    def _string(self, schema: dict[str, Any], name: str) -> str:
        found = self._found(schema, name)
        if found is None:
            sentence = _SENTENCE.match(self.text.strip())
            found = " ".join(sentence.group().split())[:160].strip() if sentence else "unknown"
        return self._fitted(found, schema)

    def _found(self, schema: dict[str, Any], name: str) -> str | None:
        form = str(schema.get("format", ""))
        words = stems(name)
        for key, pattern in (("email", _EMAIL), ("uri", _URL), ("date", _DATE)):
            if form == key or key in name.lower() or (key == "uri" and "url" in name.lower()):
                match = pattern.search(self.text)
                return match.group() if match else _FORMATS[key] if form == key else None
        if form in _FORMATS:
            return _FORMATS[form]
        if set(name.lower().split("_")) & _WHOLE:
            return self.text.strip()
        if set(name.lower().split("_")) & _PLACES:
            names = _NAMES.findall(self.text)
            return names[-1] if names else None
        if words and (quoted := _QUOTED.search(self.text)):
            return quoted.group(1)
        return None

    def _fitted(self, value: str, schema: dict[str, Any]) -> str:
        pattern = schema.get("pattern")
        if pattern:
            value = matching(str(pattern), value, self.text)
        least = _at_most(schema.get("minLength"), MOST_LETTERS, "minLength")
        most = schema.get("maxLength")
        if most is not None:
            value = value[: max(0, int(most))]
        return value.ljust(least, "x") if not pattern else value
