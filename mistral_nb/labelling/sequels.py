"""What can follow on a run: its failed rows again, its stuck jobs elsewhere, a file of it all."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mistral_nb.errors import RunError
from mistral_nb.labelling import again
from mistral_nb.labelling.export import export

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from mistral_nb.labelling.folder import RunFolder
    from mistral_nb.labelling.handle import Run
    from mistral_nb.labelling.ledger import Ledger
    from mistral_nb.labelling.sources import Target
    from mistral_nb.labelling.work import Work

__all__ = ["Sequels"]


class Sequels:
    """A run that can be followed by another handle, and written to a file.

    Attributes:
        present: Shows the handle that follows on this one, as this one was shown.
    """

    present: Callable[[Run], object] | None = None

    if TYPE_CHECKING:  # what the run itself brings
        name: property
        done: Callable[[], bool]
        stop: Callable[[], None]
        _target: Target | None
        _folder: Callable[[], RunFolder]
        _ledger: Callable[[], AbstractContextManager[Ledger]]
        _successor: Callable[[Callable[[Work], Awaitable[None]]], Run]

    def retry_failed(self) -> Run:
        """Send the rows that failed once more, and only these; they are paid for again.

        Rows that could not be sent at all (an empty cell) stay as they are.

        Returns:
            The handle to go on with; its result is the whole table.

        Raises:
            RunError: The run still goes on.
        """
        if not self.done():
            raise RunError(
                f"The run {self.name!r} still goes on, and sends again by itself what may work "
                "another time. Wait for its end, or cancel it."
            )
        return self._follow_on(again.retry_failed)

    def resubmit(self, *shards: int) -> Run:
        """Cancel batch jobs that do not move, and send what they did not answer in new ones.

        What they answered until then is kept. This handle is left; go on with the new one.

        Args:
            *shards: Numbers of the shards; none means all without progress for half an hour.

        Returns:
            The handle to go on with. It fails with RunError if there is no such job, and
            says then how long each has not moved.
        """
        return self._follow_on(partial(again.resubmit, shards=shards))

    def move_to_online(self) -> Run:
        """Cancel the batch jobs, keep what they answered, and send the rest online at once.

        Online requests cost twice as much as those of the Batch API. This handle is left; go on
        with the new one.

        Returns:
            The handle to go on with. It fails with RunError if the run is online already.
        """
        return self._follow_on(again.move_to_online)

    def export(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the run to a file, at any time: every row with its answer as it is by now.

        Args:
            path: A .jsonl, .csv or .parquet file.
            overwrite: Replace a file that is there.

        Returns:
            The file. Besides the labelled table it has the columns custom_id, raw (the reply
            as it came), status (HTTP), attempts, prompt_tokens, completion_tokens and
            cached_tokens (as billed, all attempts together).

        Raises:
            InputError: The name has another ending, or the file is there already.
            StoreError: The file cannot be written; what was there is as it was.
            RunError: The run is not written yet, or its table was not kept.
        """
        with self._ledger() as ledger:
            return export(ledger, self._folder(), self._target, path, overwrite=overwrite)

    def _follow_on(self, first: Callable[[Work], Awaitable[None]]) -> Run:
        self.stop()  # also where it had not yet begun: it would follow the other one's end
        run = self._successor(first)
        if self.present is not None:
            self.present(run)
        return run
