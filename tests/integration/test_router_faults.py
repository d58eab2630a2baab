"""Whatever breaks around the sidecar: everything is answered, and nothing by what is not verified.

A short run of the benchmark of the same name, with real processes, sockets and files.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DRILL = Path(__file__).parents[2] / "benchmarks" / "router_faults.py"
UNVERIFIED = ("registry_corrupted", "registry_gone", "matcher_tampered")
TOLD = (
    *UNVERIFIED,
    "database_locked",
    "ledger_full",
    "database_damaged",
    "specialist_raising",
    "specialist_hanging",
    "specialist_rubbish",
    "started_without_embedder",
)
PLAYED = (*TOLD, "embedder_gone", "promoted_and_demoted", "upstream_resets")


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, DRILL, "--json", "--short"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", [*PLAYED, "disk_full"])
def test_every_request_is_answered_byte_for_byte_and_all_is_well_after_the_repair(
    found: dict[str, Any], fault: str
) -> None:
    if "skipped" in found[fault]:
        pytest.skip(found[fault]["skipped"])
    assert found[fault]["wrong"] == {}
    assert sum(found[fault]["answered"].values()) >= 64
    assert found[fault]["recovered_after_s"] is not None
    if fault in TOLD or fault == "disk_full":
        assert found[fault]["told"]
    if fault == "ledger_full":
        assert found[fault]["counted"] > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sidecar_that_is_told_to_stop_finishes_every_running_answer(
    found: dict[str, Any],
) -> None:
    assert found["told_to_stop"]["running"] == 64
    assert found["told_to_stop"]["answered"] == {"upstream": 64}
    assert found["told_to_stop"]["wrong"] == {}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kills_at_random_moments_leave_the_database_whole(found: dict[str, Any]) -> None:
    killed = found["killed"]
    assert killed["broken"] == {}
    assert killed["answered"] > 0
    assert 0 < killed["quota_counted"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_after_kills_under_load_no_answered_call_is_missing_and_none_is_there_twice(
    found: dict[str, Any],
) -> None:
    killed = found["killed"]
    assert (killed["missing_after_the_next_start"], killed["twice"]) == (0, 0)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_log_holds_no_text_of_a_request(found: dict[str, Any]) -> None:
    assert found["log"]["lines"] > 0
    assert found["log"]["planted_texts"] == 0
