"""One recorded exchange: the JSON it is kept as, its bodies, and when two requests are the same.

An exchange is ``{"request": {...}, "response": {...}}``. A request has ``method``, ``path``,
``query`` and ``headers``, a response ``status`` and ``headers``. Either has at most one of the
bodies ``json`` (anything), ``text`` and ``base64``; a stream has ``events`` in its place, each as
``[milliseconds since the request, text]``. ``"cut": true`` says that the connection broke there.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import re
import tempfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl

import orjson
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

from mistral_nb.simulator.scrubbing import ScrubbedStream, scrubbed_events

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from mistral_nb.simulator.scrubbing import Scrubber

__all__ = [
    "Asked",
    "Body",
    "Events",
    "Exchange",
    "Said",
    "boundary_of",
    "fingerprint",
    "kept_headers",
]

IN_MEMORY = 1 << 20
"""Bytes of a body from which on it waits in a temporary file, clean of secrets by then."""
LARGEST_JSON = 80 << 20
PIECE = 3 << 16
"""Bytes written at once: divisible by 3, so that base64 goes on without a seam."""
KEPT_HEADERS = ("accept", "content-disposition", "content-type", "location", "retry-after")
KEPT_PREFIXES = ("x-ratelimit-", "x-model-")
_ID = re.compile(
    rb"(?<![0-9a-zA-Z])(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
    rb"|(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{8,})(?![0-9a-zA-Z])"
)
_EVENT_END = re.compile(rb"(\r\n\r\n|\n\n|\r\r)")
_BOUNDARY = re.compile(r'boundary=(?:"([^"]+)"|([^";,\s]+))', re.IGNORECASE)


class Half(BaseModel):
    """What a request and a response have in common.

    Attributes:
        headers: The few that matter, names in lower case.
        data: The body, where it is JSON; called ``json`` in the file.
        text: The body, where it is other text.
        base64: The body, where it is neither.
        cut: Whether the connection broke after what is here.
    """

    model_config = ConfigDict(extra="forbid")

    headers: dict[str, str] = {}
    data: Any = Field(None, alias="json")
    text: str = ""
    base64: Base64Bytes = b""
    cut: bool = False

    def body(self) -> bytes:
        """Return the body, byte by byte as it came."""
        if "data" in self.model_fields_set:
            return orjson.dumps(self.data)
        return self.base64 or self.text.encode()


class Asked(Half):
    """A recorded request.

    Attributes:
        method: In capitals.
        path: As it was sent.
        query: Without the question mark.
    """

    method: str
    path: str
    query: str = ""

    def fingerprint(self, given: Collection[bytes] | None = None) -> str:
        """Return what it has in common with requests that ask for the same.

        Args:
            given: As for :func:`fingerprint`.
        """
        body = self.body()
        return fingerprint(self.method, self.path, self.query, [body], len(body), given)


class Said(Half):
    """A recorded response.

    Attributes:
        status: HTTP status.
        events: Pieces of a stream: when, in milliseconds since the request, and what.
    """

    status: Annotated[int, Field(ge=200, le=599)]
    events: list[tuple[Annotated[float, Field(ge=0)], str]] | None = None

    def body(self) -> bytes:
        """Return the body, byte by byte as it came."""
        if self.events is not None:
            return "".join(text for _, text in self.events).encode()
        return super().body()


class Exchange(BaseModel):
    """A request and its response."""

    model_config = ConfigDict(extra="forbid")

    request: Asked
    response: Said

    def note_ids(self, drawn: set[bytes], given: set[bytes]) -> None:
        """Sort ids by who said them first.

        Args:
            drawn: Those of clients; added to.
            given: Those of the server; added to.
        """
        asked = [self.request.path.encode(), self.request.query.encode(), self.request.body()]
        drawn.update(*(set(_ID.findall(each)) - given for each in asked))
        given.update(set(_ID.findall(self.response.body())) - drawn)


def kept_headers(headers: Mapping[str, str], scrub: Scrubber) -> dict[str, str]:
    """Return the few headers that a recording keeps; the others may tell whose it is.

    Args:
        headers: Of a request or a response.
        scrub: Takes secrets out of their values.
    """
    kept = {}
    for name, value in headers.items():
        known = name.lower()
        if known in KEPT_HEADERS or known.startswith(KEPT_PREFIXES):
            kept[known] = _BOUNDARY.sub("boundary=boundary", scrub.text(value))
    return kept


def boundary_of(headers: Mapping[str, str]) -> str:
    """Return what separates the parts of a multipart body, or ``""``."""
    kind = headers.get("content-type", "")
    found = _BOUNDARY.search(kind) if kind.lower().startswith("multipart/") else None
    return (found[1] or found[2]) if found else ""


class Body:
    """A body on its way into a recording: secrets leave it before anything is kept.

    Args:
        scrub: Takes them out.

    Attributes:
        size: Bytes so far.
    """

    def __init__(self, scrub: Scrubber) -> None:
        self.size = 0
        self._clean = ScrubbedStream(scrub)
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - see close
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._is_text = True
        self._lost: OSError | None = None

    def feed(self, data: bytes) -> None:
        """Add a piece; a disk too full for it is told by whoever reads the body."""
        self._keep(self._clean.feed(data))

    def finish(self) -> None:
        """Say that this was all."""
        self._keep(self._clean.flush(), final=True)

    def close(self) -> None:
        """Let go of it."""
        with suppress(OSError):  # of a full disk
            self._file.close()

    def _keep(self, data: bytes, *, final: bool = False) -> None:
        self.size += len(data)
        if self._lost is not None:
            return
        try:
            self._file.write(data)
        except OSError as error:
            self._lost = error
        if self._is_text:
            try:
                self._decoder.decode(data, final)
            except UnicodeDecodeError:
                self._is_text = False

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes.

        Raises:
            OSError: They could not be kept.
        """
        if self._lost is not None:
            raise self._lost
        self._file.seek(0)
        while data := self._file.read(PIECE):
            yield data

    def field(self, *, exact: bool) -> Iterator[bytes]:
        """Yield the field of a line that holds this body, with a comma before it.

        Args:
            exact: Keep every byte; else JSON may be written as it reads best.
        """
        if not self.size:
            return
        if self.size <= IN_MEMORY and (found := _as_json(b"".join(self.pieces()), exact=exact)):
            yield b',"json":' + found
        elif self._is_text:
            yield b',"text":"'
            decoder = codecs.getincrementaldecoder("utf-8")()
            for data in self.pieces():
                yield orjson.dumps(decoder.decode(data))[1:-1]
            yield b'"'
        else:
            yield b',"base64":"'
            yield from map(base64.b64encode, self.pieces())
            yield b'"'


class Events:
    """A stream on its way into a recording: each of its events, and when it came.

    They wait in memory for its end: a secret may come in pieces, one an event.

    Args:
        scrub: Takes secrets out.
        started: When the request was sent, by the monotonic clock.

    Attributes:
        size: Bytes so far.
        over: True once an event said that it is the last.
    """

    def __init__(self, scrub: Scrubber, started: float) -> None:
        self.size = 0
        self.over = False
        self._scrub = scrub
        self._started = started
        self._held = b""
        self._came: list[tuple[int, bytes]] = []

    def feed(self, data: bytes) -> None:
        """Add a piece, which may begin and end anywhere."""
        self.size += len(data)
        *whole, self._held = _EVENT_END.split(self._held + data)
        for event, end in zip(whole[::2], whole[1::2], strict=True):
            self._add(event + end)
            self.over = self.over or event.replace(b" ", b"").endswith(b"data:[DONE]")

    def finish(self) -> None:
        """Say that this was all."""
        if self._held:
            self._add(self._held)
            self._held = b""

    def close(self) -> None:
        """Let go of it."""
        self._came.clear()

    def _add(self, event: bytes) -> None:
        self._came.append((round((time.monotonic() - self._started) * 1000), event))

    def field(self, *, exact: bool = True) -> Iterator[bytes]:  # noqa: ARG002 - as a body's
        """Yield the field of a line that holds these events, with a comma before it."""
        said = [event.decode(errors="replace") for _, event in self._came]
        clean = scrubbed_events(said, self._scrub)
        times = (after for after, _ in self._came)
        yield b',"events":' + orjson.dumps(list(zip(times, clean, strict=True)))


def _as_json(body: bytes, *, exact: bool) -> bytes:
    """Return a body as compact JSON, or nothing if that would not do."""
    try:
        compact = orjson.dumps(orjson.loads(body))
    except orjson.JSONDecodeError:
        return b""
    return b"" if exact and compact != body else compact


def fingerprint(
    method: str,
    path: str,
    query: str,
    body: Iterable[bytes],
    size: int,
    given: Collection[bytes] | None = None,
) -> str:
    """Return what two requests have in common that ask for the same.

    Args:
        method: In any case.
        path: As it was sent.
        query: The order of its parameters does not matter.
        body: In pieces, without secrets. Of JSON neither the order of the fields matters nor
            whether a whole number is written with a fraction.
        size: Bytes of the body.
        given: Ids that the server gave: others, which a client drew by lot, do not matter.
            None if all matter.
    """
    asked = sorted(parse_qsl(query, keep_blank_values=True))
    head = orjson.dumps([method.upper(), path, asked])
    if size <= LARGEST_JSON:
        whole = b"".join(body)
        with suppress(orjson.JSONDecodeError, RecursionError):
            whole = orjson.dumps(_plain(orjson.loads(whole)), option=orjson.OPT_SORT_KEYS)
        if given is not None:
            head, whole = (_without_lots(data, given) for data in (head, whole))
        body = [whole]
    digest = hashlib.sha256(head)
    for data in body:
        digest.update(data)
    return digest.hexdigest()


def _without_lots(data: bytes, given: Collection[bytes]) -> bytes:
    return _ID.sub(lambda found: found[0] if found[0] in given else b"*", data)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
