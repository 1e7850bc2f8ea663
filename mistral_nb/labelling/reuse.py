"""Answers of earlier runs: the same request to the same model and server is paid once."""

from __future__ import annotations

from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, Self

from mistral_nb.errors import StoreError
from mistral_nb.labelling.folder import RunFolder
from mistral_nb.labelling.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mistral_nb.labelling.ledger import Answer, RunRecord

__all__ = ["Reuse"]

MOST_RUNS = 50
"""Ledgers open at once, the latest: a process may have only so many files open."""


class Reuse:
    """Finds good answers in the ledgers of other runs; use it as a context.

    Args:
        home: Folder of all runs.
        server: Only runs with this server, so that a simulated answer is never taken for a
            real one.
        model: Only runs with this model.
        endpoint: Only runs with this endpoint.
    """

    def __init__(self, home: Path, server: str, model: str, endpoint: str) -> None:
        self._home = home
        self._wanted = (server, model, endpoint)
        self._ledgers: list[tuple[str, Ledger]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        latest = sorted(self._alike(), key=lambda each: each[0].created, reverse=True)
        for record, folder in latest[:MOST_RUNS]:
            with suppress(StoreError):  # forgotten meanwhile
                ledger = self._stack.enter_context(closing(Ledger(folder.ledger)))
                self._ledgers.append((record.name, ledger))
        return self

    def _alike(self) -> Iterator[tuple[RunRecord, RunFolder]]:
        """Find the runs that asked the same model of the same server, one open at a time."""
        for folder in RunFolder.all(self._home):
            # Damaged, or from a newer version: nothing to take from it.
            with suppress(StoreError), closing(Ledger(folder.ledger)) as ledger:
                record = ledger.run()
                if (record.server, record.model, record.endpoint) == self._wanted:
                    yield record, folder

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, digests: Sequence[bytes]) -> dict[bytes, tuple[str, Answer]]:
        """Look up requests by content hash.

        Args:
            digests: Content hashes.

        Returns:
            Content hash -> (name of the run it was answered in, answer), where there is one.
        """
        found: dict[bytes, tuple[str, Answer]] = {}
        for name, ledger in self._ledgers:
            still = [digest for digest in digests if digest not in found]
            if not still:
                break
            for digest, answer in ledger.answered(still).items():
                found[digest] = (name, answer)
        return found
