"""What the simulator can do wrong on demand, and the seeded dice that decide when."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, fields
from numbers import Integral, Real

from mistral_nb.errors import InputError

__all__ = ["Dice", "Faults"]


KINDS = {"float": Real, "int": Integral, "bool": bool, "str": str}
"""What may stand in a field, by the first word of its annotation."""


@dataclass(frozen=True)
class Faults:
    """Misbehaviour, all off by default; rates are shares of requests or rows from 0 to 1.

    Attributes:
        error_rate: Requests under ``/v1`` that fail with ``error_status``.
        error_status: The status of those, from 400 to 599.
        rate_limit_rate: Requests under ``/v1`` that are refused with 429.
        retry_after: Seconds in the Retry-After header of every 429; None leaves it out.
        lost_reply_rate: Requests that are carried out, but whose connection closes after
            the headers of the reply (the client cannot know the id of the job it created).
        latency: Seconds before the first byte of every reply.
        cut_after: Streams: the connection breaks after this many chunks.
        drop_done: Streams: a clean end without the last chunk and without ``[DONE]``.
        drop_finish: Streams: the last chunk has no ``finish_reason``; ``[DONE]`` comes.
        malformed_chunk: Streams: the chunk with this number is not JSON.
        error_chunk: Streams: the chunk with this number is an error object.
        stall_after: Streams: silence after this many chunks, with the connection open.
        odd_chunks: Streams: empty ``choices``, null usage and unknown fields in between,
            as real ones have at times.
        batch_row_error_rate: Batch rows that fail.
        batch_poll_errors: This many next reads of a batch job answer 503.
        batch_poll_error_rate: Reads of a batch job that answer 503.
        batch_outcome: Status a job ends with after ``batch_part`` of its rows:
            ``"FAILED"`` or ``"TIMEOUT_EXCEEDED"``; None for SUCCESS.
        batch_part: Share of rows that are done before such an end.
        batch_duplicates: Output lines that come twice.
        batch_missing: Output lines that are left out.
        batch_unknown: Output lines with a custom_id nobody sent.
        batch_truncated: The last output line ends in its middle.
        deprecation: Send ``x-model-deprecation-timestamp`` with every chat reply.
        seed: Seed of the dice; the same seed and order of requests fail alike.

    Raises:
        InputError: A value is of another kind, a share not from 0 to 1, the status no failure's,
            or the outcome unknown.
    """

    error_rate: float = 0.0
    error_status: int = 500
    rate_limit_rate: float = 0.0
    retry_after: float | None = None
    lost_reply_rate: float = 0.0
    latency: float = 0.0
    cut_after: int | None = None
    drop_done: bool = False
    drop_finish: bool = False
    malformed_chunk: int | None = None
    error_chunk: int | None = None
    stall_after: int | None = None
    odd_chunks: bool = False
    batch_row_error_rate: float = 0.0
    batch_poll_errors: int = 0
    batch_poll_error_rate: float = 0.0
    batch_outcome: str | None = None
    batch_part: float = 0.5
    batch_duplicates: int = 0
    batch_missing: int = 0
    batch_unknown: int = 0
    batch_truncated: bool = False
    deprecation: bool = False
    seed: int = 0

    def __repr__(self) -> str:
        given = [each.name for each in fields(self) if getattr(self, each.name) != each.default]
        return f"Faults({', '.join(f'{name}={getattr(self, name)!r}' for name in given)})"

    def __post_init__(self) -> None:
        for each in fields(self):
            self._check_kind(each.name, str(each.type))
        for name in ("error_rate", "rate_limit_rate", "lost_reply_rate", "batch_part"):
            self._check_share(name)
        for name in ("batch_row_error_rate", "batch_poll_error_rate"):
            self._check_share(name)
        if not 400 <= self.error_status <= 599:  # noqa: PLR2004 - HTTP's own numbers
            raise InputError(f"error_status must be from 400 to 599, not {self.error_status!r}.")
        if self.batch_outcome not in {None, "FAILED", "TIMEOUT_EXCEEDED"}:
            raise InputError(
                f"batch_outcome must be FAILED or TIMEOUT_EXCEEDED, not {self.batch_outcome!r}."
            )

    def _check_kind(self, name: str, kind: str) -> None:
        value = getattr(self, name)
        first, _, others = kind.partition(" ")
        if not isinstance(value, KINDS[first]) and not (value is None and others):
            raise InputError(f"{name} must be of the kind {kind}, not {value!r}.")

    def _check_share(self, name: str) -> None:
        if not 0 <= getattr(self, name) <= 1:
            raise InputError(f"{name} must be between 0 and 1, not {getattr(self, name)!r}.")


class Dice:
    """Decides whether a fault strikes: the n-th throw for one fault is always the same."""

    def __init__(self) -> None:
        self._thrown: Counter[str] = Counter()
        self._lock = threading.Lock()

    def strikes(self, faults: Faults, name: str) -> bool:
        """Throw for the rate called ``name``.

        Args:
            faults: Holds the rate and the seed.
            name: Attribute of ``faults`` with a share from 0 to 1.

        Returns:
            True in that share of the throws.
        """
        rate = float(getattr(faults, name))
        if rate <= 0:
            return False
        with self._lock:
            self._thrown[name] += 1
            number = self._thrown[name]
        return random.Random(f"{faults.seed}:{name}:{number}").random() < rate  # noqa: S311

    def first(self, faults: Faults, name: str) -> bool:
        """Return True for the first ``faults.name`` calls, a count instead of a rate."""
        count = int(getattr(faults, name))
        if count <= 0:
            return False
        with self._lock:
            self._thrown[name] += 1
            return self._thrown[name] <= count

    def reset(self) -> None:
        """Start counting again, when other faults are set."""
        with self._lock:
            self._thrown.clear()
