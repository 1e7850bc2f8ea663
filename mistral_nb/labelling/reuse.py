"""Answers of earlier runs: the same request to the same model and server is paid once."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Self

from mistral_nb.errors import StoreError
from mistral_nb.labelling.folder import RunFolder
from mistral_nb.labelling.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mistral_nb.labelling.ledger import Answer, RunRecord

__all__ = ["Reuse"]

MOST_RUNS = 50


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
        self._ledgers: list[tuple[RunRecord, Ledger]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for folder in RunFolder.all(self._home):
            try:
                ledger = Ledger(folder.ledger)
                record = ledger.run()
            except StoreError:  # damaged, or from a newer version: nothing to take from it
                continue
            if (record.server, record.model, record.endpoint) == self._wanted:
                self._ledgers.append((record, self._stack.enter_context(closing(ledger))))
            else:
                ledger.close()
        self._ledgers.sort(key=lambda each: each[0].created, reverse=True)
        for _, ledger in self._ledgers[MOST_RUNS:]:
            ledger.close()
        del self._ledgers[MOST_RUNS:]
        return self

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
        for record, ledger in self._ledgers:
            still = [digest for digest in digests if digest not in found]
            if not still:
                break
            for digest, answer in ledger.answered(still).items():
                found[digest] = (record.name, answer)
        return found
