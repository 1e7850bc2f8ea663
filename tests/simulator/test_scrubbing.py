"""Secrets are found however the network or a stream cuts them, and nothing else is changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb.simulator.scrubbing import (
    AT_ONCE,
    HOLD,
    ScrubbedStream,
    Scrubber,
    scrubbed_events,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-Ab/12+xyzKEY98765"


def events_of(name: str, text: str, size: int) -> list[str]:
    """Cut a text into pieces and send one an event, in a field of the shape that a stream has."""
    shapes: dict[str, Any] = {
        "chat": lambda piece: {"choices": [{"index": 0, "delta": {"content": piece}}]},
        "thinking": lambda piece: {"content": [{"thinking": [{"type": "text", "text": piece}]}]},
        "call": lambda piece: {"type": "function.call.delta", "arguments": piece, "id": "fc_1"},
        "no JSON": lambda piece: piece,
    }
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    events = [shapes[name](piece) for piece in pieces]
    return [f"data: {each if isinstance(each, str) else json.dumps(each)}\n\n" for each in events]


@pytest.mark.parametrize("name", ["chat", "thinking", "call", "no JSON"])
@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_secret_cut_by_a_stream_is_found(name, size) -> None:
    """A key or a token that comes piece by piece, one an event, is in none of them."""
    token, signature = "abcdefghijklmnopqrstu", "feedbeef" * 4
    text = f"Your key {KEY}, é Bearer {token} and https://b.test/f?se=1&sig={signature} as well."
    events = events_of(name, text, size)
    clean = scrubbed_events(events, Scrubber([KEY]))
    assert len(clean) == len(events)
    expected = text.replace(KEY, "[key]").replace(token, "[removed]")
    expected = expected.replace(signature, "[removed]")
    joined = "".join(each for event in clean for each in said_in(event))
    assert joined == expected
    assert [each for each in clean if each in events] == [
        old for old, new in zip(events, clean, strict=True) if old == new
    ]


def said_in(event: str) -> Iterator[str]:
    """Yield the texts in an event of one of these shapes."""
    data = event.removeprefix("data: ").removesuffix("\n\n")
    if not data.startswith("{"):
        yield data
        return
    waiting = [json.loads(data)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            yield from (
                value[n] for n in ("content", "text", "arguments") if isinstance(value.get(n), str)
            )
            waiting += value.values()


def test_what_holds_no_secret_stays_as_it_came() -> None:
    """Comments, names, odd line ends and broken JSON are passed on; nothing else is joined."""
    events = [
        ": a comment\r\n\r\n",
        'event: message.output.delta\ndata: {"content": "a\u2028b", "n": 1.0}\n\n',
        'data:{"content":null,"tool_calls":[]}\r\r',
        f'data: {{"id":"{KEY[:9]}"}}\n\n',
        f'data: {{"id":"{KEY[9:]}"}}\n\n',
        "data: " + "[" * 5000 + "\n\n",
        'data: {"content":"end',
    ]
    assert scrubbed_events(events, Scrubber([KEY])) == events


@pytest.mark.parametrize("size", [HOLD - 3, AT_ONCE + 7])
def test_a_secret_cut_by_the_network_is_found(size) -> None:
    """However the pieces fall, the result is that of the whole."""
    scrub = Scrubber([KEY], boundary="=random=")
    secrets = KEY.encode() + b"?sig=" + b"s" * 100 + b" --=random=\r\n"
    for before in range(AT_ONCE - HOLD - 150, AT_ONCE - HOLD + 10, 8):
        whole = b"x" * before + secrets + b"x" * (AT_ONCE - HOLD - len(secrets)) + secrets
        stream = ScrubbedStream(scrub)
        pieces = [stream.feed(whole[at : at + size]) for at in range(0, len(whole), size)]
        assert b"".join(pieces) + stream.flush() == scrub(whole)
    assert KEY.encode() not in scrub(whole)
    assert b"ssss" not in scrub(whole)
