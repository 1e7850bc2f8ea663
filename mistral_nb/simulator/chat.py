"""Chat completions: one answer as JSON, or cut into the chunks of a stream."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mistral_nb.simulator import tokens
from mistral_nb.simulator.catalogue import Model, find_model
from mistral_nb.simulator.documents import described
from mistral_nb.simulator.model import Answer, answer
from mistral_nb.simulator.reading import last_message
from mistral_nb.simulator.turns import check_messages, check_tool_calls
from mistral_nb.simulator.validation import ApiProblem, ChatRequest, check, invalid_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mistral_nb.simulator.bodies import FimRequest
    from mistral_nb.simulator.scripted import Script

__all__ = ["Completion", "complete", "cut"]

MAX_CHOICES = 32


@dataclass(frozen=True)
class Choice:
    """One of ``n`` answers, cut to size.

    Attributes:
        thinking: Pieces of what was thought, a token each.
        text: Pieces of the reply, a token each.
        calls: Tool calls as (id, name, arguments).
        finish_reason: stop, length or tool_calls.
        tokens: How many it cost.
    """

    thinking: list[str]
    text: list[str]
    calls: tuple[tuple[str, str, str], ...]
    finish_reason: str
    tokens: int


@dataclass(frozen=True)
class Completion:
    """A finished chat request, as the plain reply or as stream chunks.

    Attributes:
        id: 32 hexadecimal digits.
        model: Name as the request gave it.
        created: Seconds since the epoch.
        choices: The answers.
        usage: The API's usage object.
    """

    id: str
    model: str
    created: int
    choices: list[Choice]
    usage: dict[str, Any]

    def body(self) -> dict[str, Any]:
        """Return the body of the plain reply."""
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [_plain(number, choice) for number, choice in enumerate(self.choices)],
            "usage": self.usage,
        }

    def chunks(self, *, whole_calls: bool = True) -> Iterator[dict[str, Any]]:
        """Yield the stream's chunks, in the recorded shapes.

        Args:
            whole_calls: Send a tool call's arguments in one chunk, else in pieces.
        """
        for number, choice in enumerate(self.choices):
            last = number == len(self.choices) - 1
            yield from self._choice_chunks(number, choice, last=last, whole_calls=whole_calls)

    def _choice_chunks(
        self, number: int, choice: Choice, *, last: bool, whole_calls: bool
    ) -> Iterator[dict[str, Any]]:
        def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
            made = {
                "id": self.id,
                "object": "chat.completion.chunk",
                "created": self.created,
                "model": self.model,
                "choices": [
                    {"index": number, "delta": delta, "finish_reason": finish, "logprobs": None}
                ],
            }
            if finish is not None and last:
                made["usage"] = self.usage
            return made

        first: dict[str, Any] = {"role": "assistant"}
        for piece in choice.thinking:
            yield chunk({**first, "content": [_think(piece)]})
            first = {}
        if first:
            yield chunk({**first, "content": ""})
        for piece in choice.text:
            content: Any = [{"type": "text", "text": piece}] if choice.thinking else piece
            yield chunk({"content": content})
        if not choice.calls:
            yield chunk({"content": ""}, choice.finish_reason)
        elif whole_calls:
            calls = [_call(i, call) for i, call in enumerate(choice.calls)]
            yield chunk({"content": None, "tool_calls": calls}, choice.finish_reason)
        else:
            for i, (call_id, name, arguments) in enumerate(choice.calls):
                for place, piece in enumerate(tokens.pieces(arguments)[0]):
                    part = (call_id, "" if place else name, piece)
                    yield chunk({"content": "", "tool_calls": [_call(i, part)]})
            yield chunk({"content": ""}, choice.finish_reason)


def complete(
    raw: bytes | dict[str, Any],
    *,
    seed: int,
    number: int,
    cache: tokens.PromptCache | None = None,
    script: Script | None = None,
    in_conversation: bool = False,
) -> tuple[ChatRequest, Completion]:
    """Validate a chat request and answer it.

    Args:
        raw: The body, encoded or parsed.
        seed: The simulator's seed.
        number: Which request this is; makes its id its own.
        cache: Knows the prompts seen before; None counts no cached tokens.
        script: Replies to give before the rules are asked.
        in_conversation: It is a step of a conversation, which has its own rules for tool calls.

    Returns:
        The request and its completion.

    Raises:
        ApiProblem: The API would refuse it.
    """
    request: ChatRequest = check(ChatRequest, raw)
    body = request.model_dump(mode="json", by_alias=True, exclude_unset=True)
    known, prompt_tokens = _admitted(request, body, in_conversation=in_conversation)
    tools = body.get("tools")
    reasoning = _reasons(known, request)
    prompt = last_message(body["messages"], "user")
    choices = []
    for i in range(request.n or 1):
        said = script.take(prompt) if script is not None else None
        if said is None:
            said = answer(body, reasoning=reasoning, seed=(seed, i) if i else seed)
        choices.append(cut(said, request))
    cached = cache.cached_tokens(known.id, body["messages"], tools) if cache else 0
    completion_tokens = sum(choice.tokens for choice in choices)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    name = uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}:{number}:{body['messages'][-1]}").hex
    return request, Completion(name, request.model, int(time.time()), choices, usage)


def _admitted(
    request: ChatRequest, body: dict[str, Any], *, in_conversation: bool
) -> tuple[Model, int]:
    """Refuse what the API would; return the model that is asked, and the tokens of its prompt."""
    known = find_model(request.model)
    if known is None or "chat" not in known.can:
        raise invalid_model(request.model)
    if (request.n or 1) > MAX_CHOICES:
        reason = f"n is {request.n}: the simulator gives at most {MAX_CHOICES} choices"
        raise ApiProblem.of(400, reason, "invalid_request_error")
    check_messages(body["messages"])
    if not in_conversation:
        check_tool_calls(body["messages"])
    _check_vision(body["messages"], known)
    prompt_tokens = tokens.count_prompt(body["messages"], body.get("tools"))
    if prompt_tokens + (request.max_tokens or 0) > known.context:
        raise ApiProblem.of(
            400,
            f"Prompt contains {prompt_tokens} tokens and {request.max_tokens or 0} to generate, "
            f"too large for model with {known.context} maximum context length",
            "invalid_request_prompt",
            "3051",
        )
    return known, prompt_tokens


def _reasons(model: Model, request: ChatRequest) -> bool:
    if request.reasoning_effort is not None:
        return request.reasoning_effort != "none"
    return "reasoning" in model.can


def _check_vision(messages: list[dict[str, Any]], known: Model) -> None:
    """Open every image and document: what cannot be read is refused before it costs."""
    for message in messages:
        content = message.get("content")
        kinds = {part["type"] for part in content} if isinstance(content, list) else set()
        if "image_url" in kinds and "vision" not in known.can:
            reason = "Image input is not enabled for this model"
            raise ApiProblem.of(400, reason, "invalid_request_error", "3051")
        described(content)


def cut(said: Answer, request: ChatRequest | FimRequest) -> Choice:
    """Apply ``stop`` and ``max_tokens`` to an answer.

    Args:
        said: The whole answer.
        request: Has the limits.

    Returns:
        What of it is sent.
    """
    if said.calls:
        cost = sum(
            tokens.call_tokens({"name": name, "arguments": arguments})
            for _, name, arguments in said.calls
        )
        return Choice([], [], said.calls, "tool_calls", cost + 1)
    text = said.text
    for stop in [request.stop] if isinstance(request.stop, str) else request.stop or ():
        if stop and (place := text.find(stop)) >= 0:
            text = text[:place]
    thinking, short = tokens.pieces(said.thinking, request.max_tokens)
    left = None if request.max_tokens is None else request.max_tokens - len(thinking)
    pieces, short_text = tokens.pieces(text, left)
    short = short or short_text
    cost = len(thinking) + len(pieces) + (0 if short else 1)
    return Choice(thinking, pieces, (), "length" if short else "stop", cost)


def _plain(number: int, choice: Choice) -> dict[str, Any]:
    text = "".join(choice.text)
    content: Any = text
    if choice.thinking:
        content = [_think("".join(choice.thinking)), {"type": "text", "text": text}]
    calls = [_call(i, call) for i, call in enumerate(choice.calls)] or None
    message = {"role": "assistant", "content": content, "tool_calls": calls}
    return {"index": number, "finish_reason": choice.finish_reason, "message": message}


def _think(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def _call(index: int, call: tuple[str, str, str]) -> dict[str, Any]:
    call_id, name, arguments = call
    return {"id": call_id, "function": {"name": name, "arguments": arguments}, "index": index}
