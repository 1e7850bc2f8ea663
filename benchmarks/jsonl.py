"""JSONL of batch requests from a DataFrame, against the SDK's BatchInput: time and memory.

python benchmarks/jsonl.py [ROWS]

Each way runs in a process of its own, on the same table (200,000 rows of about 1 kB unless
told otherwise). The SDK gets a tenth of the rows, since it is slow and holds everything in
memory; its figures are scaled up, time and memory being proportional to the rows.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Self

import orjson
import pandas as pd

LABELS = ["billing", "delivery", "returns", "other"]
PROMPT = "Which topic has this message of a customer?\n\n{text}"
PEER_SHARE = 10


def table(rows: int) -> pd.DataFrame:
    """Rows of about 650 characters, so that a request has about 1 kB."""
    line = "The parcel that I ordered on Monday came without the cable and I would like to know "
    return pd.DataFrame({"text": [f"{number}: {line * 7}" for number in range(rows)]})


class Meter:
    """Measures wall clock, CPU and the most memory on top of what there was, in MB."""

    def __enter__(self) -> Self:
        self._before = self._most = self._held()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu = time.process_time() - self._cpu
        self.wall = time.perf_counter() - self._wall
        self._stop.set()
        self._thread.join()
        self.extra = (max(self._most, self._held()) - self._before) / 1e6

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self._most = max(self._most, self._held())

    def _held(self) -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()


def ours(rows: int, *, ledger: bool) -> tuple[float, float, float, int]:
    """Write the requests as a run does; return wall, CPU, extra MB and bytes."""
    from mistral_nb.labelling.folder import RunFolder
    from mistral_nb.labelling.ledger import Ledger
    from mistral_nb.labelling.prompts import compile_prompt
    from mistral_nb.labelling.recipe import Recipe
    from mistral_nb.labelling.requests import Limits, ShardWriter, make_requests, write_requests
    from mistral_nb.labelling.schemas import compile_schema

    df = table(rows)
    recipe = Recipe("mistral-small-latest", None, compile_schema(labels=LABELS))
    prompt = compile_prompt(PROMPT, list(df.columns))
    with tempfile.TemporaryDirectory() as home:
        folder = RunFolder.fresh(Path(home))
        writer = ShardWriter(folder, Limits())
        with Meter() as meter, closing(Ledger(folder.ledger)) as book:
            if ledger:
                write_requests(make_requests(df, prompt, recipe), book, writer)
            else:
                for request in make_requests(df, prompt, recipe):
                    writer.write(request.row, request.digest or b"", request.body)
                writer.close()
        size = sum(shard.bytes for shard in writer.shards)
    return meter.wall, meter.cpu, meter.extra, size


def theirs(rows: int) -> tuple[float, float, float, int]:
    """Make the same requests with the SDK; return wall, CPU, extra MB and bytes."""
    from mistralai.client.models import ChatCompletionRequest
    from mistralai.extra.batch import BatchInput

    from mistral_nb.labelling.schemas import compile_schema

    df = table(rows)
    response_format = compile_schema(labels=LABELS).response_format
    model = "mistral-small-latest"
    ChatCompletionRequest(model=model, messages=[], response_format=response_format)
    with Meter() as meter:
        payload = {}
        for number, text in enumerate(df["text"]):
            message = {"role": "user", "content": PROMPT.format(text=text)}
            payload[str(number)] = ChatCompletionRequest(
                model=model, messages=[message], response_format=response_format
            )
        raw = BatchInput.from_payload(payload).to_jsonl_bytes()
    return meter.wall, meter.cpu, meter.extra, len(raw)


WAYS = {
    "files only": lambda rows: ours(rows, ledger=False),
    "files and ledger": lambda rows: ours(rows, ledger=True),
    "BatchInput.from_payload": theirs,
}


def measure(way: str, rows: int, scale: float = 1.0) -> list[float]:
    """Run one way in a process of its own; scale what it measured."""
    command = [sys.executable, __file__, str(rows), way]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return [figure * scale for figure in orjson.loads(done.stdout)]


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    if len(sys.argv) > 2:
        sys.stdout.write(orjson.dumps(WAYS[sys.argv[2]](rows)).decode())
        return
    few = max(1, rows // PEER_SHARE)
    print(f"{rows:,} rows; the SDK's way was given {few:,}, its figures are scaled up\n")
    figures = {way: measure(way, rows) for way in ("files only", "files and ledger")}
    peer = "BatchInput.from_payload"
    figures[peer] = measure(peer, few, rows / few)
    print(
        f"{'way':<26}{'s':>8}{'CPU s':>8}{'MB/s':>8}{'MB per CPU s':>14}{'extra MB':>10}"
        f"{'times faster (CPU)':>22}"
    )
    for way, (wall, cpu, extra, size) in figures.items():
        faster = f"{figures[peer][0] / wall:.1f} ({figures[peer][1] / cpu:.1f})"
        print(
            f"{way:<26}{wall:>8.1f}{cpu:>8.1f}{size / 1e6 / wall:>8.0f}{size / 1e6 / cpu:>14.0f}"
            f"{extra:>10.0f}{faster:>22}"
        )


if __name__ == "__main__":
    main()
