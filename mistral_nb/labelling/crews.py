"""Who answers the shards of a run: what the engine of shards asks of them, and how they reply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mistral_nb.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.labelling.work import Work

__all__ = ["ENDED", "BatchState", "Crew", "Crews", "Gone"]

ENDED = frozenset({"SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"})
"""Statuses after which a batch job does not change; an unknown one is waited for."""


class Gone(RunError):  # noqa: N818 - reads as the sentence it is
    """A batch job, or its file of answers, is not there any more."""


@dataclass(frozen=True, slots=True)
class BatchState:
    """A batch job at one moment.

    Attributes:
        id: Its id.
        status: One of the API's words: QUEUED, RUNNING, SUCCESS, ...
        completed: Requests that have ended.
        failed: Those of them without a reply.
        output_file: Id of the file of answers, once there is one.
        error_file: Id of the file of errors, likewise.
        message: Why the job as a whole failed.
    """

    id: str
    status: str
    completed: int = 0
    failed: int = 0
    output_file: str | None = None
    error_file: str | None = None
    message: str = ""


class Crew(Protocol):
    """Carries out batch jobs: the Batch API, or the workers of a queue.

    Attributes:
        longest_pause: Most seconds between two looks at a job.
    """

    longest_pause: float

    async def upload(self, path: Path, name: str, size: int, *, maybe_there: bool) -> str:
        """Bring a file of requests to it.

        Args:
            path: JSONL file.
            name: Unique to this content.
            size: Its bytes.
            maybe_there: True if an earlier try may have got through.

        Returns:
            The file's id.
        """

    async def create_job(
        self,
        *,
        file_id: str,
        endpoint: str,
        model: str,
        metadata: dict[str, str],
        timeout_hours: int,
        maybe_created: bool,
    ) -> BatchState:
        """Create a batch job exactly once.

        Args:
            file_id: The uploaded requests.
            endpoint: API path that answers them.
            model: Model that answers them.
            metadata: Unique to this file of this run; finds the job again.
            timeout_hours: Hours that it may take.
            maybe_created: True if an earlier try may have got through.
        """

    async def job(self, job_id: str) -> BatchState:
        """Ask how a job is doing.

        Raises:
            Gone: Nobody knows it.
        """

    async def cancel(self, job_id: str) -> BatchState:
        """Ask for a job to be cancelled."""

    async def download(self, file_id: str, path: Path) -> None:
        """Bring a file of answers to disk: whole and safe under its name, or not at all.

        Raises:
            Gone: It is not there any more.
        """


class Crews(Protocol):
    """Where a run's requests go in place of the Batch API.

    Attributes:
        where: Names it for people, and for whoever goes on with the run.
    """

    @property
    def where(self) -> str:
        """As above."""

    def open(self, work: Work, trouble: Callable[[str], None]) -> Crew:
        """Return what carries out a run's batch jobs.

        Args:
            work: The run.
            trouble: Told in plain words what is in the way; "" when it is over.
        """
