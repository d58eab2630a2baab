"""The official conformance runner against our server, with a reason for what is not met."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASELINE = Path(__file__).with_name("mcp_conformance_baseline.yml")
RUNNER = "@modelcontextprotocol/conformance@0.1.16"


def test_every_line_of_the_baseline_has_its_reason() -> None:
    lines = [line for line in BASELINE.read_text().splitlines() if line.startswith("  - ")]
    assert lines
    for line in lines:
        assert re.fullmatch(r"  - [a-z0-9-]+  # \S.{8,}", line), line


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npx") is None, reason="npx is not installed")
def test_the_official_runner_finds_no_failure_that_is_not_explained(tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "hermes_apprentice.interfaces.mcp_tools", "--http", "0"],
        env={**os.environ, "APPRENTICE_HOME": str(tmp_path / "apprentice")},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        found = re.match(r"Listening on (\S+)", server.stderr.readline())
        assert found is not None
        done = subprocess.run(
            ["npx", "-y", "-p", "node@22", "-p", RUNNER, "conformance", "server",
             "--url", found.group(1), "--expected-failures", str(BASELINE),
             "-o", str(tmp_path / "results")],
            cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
    finally:
        server.terminate()
        server.communicate(timeout=30)
    if re.search("ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT", done.stderr):
        pytest.skip("the package registry cannot be reached")
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-1_000:]
    assert re.search(r"dns-rebinding-protection: [1-9]\d* passed, 0 failed", done.stdout)
