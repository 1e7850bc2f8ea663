"""Background jobs: work that goes on when the cell, the kernel or the machine does not."""

from mistral_nb.jobs.context import GiveUp, JobContext, RetryLater
from mistral_nb.jobs.job import Job
from mistral_nb.jobs.model import CALLBACK, Snapshot, Status
from mistral_nb.jobs.queue import Queue
from mistral_nb.jobs.running import handler
from mistral_nb.jobs.worker import Worker

__all__ = [
    "CALLBACK",
    "GiveUp",
    "Job",
    "JobContext",
    "Queue",
    "RetryLater",
    "Snapshot",
    "Status",
    "Worker",
    "handler",
]


def __dir__() -> list[str]:
    return sorted(__all__)
