"""CPU per streamed chunk: this package against iterating the SDK's stream, in one run.

    python benchmarks/streaming.py [--chunks 2000] [--runs 5]

Both read the same 2,000 chunks from a local server in a process of its own; CPU is that of
the loop's thread, medians over the runs, the two in turn.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from typing import Any

from mistral_nb.client import Connection
from mistral_nb.events import EventBus
from mistral_nb.settings import resolve
from mistral_nb.streaming import start_stream


def serve(chunks: int, port: Any) -> None:
    """Answer every POST with the same stream."""
    from tests.replay import Replay, delta, sse

    server = Replay()
    server.pieces = [b"".join(sse(*[delta(" token")] * chunks, delta("", "stop"), "[DONE]"))]
    port.send(server.url)
    time.sleep(600)


async def sdk_cpu(connection: Connection, request: dict[str, Any]) -> float:
    """Return CPU seconds of iterating the SDK's own stream."""
    began = time.thread_time()
    events = await connection.sdk.chat.stream_async(**request)
    _ = [event.data.choices[0].delta.content async for event in events]
    return time.thread_time() - began


async def clock() -> float:
    """Return the CPU clock of the loop's thread."""
    return time.thread_time()


def ours_cpu(connection: Connection, bus: EventBus) -> float:
    """Return CPU seconds of our stream, events published to one listener."""
    with bus.stream("chat:*", maxsize=10_000):
        began = connection.portal.call(clock)
        start_stream(connection, bus, "hi").result(60)
        return connection.portal.call(clock) - began


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--chunks", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    ours_end, theirs_end = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(options.chunks, theirs_end), daemon=True
    )
    server.start()
    connection = Connection(resolve(api_key="bench", server_url=ours_end.recv()))
    bus = EventBus(connection.portal)
    request = {"model": "mistral-small-latest", "messages": [{"role": "user", "content": "hi"}]}
    ours_cpu(connection, bus)
    connection.portal.call(sdk_cpu, connection, request)
    ours, sdk = [], []
    for _ in range(options.runs):
        ours.append(ours_cpu(connection, bus) / options.chunks * 1e6)
        sdk.append(connection.portal.call(sdk_cpu, connection, request) / options.chunks * 1e6)
    mine, theirs = statistics.median(ours), statistics.median(sdk)
    print(f"{options.chunks} chunks, medians of {options.runs} runs, CPU in the reading thread")
    print(f"{'iterating the SDK stream':28} {theirs:8.1f} us/chunk")
    print(f"{'mnb.stream with a listener':28} {mine:8.1f} us/chunk   {mine / theirs:.3f} of it")
    server.terminate()


if __name__ == "__main__":
    main()
