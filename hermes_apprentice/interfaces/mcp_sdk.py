"""Serve tools with the MCP SDK: 1.26 and 2.x, standard input and output or HTTP.

The only module that imports ``mcp``. The SDK's low-level server is used because
its high-level one advertises resources and prompts as well, for which Hermes
would put four more tools into every prompt. Knows nothing about what tools do.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import mcp.types as types
from mcp.server.lowlevel import Server

from hermes_apprentice import __version__
from hermes_apprentice.errors import ApprenticeError
from hermes_apprentice.interfaces.mcp_catalogue import Report, Result, Tool

INSTRUCTIONS = (
    "Apprentice trains small specialists for recurring requests and routes to them by itself. "
    "Tools read, or ask the operator; they never decide. Amounts are US dollars, null is unknown."
)

Notify = Callable[[float, str], Coroutine[Any, Any, None]]
"""Tells the client how far a call has come."""

_MODERN = hasattr(Server, "add_request_handler")
"""Whether this is SDK 2.x, whose handlers get their context handed in."""


def build_server(tools: Sequence[Tool]) -> Any:
    """Return a server that offers these tools and nothing else."""
    by_name = {tool.name: tool for tool in tools}
    listed = types.ListToolsResult(tools=[_described(tool) for tool in tools])
    return _modern(by_name, listed) if _MODERN else _classic(by_name, listed)


def serve_stdio(tools: Sequence[Tool]) -> None:
    """Serve on standard input and output until it closes."""
    from mcp.server.stdio import stdio_server

    server = build_server(tools)
    streams = () if _MODERN else _claim_stdio()
    # A thread that waits for input cannot be interrupted, and nothing is lost by stopping at once:
    # what tools write is written in transactions.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    async def run() -> None:
        async with stdio_server(*streams) as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())

    anyio.run(run)


def _claim_stdio() -> tuple[Any, ...]:
    """Keep input and output for the protocol: what a library prints goes to standard error.

    SDK 2.x does this by itself.
    """
    reading = os.fdopen(os.dup(0), encoding="utf-8", errors="replace")
    writing = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return anyio.wrap_file(reading), anyio.wrap_file(writing)


def http_app(tools: Sequence[Tool], port: int) -> Any:
    """Return the ASGI application that serves at ``/mcp`` for clients on this machine.

    A session is nothing but its requests, so none can be leaked. ``Host`` and
    ``Origin`` must name this machine, which keeps web pages of other names out.
    """
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings
    from starlette.applications import Starlette
    from starlette.routing import Route

    names = [f"127.0.0.1:{port}", f"localhost:{port}"]
    manager = StreamableHTTPSessionManager(
        app=build_server(tools),
        stateless=True,
        security_settings=TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=names,
            allowed_origins=[f"http://{name}" for name in names],
        ),
    )

    class Endpoint:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await manager.handle_request(scope, receive, send)

    @asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        async with manager.run():
            yield

    return Starlette(routes=[Route("/mcp", endpoint=Endpoint())], lifespan=running)


def serve_http(tools: Sequence[Tool], port: int) -> None:
    """Serve over streamable HTTP on loopback until the process is stopped.

    Args:
        tools: What to offer.
        port: 0 takes a free one; the address is printed on standard error.

    Raises:
        ApprenticeError: The port is taken.
    """
    import socket

    import uvicorn

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)  # clients that are quicker than the server wait
    except OSError as error:
        listener.close()
        raise ApprenticeError(
            f"Port {port} cannot be used: {error.strerror}. Choose another with --http PORT."
        ) from error
    bound = listener.getsockname()[1]
    print(f"Listening on http://127.0.0.1:{bound}/mcp", file=sys.stderr, flush=True)
    config = uvicorn.Config(
        http_app(tools, bound), log_level="warning", timeout_graceful_shutdown=5, lifespan="on"
    )
    uvicorn.Server(config).run(sockets=[listener])


def _classic(tools: dict[str, Tool], listed: Any) -> Any:
    server: Any = Server("apprentice", version=__version__, instructions=INSTRUCTIONS)

    async def on_list(_: Any) -> Any:
        return types.ServerResult(listed)

    async def on_call(request: Any) -> Any:
        from mcp.shared.exceptions import McpError

        context = server.request_context
        token = getattr(context.meta, "progressToken", None)

        async def notify(share: float, what: str) -> None:
            if token is not None:
                await context.session.send_progress_notification(
                    token, share, 1.0, what, related_request_id=str(context.request_id)
                )

        tool = tools.get(request.params.name)
        if tool is None:
            raise McpError(types.ErrorData(**_unknown(request.params.name, tools)))
        result = await _call(tool, request.params.arguments or {}, notify)
        return types.ServerResult(result)

    server.request_handlers[types.ListToolsRequest] = on_list
    server.request_handlers[types.CallToolRequest] = on_call
    return server


def _modern(tools: dict[str, Tool], listed: Any) -> Any:
    async def on_list(context: Any, params: Any) -> Any:
        return listed

    async def on_call(context: Any, params: Any) -> Any:
        from mcp.shared.exceptions import MCPError  # type: ignore[attr-defined]

        async def notify(share: float, what: str) -> None:
            await context.session.report_progress(share, 1.0, what)

        tool = tools.get(params.name)
        if tool is None:
            raise MCPError(**_unknown(params.name, tools))
        return await _call(tool, params.arguments or {}, notify)

    modern: Any = Server
    return modern(
        "apprentice",
        version=__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=on_list,
        on_call_tool=on_call,
    )


async def _call(tool: Tool, arguments: dict[str, Any], notify: Notify) -> Any:
    """Run a tool in a thread, so that the connection stays alive meanwhile."""
    furthest = 0.0

    def report(what: str, share: float) -> None:
        nonlocal furthest
        # The protocol wants progress that grows; several stages each begin at 0.
        furthest = max(furthest + 1e-6, share)
        anyio.from_thread.run(notify, furthest, what)

    try:
        result = await anyio.to_thread.run_sync(_work(tool, arguments, report))
    except ApprenticeError as error:
        return _failed(str(error))
    except Exception as error:  # the edge: an agent must get an answer, not a broken pipe
        name = type(error).__name__
        print(f"apprentice: {tool.name} failed: {name}: {error}", file=sys.stderr)
        return _failed(f"'{tool.name}' failed inside Apprentice ({name}); see the server's log.")
    text = json.dumps(result, separators=(",", ":"), ensure_ascii=False)
    return types.CallToolResult.model_validate(
        {"content": [{"type": "text", "text": text}], "structuredContent": result}
    )


def _work(tool: Tool, arguments: dict[str, Any], report: Report) -> Callable[[], Result]:
    return lambda: tool.call(arguments, report)


def _failed(text: str) -> Any:
    return types.CallToolResult.model_validate(
        {"content": [{"type": "text", "text": text}], "isError": True}
    )


def _unknown(name: str, tools: dict[str, Tool]) -> dict[str, Any]:
    known = ", ".join(tools)
    return {"code": types.INVALID_PARAMS, "message": f"Unknown tool '{name}'; known: {known}."}


def _described(tool: Tool) -> Any:
    return types.Tool.model_validate(
        {
            "name": tool.name,
            "description": tool.description,
            "inputSchema": tool.schema(),
            "annotations": {"readOnlyHint": tool.reads},
        }
    )
