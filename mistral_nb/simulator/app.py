"""The web app: routes, the key check, and the faults and limits around them."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from mistral_nb.explaining import misfit
from mistral_nb.simulator import agents, conversations, files, jobs, tokens
from mistral_nb.simulator.catalogue import all_models, find_model
from mistral_nb.simulator.chat import Completion, complete
from mistral_nb.simulator.endpoints import PLAIN, answer_body
from mistral_nb.simulator.faults import Faults
from mistral_nb.simulator.fim import complete_fim
from mistral_nb.simulator.gate import Gate
from mistral_nb.simulator.replaying import Replaying
from mistral_nb.simulator.replies import JsonReply, read_body
from mistral_nb.simulator.scripted import Script
from mistral_nb.simulator.streams import EventStream
from mistral_nb.simulator.validation import ApiProblem

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from mistral_nb.simulator.server import Core

__all__ = ["create_app"]

NOT_SIMULATED = (
    "/v1/agents/completions",
    "/v1/audio",
    "/v1/fine_tuning",
    "/v1/libraries",
)
LARGE_BODY = 64 * 1024


def create_app(core: Core) -> Starlette:
    """Build the app.

    Args:
        core: What it serves: state, worker, faults, limits and options.

    Returns:
        A Starlette app; its ``state.core`` is ``core``.
    """
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/fim/completions", fim, methods=["POST"]),
            *(Route(path, plain, methods=["POST"]) for path in sorted(PLAIN)),
            Route("/v1/models", models),
            Route("/v1/models/{model_id}", model),
            Route("/v1/files", files.upload, methods=["POST"]),
            Route("/v1/files", files.listing),
            Route("/v1/files/{file_id}", files.retrieve),
            Route("/v1/files/{file_id}", files.delete, methods=["DELETE"]),
            Route("/v1/files/{file_id}/content", files.content),
            Route("/v1/files/{file_id}/url", files.signed_url),
            Route("/v1/batch/jobs", jobs.create, methods=["POST"]),
            Route("/v1/batch/jobs", jobs.listing),
            Route("/v1/batch/jobs/{job_id}", jobs.retrieve),
            Route("/v1/batch/jobs/{job_id}", jobs.delete, methods=["DELETE"]),
            Route("/v1/batch/jobs/{job_id}/cancel", jobs.cancel, methods=["POST"]),
            *agents.ROUTES,
            *conversations.ROUTES,
            Route("/simulator/stats", stats),
            Route("/simulator/faults", read_faults),
            Route("/simulator/faults", write_faults, methods=["POST"]),
            Route("/simulator/script", write_script, methods=["POST"]),
            Route("/simulator/forget", conversations.forget, methods=["POST"]),
            Route("/simulator/files/{file_id}", files.download_signed),
        ],
        exception_handlers={ApiProblem: _refuse, HTTPException: _refuse_http},
    )
    app.state.core = core
    app.state.store = core.state
    app.state.worker = core.worker
    app.state.secret = secrets.token_bytes(16)
    app.add_middleware(Replaying, core=core)  # within the gate: faults strike here as well
    app.add_middleware(Gate, core=core)
    return app


async def chat(request: Request) -> Response:
    """``POST /v1/chat/completions``, plain or streamed as the body says."""
    core: Core = request.app.state.core
    raw = await read_body(request)
    number = core.number()
    answer = partial(
        complete, raw, seed=core.seed, number=number, cache=core.prompts, script=core.script
    )
    if tokens.loaded() and len(raw) < LARGE_BODY:
        wanted, done = answer()
    else:  # other streams must not wait for it
        wanted, done = await asyncio.to_thread(answer)
    core.state.pay("chat", raw)
    known = find_model(wanted.model)
    retired = known.deprecation if known else None
    return _completion(core, done, stream=wanted.stream, retired=retired)


async def fim(request: Request) -> Response:
    """``POST /v1/fim/completions``, plain or streamed as the body says."""
    core: Core = request.app.state.core
    raw = await read_body(request)
    number = core.number()
    wanted, done = await asyncio.to_thread(complete_fim, raw, seed=core.seed, number=number)
    core.state.pay("fim", raw)
    return _completion(core, done, stream=wanted.stream)


def _completion(
    core: Core, done: Completion, *, stream: bool, retired: str | None = None
) -> Response:
    used = done.usage["total_tokens"]
    headers = _billed(core, used)
    if core.faults.deprecation:
        headers["x-model-deprecation-timestamp"] = f"{retired or '2027-01-31'}T12:00:00Z"
    if not stream:
        return JsonReply(done.body(), headers=headers)
    return EventStream(
        done.chunks(whole_calls=core.whole_calls),
        delay=core.chunk_delay,
        faults=core.faults,
        stats=core.stats,
        headers=headers,
    )


async def plain(request: Request) -> Response:
    """``POST`` to an endpoint that never streams: embeddings, moderations, OCR and the like."""
    core: Core = request.app.state.core
    raw = await read_body(request)
    number = core.number()
    path = request.url.path
    body, used = await asyncio.to_thread(answer_body, path, raw, number=number, state=core.state)
    core.state.pay(path.removeprefix("/v1/"), raw)
    return JsonReply(body, headers=_billed(core, used))


def _billed(core: Core, used: int) -> dict[str, str]:
    """Count tokens as used; return the headers that tell of the rate limits."""
    core.state.count("tokens", used)
    core.limiter.spend(used)
    return core.limiter.headers(used)


async def models(request: Request) -> Response:
    """``GET /v1/models``."""
    wanted = request.query_params.get("model")
    named = all_models().items()
    data = [known.card(name) for name, known in named if wanted in {None, name}]
    return JsonReply({"object": "list", "data": data})


async def model(request: Request) -> Response:
    """``GET /v1/models/{model_id}``."""
    name = str(request.path_params["model_id"])
    known = find_model(name)
    if known is None:
        raise ApiProblem.of(404, f"Model not found: {name}", "invalid_model", "1500")
    return JsonReply(known.card(name))


async def stats(request: Request) -> Response:
    """``GET /simulator/stats``."""
    return JsonReply(request.app.state.core.stats.snapshot())


async def read_faults(request: Request) -> Response:
    """``GET /simulator/faults``."""
    return JsonReply(asdict(request.app.state.core.faults))


async def write_faults(request: Request) -> Response:
    """``POST /simulator/faults``: the faults to have from now on; those left out are off."""
    try:
        wanted: dict[str, Any] = TypeAdapter(dict[str, Any]).validate_json(await read_body(request))
        unknown = wanted.keys() - asdict(Faults()).keys()
        if unknown:
            raise ApiProblem.of(422, f"Unknown faults: {', '.join(sorted(unknown))}", "invalid")
        request.app.state.core.set_faults(TypeAdapter(Faults).validate_python(wanted))
    except ValueError as error:
        raise _wrong(error) from error
    return await read_faults(request)


async def write_script(request: Request) -> Response:
    """``POST /simulator/script``: the replies to give from now on, a list; ``[]`` for none."""
    try:
        script = Script(TypeAdapter(list[Any]).validate_json(await read_body(request)))
    except ValueError as error:
        raise _wrong(error) from error
    request.app.state.core.script = script
    return JsonReply({"lines": len(script)})


def _wrong(error: ValueError) -> ApiProblem:
    reason = misfit(error) if isinstance(error, ValidationError) else str(error)
    return ApiProblem.of(422, reason, "invalid")


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiProblem)
    return JsonReply(error.body, status_code=error.status, headers=error.headers)


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    removal = request.method == "DELETE" and path.startswith("/v1/models/")
    if error.status_code in {404, 405} and (removal or path.startswith(NOT_SIMULATED)):
        problem = ApiProblem.of(
            501,
            f"The simulator does not offer {request.method} {path}. "
            "Set MISTRAL_API_KEY to use Mistral's own server.",
            "not_simulated",
        )
        return JsonReply(problem.body, status_code=501)
    body = {"detail": error.detail}
    if error.status_code == 404 and not path.startswith("/simulator"):  # noqa: PLR2004
        # What stands before the API's servers answers where no server does (seen live).
        number = uuid.uuid5(uuid.NAMESPACE_URL, f"{request.method} {path}").hex
        body = {"message": "no Route matched with those values", "request_id": number}
    return JsonReply(body, status_code=error.status_code, headers=error.headers)
