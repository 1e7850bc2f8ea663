"""A small MCP server, by stdio or by HTTP: what tests connect to."""

from __future__ import annotations

import sys

from mcp.server import MCPServer

server = MCPServer("counter")


@server.tool(name="count.words")
def count_words(text: str) -> str:
    """Count the words of a text."""
    return f"{len(text.split())} words"


@server.tool()
def fail_always(text: str) -> str:
    """Fail with every text."""
    raise ValueError(text)


if __name__ == "__main__":
    if sys.argv[1:]:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("stdio")
