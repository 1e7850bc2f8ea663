"""MCP servers: their tools become tools of a conversation (needs the extra ``agents``)."""

from __future__ import annotations

import asyncio
import base64
import re
import shlex
from typing import TYPE_CHECKING, Any, Self

from mistral_nb import portal as portals
from mistral_nb.agents.results import ToolResult, as_result, cut
from mistral_nb.agents.tools import Tool
from mistral_nb.errors import InputError, MissingPackage, MistralNbError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mistral_nb.portal import Portal

__all__ = ["McpServer", "mcp_server"]

START_SECONDS = 30.0
"""Longest wait for a server's first words."""
CLOSE_SECONDS = 5.0
_UNSAFE = re.compile(r"[^a-zA-Z0-9_-]")


def mcp_server(
    target: str | Sequence[str],
    *,
    prefix: str = "",
    headers: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    approve: Any = None,
    timeout: float | None = None,
) -> McpServer:
    """Connect to an MCP server and learn its tools.

    Args:
        target: Address of one that is reached by HTTP, or the command that starts one here
            (a list, or a line as in a shell).
        prefix: Put before every tool's name, where names of two servers collide.
        headers: Sent with every request, e.g. a key; never shown.
        env: Environment variables for the command.
        approve: Consent for its tools; None leaves it to the conversation.
        timeout: Seconds a call may take; None leaves it to the conversation.

    Returns:
        The server: pass it in ``tools=[server]``; close it, or use it as a context.

    Raises:
        InputError: The target is neither.
        MissingPackage: The extra ``agents`` is not installed.
        MistralNbError: It does not start, or does not answer.
    """
    client = _client(target, headers, env)
    shown = target if isinstance(target, str) else shlex.join(target)
    server = McpServer(portals.shared(), client, shown)
    server.tools += [
        Tool(
            name=_UNSAFE.sub("_", f"{prefix}{found.name}")[:64],
            description=found.description or "",
            parameters=dict(found.input_schema),
            function=_caller(server, found.name),
            approve=approve,
            timeout=timeout,
        )
        for found in server.listed
    ]
    return server


class McpServer:
    """A connected MCP server; iterating it gives its tools.

    Args:
        portal: The loop its session runs on.
        client: One of the SDK's MCP clients.
        shown: How it shows.

    Attributes:
        tools: Its tools.
        listed: The same as the server described them (MCP's own models).
    """

    def __init__(self, portal: Portal, client: Any, shown: str) -> None:
        self.tools: list[Tool] = []
        self.listed: list[Any] = []
        self._client = client
        self._shown = shown
        self._portal = portal
        self._closing = asyncio.Event()
        self._ready: asyncio.Future[None] | None = None
        self._session = portal.spawn(self._hold)
        portal.call(self._wait)
        portal.on_close(self._close)

    def __repr__(self) -> str:
        names = ", ".join(tool.name for tool in self.tools)
        return f"McpServer({self._shown}: {names})"

    def __iter__(self) -> Iterator[Tool]:
        return iter(self.tools)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session, and the process if it was started here; twice does no harm."""
        self._portal.call(self._close)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Call a tool; runs on the portal's loop.

        Args:
            name: As the server calls it.
            arguments: Values by parameter.

        Returns:
            Its text and its pictures.

        Raises:
            MistralNbError: The tool says that it failed, or the session has ended.
        """
        if self._session.done() or self._closing.is_set():
            raise self._ended("is closed")
        from mcp import MCPError
        from mcp.types import CONNECTION_CLOSED

        try:
            # Not the SDK's execute_tool, which knows no pictures and takes errors for results.
            result = await self._client._session.call_tool(name, dict(arguments))  # noqa: SLF001
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                raise self._ended("has ended") from error
            raise
        found = _as_result(result.content)
        if result.is_error:
            raise MistralNbError(cut(found.text))
        return found

    def _ended(self, how: str) -> MistralNbError:
        return MistralNbError(
            f"The MCP server {self._shown} {how}. Open it again with mnb.agents.mcp_server."
        )

    async def _list_tools(self) -> list[Any]:
        """Return all tools, page by page: the SDK's get_tools reads the first page only."""
        from mcp.types import PaginatedRequestParams

        found: list[Any] = []
        cursor: str | None = None
        while True:
            params = PaginatedRequestParams(cursor=cursor)
            page = await self._client._session.list_tools(params=params)  # noqa: SLF001
            found += page.tools
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def _hold(self) -> None:
        """Hold the session open: it must end in the task in which it began."""
        self._ready = self._ready or asyncio.get_running_loop().create_future()
        try:
            await self._client.initialize()
            self.listed = await self._list_tools()
            self._ready.set_result(None)
            await self._closing.wait()
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(_explained(error, self._shown))
            if not isinstance(error, Exception):
                raise
        finally:
            await self._client.aclose()

    async def _wait(self) -> None:
        self._ready = self._ready or asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), START_SECONDS)
        except TimeoutError:
            self._session.cancel()
            raise MistralNbError(
                f"The MCP server {self._shown} did not answer within {START_SECONDS:g} s. "
                "Does the command or address speak MCP?"
            ) from None

    async def _close(self) -> None:
        self._closing.set()
        await asyncio.wait({asyncio.wrap_future(self._session)}, timeout=CLOSE_SECONDS)


def _client(
    target: str | Sequence[str], headers: Mapping[str, str] | None, env: Mapping[str, str] | None
) -> Any:
    """Make the SDK's client for an address or a command."""
    if not target:
        raise InputError("An MCP server needs an address or a command.")
    try:
        if isinstance(target, str) and target.startswith(("http://", "https://")):
            from mistralai.extra.mcp.streamable_http import (
                MCPClientStreamableHTTP,
                StreamableHTTPServerParams,
            )

            params = StreamableHTTPServerParams(url=target, headers=dict(headers or {}))
            return MCPClientStreamableHTTP(params)
        from mcp import StdioServerParameters
        from mistralai.extra.mcp.stdio import MCPClientSTDIO
    except ImportError as error:
        raise MissingPackage("An MCP server", "mcp", "agents") from error
    command = shlex.split(target) if isinstance(target, str) else list(target)
    started = StdioServerParameters(
        command=command[0], args=command[1:], env=None if env is None else dict(env)
    )
    return MCPClientSTDIO(started)


def _caller(server: McpServer, name: str) -> Any:
    async def call(**arguments: Any) -> ToolResult:
        return await server.call(name, arguments)

    return call


def _as_result(content: Iterable[Any]) -> ToolResult:
    """Return the text and the pictures of a tool's answer; of anything else, that it was there."""
    parts = [_part(each) for each in content]
    media = tuple(picture for part in parts for picture in part.media)
    return ToolResult("\n".join(part.text for part in parts), media)


def _part(content: Any) -> ToolResult:
    if content.type == "text":
        return ToolResult(content.text)
    if content.type != "image":
        return ToolResult(f"[{content.type}; not shown]")
    try:
        return as_result(base64.b64decode(content.data))
    except ValueError:
        return as_result(b"")


def _explained(error: BaseException, shown: str) -> MistralNbError:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, asyncio.CancelledError):  # how the protocol's client ends a failed start
        reason = "nothing that speaks MCP answers"
    elif isinstance(error, FileNotFoundError):
        reason = f"there is no command {error.filename!r}"
    return MistralNbError(
        f"The MCP server {shown} did not start: {reason}. Check the command or address."
    )
