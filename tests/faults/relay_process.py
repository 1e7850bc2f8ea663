"""A relay in a process of its own, as `mistral-nb relay` starts it: to be killed and started again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

__all__ = ["RelayProcess"]

TOKEN = "a token for tests only"


class RelayProcess:
    """A relay that keeps its port, its token and its folder from one life to the next.

    Args:
        home: Its folder.
        server: Whom it asks.

    Attributes:
        url: Its address.
        headers: What opens its doors.
    """

    def __init__(self, home: Path, server: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.headers = {"authorization": f"Bearer {TOKEN}"}
        own = {"HOME": str(home), "RELAY_TOKEN": TOKEN}
        self._env = {f"MISTRAL_NB_{name}": value for name, value in own.items()}
        self._env |= {"MISTRAL_API_KEY": "test-key", "MISTRAL_SERVER_URL": server}
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "mistral_nb", "relay", "--port", str(self.port)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, **self._env}
        )
        assert self._process.stdout is not None
        assert self.url in self._process.stdout.readline()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.communicate()

    def ask(self, prompt: str, max_tokens: int) -> str:
        """Ask for a reply; return the address of its stream without the relay's own."""
        body = {"prompt": prompt, "max_tokens": max_tokens}
        return str(self.post("/api/chat", body)["streamUrl"])

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send JSON, return JSON."""
        answer = httpx2.post(self.url + path, json=body, headers=self.headers, timeout=60)
        assert answer.status_code == httpx2.codes.ACCEPTED, answer.text
        return dict(answer.json())
