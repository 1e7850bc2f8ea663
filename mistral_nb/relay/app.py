"""The relay's web app: chats and jobs over HTTP, their events as server-sent events."""

# No "from __future__ import annotations" here: FastAPI reads the routes' annotations, and could
# not find what is local to the functions that add them.

import hmac
import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mistral_nb.errors import ApiError, InputError, JobError, MistralNbError
from mistral_nb.relay.channels import Channel, follow
from mistral_nb.relay.desk import Busy, Desk

__all__ = ["create_app"]

STATIC = Path(__file__).parent / "static"
PAGE_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"
# As a response_class it would have FastAPI pass each event through two queues of its own.
EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
# Nothing between may hold an event back: not to keep it, not to compress it, not to fill a page.
REPLAYED = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}


class ChatRequest(BaseModel):
    """A chat: ``messages`` or ``prompt``, and any option of a chat stream (temperature, ...)."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    messages: list[dict[str, Any]] | None = None
    prompt: str | None = None
    model: str | None = None
    system: str | None = None
    callback_url: str | None = Field(None, alias="callbackUrl")

    def body(self) -> dict[str, Any]:
        """Return the arguments of a stream."""
        if (self.messages is None) == (self.prompt is None):
            raise InputError("Send either messages or a prompt.")
        given = self.model_dump(exclude={"prompt", "messages", "callback_url"}, exclude_none=True)
        return {**given, "messages": self.messages if self.prompt is None else self.prompt}


class JobRequest(BaseModel):
    """A job: its handler's name and data, and how it is to be tried."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: str
    data: Any = None
    job_id: str | None = Field(None, alias="jobId")
    attempts: int = 3
    backoff: float = 1.0
    timeout: float = 120.0
    delay: float = 0.0
    priority: int = 0
    callback_url: str | None = Field(None, alias="callbackUrl")


class Guard:
    """Who may do what: one bearer token for all, and a ticket that opens one stream.

    A browser's EventSource can send no header, so the address of a stream carries a ticket
    of its own; a token in an address would end up in logs and give away everything.

    Args:
        token: The bearer token; None lets everybody in.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token
        self._key = secrets.token_bytes(32) if token is None else token.encode()

    def ticket(self, stream_id: str) -> str:
        """Return what opens one stream."""
        return hmac.new(self._key, stream_id.encode(), "sha256").hexdigest()[:32]

    def check(self, request: Request) -> None:
        """Raise 401 unless the request brings the token."""
        if self._token is None:
            return
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not _same(given, self._token):
            raise HTTPException(
                401,
                "Send the relay's token: 'Authorization: Bearer ...'. It was printed at its start.",
                {"www-authenticate": "Bearer"},
            )

    def check_stream(self, request: Request, stream_id: str, ticket: str | None) -> None:
        """Raise 401 unless the request brings the stream's ticket or the token."""
        if ticket is None or not _same(ticket, self.ticket(stream_id)):
            self.check(request)


def create_app(
    desk: Desk,
    *,
    token: str | None,
    hosts: Sequence[str] = ("*",),
    cors: Collection[str] = (),
    max_body: int = 1_000_000,
) -> FastAPI:
    """Build the app.

    Args:
        desk: What it serves.
        token: Bearer token that every request but health and the page must bring; None for
            none.
        hosts: Names it may be called by (the Host header); ``*`` for any.
        cors: Origins whose pages may call it.
        max_body: Largest request body in bytes.

    Returns:
        An ASGI application.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await desk.open()
        yield
        await desk.close()

    app = FastAPI(
        title="mistral_nb relay",
        description="Chats and background jobs, followed as server-sent events.",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
    )
    guard = Guard(token)
    _add_chats(app, desk, guard)
    _add_jobs(app, desk, guard)
    _add_page(app)
    app.add_exception_handler(MistralNbError, _refuse)
    app.add_middleware(_BodyLimit, limit=max_body)
    if cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "last-event-id"],
        )
    if "*" not in hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return app


def _add_chats(app: FastAPI, desk: Desk, guard: Guard) -> None:
    """Add the routes of chats and their streams."""

    def stream_url(channel: Channel) -> str:
        return f"/api/streams/{channel.id}?ticket={guard.ticket(channel.id)}"

    async def opened(
        request: Request, stream_id: str, ticket: Annotated[str | None, Query()] = None
    ) -> Channel:
        guard.check_stream(request, stream_id, ticket)
        channel = await desk.find(stream_id)
        if channel is None:
            raise HTTPException(404, f"No stream {stream_id!r}: it never was, or is too old.")
        return channel

    @app.post("/api/chat/stream", responses=EVENTS, dependencies=[Depends(guard.check)])
    async def stream_chat(
        chat: ChatRequest, last_event_id: Annotated[str | None, Header()] = None
    ) -> Response:
        """Ask, and receive the events at once. With Last-Event-ID, go on with that stream."""
        if last_event_id:
            channel = await desk.find(last_event_id.partition(":")[0])
            if channel is None:
                raise HTTPException(404, "The stream of this Last-Event-ID is not kept any more.")
        else:
            channel = desk.chat(chat.body(), chat.callback_url)
        return _events(channel, last_event_id, {"x-stream-url": stream_url(channel)})

    @app.post("/api/chat", status_code=202, dependencies=[Depends(guard.check)])
    async def start_chat(chat: ChatRequest) -> dict[str, str]:
        """Ask, and be told where to follow the reply."""
        channel = desk.chat(chat.body(), chat.callback_url)
        return {"requestId": channel.id, "streamUrl": stream_url(channel)}

    @app.get("/api/streams/{stream_id}", responses=EVENTS)
    async def follow_stream(
        channel: Annotated[Channel, Depends(opened)],
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Follow a reply from its start, or after Last-Event-ID."""
        return _events(channel, last_event_id)

    @app.delete("/api/streams/{stream_id}", dependencies=[Depends(guard.check)])
    async def stop_stream(stream_id: str) -> dict[str, bool]:
        """Stop a reply; what has come stays readable."""
        return {"stopped": desk.stop(stream_id)}


def _add_jobs(app: FastAPI, desk: Desk, guard: Guard) -> None:
    """Add the routes of jobs."""
    queue = desk.queue

    async def found(job_id: str) -> Any:
        job = await queue.get(job_id)
        if job is None:
            raise HTTPException(404, f"The queue knows no job {job_id!r}.")
        return job

    @app.post("/api/jobs", status_code=202, dependencies=[Depends(guard.check)])
    async def add_job(job: JobRequest) -> dict[str, str]:
        """Add a job to the queue."""
        return dict(await queue.add(**job.model_dump()))

    @app.get("/api/jobs/{job_id}", dependencies=[Depends(guard.check)])
    async def show_job(job: Annotated[Any, Depends(found)]) -> dict[str, Any]:
        """Say how a job is."""
        return dict((await job.refresh()).as_dict())

    @app.get("/api/jobs/{job_id}/events", responses=EVENTS)
    async def follow_job(
        request: Request,
        job_id: str,
        ticket: Annotated[str | None, Query()] = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Follow a job to its end."""
        guard.check_stream(request, f"job.{job_id}", ticket)
        return _events(await desk.job(await found(job_id)), last_event_id)

    @app.delete("/api/jobs/{job_id}", dependencies=[Depends(guard.check)])
    async def cancel_job(job: Annotated[Any, Depends(found)]) -> dict[str, bool]:
        """Cancel a job."""
        return {"cancelled": await job.cancel()}


def _add_page(app: FastAPI) -> None:
    """Add health, and the page that shows a stream."""

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Say that the relay is there."""
        return {"status": "ok"}

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        headers = {"content-security-policy": PAGE_POLICY, "referrer-policy": "no-referrer"}
        return FileResponse(STATIC / "index.html", headers=headers)

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> FileResponse:
        if name not in {"relay.js", "relay.css"}:
            raise HTTPException(404)
        return FileResponse(STATIC / name)


def _events(
    channel: Channel, last_event_id: str | None, headers: dict[str, str] | None = None
) -> Response:
    number = channel.position(_number(channel, last_event_id))
    if channel.knows_all(number):
        return Response(status_code=204)  # tells an EventSource to come no more
    return EventSourceResponse(follow(channel, number), headers={**REPLAYED, **(headers or {})})


def _number(channel: Channel, last_event_id: str | None) -> int:
    """Read how far a listener has come; its id is ``stream:number``, or the number alone."""
    if not last_event_id:
        return 0
    stream_id, _, number = last_event_id.rpartition(":")
    if stream_id not in {"", channel.id} or not (number.isascii() and number.isdigit()):
        raise HTTPException(400, f"Last-Event-ID {last_event_id[:80]!r} is not of this stream.")
    return int(number[:12])


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    """Answer one of our errors with its sentence."""
    status = 502
    if isinstance(error, InputError):
        status = 422
    elif isinstance(error, Busy):
        status = 503
    elif isinstance(error, JobError):
        status = 409
    elif isinstance(error, ApiError):
        status = error.status_code
    return JSONResponse({"detail": str(error)}, status)


def _same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(), known.encode())


class _BodyLimit:
    """Refuses a body that is too large, however it is sent."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self._limit:
            await self._too_large(scope, receive, send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limit:
                raise HTTPException(413, self._reason)
            return message

        await self._app(scope, counted, send)

    @property
    def _reason(self) -> str:
        return f"The body is larger than {self._limit:,} bytes."

    async def _too_large(self, scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({"detail": self._reason}, 413)(scope, receive, send)
