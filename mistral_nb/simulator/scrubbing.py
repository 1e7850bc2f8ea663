"""Takes secrets out of what is recorded: keys in any dress, signatures of addresses."""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    _Path = tuple[str | int, ...]

__all__ = ["SHORTEST_KEY", "ScrubbedStream", "Scrubber", "scrubbed_events", "sent_keys"]

SHORTEST_KEY = 8
"""Characters; a shorter word occurs by chance, and taking it out would spoil the recording."""

LONGEST_MATCH = 4096
HOLD = 2 * LONGEST_MATCH
"""Bytes of a stream that wait for what follows: a secret may come in two pieces."""

AT_ONCE = 1 << 16
"""Bytes of a stream that are looked through together."""

PLAIN = ""
"""The name, among an event's fields, of data that is no JSON object."""
SENT_IN_PIECES = frozenset({PLAIN, "content", "text", "arguments"})
"""Fields of a stream's events whose values join to one text; others are whole in each event."""

SIGNED = (
    rb"(?P<kept>(?:[?&;]|\\u0026)(?i:sig|signature|token|access_token|api_?key|awsaccesskeyid"
    rb"|googleaccessid|key-pair-id|x-(?:amz|goog)-(?:signature|credential|security-token))="
    rb"|\b(?i:bearer) (?=[\w.~+/-]{16}))"
    rb"[^&;\s\"'\\<>#]{1,%d}" % LONGEST_MATCH
)
"""What signs an address, and tokens that bodies hold for other servers."""

_DATA = re.compile(r"(?:\A|[\r\n])data: ?([^\r\n]*)")


class Scrubber:
    """Replaces secrets by words that say what stood there.

    Args:
        keys: Keys, each of ``SHORTEST_KEY`` characters or more. They are found as they are,
            quoted for an address or for JSON, and within base64.
        boundary: Of a multipart body: random, so that two equal uploads would differ by it.
    """

    def __init__(self, keys: Iterable[str] = (), boundary: str = "") -> None:
        forms = {form for key in keys for form in _forms(key)}
        ordered = sorted(forms, key=len, reverse=True)  # the whole before its part
        patterns = [SIGNED]
        if ordered:
            patterns.insert(0, b"(?P<key>%s)" % b"|".join(re.escape(form) for form in ordered))
        if boundary:
            patterns.insert(0, b"(?P<line>--%s)" % re.escape(boundary.encode()))
        self._pattern = re.compile(b"|".join(patterns))

    def __call__(self, data: bytes) -> bytes:
        """Return the data without secrets."""
        return self._pattern.sub(_replaced, data)

    def text(self, text: str) -> str:
        """Return the text without secrets."""
        return self(text.encode(errors="surrogateescape")).decode(errors="replace")

    def pieces(self, pieces: Sequence[str]) -> list[str]:
        """Return the pieces of a text without secrets, wherever the text was cut."""
        whole = "".join(pieces).encode()
        ends = list(accumulate(len(piece.encode()) for piece in pieces))
        kept = [bytearray() for _ in pieces]

        def keep(begin: int, end: int) -> None:
            while begin < end:
                number = bisect_right(ends, begin)
                stop = min(end, ends[number])
                kept[number] += whole[begin:stop]
                begin = stop

        done = 0
        for found in self._pattern.finditer(whole):
            keep(done, found.start())
            kept[bisect_right(ends, found.start())] += _replaced(found)
            done = found.end()
        keep(done, len(whole))
        return [piece.decode(errors="replace") for piece in kept]

    def safe_end(self, data: bytes) -> int:
        """Return up to where the data holds no secret that may go on after its end."""
        end = max(0, len(data) - HOLD)
        for found in self._pattern.finditer(data, max(0, end - HOLD)):
            if found.start() < end < found.end():
                return found.start()
        return end


class ScrubbedStream:
    """The same for data that comes in pieces, cut anywhere.

    Args:
        scrub: What to take out.
    """

    def __init__(self, scrub: Scrubber) -> None:
        self._scrub = scrub
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take a piece; return what is surely clean by now."""
        self._held += data
        if len(self._held) < AT_ONCE:
            return b""
        end = self._scrub.safe_end(self._held)
        ready, self._held = self._held[:end], self._held[end:]
        return self._scrub(ready)

    def flush(self) -> bytes:
        """Return the rest."""
        rest, self._held = self._held, b""
        return self._scrub(rest)


def scrubbed_events(events: Sequence[str], scrub: Scrubber) -> list[str]:
    """Take secrets out of a stream of events, also those that begin in one and end in another.

    A reply comes a few letters at a time, so its texts are looked through as they join; then
    each event as a whole.

    Args:
        events: Server-sent events, each with its end.
        scrub: What to take out.

    Returns:
        The events; those that held no piece of a secret are unchanged.
    """
    parsed = [_Event(event) for event in events]
    texts: dict[_Path, list[tuple[_Event, dict[str, Any], str]]] = {}
    for each in parsed:
        for place, holder, name in _texts(each.value):
            texts.setdefault(place, []).append((each, holder, name))
    for held in texts.values():
        before = [holder[name] for _, holder, name in held]
        after = scrub.pieces(before)
        for (each, holder, name), old, new in zip(held, before, after, strict=True):
            if new != old:
                holder[name] = new
                each.changed = True
    return [scrub.text(str(each)) for each in parsed]


class _Event:
    """A server-sent event whose data can be changed.

    Attributes:
        value: The JSON object that its data is, or one that holds the data under ``PLAIN``.
        changed: Whether the value is no longer that of the text.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        found = _DATA.search(text)
        self._begin, self._end = found.span(1) if found else (0, 0)
        self.changed = False
        data = text[self._begin : self._end]
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            value = None
        self.value: dict[str, Any] = value if isinstance(value, dict) else {PLAIN: data}

    def __str__(self) -> str:
        if not self.changed:
            return self._text
        value = self.value
        data = value[PLAIN] if value.keys() == {PLAIN} else orjson.dumps(value).decode()
        return self._text[: self._begin] + data + self._text[self._end :]


def _texts(value: dict[str, Any]) -> Iterator[tuple[_Path, dict[str, Any], str]]:
    """Yield the texts that a stream sends in pieces: place, the object that holds one, its name."""
    waiting: list[tuple[_Path, Any]] = [((), value)]
    while waiting:
        place, holder = waiting.pop()
        fields = enumerate(holder) if isinstance(holder, list) else holder.items()
        for name, each in fields:
            if isinstance(each, str) and name in SENT_IN_PIECES:
                yield (*place, name), holder, name
            elif isinstance(each, dict | list):
                waiting.append(((*place, name), each))


def sent_keys(headers: Mapping[str, str]) -> list[str]:
    """Return the keys that a request brings."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return [key for key in (token.strip() or scheme, headers.get("x-api-key", "")) if key]


def _replaced(found: re.Match[bytes]) -> bytes:
    if found.lastgroup == "line":
        return b"--boundary"
    return b"[key]" if found.lastgroup == "key" else found["kept"] + b"[removed]"


def _forms(key: str) -> set[bytes]:
    """Return the ways in which a body may spell a key."""
    raw = key.encode()
    forms = {raw, quote(key, safe="").encode(), json.dumps(key)[1:-1].encode()}
    forms.add(base64.b64encode(raw))
    for before in range(3):  # what stands before it decides which of three spellings it gets
        encoded = base64.b64encode(bytes(before) + raw)
        own = encoded[(0, 2, 3)[before] : (before + len(raw)) * 8 // 6]
        if len(own) >= SHORTEST_KEY:
            forms |= {own, own.translate(bytes.maketrans(b"+/", b"-_"))}
    return forms
