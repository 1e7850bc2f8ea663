"""A streamed turn of a conversation: its events in order, with faults on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mistral_nb.simulator.agents import now
from mistral_nb.simulator.encoding import encoded
from mistral_nb.simulator.streams import EventStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mistral_nb.simulator.dialogue import Output

__all__ = ["TurnStream", "events_of"]


def events_of(output: Output, index: int) -> Iterator[dict[str, Any]]:
    """Yield the events of one entry.

    Args:
        output: The entry and its pieces.
        index: Its place in the response, from 0.
    """
    entry = output.entry
    common = {"output_index": index, "id": entry["id"]}
    if "model" in entry:
        common |= {"model": entry["model"], "agent_id": entry["agent_id"]}
    kind = entry["type"]
    if kind == "message.output":
        yield from _message(output, common)
    elif kind == "function.call":
        named = {**common, "name": entry["name"], "tool_call_id": entry["tool_call_id"]}
        if "confirmation_status" in entry:
            named["confirmation_status"] = entry["confirmation_status"]
        for piece in output.pieces:
            yield {"type": "function.call.delta", **named, "arguments": piece}
    elif kind == "tool.execution":
        first, *rest = output.pieces
        yield {
            "type": "tool.execution.started",
            **common,
            "name": entry["name"],
            "arguments": first,
        }
        bare = {"output_index": index, "id": entry["id"], "name": entry["name"]}
        for piece in rest:
            yield {"type": "tool.execution.delta", **bare, "arguments": piece}
        yield {"type": "tool.execution.done", **bare, "info": entry["info"]}
    else:
        for when, which in (("started", "previous"), ("done", "next")):
            yield {
                "type": f"agent.handoff.{when}",
                **common,
                f"{which}_agent_id": entry[f"{which}_agent_id"],
                f"{which}_agent_name": entry[f"{which}_agent_name"],
            }


def _message(output: Output, common: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a message piece by piece; each chunk that is no text has a place of its own."""
    place, kind = -1, ""
    for piece in output.pieces:
        now_kind = "text" if isinstance(piece, str) else piece["type"]
        if now_kind != kind or kind not in {"text", "thinking"}:
            place, kind = place + 1, now_kind
        yield {
            "type": "message.output.delta",
            **common,
            "content_index": place,
            "role": "assistant",
            "content": piece,
        }


class TurnStream(EventStream):
    """Sends a turn's events; there is no ``[DONE]`` at the end of these streams."""

    done = b""

    def _spoiled(self, number: int, chunk: dict[str, Any]) -> Iterable[bytes]:
        faults = self._faults
        if faults.drop_done and chunk["type"] == "conversation.response.done":
            return
        if number == faults.malformed_chunk:
            yield b'event: message.output.delta\ndata: {"type":"message.outp\n\n'
            return
        if number == faults.error_chunk:
            problem = {"message": "Service unavailable.", "code": 1000}
            yield _event({"type": "conversation.response.error", **problem})
            return
        if faults.odd_chunks and number % 5 == 1:
            yield b": a comment\n\n"
            yield _event({"type": "moderation.checked", "id": f"odd_{number}", "score": 0.5})
        yield _event(chunk)


def _event(data: dict[str, Any]) -> bytes:
    head = f"event: {data['type']}\ndata: ".encode()
    return head + encoded({**data, "created_at": now()}) + b"\n\n"
