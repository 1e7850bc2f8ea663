"""The handlers that every queue has: chat, complete, embed, and label for a few rows.

What `mnb.label(df, ..., queue=queue)` sends has a handler of its own: see `shards`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.errors import InputError, MistralNbError
from mistral_nb.jobs.shards import REQUESTS, ROWS_AT_ONCE, posted, requests

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mistral_nb.client import Connection
    from mistral_nb.jobs.context import JobContext
    from mistral_nb.replies import Reply

__all__ = ["BUILT_IN"]

TELL_EVERY = 0.25
"""Seconds between two reports of progress."""
EMBED = "/v1/embeddings"


async def chat(data: Any, context: JobContext) -> dict[str, Any]:
    """Stream a reply: its ``chat:*`` events carry the job's id, its progress tells how far it is.

    Args:
        data: ``messages`` (or ``prompt``), and ``model``, ``system`` and any option of the
            SDK's ``chat.stream``.
        context: The job's.

    Returns:
        ``text``, ``finish_reason``, ``usage``, ``model``, ``id``, ``tool_calls``.
    """
    messages, options = _messages(data)

    async def send() -> dict[str, Any]:
        from mistral_nb.streaming import start_stream

        handle = start_stream(
            context.connection, context.bus, messages, request_id=context.job_id, **options
        )
        told = time.monotonic()
        try:
            async for _ in handle:
                if time.monotonic() - told >= TELL_EVERY:
                    told = time.monotonic()
                    context.progress({"characters": len(handle.text)})
            return _as_json(await handle)
        except asyncio.CancelledError:
            handle.stop()
            raise

    return dict(await context.pay("chat", send))


async def complete(data: Any, context: JobContext) -> dict[str, Any]:
    """Ask for a reply in one piece; data and result as for ``chat``."""
    messages, options = _messages(data)
    send = await asyncio.to_thread(_asking, context.connection, messages, options)
    return dict(await context.pay("complete", send))


async def embed(data: Any, context: JobContext) -> dict[str, Any]:
    """Embed texts.

    Args:
        data: ``inputs`` (a text or a list of texts), and ``model`` and any option of the
            API's ``/v1/embeddings``.
        context: The job's.

    Returns:
        ``embeddings`` (one list of numbers a text), ``model``, ``usage``.
    """
    fields = _object(data)
    inputs = fields.pop("inputs", fields.pop("input", None))
    if not inputs:
        raise InputError("The data of an embed job must have inputs: a text or a list of texts.")
    body = orjson.dumps({"model": "mistral-embed", **fields, "input": inputs})

    async def send() -> dict[str, Any]:
        reply = await posted(context.connection, EMBED, body)
        found = sorted(reply["data"], key=lambda each: each["index"])
        return {
            "embeddings": [each["embedding"] for each in found],
            "model": reply["model"],
            "usage": reply["usage"],
        }

    return dict(await context.pay("embed", send))


async def label(data: Any, context: JobContext) -> dict[str, Any]:
    """Label a shard of a table's rows, some at once, each paid for once.

    Args:
        data: ``rows`` (a list of objects), ``prompt`` (a template with ``{column}`` places),
            ``labels`` or ``schema`` (JSON schema), and ``model``, ``system`` and any option
            of a chat request.
        context: The job's.

    Returns:
        ``values``: one for each row, None where there is an error; ``errors``: likewise;
        ``tokens``: what the shard cost.
    """
    texts, read, options = await asyncio.to_thread(_shard, data)
    turn = asyncio.Semaphore(ROWS_AT_ONCE)
    done = 0

    async def one(number: int, text: str) -> dict[str, Any]:
        nonlocal done
        async with turn:
            send = await asyncio.to_thread(_asking, context.connection, text, options)
            reply = dict(await context.pay(f"row-{number}", send))
        done += 1
        context.progress({"done": done, "rows": len(texts)})
        return reply

    asked = [one(n, text) for n, text in enumerate(texts) if isinstance(text, str)]
    replies = await asyncio.gather(*asked, return_exceptions=True)
    for fault in replies:
        if isinstance(fault, BaseException):
            raise fault  # the others are paid for and kept: the next attempt asks only the rest
    answers = iter([each for each in replies if not isinstance(each, BaseException)])
    return _labelled(texts, answers, read)


BUILT_IN: dict[str, Callable[..., Any]] = {
    "chat": chat,
    "complete": complete,
    "embed": embed,
    "label": label,
    REQUESTS: requests,
}


def _shard(data: Any) -> tuple[list[Any], Callable[[str], Any], dict[str, Any]]:
    """Return a shard's prompts, what reads its replies, and the options of its requests."""
    from mistral_nb.labelling.lists import reader
    from mistral_nb.labelling.schemas import compile_schema

    fields = _object(data)
    texts = _prompts(fields.pop("rows", None), fields.pop("prompt", None))
    labels, schema = fields.pop("labels", None), fields.pop("schema", None)
    compiled = compile_schema(schema, labels)
    read = reader(labels if schema is None else schema, compiled)
    return texts, read, {**fields, "schema": compiled}


def _labelled(texts: list[Any], answers: Any, read: Callable[[str], Any]) -> dict[str, Any]:
    """Read the replies of a shard, in the order of its rows."""
    from mistral_nb.labelling.schemas import Invalid

    values: list[Any] = []
    errors: list[str | None] = []
    tokens = 0
    for text in texts:
        value, wrong = None, None
        if isinstance(text, str):
            reply = next(answers)
            tokens += (reply["usage"] or {}).get("total_tokens", 0)
            try:
                value = read(reply["text"])
            except Invalid as error:
                wrong = str(error)
        else:
            wrong = text.reason
        values.append(value)
        errors.append(wrong)
    return {"values": values, "errors": errors, "tokens": tokens}


def _prompts(rows: Any, prompt: Any) -> list[Any]:
    """Fill the template with each row; a row that cannot be sent says why."""
    import pandas as pd

    from mistral_nb.labelling.prompts import compile_prompt

    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError("The data of a label job must have rows: a list of objects.")
    if not isinstance(prompt, str):
        raise InputError("The data of a label job must have a prompt with {column} places.")
    table = pd.DataFrame(rows, dtype=object)
    return list(compile_prompt(prompt, list(table.columns)).fill(table, 0))


def _object(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise InputError(f"The data of this job must be an object, not {type(data).__name__}.")
    return dict(data)


def _messages(data: Any) -> tuple[Any, dict[str, Any]]:
    """Return a job's messages and the rest of its data."""
    fields = _object(data)
    messages = fields.pop("messages", None) or fields.pop("prompt", None)
    if not messages:
        raise InputError("The data of this job must have messages, or a prompt.")
    return messages, fields


def _asking(connection: Connection, messages: Any, options: Mapping[str, Any]) -> Callable[[], Any]:
    """Return what asks for one whole reply; what is wrong with the options is said now.

    Called in a thread: the first call imports the SDK's models, which takes seconds.
    """
    from mistral_nb.labelling.recipe import Recipe

    given = dict(options)
    model = given.pop("model", None) or connection.settings.model
    recipe = Recipe(model, given.pop("system", None), given.pop("schema", None), given)
    body = b'{"model":%b,%b' % (orjson.dumps(model), recipe.body(messages)[1:])
    return partial(_ask, connection, recipe.endpoint, body)


async def _ask(connection: Connection, endpoint: str, body: bytes) -> dict[str, Any]:
    from mistral_nb.replies import WrongShapeError, whole_reply

    reply = await posted(connection, endpoint, body)
    try:
        return _as_json(whole_reply(reply, 0.0))
    except WrongShapeError as error:
        raise MistralNbError(
            f"The reply is not of the API's shape: {error}. Does server_url speak Mistral's API?"
        ) from error


def _as_json(reply: Reply) -> dict[str, Any]:
    return {
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "usage": None if reply.usage is None else asdict(reply.usage),
        "model": reply.model,
        "id": reply.id,
        "tool_calls": [asdict(call) for call in reply.tool_calls],
    }
