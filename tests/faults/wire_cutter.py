"""A line that breaks: passes bytes on to a server, and cuts each answer somewhere."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["WireCutter"]


class WireCutter:
    """A TCP proxy on a port of its own, inside ``async with cutter.listening()``.

    Args:
        port: The server's port on this machine.
        budget: Gives, for each connection, the bytes of the answer until it is cut.

    Attributes:
        url: Its address, http.
        cuts: How many connections it has cut.
    """

    def __init__(self, port: int, budget: Callable[[], int]) -> None:
        self._port = port
        self._budget = budget
        self._lines: set[asyncio.Task[None]] = set()
        self.cuts = 0
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen."""
        server = await asyncio.start_server(self._begin, "127.0.0.1", 0, backlog=1000)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield
        server.close()
        for line in list(self._lines):  # some are kept open for a next request
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)
        await asyncio.sleep(0)

    async def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        asking = asyncio.create_task(_copy(reader, far_writer))
        try:
            with suppress(ConnectionError):
                await self._answer(far_reader, writer)
        finally:
            asking.cancel()
            writer.close()
            far_writer.close()
            self._lines.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self._budget()
        while piece := await reader.read(65536):
            writer.write(piece[:left])
            await writer.drain()
            left -= len(piece)
            if left <= 0:
                self.cuts += 1
                return


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(65536):
            writer.write(piece)
