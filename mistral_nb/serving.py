"""A web app served over real HTTP from a thread of its own (uvicorn)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import threading
from typing import Any

import uvicorn

from mistral_nb.errors import InputError, PortTaken
from mistral_nb.portal import wait_interruptibly

__all__ = ["HIGHEST_PORT", "LOCAL_NAMES", "ServedApp", "is_loopback"]

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""How this machine may be called in a Host header."""

HIGHEST_PORT = 65_535
STOP_SECONDS = 5.0
TICK_SECONDS = 0.1
KEEP_ALIVE_SECONDS = 75
"""A client may take up its idle connection for so long; closed sooner (uvicorn: 5 s), it would at
times be closed at the moment of the next request."""


def is_loopback(host: str) -> bool:
    """Return True for a name or address that leads to this machine only.

    Args:
        host: e.g. ``"127.0.0.1"``, ``"::1"`` or ``"localhost"``.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class _Server(uvicorn.Server):
    """uvicorn that stops when it is told to, not at its next look at the clock."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._asked = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        """Tick until asked to stop."""
        self._loop = asyncio.get_running_loop()
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), TICK_SECONDS)

    def ask_to_stop(self) -> None:
        """Stop soon; callable from any thread."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._asked.set)


class ServedApp:
    """A running server.

    Args:
        app: ASGI application.
        host: Address to listen on; only this machine can reach the default.
        port: Port; 0 takes any free one.
        name: Name of the thread, as debuggers show it.
        lifespan: Whether the app is told of its start and its end.

    Attributes:
        url: Where it answers, e.g. ``"http://127.0.0.1:40123"``.

    Raises:
        InputError: The port is no port number.
        PortTaken: Nothing can listen there.
    """

    def __init__(
        self,
        app: Any,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        name: str = "server",
        lifespan: bool = False,
    ) -> None:
        self._stopping = threading.Lock()
        # Not Thread.join: interrupted, it takes a running thread for one that has ended.
        self._ended = threading.Event()
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            if os.name == "posix":
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
            self._socket.listen(512)
        except OSError as error:
            self._socket.close()
            raise PortTaken(
                f"Nothing can listen at {host}, port {port}: {error.strerror or error}. "
                "Give another port (0 takes any free one), or end the program that holds it."
            ) from error
        except (OverflowError, TypeError) as error:
            self._socket.close()
            raise InputError(
                f"port must be a whole number from 0 to {HIGHEST_PORT}, not {port!r}."
            ) from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            log_level="critical",
            access_log=False,
            lifespan="on" if lifespan else "off",
            timeout_graceful_shutdown=0,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            server_header=False,
            loop="asyncio",
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"ServedApp({self.url})"

    def _run(self) -> None:
        runner = asyncio.Runner()
        try:
            runner.run(self._server.serve(sockets=[self._socket]))
        finally:
            # It starts a thread to end others, which Python 3.12 refuses at its own end.
            with contextlib.suppress(RuntimeError):
                runner.close()
            self._ended.set()

    @property
    def stopped(self) -> bool:
        """True once it was told to stop."""
        return self._server.should_exit

    def wait(self) -> None:
        """Block until it stops."""
        wait_interruptibly(self._ended.wait)

    def stop(self) -> bool:
        """Stop serving and close every connection.

        Returns:
            False if it had been told to stop before.
        """
        with self._stopping:
            if self.stopped:
                return False
            self._server.ask_to_stop()
        self._ended.wait(STOP_SECONDS)
        self._socket.close()
        return True
