"""What all requests of a run have in common, and how a prompt becomes a request body.

Building a body is splicing: everything but the prompt is encoded once. Each body has a
content hash over endpoint, model and body; with the row it makes the `custom_id`.
"""

from __future__ import annotations

import hashlib
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.errors import InputError
from mistral_nb.explaining import misfit
from mistral_nb.labelling.endpoints import CHAT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mistral_nb.labelling.endpoints import Endpoint
    from mistral_nb.labelling.schemas import Schema

__all__ = ["DIGEST_SIZE", "Recipe", "custom_id", "read_line"]

DIGEST_SIZE = 16
OWN_OPTIONS = frozenset(
    {
        "concurrency",
        "documents",
        "endpoint",
        "examples",
        "images",
        "labels",
        "max_cost",
        "model",
        "name",
        "prompt",
        "sample",
        "schema",
        "system",
    }
)
"""What may be meant by an option that is unknown, besides those of a request."""
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


class Recipe:
    """Endpoint, model, system prompt, examples and options of a run.

    Args:
        model: Model that answers.
        system: System prompt, or None.
        schema: What replies must look like, or None for free text.
        options: Options of a request: temperature, max_tokens, random_seed, ...
        endpoint: Who answers.
        examples: Messages that come before each row's own: questions with their answers.

    Raises:
        InputError: An option is unknown or has a value that the API does not take.
        SchemaError: The schema cannot be made strict.
    """

    def __init__(
        self,
        model: str,
        system: str | None = None,
        schema: Schema | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        endpoint: Endpoint = CHAT,
        examples: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.model = model
        self.system = system
        self.endpoint = endpoint.path
        self.options = {name: each for name, each in (options or {}).items() if each is not None}
        if (system or examples) and endpoint is not CHAT:
            given = "system=" if system else "examples="
            raise InputError(f"{given} is for endpoint='chat'; {endpoint.name!r} takes none.")
        if schema is not None and endpoint.schema_in is not None:
            if endpoint.schema_in in self.options:
                raise InputError(f"Give schema= (or labels=) or {endpoint.schema_in}=, not both.")
            self.options[endpoint.schema_in] = schema.response_format
        _check(endpoint, model, self.options)
        field = _dumps(endpoint.field)
        # A chat to classify is an object of its own, unlike a chat to answer or to moderate.
        wrapped = endpoint.name == "chat/classifications"
        self._head = b"{%b:" % field + (b'{"messages":' if wrapped else b"")
        self._messages = endpoint.chat
        rest = _dumps(self.options)[1:]  # from behind its opening brace
        self._tail = b"}" if rest == b"}" else b"," + rest
        self._end = (b"}" if wrapped else b"") + self._tail
        try:
            self._system = _dumps({"role": "system", "content": system}) if system else b""
            self._examples = b"".join(_dumps(each) + b"," for each in examples)
        except TypeError as error:
            raise InputError(f"system= or examples= cannot be sent: {error}.") from error
        before = (self._system + b"," if system else b"") + self._examples
        self._text_head, self._text_end = self._head, self._end
        if endpoint.chat:
            self._text_head += b"[" + before + b'{"role":"user","content":'
            self._text_end = b"}]" + self._end
        self._before = f"{self.endpoint}\n{model}\n".encode()  # not a hash: that has no pickle

    def body(self, prompt: str | list[dict[str, Any]] | dict[str, Any]) -> bytes:
        """Make the request body of one prompt.

        Args:
            prompt: The user's text, or all messages, or whole fields of the body.

        Returns:
            JSON, without the model: a batch job names it once for all.

        Raises:
            InputError: Messages for an endpoint that takes a text.
            TypeError: A message holds something JSON has no form for.
            ValueError: A text holds half of a surrogate pair, which UTF-8 has no form for.
        """
        if isinstance(prompt, str):
            return self._text_head + orjson.dumps(prompt) + self._text_end
        if isinstance(prompt, dict):
            return _dumps(prompt)[:-1] + self._tail
        if not self._messages:
            raise InputError(
                f"{self.endpoint} takes a text, not messages: let the prompt function return one."
            )
        first, rest = self._system, prompt
        if prompt[0].get("role") == "system":
            first, rest = _dumps(prompt[0]), prompt[1:]
        messages = (first + b"," if first else b"") + self._examples + _dumps(rest)[1:-1]
        return self._head + b"[" + messages.removesuffix(b",") + b"]" + self._end

    def digest(self, body: bytes) -> bytes:
        """Return the content hash of a request: 16 bytes."""
        return hashlib.blake2b(self._before + body, digest_size=DIGEST_SIZE).digest()

    def describe(self) -> dict[str, Any]:
        """Return what the ledger keeps of it."""
        sent: dict[str, Any] = orjson.loads(_dumps(self.options))
        examples = self.digest(self._examples).hex() if self._examples else None
        return {"system": self.system, "options_sent": sent, "examples": examples}


def custom_id(row: int, digest: bytes) -> str:
    """Return the id that ties row, request and answer: it holds the row and its content."""
    return f"r{row}-{digest.hex()[:16]}"


def read_line(line: bytes) -> tuple[int, bytes, bytes]:
    """Take apart a line ``{"custom_id":"...","body":{...}}`` of a request file of ours.

    Args:
        line: The line, with or without its end.

    Returns:
        Row, custom_id and body.
    """
    name = line[14 : line.index(b'"', 14)]
    return int(name[1 : name.index(b"-")]), name, line[23 + len(name) : line.rindex(b"}")]


def _dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=_NUMPY)
    except orjson.JSONEncodeError as error:
        raise TypeError(str(error)) from error


def _check(endpoint: Endpoint, model: str, options: dict[str, Any]) -> None:
    """Let the SDK's own model of a request judge the options, before anything is sent."""
    from mistralai.client import models
    from pydantic import ValidationError

    request = getattr(models, endpoint.request)
    fields = {field.alias or name for name, field in request.model_fields.items()}
    known = fields - endpoint.taken - {"model", endpoint.field, endpoint.schema_in}
    for name in options.keys() - {endpoint.schema_in}:
        if name not in known:
            near = get_close_matches(name, known | OWN_OPTIONS, n=1)
            listed = ", ".join(sorted(known)) or "none"
            hint = f" Did you mean {near[0]}?" if near else f" Options are: {listed}."
            what = "" if endpoint is CHAT else f" with endpoint={endpoint.name!r}"
            raise InputError(f"{name} is no option of a labelling run{what}.{hint}")
    try:
        _dumps(options)
        request.model_validate({"model": model, endpoint.field: endpoint.sample, **options})
    except ValidationError as error:
        raise InputError(f"An option does not fit: {misfit(error)}. Nothing was sent.") from error
    except TypeError as error:
        raise InputError(f"The options hold something that is not JSON: {error}.") from error
