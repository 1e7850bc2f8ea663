"""Reading 200,000 answers of a batch and merging them back, against the usual ways.

    python benchmarks/merging.py [ROWS] [--runs 3]

Each way runs in a process of its own, in turn, on the same files of answers (112 MB; 100,000
to a file, as the API has it, in the order in which they were finished). Ours audits every custom_id, checks every reply against the schema, writes text and tokens to
a durable ledger, and makes a table with real dtypes of it; the others parse, look the row up
by its custom_id and merge. Memory is what comes on top of the table, as a multiple of what
the result columns take. The SDK gets a tenth of the rows; its figures are scaled up.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import orjson
import pandas as pd
from jsonl import Meter
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mistral_nb.labelling.ledger import Ledger, Shard
    from mistral_nb.labelling.schemas import Schema

ROOT = Path(__file__).resolve().parents[1]
PEER_SHARE = 10
SHARD = 100_000
TOPICS = ("billing", "delivery", "returns", "other")


class Ticket(BaseModel):
    """What a reply says."""

    topic: Literal["billing", "delivery", "returns", "other"]
    urgent: bool
    reason: str


def digest(row: int) -> bytes:
    """Content hash of a row's request."""
    return row.to_bytes(16, "big")


def write_answers(folder: Path, rows: int) -> list[Path]:
    """Write the files that batch jobs give back."""
    paths = []
    for number, first in enumerate(range(0, rows, SHARD)):
        paths.append(folder / f"{number}.jsonl")
        write_shard(paths[-1], first, min(rows, first + SHARD))
    return paths


def write_shard(path: Path, first: int, end: int) -> None:
    """Write one file; answers are up to a thousand places from where they were asked."""
    from mistral_nb.labelling.recipe import custom_id

    with path.open("wb") as file:
        for row in sorted(range(first, end), key=lambda row: row + row * 7919 % 1000):
            made = Ticket(
                topic=TOPICS[row % 4],
                urgent=row % 3 == 0,
                reason=f"The customer of ticket {row} says that the parcel came without the cable.",
            )
            message = {"role": "assistant", "content": made.model_dump_json(), "tool_calls": None}
            body = {
                "id": f"{row:032x}",
                "object": "chat.completion",
                "created": 1763000000,
                "model": "mistral-small-latest",
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {"prompt_tokens": 180, "completion_tokens": 31, "total_tokens": 211},
            }
            line = {
                "id": f"batch-{row:024x}",
                "custom_id": custom_id(row, digest(row)),
                "response": {"status_code": 200, "body": body},
                "error": None,
            }
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def table(rows: int) -> pd.DataFrame:
    """The table that was sent."""
    return pd.DataFrame({"text": [f"ticket {row}" for row in range(rows)]})


def ours(paths: list[Path], rows: int) -> tuple[pd.DataFrame, Meter]:
    """Audit, ledger, merge: as a run does it."""
    from mistral_nb.labelling.ledger import Ledger, Shard
    from mistral_nb.labelling.merge import Names, merge
    from mistral_nb.labelling.schemas import compile_schema

    df, schema = table(rows), compile_schema(Ticket)
    assert schema is not None
    with (
        tempfile.TemporaryDirectory() as home,
        closing(Ledger(Path(home) / "ledger.sqlite3")) as ledger,
    ):
        ledger.add_requests((row, digest(row), None, row // SHARD, None) for row in range(rows))
        shards = [Shard(number, 0, 0, 0, "") for number in range(len(paths))]
        ledger.add_shards(shards)
        with Meter() as meter:
            for shard, path in zip(shards, paths, strict=True):
                read_shard(ledger, shard, path, schema)
            made = merge(df, ledger.results(), schema, Names(schema, None, ""))
    return made, meter


def read_shard(ledger: Ledger, shard: Shard, path: Path, schema: Schema) -> None:
    """Match the answers with the requests, check them, and write them to the ledger."""
    from mistral_nb.labelling.answers import Audit

    audit = Audit(ledger.requests_of(shard.id), schema.fault)
    ledger.finish_shard(shard, audit.read(path, "output"), audit.findings)
    assert not audit.findings
    assert not audit.open


def by_hand(paths: list[Path], rows: int, read: Callable) -> tuple[pd.DataFrame, Meter]:
    """Read (custom_id, text) of each line, check the text, make a table of dicts, and merge."""
    from mistral_nb.labelling.recipe import custom_id

    df = table(rows)
    df["custom_id"] = [custom_id(row, digest(row)) for row in range(rows)]
    with Meter() as meter:
        records = []
        for path in paths:
            for name, text in read(path):
                made = Ticket.model_validate_json(text).model_dump()
                records.append({"custom_id": name, **made})
        merged = df.merge(pd.DataFrame(records), on="custom_id", how="left", validate="1:1")
    return merged, meter


def plain(path: Path, load: Callable = json.loads) -> Iterator[tuple[str, str]]:
    """Line by line, with the standard library's json."""
    with path.open("rb") as file:
        for line in file:
            data = load(line)
            yield data["custom_id"], data["response"]["body"]["choices"][0]["message"]["content"]


def sdk(path: Path) -> Iterator[tuple[str, str]]:
    """All at once, with the SDK's BatchOutput."""
    from mistralai.client.models import ChatCompletionResponse
    from mistralai.extra.batch import BatchOutput

    output = BatchOutput.from_jsonl_bytes(path.read_bytes(), ChatCompletionResponse)
    for name, reply in output.responses.items():
        yield name, reply.choices[0].message.content


WAYS: dict[str, tuple[Callable[..., tuple[pd.DataFrame, Meter]], str, int]] = {
    "ours": (ours, "mistral_nb, audit and ledger", 1),
    "orjson": (
        partial(by_hand, read=partial(plain, load=orjson.loads)),
        "orjson, pydantic, merge",
        1,
    ),
    "json": (partial(by_hand, read=plain), "json, pydantic, merge", 1),
    "sdk": (partial(by_hand, read=sdk), "BatchOutput, pydantic, merge", PEER_SHARE),
}


def measure(way: str, folder: Path, rows: int) -> None:
    """Run one way in this process and print its figures as JSON."""
    made, meter = WAYS[way][0](sorted(folder.glob("*.jsonl")), rows)
    assert made["urgent"].sum() == len(range(0, rows, 3))
    result = (
        float(
            made.drop(columns=["text", "custom_id"], errors="ignore")
            .memory_usage(index=False, deep=True)
            .sum()
        )
        / 1e6
    )
    print(orjson.dumps([meter.wall, meter.cpu, meter.extra, result]).decode())


def main() -> None:
    """Measure every way in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("rows", nargs="?", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], Path(options.measure[1]), options.rows)
        return
    found: dict[str, list[list[float]]] = {way: [] for way in options.only}
    with tempfile.TemporaryDirectory() as home:
        folders = {share: Path(home, str(share)) for share in (1, PEER_SHARE)}
        for share, folder in folders.items():
            folder.mkdir()
            paths = write_answers(folder, options.rows // share)
            size = share * sum(path.stat().st_size for path in paths) / 1e6
        for _ in range(options.runs):
            for way in options.only:
                share = WAYS[way][2]
                command = [sys.executable, __file__, str(options.rows // share)]
                command += ["--measure", way, str(folders[share])]
                environment = {**os.environ, "PYTHONPATH": str(ROOT)}
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
                found[way].append([figure * share for figure in orjson.loads(done.stdout)])
    tell(found, size, options)


def tell(found: dict[str, list[list[float]]], size: float, options: argparse.Namespace) -> None:
    """Print medians and how they compare with ours."""
    print(f"{options.rows:,} answers, {size:.0f} MB, medians of {options.runs} runs in turn\n")
    print(
        f"{'':32}{'s':>7}{'CPU s':>8}{'MB/s':>7}{'MB per CPU s':>14}{'extra MB':>10}{'x result':>10}"
    )
    for way, runs in found.items():
        wall, cpu, extra, result = (statistics.median(run[i] for run in runs) for i in range(4))
        print(
            f"{WAYS[way][1]:32}{wall:7.1f}{cpu:8.1f}{size / wall:7.0f}{size / cpu:14.0f}"
            f"{extra:10.0f}{extra / result:10.1f}"
        )


if __name__ == "__main__":
    main()
