"""Open the sidecar's port, and answer on it until the block ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from hermes_apprentice.errors import ApprenticeError, ConfigError, StorageError
from hermes_apprentice.router.door import is_local
from hermes_apprentice.router.protocol import Protocol
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.tenants import TenantStore

GRACE_SECONDS = 60
"""How long running answers may take when the sidecar stops; a second signal ends it at once."""


def bound(settings: Settings) -> socket.socket:
    """Open the socket that the sidecar listens on.

    Raises:
        ConfigError: The address cannot be used, or would let strangers in.
    """
    host, port = settings.server.host, settings.server.port
    if not is_local(host) and not _has_tenants(settings.database_path):
        raise ConfigError(
            f"server.host is {host or 'empty'}: anything but this machine's own addresses needs "
            "tenants, so that nobody else can spend your money. Use 127.0.0.1, or make a tenant: "
            "apprentice tenants create NAME"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2_048)
    except OSError as error:
        raise ConfigError(
            f"The sidecar cannot listen on {host}:{port}: {error.strerror}. "
            "Stop what uses the port, or set another one as server.port."
        ) from error
    listener.setblocking(False)
    return listener


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: whoever runs the sidecar decides about them."""
        yield


@contextlib.asynccontextmanager
async def listening(
    app: Any, listener: socket.socket, hurry: asyncio.Event | None
) -> AsyncIterator[str]:
    """Answer requests on a socket and give its URL; requests that run are finished.

    Args:
        app: The ASGI application.
        listener: From `bound`; closed at the end.
        hurry: Set to cut running answers off at the end of the block instead of waiting for them.

    Raises:
        ApprenticeError: The server ended while it started.
    """
    server = _Server(
        uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            backlog=2_048,
            # Longer than any client keeps a connection, so that the client closes it first.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
    host, port = listener.getsockname()[:2]
    task = asyncio.create_task(server.serve(sockets=[listener]), name="apprentice-server")
    try:
        while not server.started:
            if task.done():
                task.result()
                raise ApprenticeError("The sidecar stopped while it was starting.")
            await asyncio.sleep(0.005)
        # Nobody can call the address that means all of them.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        server.should_exit = True
        hurried = asyncio.create_task(_hurried(server, hurry))
        await asyncio.wait({task})
        hurried.cancel()
        listener.close()


async def _hurried(server: uvicorn.Server, hurry: asyncio.Event | None) -> None:
    if hurry is not None:
        await hurry.wait()
        for answer in list(server.server_state.tasks):
            answer.cancel()


def _has_tenants(path: Path) -> bool:
    """Whether somebody has a key; a database that cannot be read knows nobody."""
    try:
        with Database(path) as database:
            return bool(TenantStore(database).directory().tenants)
    except StorageError:
        return False
