"""The gate judges what lies on the disk, in a process that shares nothing with the trainer's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hermes_apprentice.domain.evaluation import Outcome
from hermes_apprentice.domain.specialist import Specialist, Step
from hermes_apprentice.errors import ReplyError
from hermes_apprentice.pipeline import Pipeline, open_pipeline, training
from hermes_apprentice.pipeline.judging import VERDICT
from hermes_apprentice.settings import GateSettings, Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.specialists import save_specialist
from hermes_apprentice.validator import gate

NOW = 1_790_000_000.0

KILLED = """
import os, pathlib, signal, sys
if "hermes_apprentice.pipeline.gate_worker" in sys.orig_argv:
    count = pathlib.Path({count!r})
    left = int(count.read_text())
    count.write_text(str(left - 1))
    if left > 0:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def pipeline(trained_home: Path, copy_of: Callable[[Path], Settings]) -> Iterator[Pipeline]:
    settings = copy_of(trained_home)
    with Database(settings.database_path) as database:
        yield open_pipeline(settings, database, clock=lambda: NOW)


@pytest.fixture
def kill_gates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the next gates be killed as they start."""

    def kill(count: int) -> None:
        folder = tmp_path / "startup"
        folder.mkdir(exist_ok=True)
        (folder / "count").write_text(str(count))
        script = KILLED.format(count=str(folder / "count"))
        (folder / "sitecustomize.py").write_text(script)
        monkeypatch.setenv("PYTHONPATH", str(folder))

    return kill


def back_to_the_gate(pipeline: Pipeline) -> Specialist:
    """Put the smaller of the two specialists where its training has just ended."""
    views = {one.specialist.slug: one.specialist for one in pipeline.specialists()}
    slug = next(name for name in views if name.startswith("ticket"))
    specialist = replace(views[slug], step=Step.TRAINED)
    with pipeline.shop.database.transaction() as connection:
        save_specialist(connection, specialist)
    return specialist


def folder_of(pipeline: Pipeline, specialist: Specialist) -> Path:
    return pipeline.shop.run_dir(specialist.run_id) / str(specialist.kind)


def test_what_the_ticks_process_believes_does_not_reach_the_verdict(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    specialist = back_to_the_gate(pipeline)
    folder = folder_of(pipeline, specialist)
    before = VERDICT.validate_json((folder / "verdict.json").read_bytes())
    (folder / "verdict.json").write_text('{"outcome": "passed"}')
    monkeypatch.setattr(gate, "CONFIDENCE", "not a number")
    assert [move.step for move in pipeline.tick().moves] == [Step.VALIDATED]
    after = VERDICT.validate_json((folder / "verdict.json").read_bytes())
    assert after.outcome is Outcome.PASSED
    assert after.threshold == before.threshold
    assert after.scores is not None
    assert before.scores is not None
    assert after.scores.agreement == before.scores.agreement
    for name in ("verdict.md", "risk_coverage.json", "risk_coverage.svg"):
        assert (folder / name).stat().st_size > 0
    assert [move.step for move in pipeline.tick().moves] == [Step.REGISTERED]
    assert pipeline.shop.registry.versions(specialist.slug) == (1,)


def test_the_upstreams_key_is_not_written_for_the_gate(pipeline: Pipeline) -> None:
    secret = "sk-invented-4711"
    settings = pipeline.shop.settings.model_copy(update={"upstream_api_key": secret})
    open_pipeline(settings, pipeline.shop.database, clock=lambda: NOW)
    specialist = back_to_the_gate(pipeline)
    pipeline.shop.settings = settings
    pipeline.tick()
    order = (folder_of(pipeline, specialist) / "gate.json").read_text()
    assert specialist.slug in order
    assert secret not in order
    assert "upstream_api_key" not in order


def test_a_killed_gate_is_run_again(pipeline: Pipeline, kill_gates: Callable[[int], None]) -> None:
    back_to_the_gate(pipeline)
    kill_gates(1)
    report = pipeline.tick()
    assert [move.step for move in report.moves] == [Step.VALIDATED]
    assert report.failures == ()


def test_a_gate_that_dies_twice_is_a_clear_failure_and_promotes_nothing(
    pipeline: Pipeline, kill_gates: Callable[[int], None]
) -> None:
    specialist = back_to_the_gate(pipeline)
    kill_gates(2)
    (failure,) = pipeline.tick().failures
    assert failure.step is Step.FAILED
    assert "killed by signal 9" in failure.reason
    assert f"apprentice jobs resume {specialist.slug}" in failure.reason
    assert not (folder_of(pipeline, specialist) / "verdict.json").exists()
    assert pipeline.shop.registry.versions(specialist.slug) == (1,)
    assert "goes on with the gate" in training.resume(pipeline.shop, specialist.slug)
    assert [move.step for move in pipeline.tick().moves] == [Step.VALIDATED]
    with pytest.raises(ReplyError, match="not interrupted"):
        training.resume(pipeline.shop, specialist.slug)


def test_an_artefact_that_cannot_be_loaded_fails_with_the_childs_own_reason(
    pipeline: Pipeline,
) -> None:
    specialist = back_to_the_gate(pipeline)
    artefact = folder_of(pipeline, specialist) / "artefact"
    for path in artefact.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    (failure,) = pipeline.tick().failures
    assert failure.step is Step.FAILED
    assert "status" not in failure.reason
    assert not (folder_of(pipeline, specialist) / "verdict.json").exists()


def test_a_gate_that_takes_too_long_is_ended(pipeline: Pipeline) -> None:
    specialist = back_to_the_gate(pipeline)
    pipeline.shop.settings = pipeline.shop.settings.model_copy(
        update={"gate": GateSettings(timeout_seconds=0.05)}
    )
    (failure,) = pipeline.tick().failures
    assert "longer than allowed" in failure.reason
    assert not (folder_of(pipeline, specialist) / "verdict.json").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_gate_ends_with_the_tick_that_started_it(pipeline: Pipeline) -> None:
    back_to_the_gate(pipeline)
    settings = pipeline.shop.settings
    (settings.home / "settings.toml").write_text(
        f'[models]\nembedder = "{settings.models.embedder}"\nfolder = "{settings.models_dir}"\n'
    )
    tick = subprocess.Popen(
        [sys.executable, "-m", "hermes_apprentice.interfaces.cli.main", "tick"],
        env={
            **os.environ,
            "APPRENTICE_HOME": str(settings.home),
            "HERMES_HOME": str(settings.hermes_home),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    try:
        found: list[int] = []
        while not found and time.monotonic() < deadline and tick.poll() is None:
            found = gates_of(tick.pid)
        assert found
    finally:
        tick.send_signal(signal.SIGKILL)
        tick.wait()
    while alive(found[0]) and time.monotonic() < deadline:
        pass
    assert not alive(found[0])


def gates_of(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [
            int(child)
            for child in children
            if b"gate_worker" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
    except OSError:
        return []


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
