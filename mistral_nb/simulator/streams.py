"""The streamed reply: server-sent events at a believable pace, with faults on demand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from mistral_nb.simulator.encoding import encoded

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from starlette.types import Receive, Scope, Send

    from mistral_nb.simulator.faults import Faults
    from mistral_nb.simulator.stats import Stats

__all__ = ["Cut", "EventStream", "while_connected"]

DONE = b"data: [DONE]\n\n"


class Cut(Exception):  # noqa: N818
    """Ends a response without its end, so that the server drops the connection."""


class EventStream(Response):
    """Sends chunks one by one; stops generating when the client goes away.

    Args:
        chunks: The chunks as JSON objects; made only as they are sent.
        delay: Seconds between chunks.
        faults: What to do wrong.
        stats: Told of every stream's begin and end.
        headers: Further headers.

    Attributes:
        done: What ends a stream that is whole.
    """

    done = DONE

    def __init__(
        self,
        chunks: Iterable[dict[str, Any]],
        *,
        delay: float,
        faults: Faults,
        stats: Stats,
        headers: dict[str, str],
    ) -> None:
        super().__init__(headers=headers, media_type="text/event-stream")
        del self.headers["content-length"]
        self._chunks = chunks
        self._delay = delay
        self._faults = faults
        self._stats = stats

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Send the stream while watching for a disconnect."""
        self._stats.stream_opened()
        outcome = "cut_by_client"
        try:
            if await while_connected(receive, self._send(send)):
                outcome = "finished"
        except Exception:
            outcome = "cut_by_fault"
            raise
        finally:
            self._stats.stream_closed(outcome)

    async def _send(self, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        faults = self._faults
        for number, chunk in enumerate(self._chunks):
            if number == faults.cut_after:
                raise Cut
            if number == faults.stall_after:
                await asyncio.Event().wait()  # silence until somebody hangs up
            for data in self._spoiled(number, chunk):
                await send({"type": "http.response.body", "body": data, "more_body": True})
            # Without a pause the loop would never look whether the client has gone.
            await asyncio.sleep(self._delay)
        if not faults.drop_done:
            await send({"type": "http.response.body", "body": self.done, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _spoiled(self, number: int, chunk: dict[str, Any]) -> Iterable[bytes]:
        faults = self._faults
        last = bool(chunk["choices"]) and chunk["choices"][0]["finish_reason"] is not None
        if last and faults.drop_done:
            return
        if last and faults.drop_finish:
            chunk["choices"][0]["finish_reason"] = None
        if number == faults.malformed_chunk:
            yield b'data: {"id":"broken","choices":[{"ind\n\n'
            return
        if number == faults.error_chunk:
            problem = {
                "object": "error",
                "message": "Service unavailable.",
                "type": "internal_server_error",
                "param": None,
                "code": "1000",
            }
            yield b"data: " + encoded(problem) + b"\n\n"
            return
        if faults.odd_chunks and number % 5 == 1:
            yield _event({**chunk, "choices": [], "usage": None, "p": "abcdefgh"})
        yield _event(chunk)


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + encoded(chunk) + b"\n\n"


async def while_connected(
    receive: Receive, work: Coroutine[Any, Any, None], grace: float = 0.0
) -> bool:
    """Work until it is done, or for nobody: then it is cancelled.

    Args:
        receive: Tells when the client goes away; the request's body must have been read.
        work: What to do; its errors are raised.
        grace: Seconds it may go on for once the client has gone.

    Returns:
        True if it was done.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if grace and not working.done():
            await asyncio.wait({working}, timeout=grace)
        if working.done():
            working.result()
            return True
        return False
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
