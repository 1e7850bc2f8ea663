"""The batch worker: takes queued jobs, answers their rows, and can go on after a kill."""

from __future__ import annotations

import random
import threading
import time
import uuid
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.simulator.chat import complete
from mistral_nb.simulator.embedding import embed
from mistral_nb.simulator.state import TERMINAL, State
from mistral_nb.simulator.validation import ApiProblem
from mistral_nb.simulator.words import chance
from mistral_nb.store import transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.simulator.faults import Faults

__all__ = ["ENDPOINTS", "MAX_ROWS", "BatchWorker"]

ENDPOINTS = frozenset({"/v1/chat/completions", "/v1/embeddings"})
MAX_ROWS = 100_000
LEASE = 3.0
TICK = 0.05
QUEUE_SECONDS = 0.2


@dataclass
class _Work:
    """A job being worked on: where each of its lines starts, in the order they are done."""

    id: str
    endpoint: str
    model: str | None
    sources: list[Path]
    total: int
    starts: array[int] = field(default_factory=lambda: array("q"))
    order: array[int] = field(default_factory=lambda: array("l"))
    invalid: str | None = None


class BatchWorker:
    """Works on the jobs of a state in a thread of its own.

    Args:
        state: Where the jobs are.
        rate: Rows a second over all jobs; 0 for as many as it can.
        faults: Called for the faults in force.
    """

    def __init__(self, state: State, rate: float, faults: Callable[[], Faults]) -> None:
        self.state = state
        self.rate = rate
        self.faults = faults
        self.owner = uuid.uuid4().hex
        self._work: dict[str, _Work] = {}
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="simulator-batch", daemon=True)

    def start(self) -> None:
        """Start working."""
        self._thread.start()

    def wake(self) -> None:
        """Look for new jobs now."""
        self._wake.set()

    def stop(self) -> None:
        """Stop after the rows in hand; unfinished jobs stay for the next start."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stopping:
            jobs = self.state.open_jobs()
            now = time.monotonic()
            budget = int(self.rate * min(now - last, 0.5)) if self.rate else 500
            if budget or not jobs:
                last = now
            for job in jobs:
                if self._stopping:
                    break
                self._step(job, max(1, budget // len(jobs)) if budget else 0)
            self.state.flush()
            self._wake.wait(TICK if jobs and self.rate else 0 if jobs else 0.25)
            self._wake.clear()
        self.state.release(self.owner)

    def _step(self, job: sqlite3.Row, rows: int) -> None:
        """Bring one job a little further."""
        if not self.state.claim(job["id"], self.owner, LEASE):
            self._work.pop(job["id"], None)
            return
        current = self.state.job(job["id"])  # another process may have moved it meanwhile
        if current is None or current["status"] in TERMINAL:
            return
        if current["status"] == "CANCELLATION_REQUESTED":
            self._finish(current, "CANCELLED")
        elif current["status"] == "QUEUED":
            if time.time() - current["created_at"] >= QUEUE_SECONDS or not self.rate:
                self._begin(current)
        elif rows:
            self._advance(current, rows)

    def _begin(self, job: sqlite3.Row) -> None:
        work = self._open(job)
        if work.invalid:
            self._finish(job, "FAILED", [{"message": work.invalid, "count": 1}])
            return
        with self.state.lock:
            self.state.db.execute(
                "UPDATE jobs SET status = 'RUNNING', started_at = ?, total = ? "
                "WHERE id = ? AND status = 'QUEUED'",
                (time.time(), work.total, job["id"]),
            )

    def _open(self, job: sqlite3.Row) -> _Work:
        """Find the start of every line, and settle the order of work."""
        if job["id"] in self._work:
            return self._work[job["id"]]
        files = orjson.loads(job["input_files"])
        inline = self.state.part_path(job["id"], "input")
        sources = [self.state.file_path(each) for each in files] or [inline]
        work = _Work(job["id"], job["endpoint"], job["model"], sources, 0)
        for number, source in enumerate(sources):
            try:
                _index(source, number, work)
            except OSError:
                work.invalid = "An input file was deleted before the job could read it"
        work.total = len(work.starts) // 2
        if work.total > MAX_ROWS:
            work.invalid = f"The job has {work.total} requests, more than {MAX_ROWS}"
        if not work.total and not work.invalid:
            work.invalid = "The input file holds no request"
        work.order = array("l", range(work.total))
        random.Random(f"{self.state.seed}:{work.total}").shuffle(work.order)  # noqa: S311
        self._work[job["id"]] = work
        return work

    def _advance(self, job: sqlite3.Row, rows: int) -> None:
        work = self._open(job)
        faults = self.faults()
        limit = work.total
        if faults.batch_outcome is not None:
            limit = int(work.total * faults.batch_part)
        positions = work.order[job["done"] : min(limit, job["done"] + rows)]
        good, bad, failed = [], [], 0
        handles: dict[int, Any] = {}
        try:
            for position in positions:
                line = _line(work, position, handles)
                output, error = self._row(work, line, position, faults)
                good.append(output) if output else bad.append(error)
                failed += not output
        except OSError:
            self._finish(job, "FAILED", [{"message": "An input file was deleted", "count": 1}])
            return
        finally:
            for handle in handles.values():
                handle.close()
        if not self._commit(job, good, bad):
            return
        if job["done"] + len(positions) >= limit:
            current = self.state.job(job["id"])
            if current is not None:
                self._finish(current, faults.batch_outcome or "SUCCESS")

    def _commit(self, job: sqlite3.Row, good: list[bytes], bad: list[bytes]) -> bool:
        """Write a slice's lines and its progress as one: all of it counts, or nothing."""
        state = self.state
        with state.lock, transaction(state.db):
            # The write lock keeps others out; was the lease lost before we got it?
            row = state.db.execute(
                "SELECT owner, done FROM jobs WHERE id = ?", (job["id"],)
            ).fetchone()
            if row is None or row["owner"] != self.owner or row["done"] != job["done"]:
                self._work.pop(job["id"], None)
                return False
            output = _write(state.part_path(job["id"], "output"), job["output_bytes"], good)
            error = _write(state.part_path(job["id"], "error"), job["error_bytes"], bad)
            state.db.execute(
                "UPDATE jobs SET done = done + ?, succeeded = succeeded + ?, failed = failed + ?,"
                " output_bytes = ?, error_bytes = ?, lease_until = ? WHERE id = ?",
                (
                    len(good) + len(bad),
                    len(good),
                    len(bad),
                    output,
                    error,
                    time.time() + LEASE,
                    job["id"],
                ),
            )
            state.write_counts()
        return True

    def _row(
        self, work: _Work, line: bytes, position: int, faults: Faults
    ) -> tuple[bytes | None, bytes]:
        """Answer one line: its output line, or None and its error line."""
        state = self.state
        name = f"batch-{chance(state.seed, work.id, position):.16f}".replace("0.", "")
        custom_id: Any = None
        try:
            try:
                row = orjson.loads(line)
                custom_id, body = row.get("custom_id"), row["body"]
                assert isinstance(body, dict)
            except (ValueError, KeyError, AttributeError, AssertionError) as error:
                raise ApiProblem.of(400, "Not a valid batch request", "invalid_line") from error
            state.pay("batch_rows", line)
            if chance(faults.seed, "row", line) < faults.batch_row_error_rate:
                raise ApiProblem.of(500, "Internal server error", "internal_server_error", "1000")
            reply = self._reply(work, body, position)
        except ApiProblem as problem:
            return None, _error_line(name, custom_id, problem, position)
        state.count("tokens", reply["usage"]["total_tokens"])
        answered = {"status_code": 200, "body": reply}
        made = {"id": name, "custom_id": custom_id, "response": answered, "error": None}
        return orjson.dumps(made) + b"\n", b""

    def _reply(self, work: _Work, body: dict[str, Any], position: int) -> dict[str, Any]:
        if body.get("stream"):
            raise ApiProblem.of(400, "stream is not supported in a batch", "invalid_request_error")
        if work.model and body.get("model") not in {None, work.model}:
            message = f"The job is for {work.model}, the request asks for {body['model']}"
            raise ApiProblem.of(400, message, "invalid_request_error")
        seed = self.state.seed
        if work.endpoint == "/v1/embeddings":
            return embed(body, seed=seed, number=position, model=work.model)
        return complete(body, seed=seed, number=position, model=work.model)[1].body()

    def _finish(
        self, job: sqlite3.Row, status: str, errors: list[dict[str, Any]] | None = None
    ) -> None:
        """Turn what is done into files, and end the job."""
        from mistral_nb.simulator.anomalies import spoil

        self._work.pop(job["id"], None)
        state = self.state
        output_path = state.part_path(job["id"], "output")
        made = {}
        for part, size in (("output", job["output_bytes"]), ("error", job["error_bytes"])):
            path = state.part_path(job["id"], part)
            if not size or not path.exists():
                made[part] = None
                path.unlink(missing_ok=True)
                continue
            with path.open("r+b") as file:
                file.truncate(size)
            if path == output_path:
                spoil(path, self.faults())
            made[part] = self._adopt(job, part, path)
        if job["failed"] and not errors:
            errors = [
                {"message": "Some requests failed; see the error file", "count": job["failed"]}
            ]
        with state.lock:
            state.db.execute(
                "UPDATE jobs SET status = ?, completed_at = ?, output_file = ?, error_file = ?, "
                "errors = ?, owner = NULL WHERE id = ?",
                (
                    status,
                    time.time(),
                    made["output"],
                    made["error"],
                    orjson.dumps(errors or []).decode(),
                    job["id"],
                ),
            )

    def _adopt(self, job: sqlite3.Row, part: str, path: Path) -> str:
        state = self.state
        file_id = state.new_id("file", job["id"], part)
        size = path.stat().st_size
        with path.open("rb") as file:
            lines = sum(1 for _ in file)
        path.replace(state.file_path(file_id))
        state.add_file(
            file_id,
            filename=f"batch_{part}_{job['id']}.jsonl",
            purpose="batch",
            sample_type="batch_result" if part == "output" else "batch_error",
            source="mistral",
            bytes=size,
            num_lines=lines,
            mimetype="application/jsonl",
        )
        return file_id


def _index(source: Path, number: int, work: _Work) -> None:
    place = 0
    with source.open("rb") as file:
        for line in file:
            if line.strip():
                work.starts.append(number)
                work.starts.append(place)
            place += len(line)


def _line(work: _Work, position: int, handles: dict[int, Any]) -> bytes:
    number, start = work.starts[2 * position], work.starts[2 * position + 1]
    if number not in handles:
        handles[number] = work.sources[number].open("rb")
    handles[number].seek(start)
    line: bytes = handles[number].readline()
    return line


def _write(path: Path, start: int, lines: list[bytes]) -> int:
    """Write lines at a place, over what a killed process may have left behind it."""
    if not lines:
        return start
    data = b"".join(lines)
    with path.open("r+b" if path.exists() else "wb") as file:
        file.seek(start)
        file.write(data)
    return start + len(data)


def _error_line(name: str, custom_id: Any, problem: ApiProblem, position: int) -> bytes:
    """Write an error in one of the three forms that real error files hold."""
    line: dict[str, Any] = {"id": name, "custom_id": custom_id, "response": None, "error": None}
    if position % 3 == 0:
        line["error"] = str(problem)
    elif position % 3 == 1:
        line["error"] = {"message": str(problem), "code": problem.status}
    else:
        line["response"] = {"status_code": problem.status, "body": problem.body}
    return orjson.dumps(line) + b"\n"
