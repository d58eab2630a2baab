"""A tick that is killed at any moment is run again, and nothing is done twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hermes_apprentice.domain.specialist import Step
from hermes_apprentice.errors import ReplyError
from hermes_apprentice.pipeline import open_pipeline, training
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.approvals import waiting_messages
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.jobs import JobState, list_jobs

KILLS = 8


def tick(settings: Settings) -> subprocess.Popen[bytes]:
    (settings.home / "settings.toml").write_text(
        '[trainer]\nmethod = "crf"\n'
        f'[models]\nembedder = "{settings.models.embedder}"\nfolder = "{settings.models_dir}"\n'
    )
    return subprocess.Popen(
        [sys.executable, "-m", "hermes_apprentice.interfaces.cli.main", "tick", "--until-idle"],
        env={
            **os.environ,
            "APPRENTICE_HOME": str(settings.home),
            "HERMES_HOME": str(settings.hermes_home),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
def test_a_tick_killed_at_random_points_resumes(
    approved_home: Path, copy_of: Callable[[Path], Settings]
) -> None:
    settings = copy_of(approved_home)
    rng = random.Random(5)
    killed = 0
    for _ in range(KILLS):
        child = tick(settings)
        try:
            child.wait(timeout=rng.uniform(1.0, 9.0))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            killed += 1
        child.communicate(timeout=60)
    last = tick(settings)
    _, errors = last.communicate(timeout=240)
    assert last.returncode == 0, errors.decode()
    assert killed > 0
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database)
        views = pipeline.specialists()
        assert [one.specialist.step for one in views] == [Step.REGISTERED] * 2
        for view in views:
            assert pipeline.shop.registry.versions(view.specialist.slug) == (1,)
        with database.transaction() as connection:
            keys = [message.key for message in waiting_messages(connection)]
    assert sum(key.startswith("registered:") for key in keys) == 2
    assert len(keys) == len(set(keys))
    assert len(list(settings.runs_dir.iterdir())) == 2


@pytest.mark.slow
def test_a_second_tick_is_refused_while_one_runs(
    approved_home: Path, copy_of: Callable[[Path], Settings]
) -> None:
    settings = copy_of(approved_home)
    first = tick(settings)
    lock = settings.home / "locks" / "tick.lock"
    try:
        while first.poll() is None and not (lock.exists() and lock.read_text()):
            pass
        second = tick(settings)
        _, errors = second.communicate(timeout=120)
        assert second.returncode == 1
        assert f"pid {first.pid}" in errors.decode()
    finally:
        first.kill()
        first.communicate(timeout=60)


@pytest.mark.slow
def test_a_cancelled_training_is_taken_up_again(
    approved_home: Path, copy_of: Callable[[Path], Settings]
) -> None:
    settings = copy_of(approved_home)
    child = tick(settings)
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database)
        job = None
        while job is None and child.poll() is None:
            with database.transaction() as connection:
                job = next((one for one in list_jobs(connection) if one.state == "running"), None)
        assert job is not None
        assert "jobs resume" in training.cancel(pipeline.shop, job.slug)
        _, errors = child.communicate(timeout=240)
        assert child.returncode == 0, errors.decode()
        with database.transaction() as connection:
            stopped = next(one for one in list_jobs(connection) if one.run_id == job.run_id)
        assert stopped.state is JobState.CANCELLED
        steps = {one.specialist.slug: one.specialist.step for one in pipeline.specialists()}
        assert steps.pop(job.slug) is Step.FAILED
        assert list(steps.values()) == [Step.REGISTERED]
        assert training.log_of(pipeline.shop, job.slug) is not None
        with pytest.raises(ReplyError, match="not being trained"):
            training.cancel(pipeline.shop, job.slug)
        training.resume(pipeline.shop, job.slug)
        with pytest.raises(ReplyError, match="not interrupted"):
            training.resume(pipeline.shop, job.slug)
        again = tick(settings)
        _, errors = again.communicate(timeout=240)
        assert again.returncode == 0, errors.decode()
        found = pipeline.specialist(job.slug).view.specialist
        assert (found.step, found.run_id) == (Step.REGISTERED, job.run_id)
