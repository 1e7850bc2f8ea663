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

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mistral_nb.labelling.schemas import Schema

__all__ = ["CHAT", "DIGEST_SIZE", "Recipe", "custom_id"]

CHAT = "/v1/chat/completions"
DIGEST_SIZE = 16
_OURS = {"model", "messages", "stream", "n"}
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


class Recipe:
    """Endpoint, model, system prompt and options of a run.

    Args:
        model: Model that answers.
        system: System prompt, or None.
        schema: What replies must look like, or None for free text.
        options: Options of a chat request: temperature, max_tokens, random_seed, ...

    Raises:
        InputError: An option is unknown or has a value that the API does not take.
        SchemaError: The schema cannot be made strict.
    """

    endpoint = CHAT

    def __init__(
        self,
        model: str,
        system: str | None = None,
        schema: Schema | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.system = system
        self.options = {name: each for name, each in (options or {}).items() if each is not None}
        if schema is not None:
            if "response_format" in self.options:
                raise InputError("Give schema= (or labels=) or response_format=, not both.")
            self.options["response_format"] = schema.response_format
        _check(model, self.options)
        start = b'{"messages":['
        system_message = _dumps({"role": "system", "content": system}) if system else b""
        self._text_head = start + system_message + (b"," if system else b"")
        self._text_head += b'{"role":"user","content":'
        self._system = system_message
        rest = _dumps(self.options)[1:]  # from behind its opening brace
        self._tail = b"]" + (b"}" if rest == b"}" else b"," + rest)
        self._hash = hashlib.blake2b(
            f"{self.endpoint}\n{model}\n".encode(), digest_size=DIGEST_SIZE
        )

    def body(self, prompt: str | list[dict[str, Any]]) -> bytes:
        """Make the request body of one prompt.

        Args:
            prompt: The user's text, or all messages.

        Returns:
            JSON, without the model: a batch job names it once for all.

        Raises:
            TypeError: A message holds something JSON has no form for.
            ValueError: A text holds half of a surrogate pair, which UTF-8 has no form for.
        """
        if isinstance(prompt, str):
            return self._text_head + orjson.dumps(prompt) + b"}" + self._tail
        messages = _dumps(prompt)[1:-1]
        if self._system and prompt[0].get("role") != "system":
            messages = self._system + b"," + messages
        return b'{"messages":[' + messages + self._tail

    def digest(self, body: bytes) -> bytes:
        """Return the content hash of a request: 16 bytes."""
        found = self._hash.copy()
        found.update(body)
        return found.digest()

    def describe(self) -> dict[str, Any]:
        """Return what the ledger keeps of it."""
        sent: dict[str, Any] = orjson.loads(_dumps(self.options))
        return {"system": self.system, "options_sent": sent}


def custom_id(row: int, digest: bytes) -> str:
    """Return the id that ties row, request and answer: it holds the row and its content."""
    return f"r{row}-{digest.hex()[:16]}"


def _dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=_NUMPY)
    except orjson.JSONEncodeError as error:
        raise TypeError(str(error)) from error


def _check(model: str, options: dict[str, Any]) -> None:
    """Let the SDK's own model of a request judge the options, before anything is sent."""
    from mistralai.client.models import ChatCompletionRequest
    from pydantic import ValidationError

    known = set(ChatCompletionRequest.model_fields) - _OURS
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = (
                f" Did you mean {near[0]}?"
                if near
                else f" Options are: {', '.join(sorted(known))}."
            )
            raise InputError(f"{name} is no option of a labelling run.{hint}")
    try:
        _dumps(options)
        ChatCompletionRequest(model=model, messages=[], **options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{place or 'options'}: {first['msg']}. Nothing was sent.") from error
    except TypeError as error:
        raise InputError(f"The options hold something that is not JSON: {error}.") from error
