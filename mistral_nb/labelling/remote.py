"""The batch server, with patience: every call survives what passes, and says what does not.

Calls that cost nothing are simply repeated. Creating a job costs money, and a lost reply
does not say whether it was created: so it is looked for by its metadata before another try.
"""

from __future__ import annotations

import os
import random
import time
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import httpx2

from mistral_nb.errors import (
    ApiError,
    MistralNbError,
    NotFoundError,
    RateLimitError,
    RunError,
    ServerError,
    ServerUnreachable,
    StoreError,
)
from mistral_nb.explaining import explain
from mistral_nb.labelling.answers import error_text
from mistral_nb.labelling.crews import BatchState, Gone
from mistral_nb.labelling.folder import adopt_file, open_requests

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from mistralai.client.models import BatchJob

    from mistral_nb.client import Connection

__all__ = ["Remote", "passing"]

T = TypeVar("T")
LONGEST_PAUSE = 60.0
PROBE_PATIENCE = 3.0
UPLOAD_TIMEOUT = 600.0
LIST_PAGES = 1000
_PASSING_STATUS = 408


class Remote:
    """Calls to the server's files and batch jobs.

    Args:
        connection: The server.
        patience: Seconds without any answer after which a call gives up.
        trouble: Told in plain words when a call has to be repeated; "" when it is over.
    """

    longest_pause = 30.0

    def __init__(
        self, connection: Connection, patience: float, trouble: Callable[[str], None]
    ) -> None:
        self._connection = connection
        self._patience = patience
        self._trouble = trouble

    async def check(self, model: str) -> None:
        """Find out early whether the key, the address and the model can work.

        A server without a list of models is not held against it.

        Raises:
            ServerUnreachable: No server is there.
            AuthenticationError: The key is wrong.
            NotFoundError: The model is not known.
        """
        sdk = self._connection.sdk
        try:
            listed = await self._patiently(sdk.models.list_async, patience=PROBE_PATIENCE)
        except (NotFoundError, ServerError, RateLimitError):
            return
        except ApiError as error:
            if error.status_code in {405, 501}:
                return
            raise
        known = [str(getattr(each, "id", "")) for each in listed.data or ()]
        if model in known:
            return
        try:
            await self._patiently(
                lambda: sdk.models.retrieve_async(model_id=model), patience=PROBE_PATIENCE
            )
        except NotFoundError as error:
            near = get_close_matches(model, known, n=3)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise NotFoundError(
                f"The server does not know the model {model!r}.{hint} "
                "Choose another with model=. Nothing was sent.",
                status_code=404,
                code=error.code,
            ) from error
        except ServerError:
            return

    async def upload(self, path: Path, name: str, size: int, *, maybe_there: bool) -> str:
        """Upload a file of requests.

        Args:
            path: JSONL file; it is streamed, not read into memory.
            name: File name at the server, unique to this content.
            size: Its bytes.
            maybe_there: True if an earlier try may have got through.

        Returns:
            The file's id.

        Raises:
            RunError: What arrived is not what was sent.
        """
        tries = 0

        async def attempt() -> tuple[str, int]:
            nonlocal tries
            tries += 1
            found = await self._find_file(name, size) if maybe_there or tries > 1 else None
            return (found, size) if found is not None else await self._upload(path, name)

        file_id, arrived = await self._patiently(attempt)
        if arrived != size:
            raise RunError(
                f"The server stored {arrived:,} bytes of {name}, but {size:,} were sent. "
                "No job was created. Call the run again."
            )
        return file_id

    async def _upload(self, path: Path, name: str) -> tuple[str, int]:
        from mistralai.client.models import File

        with open_requests(path) as content:  # httpx reads it in small pieces
            made = await self._connection.sdk.files.upload_async(
                file=File(file_name=name, content=content),
                purpose="batch",
                timeout_ms=round(UPLOAD_TIMEOUT * 1000),
            )
        return str(made.id), made.size_bytes

    async def _find_file(self, name: str, size: int) -> str | None:
        files = self._connection.sdk.files
        try:
            listed = await self._patiently(
                lambda: files.list_async(search=name, purpose="batch", page_size=100)
            )
        except ApiError:  # not every server can list files
            return None
        for each in listed.data or ():
            if each.filename == name and each.size_bytes == size:
                return str(each.id)
        return None

    async def create_job(
        self,
        *,
        file_id: str,
        endpoint: Any,
        model: str,
        metadata: dict[str, str],
        timeout_hours: int,
        maybe_created: bool,
    ) -> BatchState:
        """Create a batch job exactly once: see :class:`mistral_nb.labelling.crews.Crew`.

        Returns:
            The job, new or found.
        """
        jobs = self._connection.sdk.batch.jobs
        started = time.monotonic()
        for tries in range(1_000_000):
            if maybe_created:
                found = await self._find_job(metadata)
                if found is None:  # what was under way at a crash may arrive late
                    await anyio.sleep(2.0)
                    found = await self._find_job(metadata)
                if found is not None:
                    self._trouble("")
                    return _state(found)
            try:
                made = await jobs.create_async(
                    input_files=[file_id],
                    endpoint=endpoint,
                    model=model,
                    metadata=metadata,
                    timeout_hours=timeout_hours,
                )
            except Exception as error:
                problem = explain(error, self._connection)
                # A refusal says that no job was made; a lost reply or a 5xx does not.
                maybe_created = maybe_created or not isinstance(problem, RateLimitError)
                await self._pause_or_raise(error, problem, tries, started, self._patience)
            else:
                self._trouble("")
                return _state(made)
        raise AssertionError

    async def _find_job(self, metadata: dict[str, str]) -> BatchJob | None:
        """Look for the job with this metadata; a server may ignore the filter."""
        jobs = self._connection.sdk.batch.jobs
        seen = 0
        for page in range(LIST_PAGES):
            listed = await self._patiently(
                partial(jobs.list_async, page=page, page_size=100, metadata=metadata)
            )
            found = listed.data or []
            for job in found:
                if isinstance(job.metadata, dict) and metadata.items() <= job.metadata.items():
                    return job
            seen += len(found)
            if not found or seen >= listed.total:
                return None
        return None

    async def job(self, job_id: str) -> BatchState:
        """Ask how a job is doing."""
        jobs = self._connection.sdk.batch.jobs
        try:
            return _state(await self._patiently(lambda: jobs.get_async(job_id=job_id)))
        except NotFoundError as error:
            raise Gone(
                f"The server no longer knows the batch job {job_id}. Was it deleted, or is this "
                "another workspace or key than the one that created it?"
            ) from error

    async def cancel(self, job_id: str) -> BatchState:
        """Ask the server to cancel a job."""
        jobs = self._connection.sdk.batch.jobs
        return _state(await self._patiently(lambda: jobs.cancel_async(job_id=job_id)))

    async def download(self, file_id: str, path: Path) -> None:
        """Download a file to disk: whole and safe under its name, or not there at all."""
        part = path.with_suffix(".part")
        try:
            await self._patiently(lambda: self._download(file_id, part))
        except NotFoundError as error:
            raise Gone(
                f"The server no longer has the file of answers {file_id}: it keeps them for a "
                "limited time only, and shows them to the workspace that asked."
            ) from error
        try:
            adopt_file(part, path)
        except OSError as error:
            raise _full(path, error) from error

    async def _download(self, file_id: str, part: Path) -> None:
        response = await self._connection.sdk.files.download_async(file_id=file_id)
        try:
            with part.open("wb", buffering=1 << 20) as file:
                async for piece in response.aiter_bytes():
                    file.write(piece)
                file.flush()
                await anyio.to_thread.run_sync(os.fsync, file.fileno())
        except OSError as error:
            raise _full(part, error) from error
        finally:
            await response.aclose()

    async def _patiently(
        self, call: Callable[[], Awaitable[T]], patience: float | None = None
    ) -> T:
        """Repeat a call that may be repeated, until it works or cannot work."""
        patience = self._patience if patience is None else patience
        started = time.monotonic()
        for tries in range(1_000_000):
            try:
                found = await call()
            except Exception as error:
                problem = explain(error, self._connection)
                await self._pause_or_raise(error, problem, tries, started, patience)
            else:
                self._trouble("")
                return found
        raise AssertionError

    async def _pause_or_raise(
        self,
        error: Exception,
        problem: MistralNbError,
        tries: int,
        started: float,
        patience: float,
    ) -> None:
        """Wait before the next try; raise if there should be none."""
        waited = time.monotonic() - started
        if not passing(error, problem) or waited >= patience:
            raise problem from error
        pause = min(LONGEST_PAUSE, 0.25 * 2 ** min(tries, 10)) * random.uniform(0.8, 1.2)  # noqa: S311
        if isinstance(problem, ApiError) and problem.retry_after is not None:
            pause = max(pause, problem.retry_after)
        self._trouble(f"{_first_sentence(problem)} Trying again ({tries + 1}).")
        await anyio.sleep(pause)


def passing(error: Exception, problem: MistralNbError) -> bool:
    """Return True for an error that may be gone at the next try."""
    if isinstance(problem, (RateLimitError, ServerError)):
        return True
    if isinstance(problem, ApiError):
        return problem.status_code == _PASSING_STATUS
    if isinstance(problem, ServerUnreachable):
        return not isinstance(error, (httpx2.UnsupportedProtocol, httpx2.TooManyRedirects))
    return False


def _state(job: BatchJob) -> BatchState:
    return BatchState(
        job.id,
        job.status,
        job.completed_requests,
        job.failed_requests,
        _id(job.output_file),
        _id(job.error_file),
        "; ".join(error_text(each.message) for each in job.errors[:3]),
    )


def _id(value: Any) -> str | None:
    """Return a file's id, or None where the server gave none."""
    return value if isinstance(value, str) and value else None


def _first_sentence(problem: MistralNbError) -> str:
    return str(problem).split(". ", maxsplit=1)[0].rstrip(".") + "."


def _full(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"Cannot write {path}: {error.strerror or error}. Free some space and resume the run: "
        "its answers wait at the server."
    )
