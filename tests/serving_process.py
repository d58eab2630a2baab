"""The sidecar as a process of its own, for tests that kill and signal it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from hermes_apprentice.settings import child_environment

PATIENCE = 60.0
PROGRAM = """
from hermes_apprentice.router.server import serve
from hermes_apprentice.settings import load_settings
serve(load_settings(), ready=lambda url: print(url, flush=True))
"""


@asynccontextmanager
async def serving(
    home: Path, upstream: str, program: str = PROGRAM
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Give the process and its URL; it is killed at the end if it still runs."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "settings.toml").write_text(
        f'[server]\nport = 0\n[upstream]\nbase_url = "{upstream}"\napi_key_env = ""\n'
    )
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        env=child_environment(
            APPRENTICE_HOME=str(home), HERMES_HOME=str(home / "hermes"), OPENROUTER_API_KEY=""
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert running.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            yield running, (await running.stdout.readline()).decode().strip()
    finally:
        with suppress(ProcessLookupError):
            running.kill()
        await running.communicate()
