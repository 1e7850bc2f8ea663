"""Small helpers of the routes: JSON out, bodies and query parameters in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import Response

from mistral_nb.simulator.encoding import encoded
from mistral_nb.simulator.validation import ApiProblem, chosen, unprocessable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from starlette.requests import Request

__all__ = [
    "JsonReply",
    "arriving",
    "query_bool",
    "query_choices",
    "query_int",
    "query_object",
    "read_body",
]

MAX_BODY = 80 * 1024 * 1024
"""Holds a document of 50 MB in base64."""


SDK_UNSET = '"~?~unset~?~sentinel~?~"'
"""What mistralai 3.7 sends for an object in the query that nobody gave."""


class JsonReply(Response):
    """A JSON body."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode the body."""
        return encoded(content)


async def read_body(request: Request) -> bytes:
    """Return a whole JSON body.

    Raises:
        ApiProblem: 413; it is larger than any request may be.
    """
    return b"".join([data async for data in arriving(request, MAX_BODY)])


async def arriving(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """Pass a body on as it comes, up to a size.

    Args:
        request: Whose body it is.
        most: Bytes allowed.

    Raises:
        ApiProblem: 413; it is larger, or says that it will be.
    """
    size = 0
    if int(request.headers.get("content-length") or 0) > most:
        raise _too_large(most)
    async for data in request.stream():
        size += len(data)
        if size > most:
            raise _too_large(most)
        yield data


def _too_large(most: int) -> ApiProblem:
    megabytes = most // (1024 * 1024)
    problem = ApiProblem.of(413, f"The request is larger than {megabytes} MB", "payload_too_large")
    problem.headers["connection"] = "close"  # nobody reads the rest of it
    return problem


def query_int(
    request: Request, name: str, default: int, low: int = 0, high: int | None = None
) -> int:
    """Read a whole number from the query.

    Raises:
        ApiProblem: 422; it is no number or out of range.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError as error:
        message = "Input should be a valid integer, unable to parse string as an integer"
        raise unprocessable(("query", name), message, "int_parsing", text) from error
    if value < low:
        message = f"Input should be greater than or equal to {low}"
        raise unprocessable(("query", name), message, "greater_than_equal", text)
    if high is not None and value > high:
        message = f"Input should be less than or equal to {high}"
        raise unprocessable(("query", name), message, "less_than_equal", text)
    return value


def query_bool(request: Request, name: str, default: bool) -> bool:
    """Read true or false from the query.

    Raises:
        ApiProblem: 422; it is neither.
    """
    text = request.query_params.get(name)
    if text is None or text == "":
        return default
    if text.lower() in {"true", "1", "yes", "on"}:
        return True
    if text.lower() in {"false", "0", "no", "off"}:
        return False
    message = "Input should be a valid boolean, unable to interpret input"
    raise unprocessable(("query", name), message, "bool_parsing", text)


def query_choices(request: Request, name: str, choices: Sequence[str]) -> list[str]:
    """Read a parameter that may come several times, each time one of some words.

    Raises:
        ApiProblem: 422; it is none of them.
    """
    return [chosen(("query", name), each, choices) for each in request.query_params.getlist(name)]


def query_object(request: Request, name: str) -> dict[str, Any]:
    """Read a JSON object from the query; empty if it is not there.

    Raises:
        ApiProblem: 422; it is no JSON object.
    """
    text = request.query_params.get(name)
    if not text or text == SDK_UNSET:
        return {}
    try:
        value = orjson.loads(text) or {}
    except orjson.JSONDecodeError:
        value = text
    if not isinstance(value, dict):
        raise unprocessable(("query", name), "Input should be an object", "dict_type", text)
    return value
