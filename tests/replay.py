"""A server that answers every request with the bytes it is given: recorded streams, broken ones."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

CUT = b"<cut>"
"""In the pieces: break the connection here."""
STALL = b"<stall>"
"""In the pieces: say nothing more until the client goes away."""


def sse(*chunks: dict[str, Any] | str | bytes) -> list[bytes]:
    """Frame chunks as server-sent events, one piece each."""
    framed = []
    for chunk in chunks:
        if chunk in (CUT, STALL):
            framed.append(chunk)
            continue
        data = chunk if isinstance(chunk, str) else json.dumps(chunk)
        framed.append(f"data: {data}\n\n".encode())
    return framed


def delta(content: Any = "", finish: str | None = None, **extra: Any) -> dict[str, Any]:
    """Build one completion chunk with the fields a server sends."""
    choice = {"index": 0, "delta": {"content": content, **extra}, "finish_reason": finish}
    return {"id": "reply-1", "object": "chat.completion.chunk", "created": 1,
            "model": "mistral-small-latest", "choices": [choice]}  # fmt: skip


class Replay:
    """The running server; ``requests`` keeps what was asked, ``gone`` is set by a hang-up."""

    def __init__(self) -> None:
        self.pieces: Sequence[bytes] = ()
        self.pause = 0.0
        self.status = 200
        self.headers: dict[str, str] = {}
        self.turns: list[dict[str, Any]] = []  # what to answer to each request, then as above
        self.requests: list[dict[str, Any]] = []
        self.request_headers: list[dict[str, str]] = []
        self.gone = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                outer.answer(self)

            do_GET = do_POST

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        self.requests.append(json.loads(body or b"{}"))
        if self.turns:
            self.__dict__.update(self.turns.pop(0))
        self.request_headers.append({k.lower(): v for k, v in handler.headers.items()})
        handler.send_response(self.status)
        kind = "text/event-stream" if self.status == 200 else "application/json"
        handler.send_header("content-type", self.headers.get("content-type", kind))
        chunked = CUT in self.pieces  # only a length makes an early end a broken one
        if chunked:
            handler.send_header("content-length", "1000000")
        for name, value in self.headers.items():
            if name != "content-type":
                handler.send_header(name, value)
        handler.end_headers()
        try:
            for piece in self.pieces:
                if piece == CUT:
                    break
                if piece == STALL:
                    self.wait_for_hang_up(handler)
                    break
                handler.wfile.write(piece)
                handler.wfile.flush()
                time.sleep(self.pause)
        except OSError:
            self.gone.set()
        handler.close_connection = True

    def wait_for_hang_up(self, handler: BaseHTTPRequestHandler) -> None:
        handler.connection.settimeout(20)
        try:
            if handler.connection.recv(1) == b"":
                self.gone.set()
        except OSError:
            self.gone.set()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
