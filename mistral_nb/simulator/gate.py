"""Everything that may happen to a request before its route: key, limits, faults, counting."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.routing import Match

from mistral_nb.simulator.endpoints import ENDPOINTS
from mistral_nb.simulator.replies import JsonReply
from mistral_nb.simulator.validation import ApiProblem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mistral_nb.simulator.server import Core

__all__ = ["Gate"]

LIMITED = (*ENDPOINTS, "/v1/conversations")


class LostReply(Exception):  # noqa: N818
    """The work is done and nobody is told: the connection closes before the body."""


class Gate:
    """ASGI middleware around the routes.

    Args:
        app: The routes.
        core: Keys, limits, faults and counts.
    """

    def __init__(self, app: ASGIApp, core: Core) -> None:
        self.app = app
        self.core = core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["path"].startswith("/v1"):
            await self._api(scope, receive, send)
        elif "origin" in Headers(scope=scope):
            # A page in a browser must not steer a simulator on the reader's machine.
            refusal = JsonReply({"detail": "Not for web pages"}, status_code=403)
            await refusal(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _api(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        losing = self.core.strikes("lost_reply_rate")

        def count(status: int) -> None:
            self.core.stats.requested(scope["method"], _route(scope), status)

        async def counted(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                # Counted before it is sent: who has the answer finds it in the counts.
                count(message["status"])
            elif losing:  # only once a response has begun does the server hang up, not answer 500
                raise LostReply
            await send(message)

        try:
            if self.core.faults.latency:
                await asyncio.sleep(self.core.faults.latency)
            problem = self._problem(scope)
            if problem is None:
                await self.app(scope, receive, counted)
            else:
                # An unread body would break the connection for the next request on it.
                while (await receive()).get("more_body"):
                    pass
                refusal = JsonReply(
                    problem.body, status_code=problem.status, headers=problem.headers
                )
                await refusal(scope, receive, counted)
        finally:
            if not started:
                count(500)

    def _problem(self, scope: Scope) -> ApiProblem | None:
        core = self.core
        # A recording has its own refusals, and whoever replays one may have no key.
        if core.player is None and not _key_is_good(Headers(scope=scope), core.api_keys):
            return ApiProblem(401, {"detail": "Unauthorized"})
        faults = core.faults
        path = scope["path"]
        polled = path.startswith("/v1/batch/jobs/") and scope["method"] == "GET"
        if polled and (core.first("batch_poll_errors") or core.strikes("batch_poll_error_rate")):
            return _server_error(503)
        if core.strikes("rate_limit_rate"):
            return _too_many(faults.retry_after, core.limiter.headers())
        if core.strikes("error_rate"):
            return _server_error(faults.error_status)
        if scope["method"] == "POST" and path.startswith(LIMITED) and not core.limiter.admit():
            wait = faults.retry_after
            if wait is None and core.send_retry_after:
                wait = core.limiter.wait()
            return _too_many(wait, core.limiter.headers())
        return None


def _key_is_good(headers: Headers, keys: frozenset[str] | None) -> bool:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    key = key.strip() or headers.get("x-api-key", "")
    if not key or (scheme and scheme.lower() != "bearer"):
        return False
    if keys is not None:
        return key in keys
    return not key.startswith(("wrong", "invalid"))


def _server_error(status: int) -> ApiProblem:
    names = {500: "Internal server error", 502: "Bad gateway", 503: "Service unavailable"}
    message = names.get(status, "The server failed")
    return ApiProblem.of(status, message, "internal_server_error", "1000")


def _too_many(retry_after: float | None, headers: dict[str, str]) -> ApiProblem:
    problem = ApiProblem.of(429, "Rate limit exceeded", "rate_limited", "1300")
    problem.body["raw_status_code"] = 429
    problem.headers.update(headers)
    if retry_after is not None:
        problem.headers["retry-after"] = str(math.ceil(retry_after))
    return problem


def _route(scope: Scope) -> str:
    """Return the route's pattern, so that counts do not grow with every id."""
    app = scope.get("app")
    for route in app.routes if app is not None else ():
        if route.matches(scope)[0] is not Match.NONE:
            return str(route.path)
    return "unknown"
