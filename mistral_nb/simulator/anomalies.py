"""Damage done on purpose to a batch's output file."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from pathlib import Path

    from mistral_nb.simulator.faults import Faults

__all__ = ["spoil"]


def spoil(path: Path, faults: Faults) -> None:
    """Drop, repeat, rename and cut lines as the faults say.

    Args:
        path: JSONL file, changed in place.
        faults: How many lines of each kind; nothing is touched when all are off.
    """
    if not (
        faults.batch_missing
        or faults.batch_duplicates
        or faults.batch_unknown
        or faults.batch_truncated
    ):
        return
    lines = path.read_bytes().splitlines(keepends=True)
    dice = random.Random(f"{faults.seed}:spoil")  # noqa: S311
    for _ in range(min(faults.batch_missing, len(lines))):
        del lines[dice.randrange(len(lines))]
    for _ in range(faults.batch_duplicates if lines else 0):
        lines.insert(dice.randrange(len(lines) + 1), dice.choice(lines))
    for number in range(faults.batch_unknown if lines else 0):
        stranger = orjson.loads(dice.choice(lines))
        stranger["custom_id"] = f"nobody-{number}"
        lines.insert(dice.randrange(len(lines) + 1), orjson.dumps(stranger) + b"\n")
    if faults.batch_truncated and lines:
        lines[-1] = lines[-1][: len(lines[-1]) // 2]
    path.write_bytes(b"".join(lines))
