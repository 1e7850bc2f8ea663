"""Labelling data sets: prompts and schemas in, a ledger in the middle, columns out."""

from mistral_nb.labelling.catalogue import forget, list_runs, reviews_file
from mistral_nb.labelling.dry_run import Estimate
from mistral_nb.labelling.files import FilesSource
from mistral_nb.labelling.handle import Run
from mistral_nb.labelling.judging import labellings
from mistral_nb.labelling.lists import ListRun, Result, process_batch
from mistral_nb.labelling.runs import resume, start_run

__all__ = [
    "Estimate",
    "FilesSource",
    "ListRun",
    "Result",
    "Run",
    "forget",
    "labellings",
    "list_runs",
    "process_batch",
    "resume",
    "reviews_file",
    "start_run",
]
