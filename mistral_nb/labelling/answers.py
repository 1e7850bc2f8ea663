"""Reading what a batch job gave back: line by line, nothing lost, nothing mis-assigned.

Every line is matched to a request by its `custom_id`, which holds the row and its content.
Ids that come twice, that nobody sent, or that never came, and lines that cannot be read are
findings; none of them ends the reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.labelling.ledger import Answer, Finding
from mistral_nb.labelling.recipe import custom_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

__all__ = ["TOO_DEEP", "Audit", "chat_answer", "error_text", "failed", "used"]

_PASSING = {408, 409, 425, 429}
"""Statuses below 500 that another try may not meet again."""
NESTED = 5
"""How deep in each other the parts of an error may be to be looked through."""
TOO_DEEP = "nested too deeply"


class Audit:
    """Matches lines of answers to the requests of a shard.

    Args:
        requests: (row, content hash) of what was sent.
        validate: Returns what is wrong with a reply's text, or None.
        read: Makes an answer of a reply's body and status; None for a chat's.

    Attributes:
        findings: What was odd so far.
    """

    def __init__(
        self,
        requests: Iterable[tuple[int, bytes]],
        validate: Callable[[str], str | None] | None = None,
        read: Callable[[dict[str, Any], int | None], Answer] | None = None,
    ) -> None:
        # One lookup by the whole id is quicker than taking each id apart.
        self._rows = {custom_id(row, digest): row for row, digest in requests}
        self._answered = 0
        self._validate = validate
        self._answer = read
        self.findings: list[Finding] = []

    def read(self, path: Path, part: str) -> Iterator[tuple[int, Answer]]:
        """Read a file of answers.

        Args:
            path: JSONL file.
            part: ``"output"`` or ``"error"``, for the findings.

        Yields:
            (row, answer) for every line that belongs to a request not answered before.
        """
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    found = self._read_line(line, number, part)
                    if found is not None:
                        yield found

    def missing(self, reason: str, *, again: bool) -> Iterator[tuple[int, Answer]]:
        """Yield an answer that says ``reason`` for every request without one."""
        for name, row in list(self._rows.items()):
            if row >= 0:
                self._close(name, row)
                yield row, Answer(error=reason, again=again)

    @property
    def open(self) -> list[int]:
        """The rows still without an answer."""
        if self._answered == len(self._rows):
            return []
        return [row for row in self._rows.values() if row >= 0]

    def _read_line(self, line: bytes, number: int, part: str) -> tuple[int, Answer] | None:
        try:
            data = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            self._find("unreadable", None, f"{_place(number, part)} is not JSON ({error})")
            return None
        name = data.get("custom_id") if isinstance(data, dict) else None
        if not isinstance(name, str):
            self._find("unknown", None, f"{_place(number, part)} has no custom_id")
            return None
        row = self._rows.get(name)
        if row is None:
            self._find(
                "unknown", name[:100], f"{_place(number, part)} has a custom_id that was not sent"
            )
            return None
        if row < 0:
            self._find(
                "duplicate", name, f"{_place(number, part)}: row {~row} has an answer already"
            )
            return None
        self._close(name, row)
        if data.get("uncertain") is True:  # our own workers' word
            reason = error_text(data.get("error"))
            self._find("uncertain", name, f"row {row} {reason}; sent again, it may be billed twice")
        return row, self._checked(line_answer(data, self._answer))

    def _close(self, name: str, row: int) -> None:
        self._rows[name] = ~row  # below 0: answered
        self._answered += 1

    def _checked(self, answer: Answer) -> Answer:
        if answer.error is not None or answer.text is None or self._validate is None:
            return answer
        wrong = self._validate(answer.text)
        return answer if wrong is None else failed(answer, wrong)

    def _find(self, kind: str, name: str | None, detail: str) -> None:
        self.findings.append(Finding(kind, name, detail))


def _place(number: int, part: str) -> str:
    return f"line {number} of the {part} file"


def line_answer(
    data: dict[str, Any], read: Callable[[dict[str, Any], int | None], Answer] | None = None
) -> Answer:
    """Read one line of an output or error file.

    The reason of a failed row is a text, an object, or is found in ``response.body``.

    Args:
        data: The line, parsed.
        read: Makes an answer of a reply's body and status; None for a chat's.

    Returns:
        The answer, or why there is none.
    """
    response = data.get("response")
    response = response if isinstance(response, dict) else {}
    status = _status(response.get("status_code"))
    body = response.get("body")
    error = data.get("error")
    if error is None and (status is None or status < 400) and isinstance(body, dict):  # noqa: PLR2004
        return (read or chat_answer)(body, status)
    if error is None:
        error = body
    if status is None and isinstance(error, dict):
        code = _status(error.get("status_code", error.get("code")))
        status = code if code is not None and code >= 400 else None  # noqa: PLR2004
    reason = error_text(error) or "the server gave no reason"
    again = status is None or status >= 500 or status in _PASSING  # noqa: PLR2004
    shown = f"{reason} ({status})" if status and f"({status})" not in reason else reason
    return Answer(error=shown, again=again, status=status)


def chat_answer(body: dict[str, Any], status: int | None = 200) -> Answer:
    """Read a chat reply.

    Args:
        body: Response body, parsed.
        status: HTTP status.

    Returns:
        Its text and tokens; ``error`` says why it cannot be used.
    """
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    choice = choice if isinstance(choice, dict) else {}
    message = choice.get("message")
    text = _text(message.get("content")) if isinstance(message, dict) else None
    finish = choice.get("finish_reason")
    finish = finish if isinstance(finish, str) else None
    answer = used(body, text, status, finish)
    if text is None:
        return failed(answer, "the reply holds no text")
    if finish in {"length", "model_length"}:
        return failed(
            answer, f"the reply was cut at its longest (finish_reason {finish})", again=False
        )
    return answer


def used(
    body: dict[str, Any], text: str | None, status: int | None, finish: str | None = None
) -> Answer:
    """Return an answer with the tokens that a reply says it used.

    Args:
        body: Response body, parsed.
        text: The answer's text.
        status: HTTP status.
        finish: Finish reason.
    """
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    cached = usage.get("num_cached_tokens") if cached is None else cached
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    tokens = _count(prompt), _count(completion), _count(cached)
    return Answer(text, None, False, status, finish, *tokens)  # by place: this is every row's path


def failed(answer: Answer, reason: str, *, again: bool = True) -> Answer:
    """Return the answer as one that cannot be used; its text and tokens are kept."""
    return answer._replace(error=reason, again=again)


def error_text(error: Any) -> str:
    """Return the reason in an error of any form, in one line."""
    text = " ".join(_reason(error, NESTED)[:5000].split())[:500]
    return "".join(each for each in text if each.isprintable())  # it may reach a terminal


def _reason(error: Any, depth: int) -> str:
    """Find the words in an error, which servers nest; not deeper than anyone means it."""
    if not isinstance(error, (dict, list)):
        return str(error or "")
    if isinstance(error, list) and depth:
        return "; ".join(_reason(each, depth - 1) for each in error[:5])
    if isinstance(error, dict) and depth:
        inner = [error.get(key) for key in ("message", "detail", "error", "msg")]
        if found := next((each for each in inner if each), None):
            return _reason(found, depth - 1)
    try:
        return orjson.dumps(error).decode() if error else ""
    except TypeError:  # orjson reads deeper than it writes
        return TOO_DEEP


def _text(content: Any) -> str | None:
    """Join the texts of a content; thinking and references are no part of the answer."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts = [
        chunk["text"]
        for chunk in content
        if isinstance(chunk, dict)
        and chunk.get("type") == "text"
        and isinstance(chunk.get("text"), str)
    ]
    return "".join(texts) if texts else None


def _status(value: Any) -> int | None:
    """Return an HTTP status; None for what cannot be one."""
    return value if type(value) is int and 100 <= value < 600 else None  # noqa: PLR2004


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**53 else 0
