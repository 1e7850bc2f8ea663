"""Resuming a run of 100,000 rows that is 90 % done: how long until its first new request.

    python benchmarks/resume.py [ROWS] [--done 0.9] [--runs 3]

A process labels the table online against a bare server in another process and is killed
(SIGKILL) once the server has answered that share. Then a new process calls `mnb.resume`; what
counts is the time from that call to the first request at the server, with the imports before
it told apart. Each run starts from a copy of the same folder.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
LINE = "The parcel that I ordered on Monday came without the cable and I would like to know "


def serve(pipe: Any) -> None:
    """Answer at once; tell how many chats came and when the first one since was."""
    from tests.recorder import GOOD, Arrival, Recorder, Say, refusal

    count, first = 0, 0.0
    no_list = refusal(404)

    def script(_: int, arrival: Arrival) -> Say:
        nonlocal count, first
        if arrival.line.startswith("GET"):
            return no_list
        count += 1
        first = first or time.time()
        return GOOD

    pipe.send(Recorder(script, keep=False).url)
    while True:
        if pipe.recv() == "reset":
            count, first = 0, 0.0
        pipe.send((count, first))


def asked(pipe: Any, what: str) -> tuple[int, float]:
    """Ask the server for its count and the time of the first chat."""
    pipe.send(what)
    answer: tuple[int, float] = pipe.recv()
    return answer


def label(url: str, home: str, rows: int) -> None:
    """Label until killed."""
    import mistral_nb as mnb

    df = pd.DataFrame({"text": [f"{number}: {LINE * 7}" for number in range(rows)]})
    session = mnb.connect("key", url, home=home)
    labels = ["billing", "delivery", "other"]
    way = {"mode": "online", "concurrency": 64, "name": "bench", "show": False}
    session.label(df, "Which topic? {text}", labels=labels, **way).result()


def resume(url: str, home: str) -> None:
    """Go on; print when it was asked to."""
    import mistral_nb as mnb
    import mistral_nb.labelling

    session = mnb.connect("key", url, home=home)
    print(time.time(), flush=True)
    session.resume("bench", show=False).result()


def started(*arguments: str) -> subprocess.Popen[str]:
    """Start this file in another role."""
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def main() -> None:
    """Make the run, resume it, and print the times."""
    if len(sys.argv) > 1 and sys.argv[1] in {"label", "resume"}:
        role, url, home, *rows = sys.argv[1:]
        label(url, home, int(rows[0])) if role == "label" else resume(url, home)
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("rows", nargs="?", type=int, default=100_000)
    parser.add_argument("--done", type=float, default=0.9)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    url = ours.recv()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "made")
        with started("label", url, str(made), str(options.rows)) as victim:
            while (count := asked(ours, "count")[0]) < options.done * options.rows:
                assert victim.poll() is None
                time.sleep(0.005)
            victim.kill()
        times = []
        for number in range(options.runs):
            home = Path(folder, str(number))
            shutil.copytree(made, home)
            asked(ours, "reset")
            began = time.time()
            with started("resume", url, str(home)) as process:
                assert process.stdout is not None
                called = float(process.stdout.readline())
                while not (first := asked(ours, "count")[1]):
                    assert process.poll() is None
                    time.sleep(0.01)
                assert process.wait() == 0
            left = asked(ours, "count")[0]
            times.append((first - called, called - began))
    server.terminate()
    waits, imports = (statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"{options.rows:,} rows, killed at {count:,}: first new request {waits:.2f} s after "
        f"mnb.resume (imports {imports:.1f} s before it); {left:,} sent to end it. "
        f"Medians of {options.runs} runs"
    )


if __name__ == "__main__":
    main()
