"""Reads and changes the jobs of Hermes' scheduler, through its own command.

That command always exits with 0, so what it did is read back from its file.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from hermes_apprentice.assets import asset_dir
from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.install.receipt import JobRecord
from hermes_apprentice.interfaces.install.yaml_text import read_yaml
from hermes_apprentice.settings import child_environment

_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that Hermes has."""

    job_id: str
    """Hermes' id for it."""

    name: str
    """Its name; Hermes allows the same one twice."""

    script: str
    """The script that it runs; empty for a job of the agent."""

    enabled: bool = True
    """Whether it runs at its times."""

    last_error: str = ""
    """Why its last run failed, if it did."""

    next_run_at: float | None = None
    """When it runs next, Unix seconds; in the past where nothing starts it."""


def wanted_jobs() -> tuple[JobRecord, ...]:
    """Return the jobs that the product ships.

    Raises:
        ConfigError: The list is damaged.
    """
    path = asset_dir("cron") / "jobs.yaml"
    listed = read_yaml(path.read_text(encoding="utf-8"), str(path)).get("jobs", [])
    try:
        return tuple(
            JobRecord.model_validate(
                {key: item.get(key) for key in ("name", "schedule", "script", "deliver")}
            )
            for item in listed
        )
    except (ValidationError, AttributeError) as error:
        raise ConfigError(f"{path} is damaged: reinstall hermes-apprentice") from error


def read_jobs(hermes_home: Path) -> tuple[Job, ...]:
    """Return the jobs of a Hermes home.

    Raises:
        ConfigError: Their file cannot be read.
    """
    path = hermes_home / "cron" / "jobs.json"
    try:
        listed = json.loads(path.read_bytes())["jobs"]
        return tuple(
            Job(
                job_id=str(item["id"]),
                name=str(item.get("name") or ""),
                script=str(item.get("script") or ""),
                enabled=bool(item.get("enabled", True)),
                last_error=str(item.get("last_error") or ""),
                next_run_at=_moment(item.get("next_run_at")),
            )
            for item in listed
        )
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}); `hermes cron list` shows what is wrong with it."
        ) from error


def _moment(text: object) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


def matching(jobs: Sequence[Job], wanted: JobRecord) -> Job | None:
    """Return the job with that name and script."""
    return next(
        (job for job in jobs if (job.name, job.script) == (wanted.name, wanted.script)), None
    )


def create_job(command: Path, hermes_home: Path, wanted: JobRecord) -> None:
    """Make a job, unless it is there already.

    Raises:
        ConfigError: Hermes did not make it.
    """
    if matching(read_jobs(hermes_home), wanted) is not None:
        return
    # fmt: off
    said = _hermes(
        command, hermes_home,
        "cron", "create", wanted.schedule, "--name", wanted.name, "--no-agent",
        "--script", wanted.script, "--deliver", wanted.deliver,
    )
    # fmt: on
    if "Created job:" not in said or matching(read_jobs(hermes_home), wanted) is None:
        raise ConfigError(f"Hermes did not make the job '{wanted.name}': {_end(said)}")


def edit_job(command: Path, hermes_home: Path, wanted: JobRecord) -> None:
    """Bring the times and the delivery of a job up to date.

    Raises:
        ConfigError: Hermes did not change it.
    """
    job = matching(read_jobs(hermes_home), wanted)
    if job is None:
        return
    # fmt: off
    said = _hermes(
        command, hermes_home,
        "cron", "edit", job.job_id, "--schedule", wanted.schedule, "--deliver", wanted.deliver,
    )
    # fmt: on
    if "Updated job" not in said:
        raise ConfigError(f"Hermes did not change the job '{wanted.name}': {_end(said)}")


def remove_job(command: Path, hermes_home: Path, wanted: JobRecord) -> None:
    """Remove a job by its id, as often as it is there.

    Raises:
        ConfigError: Hermes did not remove it.
    """
    for _ in range(len(read_jobs(hermes_home))):
        job = matching(read_jobs(hermes_home), wanted)
        if job is None:
            return
        said = _hermes(command, hermes_home, "cron", "remove", job.job_id)
        if any(other.job_id == job.job_id for other in read_jobs(hermes_home)):
            raise ConfigError(f"Hermes did not remove the job '{wanted.name}': {_end(said)}")


def _hermes(command: Path, hermes_home: Path, *arguments: str) -> str:
    # With a profile chosen for good, the root home would stand for that profile.
    chosen = (hermes_home / "active_profile").is_file()
    try:
        done = subprocess.run(
            [str(command), *(("-p", "default") if chosen else ()), *arguments],
            env=child_environment(HERMES_HOME=str(hermes_home), NO_COLOR="1"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{command} cannot be run: {error}") from error
    return done.stdout + done.stderr


def _end(said: str) -> str:
    return " ".join(said.split())[-300:] or "it said nothing"
