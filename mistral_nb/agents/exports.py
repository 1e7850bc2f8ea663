"""A conversation as Markdown, JSON, chat messages, or a table."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.agents.entries import results_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from mistral_nb.agents.entries import Entry, Turn

__all__ = ["to_frame", "to_json", "to_markdown", "to_messages"]

COLUMNS = ("turn", "type", "who", "text", "arguments", "state", "seconds", "tokens")


def to_markdown(name: str, turns: Iterable[Turn]) -> str:
    """Write turns as Markdown.

    Args:
        name: Heading.
        turns: Oldest first.
    """
    parts = [f"# {' '.join(name.split())}"]
    for turn in turns:
        parts += [part for entry in turn.entries if (part := _as_markdown(entry))]
        if turn.ending:
            parts.append(f"*{turn.ending}*")
    return "\n\n".join(parts) + "\n"


def _as_markdown(entry: Entry) -> str:
    if entry.type == "message.input":
        return f"**You:**\n\n{entry.text}"
    if entry.type == "message.output":
        sources = [f"- {_source(each.title, each.url)}" for each in entry.citations]
        files = [f"- {each.name or each.file_id} ({each.tool})" for each in entry.files]
        return "\n\n".join(
            part
            for part in (
                f"**{entry.data.get('model') or 'Assistant'}:**",
                entry.text,
                "\n".join(sources),
                "\n".join(files),
            )
            if part
        )
    if entry.type in {"function.call", "tool.execution"}:
        arguments = str(entry.data.get("arguments") or "")
        return f"**Call of `{entry.name}`** ({entry.state})\n\n{_fenced(arguments)}"
    if entry.type == "function.result":
        return f"**Result**\n\n{_fenced(entry.text)}"
    if entry.type == "agent.handoff":
        before, after = entry.data.get("previous_agent_name"), entry.data.get("next_agent_name")
        return f"*{before} handed over to {after}.*"
    return ""


def _source(title: str, url: str | None) -> str:
    return f"[{title}]({url})" if url else title


def _fenced(text: str) -> str:
    """Fence a text with more backticks than it has in a row."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"


def to_json(name: str, setup: Mapping[str, Any], turns: Iterable[Turn]) -> str:
    """Write turns as JSON, with all that is known of them.

    Args:
        name: The conversation's name.
        setup: What it was started with.
        turns: Oldest first.
    """
    listed = [
        {
            "id": turn.id,
            "status": turn.status,
            "finish_reason": turn.finish_reason,
            "error": turn.error or None,
            "model": turn.model,
            "started": turn.started,
            "seconds": turn.seconds,
            "usage": asdict(turn.usage) if turn.usage else None,
            "entries": [
                {"type": e.type, "id": e.id, "state": e.state, "seconds": e.seconds, **e.data}
                for e in turn.entries
            ],
        }
        for turn in turns
    ]
    data = {"name": name, "setup": dict(setup), "turns": listed}
    return orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()


def to_messages(instructions: str | None, turns: Iterable[Turn]) -> list[dict[str, Any]]:
    """Return turns as messages that ``chat.completions`` takes.

    Args:
        instructions: System prompt.
        turns: Oldest first.
    """
    messages: list[dict[str, Any]] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    for turn in turns:
        messages += _turn_messages(turn)
    return messages


def _turn_messages(turn: Turn) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    answered = results_of(turn.entries)
    names: dict[str, str] = {}
    for place, entry in enumerate(turn.entries):
        if entry.type == "message.input":
            messages.append({"role": "user", "content": entry.data.get("content")})
        elif entry.type == "message.output" and entry.text:
            messages.append({"role": "assistant", "content": entry.text})
        elif entry.type == "function.call" and place in answered:
            names[entry.call_id] = entry.name
            function = {"name": entry.name, "arguments": str(entry.data.get("arguments") or "{}")}
            call = {"id": entry.call_id, "type": "function", "function": function}
            if messages[-1].get("tool_calls"):  # called side by side: one message
                messages[-1]["tool_calls"].append(call)
            else:
                messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        elif entry.type == "function.result":
            told = {"tool_call_id": entry.call_id, "name": names.get(entry.call_id, "")}
            messages.append({"role": "tool", "content": entry.text, **told})
    return messages


def to_frame(turns: Sequence[Turn]) -> pd.DataFrame:
    """Return turns as a table.

    Args:
        turns: Oldest first.

    Returns:
        One row an entry: turn (from 1), type, who, text, arguments, state, seconds, and
        tokens (of the whole turn, on its last row).
    """
    import pandas as pd

    rows = []
    for number, turn in enumerate(turns, 1):
        for place, entry in enumerate(turn.entries, 1):
            last = place == len(turn.entries)
            arguments = entry.data.get("arguments")
            rows.append(
                (
                    number,
                    entry.type,
                    _who(entry),
                    entry.text,
                    None if arguments is None else str(arguments),
                    entry.state,
                    entry.seconds,
                    turn.usage.total_tokens if last and turn.usage else None,
                )
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _who(entry: Entry) -> str:
    if entry.type == "message.input":
        return "user"
    if entry.type == "agent.handoff":
        return str(entry.data.get("next_agent_name") or "")
    return entry.name or str(entry.data.get("agent_id") or entry.data.get("model") or "")
