"""A chat server whose replies are written by the test: every chunk, its time, its end."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Script:
    """How one reply goes.

    Attributes:
        deltas: What each chunk's ``delta`` holds; a str is short for ``{"content": str}``.
        rate: Chunks a second; None sends them all at once.
        limit: Chunks that may be sent by now; None for all. A test raises it.
        delay: Seconds before the first chunk.
        finish: The finish reason; None ends the stream without one.
        hold: After the chunks, keep the connection open until the reader closes it.
        status: Answer with this status and an error instead.
        sent: Chunks sent so far, over all requests.
        first_at: When the latest request was sent its first chunk (``time.time()``).
        last_at: When it was sent its latest chunk.
        requests: Requests that asked for this script.
        open: Connections that are streaming it now.
        closed_at: When readers closed it early (``time.monotonic()``).
    """

    deltas: Sequence[str | dict[str, Any]]
    rate: float | None = None
    limit: int | None = None
    delay: float = 0.0
    finish: str | None = "stop"
    hold: bool = False
    status: int = 200
    message: str = "refused by the script"
    sent: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    requests: int = 0
    open: int = 0
    closed_at: list[float] = field(default_factory=list)


class ScriptedServer:
    """Serves scripts, chosen by the request's model; one thread, plain asyncio."""

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True, name="scripted server")
        self._thread.start()
        self._ready.wait()

    def add(self, name: str, deltas: Sequence[str | dict[str, Any]], **options: Any) -> Script:
        """Put a script under a model name."""
        self.scripts[name] = Script(deltas, **options)
        return self.scripts[name]

    def stop(self) -> None:
        """Close every connection and end the thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._talk(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length:")[1].split("\r\n")[0])
            request = json.loads(await reader.readexactly(length))
            await self._answer(self.scripts[request["model"]], request["model"], reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(
        self,
        script: Script,
        model: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        script.requests += 1
        if script.status != 200:
            body = json.dumps({"object": "error", "message": script.message}).encode()
            head = f"HTTP/1.1 {script.status} X\r\ncontent-type: application/json\r\n"
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        )
        script.open += 1
        sending = asyncio.create_task(self._send(script, model, writer))
        gone = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                script.closed_at.append(time.monotonic())
        finally:
            script.open -= 1
            for task in (sending, gone):
                task.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)

    async def _send(self, script: Script, model: str, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(script.delay)
        start = time.monotonic()
        for number, delta in enumerate(script.deltas):
            if script.rate is not None:
                await asyncio.sleep(start + number / script.rate - time.monotonic())
            # The limit is raised by another thread.
            while script.limit is not None and number >= script.limit:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            writer.write(_event(model, {"content": delta} if isinstance(delta, str) else delta))
            script.sent += 1
            script.last_at = time.time()
            if number == 0:
                script.first_at = script.last_at
            if number % 200 == 0:
                await writer.drain()
        await writer.drain()
        if script.hold:
            await asyncio.Event().wait()
        if script.finish is not None:
            usage = {"prompt_tokens": 7, "completion_tokens": len(script.deltas)}
            writer.write(_event(model, {"content": ""}, script.finish, usage))
            writer.write(b"data: [DONE]\n\n")
        await writer.drain()


def _event(
    model: str, delta: dict[str, Any], finish: str | None = None, usage: Any = None
) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk: dict[str, Any] = {"id": "scripted", "object": "chat.completion.chunk", "created": 0}
    chunk |= {"model": model, "choices": [choice]}
    if usage is not None:
        chunk["usage"] = {**usage, "total_tokens": sum(usage.values())}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"
