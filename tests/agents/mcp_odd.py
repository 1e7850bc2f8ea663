"""An MCP server with odd habits, by stdio: pages of one tool, pictures, noise, sudden death."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TOOLS = ["draw_dot", "make_noise", "leave_now"]


async def list_tools(_: Any, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    """Return one tool, and where the next one is."""
    place = int(params.cursor) if params and params.cursor else 0
    after = str(place + 1) if place + 1 < len(TOOLS) else None
    made = types.Tool(name=TOOLS[place], input_schema={"type": "object"})
    return types.ListToolsResult(tools=[made], next_cursor=after)


async def call_tool(_: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    """Do what the tool's name says."""
    if params.name == "leave_now":
        os._exit(3)
    if params.name == "make_noise":
        os.write(1, b"this is no protocol\n" * 10)
    picture = types.ImageContent(data=DOT, mime_type="image/png")
    broken = types.ImageContent(data="?", mime_type="image/png")
    sound = types.AudioContent(data="", mime_type="audio/wav")
    return types.CallToolResult(content=[types.TextContent(text="Here:"), picture, broken, sound])


async def main() -> None:
    """Serve until the pipe is closed."""
    server: Any = Server("odd", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(main())
