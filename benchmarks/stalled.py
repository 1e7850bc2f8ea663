"""Memory of a million events past a listener that hangs, for each policy, beside their text.

python benchmarks/stalled.py [--events 1000000]
"""

from __future__ import annotations

import argparse
import gc
import threading
import tracemalloc

from mistral_nb.events import ChatChunk, EventBus
from mistral_nb.portal import shared

PIECE = "{:5d} "


def grown(policy: str, events: int) -> float:
    """Return MB that the events cost behind one hanging listener."""
    bus, go = EventBus(shared()), threading.Event()
    subscription = bus.on("chat:*", lambda _: go.wait(), policy=policy)
    gc.collect()
    tracemalloc.start()
    for n in range(events):
        content = PIECE.format(n % 100_000)
        bus.publish_nowait(ChatChunk("stalled", content=content, index=n))
    size = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    go.set()
    bus.off(subscription)
    return size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    events = parser.parse_args().events
    text = events * len(PIECE.format(0)) / 1e6
    for policy in ("coalesce", "drop_oldest"):
        size = grown(policy, events)
        print(f"{policy}: {events:,} chunks, {text:.1f} MB of text, memory grew by {size:.1f} MB")


if __name__ == "__main__":
    main()
