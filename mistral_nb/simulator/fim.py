"""Fill-in-the-middle: the code between a prompt and a suffix, by a few rules."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

from mistral_nb.simulator import tokens
from mistral_nb.simulator.bodies import FimRequest
from mistral_nb.simulator.catalogue import find_model
from mistral_nb.simulator.chat import Completion, cut
from mistral_nb.simulator.model import Answer
from mistral_nb.simulator.validation import check, invalid_model

__all__ = ["complete_fim"]

_HEAD = re.compile(r"^([ \t]*)def\s+(\w+)\s*\(([^()]*)\)[^:\n]*(:?)\s*\Z", re.MULTILINE)
_OPEN = re.compile(r"^([ \t]*)def\s*(\w*)\s*(\(?)([^()\n]*)\Z", re.MULTILINE)


def complete_fim(
    raw: bytes | dict[str, Any], *, seed: int, number: int
) -> tuple[FimRequest, Completion]:
    """Validate a request for a completion in the middle, and answer it.

    Args:
        raw: Body of ``/v1/fim/completions``, encoded or parsed.
        seed: The simulator's seed.
        number: Which request this is; makes its id its own.

    Returns:
        The request and its completion.

    Raises:
        ApiProblem: The API would refuse it.
    """
    request: FimRequest = check(FimRequest, raw)
    known = find_model(request.model)
    if known is None or "fim" not in known.can:
        raise invalid_model(request.model)
    choice = cut(Answer(_middle(request.prompt, request.suffix or "")), request)
    sent = tokens.count(request.prompt) + tokens.count(request.suffix or "")
    usage = {
        "prompt_tokens": sent,
        "completion_tokens": choice.tokens,
        "total_tokens": sent + choice.tokens,
    }
    name = uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}:{number}:{request.prompt}").hex
    return request, Completion(name, request.model, int(time.time()), [choice], usage)


def _middle(prompt: str, suffix: str) -> str:
    """Finish a function that the prompt began; leave what the suffix does to the suffix."""
    if head := _HEAD.search(prompt):
        indent, name, arguments, colon = head.groups()
        body = _body(name, _names(arguments), suffix, f"{indent}    ")
        return f"{'' if colon else ':'}\n{body}"
    if begun := _OPEN.search(prompt):
        indent, name, bracket, arguments = begun.groups()
        start = f"{'' if name else ' add'}{'' if bracket else '('}"
        missing = "" if arguments.strip() else "a, b"
        names = _names(arguments or missing)
        return f"{start}{missing}):\n{_body(name or 'add', names, suffix, f'{indent}    ')}"
    return "\n# (the simulator completes Python functions)\n"


def _body(name: str, names: list[str], suffix: str, indent: str) -> str:
    sign = {"sub": "-", "minus": "-", "mul": "*", "times": "*", "div": "/"}
    joined = next((mark for word, mark in sign.items() if word in name.lower()), "+")
    value = f" {joined} ".join(names) or "None"
    if result := re.search(r"\breturn\s+([A-Za-z_]\w*)\s*$", suffix, re.MULTILINE):
        return f"{indent}{result[1]} = {value}\n"
    return f"{indent}return {value}\n"


def _names(arguments: str) -> list[str]:
    return re.findall(r"(?:^|,)\s*\*{0,2}([A-Za-z_]\w*)", arguments)
