"""Replay: requests are answered as they were when somebody recorded them."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Literal

import orjson
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from mistral_nb.errors import InputError
from mistral_nb.simulator.cassette import read_cassette
from mistral_nb.simulator.exchanges import (
    IN_MEMORY,
    Body,
    Said,
    boundary_of,
    fingerprint,
    kept_headers,
)
from mistral_nb.simulator.replies import JsonReply
from mistral_nb.simulator.scrubbing import SHORTEST_KEY, Scrubber, sent_keys
from mistral_nb.simulator.streams import Cut, while_connected
from mistral_nb.simulator.validation import ApiProblem

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mistral_nb.simulator.cassette import Place
    from mistral_nb.simulator.server import Core

    Fingerprint = Callable[[Collection[bytes] | None], str]

__all__ = ["Otherwise", "Pace", "Player", "Replaying"]

Pace = Literal["real", "fast"]
Otherwise = Literal["refuse", "rules"]

NAMED_FIELDS = 3
LONGEST_VALUE = 80


class Player:
    """A recording that answers requests.

    Args:
        where: File or folder, as :func:`read_cassette` takes it.
        pace: ``"real"`` streams as slowly as the server did, ``"fast"`` at once.
        otherwise: What is not in the recording is refused, or answered by the rules.

    Raises:
        InputError: There is no such recording, or an option is unknown.
    """

    def __init__(self, where: str | os.PathLike[str], pace: Pace, otherwise: Otherwise) -> None:
        if pace not in {"real", "fast"} or otherwise not in {"refuse", "rules"}:
            raise InputError(
                'pace must be "real" or "fast", and otherwise "refuse" or "rules", '
                f"not {pace!r} and {otherwise!r}."
            )
        self.where = where
        self.pace = pace
        self.otherwise = otherwise
        drawn: set[bytes] = set()
        given: set[bytes] = set()
        for _, exchange in read_cassette(where):
            exchange.note_ids(drawn, given)
        # First as it was asked; then whatever ids a client drew by lot.
        self._answers = (_Answers(None), _Answers(given))
        for place, exchange in read_cassette(where):
            for answers in self._answers:
                answers.add(exchange.request.fingerprint(answers.given), place)

    def take(self, fingerprint: Fingerprint) -> Said | None:
        """Return the next answer to a request; the last one again after that.

        Args:
            fingerprint: Gives that of the request, where only these ids matter.

        Returns:
            The answer, or None if this was never asked.

        Raises:
            InputError: The file has changed since it was read.
            OSError: It is gone.
        """
        for answers in self._answers:
            place = answers.take(fingerprint(answers.given))
            if place is not None:
                return place.read().response
        return None

    def refusal(self, method: str, path: str, query: str, body: bytes) -> ApiProblem:
        """Say that this was never asked, and what comes nearest.

        Args:
            method: Of the request.
            path: Likewise.
            query: Likewise, without the question mark.
            body: Its first megabyte.
        """
        name = f"{method} {path}"
        asked = _fields(query, body)
        known: Counter[str] = Counter()
        nearest: tuple[int, Place, dict[str, Any]] | None = None
        for place, exchange in read_cassette(self.where):
            request = exchange.request
            known[f"{request.method} {request.path}"] += 1
            if (request.method, request.path) == (method, path):
                other = _fields(request.query, request.body())
                distance = len(_differing(asked, other))
                if nearest is None or distance < nearest[0]:
                    nearest = (distance, place, other)
        if nearest is None:
            listed = ", ".join(f"{each} ({count})" for each, count in known.most_common(6))
            message = f"Nothing was recorded for {name}. The recording has {listed}."
        else:
            message = f"This {name} was not recorded. {_difference(asked, *nearest[1:])}"
        message += ' Record it as well, or replay with otherwise="rules".'
        return ApiProblem.of(404, message, "not_recorded")


class _Answers:
    """Recorded answers by what was asked, and how many of them have been given.

    Args:
        given: Ids that matter, as for :func:`fingerprint`.
    """

    def __init__(self, given: Collection[bytes] | None) -> None:
        self.given = given
        self._places: defaultdict[str, list[Place]] = defaultdict(list)
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, asked: str, place: Place) -> None:
        """Add one."""
        self._places[asked].append(place)

    def take(self, asked: str) -> Place | None:
        """Return where the next one is, then the last one again; None if there is none."""
        with self._lock:
            places = self._places.get(asked)
            if not places:
                return None
            number = min(self._taken[asked], len(places) - 1)
            self._taken[asked] += 1
            return places[number]


class Replaying:
    """ASGI middleware before the routes: answers from the recording, if one is replayed.

    Args:
        app: The routes.
        core: Has the recording.
    """

    def __init__(self, app: ASGIApp, core: Core) -> None:
        self.app = app
        self.core = core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or leave it to the rules."""
        player = self.core.player
        if scope["type"] != "http" or player is None or scope["path"].startswith("/simulator/"):
            await self.app(scope, receive, send)
            return
        request = _Request(scope)
        try:
            await request.read(receive, keep=player.otherwise == "rules")
            said = await asyncio.to_thread(request.answer, player)
            if said is not None:
                await while_connected(receive, _play(said, player.pace, request.started, send))
            elif player.otherwise == "rules":
                await self.app(scope, request.again(receive), send)
            else:
                refusal = await asyncio.to_thread(request.refusal, player)
                reply = JsonReply(refusal.body, status_code=refusal.status)
                await reply(scope, receive, send)
        except ClientDisconnect:
            pass
        finally:
            request.close()


class _Request:
    """A request, read as a recorder would have written it down."""

    def __init__(self, scope: Scope) -> None:
        self.started = time.monotonic()
        self._scope = scope
        headers = Headers(scope=scope)
        keys = [key for key in sent_keys(headers) if len(key) >= SHORTEST_KEY]
        scrub = Scrubber(keys, boundary_of(headers))
        self._method = scope["method"]
        self._path = scrub.text(scope["raw_path"].decode("ascii"))
        query = scope["query_string"].decode("latin-1")
        self._query = scrub.text("?" + query).removeprefix("?")
        self._body = Body(scrub)
        self._raw = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - see close

    async def read(self, receive: Receive, *, keep: bool) -> None:
        """Take the body in; keep it as it came where the rules may need it."""
        async for data in Request(self._scope, receive).stream():
            self._body.feed(data)
            if keep:
                self._raw.write(data)
        self._body.finish()

    def answer(self, player: Player) -> Said | None:
        """Return what was recorded for it."""
        return player.take(self._fingerprint)

    def _fingerprint(self, given: Collection[bytes] | None) -> str:
        pieces, size = self._body.pieces(), self._body.size
        return fingerprint(self._method, self._path, self._query, pieces, size, given)

    def refusal(self, player: Player) -> ApiProblem:
        """Say how it differs from what was recorded."""
        begin = b"".join(self._body.pieces()) if self._body.size <= IN_MEMORY else b""
        return player.refusal(self._method, self._path, self._query, begin)

    def again(self, receive: Receive) -> Receive:
        """Return what gives the body once more to somebody else."""
        self._raw.seek(0)
        over = False

        async def read() -> Message:
            nonlocal over
            if over:
                return await receive()
            data = self._raw.read(IN_MEMORY)
            over = not data
            return {"type": "http.request", "body": data, "more_body": not over}

        return read

    def close(self) -> None:
        """Let go of the body."""
        self._raw.close()
        self._body.close()


async def _play(said: Said, pace: Pace, started: float, send: Send) -> None:
    headers = kept_headers(said.headers, Scrubber())
    body = b"" if said.events else said.body()
    if said.events is None and not said.cut:
        headers["content-length"] = str(len(body))
    await send(
        {
            "type": "http.response.start",
            "status": said.status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
    )
    for after, text in said.events or ():
        wait = started + after / 1000 - time.monotonic()
        # Without a pause the loop would never look whether the client has gone.
        await asyncio.sleep(max(0.0, wait) if pace == "real" else 0)
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
    if said.cut:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        raise Cut
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _fields(query: str, body: bytes) -> dict[str, Any]:
    """Return every value that a request holds, by its place: ``messages.0.content``."""
    try:
        found = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        lines = body.decode(errors="replace").splitlines()
        found = {f"line {number} of the body": line for number, line in enumerate(lines, 1)}
    fields = {"query": query} if query else {}
    waiting: list[tuple[str, Any]] = [("", found)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, list) and value:
            value = dict(enumerate(value))
        if isinstance(value, dict) and value:
            waiting += [(f"{place}.{name}".lstrip("."), each) for name, each in value.items()]
        else:
            fields[place] = value
    return fields


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    absent = object()
    places = {**other, **one}
    return [place for place in places if one.get(place, absent) != other.get(place, absent)]


def _difference(asked: Mapping[str, Any], place: Place, other: Mapping[str, Any]) -> str:
    names = sorted(_differing(asked, other))
    if not names:
        return f"{place} is nearest, and differs in the form of its body."
    first, *more = names
    text = (
        f"{place} is nearest: there {first} is {_shown(other, first)}, here {_shown(asked, first)}."
    )
    if more:
        left = len(more) - NAMED_FIELDS
        listed = ", ".join(more[:NAMED_FIELDS]) + (f" and {left} more" if left > 0 else "")
        text += f" Different too: {listed}."
    return text


def _shown(fields: Mapping[str, Any], name: str) -> str:
    if name not in fields:
        return "absent"
    text = orjson.dumps(fields[name]).decode()
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."
