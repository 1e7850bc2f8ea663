"""The handler of a labelling run's requests: each is paid for once, each ends as a line."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.errors import ApiError, AuthenticationError, MistralNbError, StoreError
from mistral_nb.explaining import api_error
from mistral_nb.jobs.context import GiveUp, InDoubt
from mistral_nb.labelling.plan import server_of
from mistral_nb.labelling.remote import passing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mistral_nb.client import Connection
    from mistral_nb.jobs.context import JobContext

__all__ = ["REQUESTS", "ROWS_AT_ONCE", "answered", "in_doubt", "posted", "requests"]

REQUESTS = "requests"
"""Name of the jobs."""
ROWS_AT_ONCE = 8
"""Requests of one job under way at once."""
LEFT = (
    "was under way when a worker or its connection was lost: the server may have answered it, "
    "and billed it, without the answer arriving here"
)


async def requests(data: Any, context: JobContext) -> dict[str, Any]:
    """Answer requests of a labelling run.

    What passes (a rate limit, an overloaded server) is tried again with the job's next attempt,
    which asks only for what has no answer yet. What does not pass is the request's own end.

    Args:
        data: ``server``, ``endpoint``, ``model`` and ``lines``: [custom_id, body] of each.
        context: The job's.

    Returns:
        ``lines``: one for each request, in the form of a batch job's output file; where a
        request may have been carried out without an answer, it has ``uncertain``.

    Raises:
        GiveUp: This worker talks to another server than the run.
    """
    server = server_of(context.connection)
    if data["server"] != server:
        raise GiveUp(
            f"The run's requests are for {data['server']}, but this worker talks to {server}. "
            "Start it with the same MISTRAL_SERVER_URL and MISTRAL_API_KEY as the notebook."
        )
    model = orjson.dumps(data["model"])
    turn = asyncio.Semaphore(ROWS_AT_ONCE)
    done = 0

    async def one(name: str, body: str) -> dict[str, Any]:
        nonlocal done
        whole = b'{"model":%b,%b' % (model, body.encode()[1:])
        send = partial(posted, context.connection, data["endpoint"], whole)
        async with turn:
            line = await _line(name, send, context)
        done += 1
        context.progress({"done": done, "rows": len(data["lines"])})
        return line

    ended = await asyncio.gather(*(one(*each) for each in data["lines"]), return_exceptions=True)
    for each in ended:
        if isinstance(each, BaseException):
            raise each  # the others are paid for and kept: the next attempt asks only the rest
    return {"lines": ended}


async def _line(
    name: str, send: Callable[[], Awaitable[Any]], context: JobContext
) -> dict[str, Any]:
    """Ask for one answer, and write down how it ended if another attempt is not worth it.

    A request in doubt is a line of its own, no end of the job: for that, the doubt is taken off.
    """
    try:
        reply = await context.pay(name, send)
    except InDoubt:
        context.doubts.discard(name)
        return in_doubt(name)
    except MistralNbError as error:
        if context.refusal is not None or isinstance(error, AuthenticationError | StoreError):
            raise  # it is not this request that is wrong
        surely_unpaid = isinstance(error, ApiError) or not getattr(error, "sent", True)
        if surely_unpaid and passing(error, error) and context.attempt < context.attempts:
            raise
        status = {"status_code": getattr(error, "status_code", None)}
        line = {"custom_id": name, "response": status, "error": {"message": str(error)}}
        if surely_unpaid:
            return line
        context.doubts.discard(name)
        return {**line, "uncertain": True}
    return answered(name, reply)


def answered(name: str, reply: Any) -> dict[str, Any]:
    """Return the line of a request that was answered.

    Args:
        name: Its custom_id.
        reply: The response's body, parsed.
    """
    return {"custom_id": name, "response": {"status_code": 200, "body": reply}, "error": None}


def in_doubt(name: str) -> dict[str, Any]:
    """Return the line of a request that was under way when all trace of it was lost."""
    return {"custom_id": name, "error": {"message": LEFT}, "uncertain": True}


async def posted(connection: Connection, endpoint: str, body: bytes) -> Any:
    """Send a request and return its reply, parsed.

    Args:
        connection: The server.
        endpoint: e.g. ``"/v1/embeddings"``.
        body: JSON.

    Raises:
        ApiError: The server refused.
        MistralNbError: What came is no JSON.
        ServerUnreachable: Nothing came.
    """
    answer = await connection.post(endpoint, body)
    if answer.status >= 400:  # noqa: PLR2004 - HTTP's own numbers
        text = connection.without_key(answer.body.decode(errors="replace"))
        raise api_error(answer.status, text, answer.headers)
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        raise MistralNbError(f"The reply is not JSON: {error}.") from error
