"""The demo, as a newcomer runs it, and as somebody who changes their mind stops it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

APPRENTICE = Path(sys.executable).with_name("apprentice")

WITH_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
"""Starts a command as a terminal does; a background job of a shell ignores Ctrl-C."""


def children_of(session: int) -> list[int]:
    """Return the processes of a session, from the kernel's table."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_the_demo_ends_with_figures_that_hold(tmp_path: Path) -> None:
    done = subprocess.run(
        [APPRENTICE, "demo", "--keep", tmp_path / "home"],
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-2_000:]
    assert "SIMULATED" in done.stdout
    _, _, below = done.stdout.partition("Held-out requests")
    rows = re.findall(
        r"^[\w-]+ +\d+ +(\d+) \(\d+%\) +([\d.]+)% \([^)]*\) +([\d.]+) ", below, re.MULTILINE
    )
    assert len(rows) == 2, done.stdout
    for row in rows:
        answered, right, f1 = int(row[0]), float(row[1]), float(row[2])
        assert answered >= 30
        assert right >= 95.0
        assert f1 >= 0.95
    wrong = re.search(r"Wrong routes: (\d+) of (\d+) other", done.stdout)
    assert wrong is not None
    assert int(wrong[1]) <= 0.005 * int(wrong[2])
    assert done.stdout.count("right, answered by: specialist") >= 1
    assert "live 100%" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_ctrl_c_leaves_nothing_running(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WITH_CTRL_C, APPRENTICE, "demo", "--keep", tmp_path / "home"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Sidecar at"):
                break
        assert len(children_of(process.pid)) >= 2, "the sidecar should be running"
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 130
        deadline = time.monotonic() + 10
        while children_of(process.pid) and time.monotonic() < deadline:
            pass
        assert children_of(process.pid) == []
    finally:
        for pid in children_of(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=30)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_demo_that_is_ended_leaves_no_folder(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [APPRENTICE, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert list(tmp_path.glob("apprentice-demo-*"))
        process.terminate()
        process.communicate(timeout=120)
        assert process.returncode == 130
        assert list(tmp_path.glob("apprentice-demo-*")) == []
    finally:
        for pid in children_of(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=30)
