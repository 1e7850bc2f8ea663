"""A small HTTP server that does as it is told and writes down when each request arrived.

It is quick enough (a bare asyncio protocol) to be the server of benchmarks as well.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def chat_reply(text: str = '{"label": "billing"}', tokens: int = 48) -> bytes:
    """Encode a chat reply of the API's shape."""
    return json.dumps(
        {
            "id": "reply-1",
            "object": "chat.completion",
            "created": 1,
            "model": "mistral-small-latest",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text, "tool_calls": None},
                }
            ],
            "usage": {
                "prompt_tokens": tokens - 8,
                "completion_tokens": 8,
                "total_tokens": tokens,
            },
        }
    ).encode()


REPLY = chat_reply()


@dataclass(frozen=True, slots=True)
class Say:
    """What to answer.

    Attributes:
        status: HTTP status.
        body: Body of the answer.
        headers: Further headers.
        cut: Break the connection: "at once", or in the middle of the "body".
        raw: Bytes to write in place of an HTTP answer; the connection closes after them.
    """

    status: int = 200
    body: bytes = REPLY
    headers: dict[str, str] = field(default_factory=dict)
    cut: str = ""
    raw: bytes = b""

    def bytes(self) -> bytes:
        """Encode the answer."""
        if self.raw:
            return self.raw
        head = f"HTTP/1.1 {self.status} Told\r\ncontent-length: {len(self.body)}\r\n"
        head += "content-type: application/json\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        body = self.body[: len(self.body) // 2] if self.cut == "body" else self.body
        return head.encode() + b"\r\n" + body


GOOD = Say()


def refusal(status: int, message: str = "No", code: str | None = None, **headers: str) -> Say:
    """Say no in the API's words."""
    body = {"object": "error", "message": message, "type": "refused", "code": code}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Say(status, json.dumps(body).encode(), named)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request as it came.

    Attributes:
        at: When its last byte was here (monotonic clock).
        body: Its body.
        headers: Its headers, names in lower case.
        line: Its first line, e.g. "POST /v1/chat/completions HTTP/1.1".
    """

    at: float
    body: bytes
    headers: dict[str, str]
    line: str = ""

    @property
    def prompt(self) -> str:
        """Its last message's text."""
        return str(json.loads(self.body)["messages"][-1]["content"])


class Recorder:
    """The running server.

    Args:
        script: Says what to answer to an arrival, the number of those before it given too.
        latency: Seconds before each answer.
        keep: Keep the arrivals; not for benchmarks.

    Attributes:
        url: Where it answers.
        arrivals: All requests in order.
        answered: When each answer was given (monotonic), in order of the answers, with it.
        most_at_once: Most requests that waited for their answer together.
        connections: Connections that were ever opened.
    """

    def __init__(
        self,
        script: Callable[[int, Arrival], Say] = lambda _, __: GOOD,
        *,
        latency: float = 0.0,
        keep: bool = True,
    ) -> None:
        self.script = script
        self.latency = latency
        self.keep = keep
        self.arrivals: list[Arrival] = []
        self.answered: list[tuple[float, Say]] = []
        self.at_once = self.most_at_once = self.connections = 0
        self.open: set[Any] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        self.url = f"http://127.0.0.1:{listening.result(10)}"

    async def _listen(self) -> int:
        self._server = await self._loop.create_server(
            lambda: _Connection(self), "127.0.0.1", 0, backlog=512
        )
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Stop and break all connections; once or more."""
        if self._loop.is_closed():
            return

        async def close() -> None:
            self._server.close()
            for transport in list(self.open):
                transport.abort()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class _Connection(asyncio.Protocol):
    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.waiting = b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.recorder.connections += 1
        self.recorder.open.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.recorder.open.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while (end := self.waiting.find(b"\r\n\r\n")) >= 0:
            head = self.waiting[:end]
            place = head.lower().find(b"content-length:")
            size = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
            if len(self.waiting) < end + 4 + size:
                return
            body = self.waiting[end + 4 : end + 4 + size]
            self.waiting = self.waiting[end + 4 + size :]
            self.take(head, body)

    def take(self, head: bytes, body: bytes) -> None:
        recorder = self.recorder
        line, *lines = head.decode("latin-1").split("\r\n")
        named = (each.split(": ", 1) for each in lines) if recorder.keep else ()
        arrival = Arrival(time.monotonic(), body, {k.lower(): v for k, v in named}, line)
        say = recorder.script(len(recorder.arrivals), arrival)
        if recorder.keep:
            recorder.arrivals.append(arrival)
        recorder.at_once += 1
        recorder.most_at_once = max(recorder.most_at_once, recorder.at_once)
        asyncio.get_running_loop().call_later(recorder.latency, self.answer, say)

    def answer(self, say: Say) -> None:
        self.recorder.at_once -= 1
        if self.recorder.keep:
            self.recorder.answered.append((time.monotonic(), say))
        if say.cut != "at once":
            self.transport.write(say.bytes())
        if say.cut or say.raw:
            self.transport.close()
