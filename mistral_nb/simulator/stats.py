"""What the simulator was asked and paid for."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mistral_nb.simulator.state import State

__all__ = ["Stats"]


class Stats:
    """Counts of this process (requests, streams) and of the state (what was paid for).

    Args:
        state: Keeps the counts that must outlive the process.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._streams: Counter[str] = Counter(
            {"open": 0, "opened": 0, "finished": 0, "cut_by_client": 0, "cut_by_fault": 0}
        )

    def requested(self, method: str, route: str, status: int) -> None:
        """Count a request by its route and answer."""
        with self._lock:
            self._requests[f"{method} {route} {status}"] += 1

    def stream_opened(self) -> None:
        """Count a stream that begins."""
        with self._lock:
            self._streams["open"] += 1
            self._streams["opened"] += 1

    def stream_closed(self, outcome: str) -> None:
        """Count a stream that ended: ``finished``, ``cut_by_client`` or ``cut_by_fault``."""
        with self._lock:
            self._streams["open"] -= 1
            self._streams[outcome] += 1

    def snapshot(self) -> dict[str, Any]:
        """Return every count.

        Returns:
            ``requests``: by ``"METHOD /route status"``, of this process; ``streams``: open
            now, opened, finished, cut_by_client, cut_by_fault; and, over the whole life of
            the home folder: ``chat_requests`` answered, ``chat_repeated`` of them with the
            body of an earlier one, ``conversation_requests`` answered, ``batch_rows``
            executed, ``batch_rows_repeated`` of them with the custom_id and body of an
            earlier one, ``jobs_created``, ``files_uploaded``, ``tokens``.
        """
        lasting = self._state.counts()
        with self._lock:
            return {
                "requests": dict(self._requests),
                "streams": dict(self._streams),
                "chat_requests": lasting.get("chat_paid", 0),
                "chat_repeated": lasting.get("chat_repeated", 0),
                "conversation_requests": lasting.get("conversation_paid", 0),
                "batch_rows": lasting.get("batch_rows_paid", 0),
                "batch_rows_repeated": lasting.get("batch_rows_repeated", 0),
                "jobs_created": lasting.get("jobs_created", 0),
                "files_uploaded": lasting.get("files_uploaded", 0),
                "tokens": lasting.get("tokens", 0),
            }
