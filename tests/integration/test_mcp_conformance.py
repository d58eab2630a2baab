"""The official conformance runner against our server, with a reason for what is not met."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BASELINE = Path(__file__).with_name("mcp_conformance_baseline.yml")
RUNNER = "@modelcontextprotocol/conformance@0.1.16"


def test_every_line_of_the_baseline_has_its_reason() -> None:
    lines = [line for line in BASELINE.read_text().splitlines() if line.startswith("  - ")]
    assert lines
    for line in lines:
        assert re.fullmatch(r"  - [a-z0-9-]+  # \S.{8,}", line), line


OWN_TOOLS = """\
import sys
from hermes_apprentice.errors import ApprenticeError
from hermes_apprentice.interfaces import mcp_tools
from hermes_apprentice.interfaces.mcp_catalogue import Arguments, Tool

def simple(arguments, report):
    return {"said": "hello"}

def wrong(arguments, report):
    raise ApprenticeError("This goes wrong on purpose.")

def long(arguments, report):
    for share in (0.0, 0.5, 1.0):
        report("working", share)
    return {"done": True}

WORK = {"test_simple_text": simple, "test_error_handling": wrong, "test_tool_with_progress": long}
mcp_tools.offered = lambda read_only: tuple(
    Tool(name=name, description="d", arguments=Arguments, work=work) for name, work in WORK.items()
)
sys.exit(mcp_tools.main(["--http", "0"]))
"""
"""Our server with tools that the runner knows, where it asks for nothing but them."""


@contextmanager
def serving(folder: Path, *command: str) -> Iterator[str]:
    """Run a server until the block ends, and give its address."""
    server = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "APPRENTICE_HOME": str(folder / "apprentice")},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        found = re.match(r"Listening on (\S+)", server.stderr.readline())
        assert found is not None
        yield found.group(1)
    finally:
        server.terminate()
        server.communicate(timeout=30)


def run(folder: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["npx", "-y", "-p", "node@22", "-p", RUNNER, "conformance", "server", "--url", url,
         "-o", str(folder / "results"), *arguments],
        cwd=folder, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    if re.search("ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT", done.stderr):
        pytest.skip("the package registry cannot be reached")
    return done


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npx") is None, reason="npx is not installed")
def test_the_official_runner_finds_no_failure_that_is_not_explained(tmp_path: Path) -> None:
    with serving(tmp_path, "-m", "hermes_apprentice.interfaces.mcp_tools", "--http", "0") as url:
        done = run(tmp_path, url, "--expected-failures", str(BASELINE))
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-1_000:]
    assert re.search(r"dns-rebinding-protection: [1-9]\d* passed, 0 failed", done.stdout)


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npx") is None, reason="npx is not installed")
@pytest.mark.parametrize(
    "scenario", ["tools-call-simple-text", "tools-call-error", "tools-call-with-progress"]
)
def test_what_the_runner_asks_of_its_own_tools_our_server_does(
    tmp_path: Path, scenario: str
) -> None:
    with serving(tmp_path, "-c", OWN_TOOLS) as url:
        done = run(tmp_path, url, "--scenario", scenario)
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-1_000:]
