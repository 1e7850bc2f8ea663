"""Replies that a teacher writes: in order, or for prompts that hold certain words."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from mistral_nb.errors import InputError
from mistral_nb.simulator.model import Answer

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

__all__ = ["Script", "read_script"]


class ToolCallLine(BaseModel):
    """A tool call of a scripted reply."""

    model_config = ConfigDict(extra="forbid")

    name: str
    arguments: dict[str, Any] = {}


class ScriptLine(BaseModel):
    """One scripted reply.

    Attributes:
        reply: What the model says.
        thinking: What it thought before.
        tools: Tool calls in place of a reply.
        when: Words that the prompt must hold, in any case; without them any prompt will do.
        times: How often it is used; None for ever.
    """

    model_config = ConfigDict(extra="forbid")

    reply: str = ""
    thinking: str = ""
    tools: list[ToolCallLine] = []
    when: str = ""
    times: int | None = 1


_LINES = TypeAdapter(list[ScriptLine | str])


class Script:
    """Scripted replies, used up as requests come; what no line fits is answered by the rules.

    Args:
        lines: Replies: texts, or objects with the fields of :class:`ScriptLine`.

    Raises:
        InputError: A line is not of that form; the message names it.
    """

    def __init__(self, lines: Sequence[Any] = ()) -> None:
        try:
            read = _LINES.validate_python(list(lines))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise InputError(
                f"The script's line {place}: {first['msg']}. A line is a text, or has reply, "
                "thinking, tools (name, arguments), when and times."
            ) from error
        self._lines = [ScriptLine(reply=line) if isinstance(line, str) else line for line in read]
        self._left = [line.times for line in self._lines]
        self._used = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many lines can still be used."""
        with self._lock:
            return sum(left != 0 for left in self._left)

    def take(self, prompt: str) -> Answer | None:
        """Return the first line's answer that fits a prompt, and use it up; None if none does."""
        with self._lock:
            for place, line in enumerate(self._lines):
                left = self._left[place]
                if left == 0 or line.when.casefold() not in prompt.casefold():
                    continue
                if left is not None:
                    self._left[place] = left - 1
                self._used += 1
                return _answer(line, self._used)
        return None


def _answer(line: ScriptLine, number: int) -> Answer:
    calls = tuple(
        (_call_id(number, place), tool.name, orjson.dumps(tool.arguments).decode())
        for place, tool in enumerate(line.tools)
    )
    return Answer("" if calls else line.reply, line.thinking, calls)


def _call_id(number: int, place: int) -> str:
    """Return an id as the API's: nine letters and digits."""
    return hashlib.sha256(f"script:{number}:{place}".encode()).hexdigest()[:9]


def read_script(path: str | os.PathLike[str]) -> list[Any]:
    """Read the lines of a script from a file.

    Args:
        path: ``.json``, or ``.yaml`` (which needs PyYAML; JupyterLab brings it).

    Raises:
        InputError: The file cannot be read, or holds no list.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        lines = orjson.loads(text) if file.suffix == ".json" else _yaml(text)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"The script {file} cannot be read: {reason}.") from error
    except ValueError as error:
        raise InputError(f"The script {file} cannot be read: {error}.") from error
    if not isinstance(lines, list):
        raise InputError(f"The script {file} must hold a list of replies.")
    return lines


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise InputError("A script in YAML needs PyYAML: pip install pyyaml.") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
