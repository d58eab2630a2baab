"""Puts a whole plan together for taking a setup back. Pure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hermes_apprentice.interfaces.install.edits import revert_edits
from hermes_apprentice.interfaces.install.env_file import without_addition
from hermes_apprentice.interfaces.install.isolating import (
    how_to_stop,
    keys_that_stay,
)
from hermes_apprentice.interfaces.install.plan import (
    Act,
    FileChange,
    JobChange,
    Plan,
    ProfilePlan,
    Step,
    env_text_of,
)
from hermes_apprentice.interfaces.install.receipt import as_edit, digest
from hermes_apprentice.interfaces.install.scheduler import matching
from hermes_apprentice.interfaces.install.service import unit_text
from hermes_apprentice.interfaces.install.survey import OwnState, ProfileState
from hermes_apprentice.interfaces.install.tab import tab_removal
from hermes_apprentice.interfaces.install.yaml_text import read_yaml
from hermes_apprentice.settings import Settings


def plan_removal(
    settings: Settings, profiles: Sequence[ProfileState], own: OwnState, services: bool
) -> Plan:
    """Work out what takes a setup back.

    Args:
        settings: Apprentice's settings.
        profiles: The profiles that have a receipt.
        own: Apprentice's own home.
        services: Whether systemd runs services for this user.

    Raises:
        ConfigError: A configuration cannot be edited; nothing was changed.
    """
    warnings: list[str] = []
    plans = [_remove_from(state, warnings) for state in profiles]
    files: list[FileChange] = []
    steps: tuple[Step, ...] = ()
    if profiles and own.unit is not None:
        ours = unit_text(Path(sys.executable), settings.home, settings.hermes_home).encode()
        if own.unit == ours:
            files.append(FileChange(path=own.unit_path, before=own.unit, after=None))
            steps = (Step.STOP,) if services else ()
        else:
            warnings.append(f"{own.unit_path} was changed since and stays.")
    if profiles and own.upstream_env is not None:
        path = settings.home / "upstream.env"
        files.append(FileChange(path=path, before=own.upstream_env, after=None))
    if profiles:
        files += [
            FileChange(path=path, before=content, after=None)
            for path, content in own.isolation_files.items()
        ]
    notes = [
        f"What Apprentice learned stays in {settings.home}; remove that folder to forget it.",
        f"Stop the sidecar if you started it by hand{how_to_stop(settings)}, and restart Hermes' "
        "gateway.",
    ]
    notes += keys_that_stay(profiles, own)
    return Plan(
        own=tuple(files),
        steps=steps,
        profiles=tuple(plans),
        warnings=tuple(warnings),
        notes=tuple(notes) if profiles else (),
    )


def _remove_from(state: ProfileState, warnings: list[str]) -> ProfilePlan:
    receipt = state.receipt
    if receipt is None:
        return ProfilePlan(name=state.name, home=state.home)
    files: list[FileChange] = []
    if state.config is not None:
        restored = _restored(state, warnings)
        if restored != state.config:
            files.append(FileChange(path=state.config_path, before=state.config, after=restored))
    present = env_text_of(state)
    if receipt.env_text and receipt.env_text in present:
        kept = without_addition(present, receipt.env_text)
        content = kept.encode("utf-8", errors="surrogateescape")
        after = content if content or receipt.had_env else None
        files.append(FileChange(path=state.env_path, before=state.env, after=after))
    for name, sha256 in receipt.scripts.items():
        content = state.scripts.get(name, b"")
        path = state.home / "scripts" / name
        if name in state.scripts and digest(content) == sha256:
            files.append(FileChange(path=path, before=content, after=None))
        elif name in state.scripts:
            warnings.append(f"{path} was changed since and stays.")
    gone, changed = tab_removal(state.home, state.tab, receipt)
    files += [FileChange(path=one.path, before=one.before, after=None) for one in gone]
    warnings += [f"{path} was changed since and stays." for path in changed]
    jobs = tuple(
        JobChange(act=Act.REMOVE, job=job)
        for job in receipt.jobs
        if matching(state.jobs, job) is not None
    )
    return ProfilePlan(name=state.name, home=state.home, files=tuple(files), jobs=jobs)


def _restored(state: ProfileState, warnings: list[str]) -> bytes | None:
    """Return the configuration without ours; ``None`` where there was none before."""
    receipt = state.receipt
    if receipt is None or state.config is None:
        return state.config
    if digest(state.config) == receipt.config_sha256:
        if state.backup is not None:
            return state.backup
        if not receipt.had_config:
            return None
    reverted = revert_edits(state.text, [as_edit(record) for record in receipt.edits])
    warnings.extend(
        f"{place} in {state.config_path} was changed since and stays." for place in reverted.left
    )
    remaining: dict[str, Any] = read_yaml(reverted.text, str(state.config_path))
    if not remaining and not receipt.had_config:
        return None
    return reverted.text.encode()
