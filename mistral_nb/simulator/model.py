"""The simulated model: rules that turn a chat request into a believable, repeatable answer."""

from __future__ import annotations

import ast
import hashlib
import operator
import re
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mistral_nb.simulator.documents import described
from mistral_nb.simulator.encoding import encoded
from mistral_nb.simulator.filling import fill
from mistral_nb.simulator.prompted import prompted_form
from mistral_nb.simulator.prose import essay, thoughts, topic
from mistral_nb.simulator.reading import find_labels, last_message, plain_text, subject
from mistral_nb.simulator.validation import ApiProblem
from mistral_nb.simulator.words import best, ranked, stems

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Answer", "answer", "calculate"]

_ECHO = re.compile(
    r"(?:reply|respond|answer|say|repeat)\s+(?:with\s+)?exactly(?!\s+one\b)[:\s]\s*(.+)"
    r"|^\s*(?:say|echo|repeat)\s*:\s*(.+)",
    re.IGNORECASE | re.DOTALL,
)
_SUM = re.compile(r"-?\d+(?:\.\d+)?(?:\s*[-+*/x]\s*-?\d+(?:\.\d+)?)+")
_GREETING = re.compile(r"^\s*(hi|hello|hey|bonjour|good (?:morning|evening|day))\b", re.IGNORECASE)
_LONG = re.compile(
    r"\b(explain|describe|write|tell me about|how (?:do|does|to|can)|why|introduce|teach|essay|"
    r"summari[sz]e|guide|tutorial|story|compare|overview)\b",
    re.IGNORECASE,
)
_KEYS = re.compile(r"[\"'`](\w{1,40})[\"'`]")
_ALPHABET = string.ascii_letters + string.digits
ECHO_START = 500
"""An echo is asked for near the start; looking through a whole document would be slow."""

SHORT = 120
"""A sum or a greeting inside a longer prompt is not what is asked."""


@dataclass(frozen=True)
class Answer:
    """What the model says to one request.

    Attributes:
        text: The reply.
        thinking: What it thought before, for reasoning models.
        calls: Tool calls as (id, name, arguments as JSON text).
    """

    text: str = ""
    thinking: str = ""
    calls: tuple[tuple[str, str, str], ...] = ()


def answer(body: Mapping[str, Any], *, reasoning: bool = False, seed: object = 0) -> Answer:
    """Answer a chat request; the same body and seed always get the same answer.

    Args:
        body: A valid body of ``/v1/chat/completions``.
        reasoning: True for a model that thinks first.
        seed: Seed of the simulator; the request's ``random_seed`` is added.

    Returns:
        The whole answer; ``stop`` and ``max_tokens`` are applied where it is sent.
    """
    seed = (seed, body.get("random_seed"))
    messages = body["messages"]
    prompt = last_message(messages, "user")
    calls = _tool_calls(body, prompt, seed)
    if calls:
        return Answer(calls=calls)
    text = _text(body, messages, prompt, seed)
    return Answer(text, thoughts(prompt, text) if reasoning else "")


def _text(
    body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], prompt: str, seed: object
) -> str:
    form = body.get("response_format") or {}
    if form.get("type") == "json_schema" and form.get("json_schema"):
        schema = form["json_schema"]["schema"]
        return _json(fill(schema, _about(messages, prompt), seed))
    if (said := _prompted(messages, seed, bare=bool(form))) is not None:
        return said
    if form.get("type") == "json_object":
        return _json(_free_object(messages, prompt, seed))
    if messages[-1]["role"] == "tool":
        return _from_tools(messages)
    said = _quick(prompt)
    if said is None:
        system = last_message(messages, "system")
        labels = find_labels(prompt) or find_labels(system)
        if labels:
            said = labels[best(labels, _about(messages, prompt, labels), seed)[0]]
    if said is None:
        said = essay(prompt, seed) if _LONG.search(prompt[:ECHO_START]) else _short(prompt)
    if messages[-1].get("prefix"):
        return plain_text(messages[-1].get("content")) + said
    return said


def _prompted(messages: Sequence[Mapping[str, Any]], seed: object, *, bare: bool) -> str | None:
    """Follow a schema that stands in the prompt; no model refuses a prompt for a bad one."""
    wanted = prompted_form(messages)
    if wanted is None:
        return None
    try:
        filled = _json(fill(wanted.schema, wanted.about, seed))
    except ApiProblem:
        return None
    return f"```json\n{filled}\n```" if wanted.fenced and not bare else filled


def _about(messages: Sequence[Mapping[str, Any]], prompt: str, labels: Sequence[str] = ()) -> str:
    """Return what is to be judged: the prompt's subject, and what an image or document says."""
    none: Mapping[str, Any] = {}
    last = next((m for m in reversed(messages) if m["role"] == "user"), none)
    seen = described(last.get("content"))
    return f"{subject(prompt, labels)}\n{seen}" if seen else subject(prompt, labels)


def _quick(prompt: str) -> str | None:
    """Answer what needs no thought: an echo, a sum, a greeting."""
    if echo := _ECHO.search(prompt[:ECHO_START]):
        return prompt[echo.start(echo.lastindex or 0) :].strip().strip('"')
    if len(prompt) > SHORT:
        return None
    if sum_ := _SUM.search(prompt):
        value = calculate(sum_.group().replace("x", "*"))
        if value is not None:
            return f"{sum_.group()} = {value:g}"
    if _GREETING.match(prompt):
        return "Hello! I am the simulator's small model. What would you like to try?"
    return None


_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def calculate(expression: str) -> float | None:
    """Work out a sum; None where it has no value."""

    def value(node: ast.expr) -> float:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return float(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -value(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        raise ValueError(expression)

    try:
        return value(ast.parse(expression, mode="eval").body)
    except (ValueError, SyntaxError, ArithmeticError, RecursionError):
        return None


def _short(prompt: str) -> str:
    about = topic(prompt)
    return (
        f"You asked about **{about}**. This is the built-in simulator: it answers by rules, "
        "so take the form of this reply seriously and its content lightly."
    )


def _json(value: object) -> str:
    return encoded(value).decode()


def _free_object(
    messages: Sequence[Mapping[str, Any]], prompt: str, seed: object
) -> dict[str, Any]:
    """Make a JSON object with the keys that the prompt names in quotes."""
    asked = "\n".join(plain_text(m.get("content")) for m in messages if m["role"] != "assistant")
    keys = list(dict.fromkeys(_KEYS.findall(asked)))[:12] or ["answer"]
    schema = {"type": "object", "properties": {key: {"type": "string"} for key in keys}}
    value: dict[str, Any] = fill(schema, subject(prompt), seed)
    if keys == ["answer"]:
        value["answer"] = _quick(prompt) or _short(prompt)
    return value


def _from_tools(messages: Sequence[Mapping[str, Any]]) -> str:
    """Answer from the tool results that stand at the end of the messages."""
    results = []
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        results.append(plain_text(message.get("content")).strip())
    results.reverse()
    if len(results) == 1:
        return f"Here is what I found: {results[0]}"
    return "Here is what I found:\n\n" + "\n".join(f"- {result}" for result in results)


def _tool_calls(
    body: Mapping[str, Any], prompt: str, seed: object
) -> tuple[tuple[str, str, str], ...]:
    """Choose tools whose name or description shares words with the prompt."""
    functions = [t["function"] for t in body.get("tools") or () if t.get("function")]
    choice = body.get("tool_choice") or "auto"
    answered = body["messages"][-1]["role"] == "tool" and choice not in {"any", "required"}
    if not functions or choice == "none" or answered:
        return ()
    if isinstance(choice, dict):
        wanted = choice["function"]["name"]
        chosen = [f for f in functions if f["name"] == wanted]
    else:
        texts = [f"{f['name']} {f.get('description', '')}" for f in functions]
        scores = ranked(texts, prompt)
        named = [bool(stems(f["name"]) & stems(prompt)) for f in functions]
        chosen = [
            functions[n]
            for score, n in sorted(scores, key=lambda pair: (-pair[0], pair[1]))
            if named[n] or score >= 0.5  # noqa: PLR2004 - one shared word of a long description is chance
        ]
        if not chosen and choice in {"any", "required"}:
            chosen = [functions[max(scores)[1]]]
        chosen = chosen[:1]
    calls = []
    for function in chosen:
        for part in _parts(prompt, parallel=body.get("parallel_tool_calls", True)):
            arguments = _json_spaced(fill(_asked_for(function, part), part, seed))
            calls.append((_call_id(seed, function["name"], arguments), function["name"], arguments))
    return tuple(dict.fromkeys(calls))


def _asked_for(function: Mapping[str, Any], prompt: str) -> Any:
    """Return a tool's schema without the optional parameters of which nothing is said."""
    schema = function.get("parameters")
    if not isinstance(schema, dict):
        return schema
    required, properties = schema.get("required"), schema.get("properties")
    if not required or not isinstance(required, list) or not isinstance(properties, dict):
        return schema
    said = stems(prompt)
    kept = {
        name: each for name, each in properties.items() if name in required or stems(name) & said
    }
    return {**schema, "properties": kept}


def _parts(prompt: str, *, parallel: bool) -> list[str]:
    """Split "weather in Paris and Rome" into one text per name, for parallel calls."""
    pair = re.search(
        r"\b((?:[A-Z][\w-]{1,40},\s{1,3}){0,20}[A-Z][\w-]{1,40})\s{1,3}and\s+([A-Z][\w-]+)", prompt
    )
    if not parallel or pair is None:
        return [prompt]
    names = [*pair.group(1).split(", "), pair.group(2)]
    return [prompt.replace(pair.group(), name.strip()) for name in names]


def _json_spaced(value: object) -> str:
    import json  # the API's arguments have a space after colon and comma

    return json.dumps(value, ensure_ascii=False)


def _call_id(*parts: object) -> str:
    number = int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest())
    letters = []
    for _ in range(9):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)
