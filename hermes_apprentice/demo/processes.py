"""The child processes of a demo: our sidecar and the real Hermes CLI.

Each is stopped by its own process id, whatever happens to the demo.
"""

from __future__ import annotations

import asyncio
import re
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from hermes_apprentice.demo.place import Place, command
from hermes_apprentice.errors import ApprenticeError

_START = 60.0
_HERMES = 180.0
_LISTENING = re.compile(rb"Listening on (\S+)")


class HermesRun(NamedTuple):
    """One run of Hermes' CLI."""

    answer: str
    """What it printed."""

    seconds: float
    """Wall-clock time, start-up of Hermes included."""


@asynccontextmanager
async def sidecar(place: Place) -> AsyncIterator[str]:
    """Run ``apprentice serve`` and give its address.

    Raises:
        ApprenticeError: It did not start.
    """
    log = place.apprentice_home / "sidecar.log"
    with log.open("wb") as stream:
        process = await asyncio.create_subprocess_exec(
            command("apprentice"), "serve", stdout=PIPE, stderr=stream, env=place.environment()
        )
    try:
        yield await _address(process, log.as_posix())
    finally:
        await stop(process)


async def _address(process: Process, log: str) -> str:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START):
            async for line in process.stdout:
                found = _LISTENING.search(line)
                if found:
                    return found.group(1).decode()
    except TimeoutError as error:
        raise ApprenticeError(
            f"The sidecar did not start within {_START:g} s; see {log}"
        ) from error
    raise ApprenticeError(f"The sidecar stopped at once; see {log}")


async def ask_hermes(place: Place, text: str) -> HermesRun:
    """Ask the real Hermes one question: ``hermes -z``."""
    began = time.perf_counter()
    output = await _run(place, "hermes", "-z", text)
    return HermesRun(output.strip(), time.perf_counter() - began)


async def hermes_skills(place: Place) -> str:
    """Return what the real ``hermes skills list`` prints."""
    return await _run(place, "hermes", "skills", "list")


async def _run(place: Place, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        command(arguments[0]),
        *arguments[1:],
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env={**place.environment(), "COLUMNS": "140"},
        cwd=place.root,
    )
    try:
        async with asyncio.timeout(_HERMES):
            output, errors = await process.communicate()
    except TimeoutError as error:
        raise ApprenticeError(f"'{' '.join(arguments[:2])}' did not end in time.") from error
    finally:
        await stop(process)
    if process.returncode:
        tail = errors.decode(errors="replace")[-500:]
        raise ApprenticeError(f"'{' '.join(arguments[:2])}' failed: {tail}")
    return output.decode(errors="replace")


async def stop(process: Process) -> None:
    """End a process: politely, then not."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(10):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
