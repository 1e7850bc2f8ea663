"""Delay of 500 SSE listeners of one relay, 20 chunks a second each.

Upstream, relay and listeners are processes of their own. Every chunk holds the time at which the
upstream sent it, so the delay is from there to the listener.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

LISTENERS, RATE, SECONDS = 500, 20, 10
TOKEN = "a token for benchmarks"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def chunk(content: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    body = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [choice]}  # fmt: skip
    return b"data: " + json.dumps(body).encode() + b"\n\n"


async def upstream() -> None:
    """Answer every request with RATE timestamps a second, after a pause to let listeners come."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        await asyncio.sleep(8)
        begun = time.monotonic()
        for number in range(RATE * SECONDS):
            await asyncio.sleep(max(0.0, begun + number / RATE - time.monotonic()))
            writer.write(chunk(f"{time.time():.6f} "))
        writer.write(chunk("", "stop") + b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def listen(port: int, paths: list[str]) -> None:
    """Follow every path; print the delays' percentiles and what came."""
    delays: list[float] = []
    ends = 0

    async def one(path: str) -> None:
        nonlocal ends
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
        name = b""
        async for line in reader:
            if line.startswith(b"event: "):
                name = line[7:].strip()
            elif line.startswith(b"data: ") and name == b"chunk":
                now = time.time()
                delays.extend(now - float(t) for t in json.loads(line[6:])["content"].split())
            elif line.startswith(b"data: ") and name in {b"complete", b"error"}:
                ends += name == b"complete"
                break
        writer.close()

    await asyncio.gather(*(one(path) for path in paths))
    marks = statistics.quantiles(delays, n=100)
    print(json.dumps({"p50": marks[49], "p99": marks[98], "max": max(delays),
                      "chunks": len(delays), "ends": ends}))  # fmt: skip


def start(*arguments: str, **env: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **env})


def relay(upstream_port: int) -> None:
    """Serve a relay until killed; say its port first."""
    import mistral_nb as mnb
    from mistral_nb.relay import Relay

    session = mnb.connect("key", f"http://127.0.0.1:{upstream_port}")
    running = Relay(session.queue(), token=TOKEN)
    print(running.url.rpartition(":")[2], flush=True)
    running.wait()


def post(port: int) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/chat",
        b'{"prompt": "go"}',
        {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["streamUrl"]


def cpu(process: subprocess.Popen[str]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(streams: int) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        up = start("--upstream")
        assert up.stdout is not None
        middle = start("--relay", up.stdout.readline().strip(), MISTRAL_NB_HOME=home)
        assert middle.stdout is not None
        port = int(middle.stdout.readline())
        paths = [post(port) for _ in range(streams)]
        everyone = json.dumps([paths[n % streams] for n in range(LISTENERS)])
        before = cpu(middle)
        listeners = start("--listen", str(port), everyone)
        found = json.loads(listeners.communicate()[0])
        used = cpu(middle) - before
        up.kill()
        middle.kill()
        for process in (up, middle):
            process.communicate()
    assert found["ends"] == LISTENERS
    assert found["chunks"] == LISTENERS * RATE * SECONDS
    print(
        f"{streams:4} replies, {LISTENERS} listeners: p50 {found['p50'] * 1e3:.0f} ms, "
        f"p99 {found['p99'] * 1e3:.0f} ms, max {found['max'] * 1e3:.0f} ms; "
        f"relay {used / found['chunks'] * 1e6:.0f} us CPU a chunk and listener"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", action="store_true")
    parser.add_argument("--relay", type=int)
    parser.add_argument("--listen", nargs=2)
    options = parser.parse_args()
    if options.upstream:
        asyncio.run(upstream())
    elif options.relay:
        relay(options.relay)
    elif options.listen:
        asyncio.run(listen(int(options.listen[0]), json.loads(options.listen[1])))
    else:
        for streams in (1, 10, 100):
            measure(streams)


if __name__ == "__main__":
    main()
