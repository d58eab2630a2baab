"""A short run of the soak benchmark: nothing grows, nothing is left behind, nothing fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "router_soak.py"
CHATS = (
    "specialist", "specialist_stream", "abstained", "upstream", "upstream_stream", "compressed",
    "tool_loop", "stood_in", "limited", "error", "hang_up",
)  # fmt: skip


@pytest.mark.slow
def test_mixed_traffic_leaves_memory_files_and_tasks_as_they_were() -> None:
    done = subprocess.run(
        [sys.executable, SOAK, "--json", "--seconds", "12", "--rate", "50"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == {}
    assert found["requests"] > 250
    assert found["ledger_rows"] == sum(found["sent"][kind] for kind in CHATS)
    # A leak of 20 kB per request would be 6 MB from the first half to the second.
    assert found["growth_mb"] < 5
    idle, left = found["idle"], found["left"]
    # The spool's file, and the one that SQLite keeps for the next look at the database's header.
    assert left["files"] <= idle["files"] + 2
    assert (left["tasks"], left["in_flight"]) == (idle["tasks"], 0)
