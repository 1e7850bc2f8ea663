"""The batch worker: takes queued jobs, answers their rows, and goes on after a kill."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.simulator.encoding import encoded
from mistral_nb.simulator.endpoints import answer_body
from mistral_nb.simulator.lines import RequestLines, append_at, deliver
from mistral_nb.simulator.state import TERMINAL
from mistral_nb.simulator.validation import ApiProblem
from mistral_nb.simulator.words import chance
from mistral_nb.store import transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.simulator.faults import Faults
    from mistral_nb.simulator.state import State

__all__ = ["MAX_ROWS", "BatchWorker"]

MAX_ROWS = 100_000
LEASE_SECONDS = 2.0
QUEUE_SECONDS = 0.2
TICK_SECONDS = 0.05
IDLE_SECONDS = 0.25
BURST_SECONDS = 0.5
SLICE_ROWS = 500
LATER = (sqlite3.Error, OSError)
"""The disk is full, or another process writes: a job that meets it goes on when it can."""


class BatchWorker:
    """Works on the jobs of a state in a thread of its own.

    Args:
        state: Where the jobs are.
        rate: Rows a second over all jobs; 0 for as many as it can, None for none.
        faults: Called for the faults in force.

    Attributes:
        rate: As above; may be set at any time.
    """

    def __init__(self, state: State, rate: float | None, faults: Callable[[], Faults]) -> None:
        self._state = state
        self.rate = rate
        self._budget = 0.0  # rows we may do now
        self._faults = faults
        self._owner = uuid.uuid4().hex
        self._requests: dict[str, RequestLines] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulator-batch", daemon=True)

    def start(self) -> None:
        """Start working."""
        self._thread.start()

    def wake(self) -> None:
        """Look for new jobs now."""
        self._wake.set()

    def stop(self) -> None:
        """Stop after the rows in hand; unfinished jobs stay for the next start."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        with contextlib.suppress(*LATER):
            self._state.sweep()
        last = time.monotonic()
        while not self._stopping.is_set():
            jobs: list[sqlite3.Row] = []
            moved, rate = False, self.rate
            with contextlib.suppress(*LATER):
                jobs = self._state.open_jobs()
                self._requests = {j["id"]: r for j in jobs if (r := self._requests.get(j["id"]))}
                now = time.monotonic()
                share = self._share(rate, now - last, len(jobs))
                last = now
                for job in jobs:
                    moved |= not self._stopping.is_set() and self._try_step(job, share)
                self._state.flush()
            pause = TICK_SECONDS if jobs else IDLE_SECONDS
            self._wake.wait(0 if moved and rate == 0 else pause)
            self._wake.clear()
        with contextlib.suppress(*LATER):
            self._state.release(self._owner)

    def _share(self, rate: float | None, seconds: float, jobs: int) -> int:
        """Return how many rows each job may do after so many seconds."""
        if rate == 0:
            return SLICE_ROWS
        if rate is None or not jobs:
            self._budget = 0.0
            return 0
        most = max(rate * BURST_SECONDS, jobs)
        self._budget = min(self._budget + rate * seconds, most)
        share = int(self._budget // jobs)
        self._budget -= share * jobs
        return share

    def _try_step(self, job: sqlite3.Row, rows: int) -> bool:
        """Bring one job a little further; whatever goes wrong, the others go on."""
        try:
            return self._step(job, rows)
        except LATER:
            return False
        except Exception as error:
            self._finish(job, "FAILED", f"Internal error of the simulator: {error!r}")
            return False

    def _step(self, listed: sqlite3.Row, rows: int) -> bool:
        """Bring one job a little further; False if there was nothing to do for us."""
        if not self._state.claim(listed["id"], self._owner, LEASE_SECONDS):
            return False
        job = self._state.job(listed["id"])  # another process may have moved it meanwhile
        if job is None or job["status"] in TERMINAL:
            return False
        if job["status"] == "CANCELLATION_REQUESTED":
            self._finish(job, "CANCELLED")
        elif job["status"] == "QUEUED":
            if self.rate != 0 and time.time() - job["created_at"] < QUEUE_SECONDS:
                return False
            self._begin(job)
        elif rows > 0:
            self._advance(job, rows)
        return True

    def _begin(self, job: sqlite3.Row) -> None:
        """Validate the input; only then does the job tell how many requests it has."""
        try:
            total = len(self._lines(job))
        except OSError:
            self._finish(job, "FAILED", "An input file was deleted before the job could read it")
            return
        if not 0 < total <= MAX_ROWS:
            self._finish(job, "FAILED", f"A job takes 1 to {MAX_ROWS} requests, this has {total}")
            return
        self._state.begin_job(job["id"], total)

    def _lines(self, job: sqlite3.Row) -> RequestLines:
        known = self._requests.get(job["id"])
        if known is None:
            files = [self._state.file_path(each) for each in orjson.loads(job["input_files"])]
            sources = files or [self._state.part_path(job["id"], "input")]
            known = self._requests[job["id"]] = RequestLines(sources, self._state.seed)
        return known

    def _advance(self, job: sqlite3.Row, rows: int) -> None:
        """Answer the next rows, and end the job after its last."""
        faults = self._faults()
        limit = job["total"]
        if faults.batch_outcome is not None:
            limit = int(limit * faults.batch_part)
        end = min(limit, job["done"] + rows)
        good: list[bytes] = []
        bad: list[bytes] = []
        try:
            for position, line in self._lines(job).read(job["done"], end):
                row = _Row(job, line, position, self._state)
                try:
                    good.append(row.answered(faults))
                except ApiProblem as problem:
                    bad.append(row.refused(problem))
        except OSError:
            self._finish(job, "FAILED", "An input file was deleted while the job was reading it")
            return
        if self._commit(job, good, bad) and end >= limit:
            current = self._state.job(job["id"])
            if current is not None:
                self._finish(current, faults.batch_outcome or "SUCCESS")

    def _commit(self, job: sqlite3.Row, good: list[bytes], bad: list[bytes]) -> bool:
        """Write lines, progress and counts as one: all of it counts, or nothing."""
        state = self._state
        with state.lock, transaction(state.db):
            # The write lock keeps others out; was the lease lost before we got it?
            if not state.owns(job["id"], self._owner, job["done"]):
                return False
            state.db.execute(
                "UPDATE jobs SET done = done + ?, succeeded = succeeded + ?, failed = failed + ?,"
                " output_bytes = ?, error_bytes = ?, lease_until = ? WHERE id = ?",
                (
                    len(good) + len(bad),
                    len(good),
                    len(bad),
                    append_at(state.part_path(job["id"], "output"), job["output_bytes"], good),
                    append_at(state.part_path(job["id"], "error"), job["error_bytes"], bad),
                    time.time() + LEASE_SECONDS,
                    job["id"],
                ),
            )
            state.write_counts()
        return True

    def _finish(self, job: sqlite3.Row, status: str, reason: str | None = None) -> None:
        """Turn what is done into files, and end the job."""
        state = self._state
        files: dict[str, dict[str, Any] | None] = {}
        for part, sample_type in (("output", "batch_result"), ("error", "batch_error")):
            size = job[f"{part}_bytes"]
            files[part] = None
            if not size:
                continue
            file_id = state.new_id("file", job["id"], part)
            faults = self._faults() if part == "output" else type(self._faults())()
            source = state.part_path(job["id"], part)
            try:
                bytes_, lines = deliver(source, size, state.file_path(file_id), faults)
            except FileNotFoundError:  # the job was deleted meanwhile
                return
            files[part] = {
                "id": file_id,
                "filename": f"batch_{part}_{job['id']}.jsonl",
                "purpose": "batch",
                "sample_type": sample_type,
                "source": "mistral",
                "bytes": bytes_,
                "num_lines": lines,
                "mimetype": "application/jsonl",
            }
        errors = [{"message": reason, "count": 1}] if reason else []
        if job["failed"]:
            errors.append({"message": "Requests failed: see error_file", "count": job["failed"]})
        state.end_job(job, self._owner, status, files, errors)


class _Row:
    """One request of a job, and the line that answers it."""

    def __init__(self, job: sqlite3.Row, line: bytes, position: int, state: State) -> None:
        self._job = job
        self._line = line
        self._position = position
        self._state = state
        self._id = f"batch-{chance(state.seed, job['id'], position):.18f}".replace("-0.", "-")
        self._custom_id: Any = None

    def answered(self, faults: Faults) -> bytes:
        """Return the output line.

        Raises:
            ApiProblem: The request is refused, or a fault says so.
        """
        body = self._body()
        self._state.pay("batch_rows", self._line)
        if chance(faults.seed, "row", self._line) < faults.batch_row_error_rate:
            raise ApiProblem.of(500, "Internal server error", "internal_server_error", "1000")
        reply, used = answer_body(
            self._job["endpoint"], body, number=self._position, state=self._state
        )
        self._state.count("tokens", used)
        return self._dump({"status_code": 200, "body": reply}, None)

    def refused(self, problem: ApiProblem) -> bytes:
        """Return the error line, in one of the three forms that real error files hold."""
        form = self._position % 3
        if form == 0:
            return self._dump(None, str(problem))
        if form == 1:
            return self._dump(None, {"message": str(problem), "code": problem.status})
        return self._dump({"status_code": problem.status, "body": problem.body}, None)

    def _dump(self, response: Any, error: Any) -> bytes:
        line = {
            "id": self._id,
            "custom_id": self._custom_id,
            "response": response,
            "error": error,
        }
        return encoded(line) + b"\n"

    def _body(self) -> dict[str, Any]:
        try:
            row = orjson.loads(self._line)
        except orjson.JSONDecodeError:
            row = None
        body = row.get("body") if isinstance(row, dict) else None
        if isinstance(row, dict):
            self._custom_id = row.get("custom_id")
        if not isinstance(body, dict):
            raise ApiProblem.of(400, "The line is not a valid batch request", "invalid_line")
        if body.get("stream"):
            raise ApiProblem.of(400, "stream is not supported in a batch", "invalid_request_error")
        model = self._job["model"]
        if body.get("model") not in (None, model):
            message = f"The job is for {model}, the request asks for {body['model']}"
            raise ApiProblem.of(400, message, "invalid_request_error")
        return {**body, "model": model}
