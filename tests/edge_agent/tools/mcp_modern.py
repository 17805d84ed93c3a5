"""An MCP server of the newest protocol, in which changes are announced only to those who subscribe."""

from __future__ import annotations

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

server = MCPServer("modern", version="1")


@server.tool(description="Say it again.")
def echo(text: str, rate: float = 0.5) -> str:
    return f"{text} at {rate}"


@server.tool(description="Describe echo otherwise, and announce it.")
async def change(ctx: Context) -> str:
    server.remove_tool("echo")
    server.add_tool(echo, description="Say it again, to everybody.")
    await ctx.notify_tools_changed()
    return "changed"


if __name__ == "__main__":
    server.run("stdio")
