"""Carries a plan out: our own parts first, Hermes' configuration last.

What can fail for outside reasons comes before anything of Hermes is touched, and
a file is replaced as a whole. A setup that was interrupted is simply run again.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import SecretStr

from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.install.admission import admit
from hermes_apprentice.interfaces.install.plan import Act, FileChange, Plan, ProfilePlan, Step
from hermes_apprentice.interfaces.install.receipt import backup_path, receipt_path
from hermes_apprentice.interfaces.install.scheduler import create_job, edit_job, remove_job
from hermes_apprentice.interfaces.install.service import start_service, stop_service
from hermes_apprentice.interfaces.install.survey import read_file
from hermes_apprentice.interfaces.install.tab import prune
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.files import write_atomically
from hermes_apprentice.trainer.environment import make_environment

EMBEDDER = "all-MiniLM-L6-v2"
"""The embedder that is fetched."""

Say = Callable[[str], None]


def carry_out(plan: Plan, settings: Settings, hermes: Path | None, say: Say) -> None:
    """Do everything that a setup's plan says.

    Args:
        plan: What to do.
        settings: Apprentice's settings.
        hermes: Hermes' command, for the jobs of its scheduler.
        say: Called with each thing that was done.

    Raises:
        ConfigError: Something cannot be written, or changed while this ran.
        ModelStoreError: The embedder could not be fetched.
        TrainingError: The training environment could not be made.
    """
    check_writable(_folders(plan, settings))
    for change in plan.own:
        _write(change, say)
    settings.skills_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    for step in plan.steps:
        if step is not Step.START:
            _do(step, settings, say, plan.key)
    for profile in plan.profiles:
        _keep(profile, settings.home)
        # The job's script goes before the job, and config.yaml, which switches over, goes last.
        config = [file for file in profile.files if file.path.name == "config.yaml"]
        for change in profile.files:
            if change not in config:
                _write(change, say)
        _do_jobs(profile, hermes, say)
        for change in config:
            _write(change, say)
    if Step.START in plan.steps:
        _do(Step.START, settings, say)


def take_out(plan: Plan, settings: Settings, hermes: Path | None, say: Say) -> None:
    """Do everything that an uninstall's plan says: Hermes' configuration first.

    Raises:
        ConfigError: Something cannot be written, or changed while this ran.
    """
    check_writable(_folders(plan, settings))
    for profile in plan.profiles:
        config = [file for file in profile.files if file.path.name == "config.yaml"]
        for change in config:
            _write(change, say)
        _do_jobs(profile, hermes, say)
        for change in profile.files:
            if change not in config:
                _write(change, say)
        prune(profile.home)
        receipt_path(settings.home, profile.home).unlink(missing_ok=True)
        backup_path(settings.home, profile.home).unlink(missing_ok=True)
    for step in plan.steps:
        _do(step, settings, say)
    for change in plan.own:
        _write(change, say)


def check_writable(folders: Iterable[Path]) -> None:
    """Stop before anything is changed where a folder cannot be written.

    Raises:
        ConfigError: One cannot.
    """
    for folder in dict.fromkeys(folders):
        place = folder
        while not place.exists():
            place = place.parent
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            raise ConfigError(
                f"{place} cannot be written: {error.strerror}. Nothing was changed. Run this as "
                "the user who owns it, or make it writable."
            ) from error


def _folders(plan: Plan, settings: Settings) -> list[Path]:
    files = [*plan.own, *(file for profile in plan.profiles for file in profile.files)]
    jobs = [profile.home for profile in plan.profiles if profile.jobs]
    return [settings.home, *(file.path.parent for file in files), *jobs]


def _keep(profile: ProfilePlan, home: Path) -> None:
    """Write down what is about to be done, before it is done."""
    if profile.empty or profile.receipt is None:
        return
    if profile.backup is not None:
        write_atomically(backup_path(home, profile.home), profile.backup)
    record = profile.receipt.model_dump_json(indent=2).encode()
    write_atomically(receipt_path(home, profile.home), record)


def _write(change: FileChange, say: Say) -> None:
    if read_file(change.path) != change.before:
        raise ConfigError(
            f"{change.path} was changed by somebody else just now. Run the command again."
        )
    try:
        if change.after is None:
            change.path.unlink(missing_ok=True)
            say(f"removed {change.path}")
            return
        mode = change.path.stat().st_mode & 0o777 if change.before is not None else 0o600
        owner = change.path.stat() if change.before is not None else None
        write_atomically(change.path, change.after, mode)
        if owner is not None and os.geteuid() == 0:
            os.chown(change.path, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise ConfigError(f"{change.path} cannot be written: {error.strerror}.") from error
    say(f"wrote {change.path}")


def _do(step: Step, settings: Settings, say: Say, key: SecretStr | None = None) -> None:
    say(f"{step.value} ...")
    if step is Step.KEYS:
        from hermes_apprentice.registry.signing import load_or_create_keys  # brings cryptography

        load_or_create_keys(settings.keys_dir)
    elif step is Step.TENANT and key is not None:
        with Database(settings.database_path) as database:
            admit(database, key.get_secret_value(), time.time())
    elif step is Step.EMBEDDER:
        ModelStore(settings.models_dir).pull(EMBEDDER, progress=say)
    elif step is Step.TRAINING:
        make_environment(settings.home / "training", say)
    elif step is Step.START:
        start_service()
    elif step is Step.STOP:
        stop_service()


def _do_jobs(profile: ProfilePlan, hermes: Path | None, say: Say) -> None:
    for change in profile.jobs:
        if hermes is None:
            raise ConfigError("The command 'hermes' is not found; add its folder to PATH.")
        {Act.CREATE: create_job, Act.EDIT: edit_job, Act.REMOVE: remove_job}[change.act](
            hermes, profile.home, change.job
        )
        say(f"{change.act.value}: job {change.job.name} ({change.job.schedule})")
