"""Works out what a setup has to change, as values. Pure: no I/O, nothing is changed.

A plan that is empty means that everything is in place already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from hermes_apprentice.assets import asset_dir, dashboard_files
from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.install.crossing import (
    DISCOVERY,
    DISCOVERY_SECONDS,
    mcp_entry,
    patient,
    script_content,
)
from hermes_apprentice.interfaces.install.edits import (
    Edit,
    apply_edits,
    edit_of,
    revert_edits,
    with_additions,
)
from hermes_apprentice.interfaces.install.env_file import addition, without_addition
from hermes_apprentice.interfaces.install.placement import Placement
from hermes_apprentice.interfaces.install.receipt import (
    JobRecord,
    Receipt,
    as_edit,
    as_record,
    digest,
)
from hermes_apprentice.interfaces.install.scheduler import matching
from hermes_apprentice.interfaces.install.survey import ProfileState
from hermes_apprentice.interfaces.install.tab import foreign_in, tab_changes
from hermes_apprentice.interfaces.install.upstream import (
    OUR_NAME,
    UPSTREAM_NAME,
    RealUpstream,
    model_settings,
)
from hermes_apprentice.interfaces.install.wishes import HermesFacts
from hermes_apprentice.interfaces.install.yaml_text import ABSENT, read_yaml, value_at
from hermes_apprentice.settings import Settings

SIDECAR_KEY_ENV = "APPRENTICE_KEY"
"""Variable with Hermes' key for a sidecar that listens beyond loopback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One file, before and after."""

    path: Path
    """Which file."""

    before: bytes | None
    """Its content now; ``None`` where there is none."""

    after: bytes | None
    """Its content then; ``None`` removes it."""


class Act(StrEnum):
    """What is done to a job of Hermes' scheduler."""

    CREATE = "create"
    """Made."""

    EDIT = "edit"
    """Brought up to date."""

    REMOVE = "remove"
    """Removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobChange:
    """One job of Hermes' scheduler."""

    act: Act
    """What is done."""

    job: JobRecord
    """To which job."""


class Step(StrEnum):
    """Work that is more than writing a file; the value says it in words."""

    TENANT = "let Hermes in at the sidecar, by a key of its own (the tenant 'hermes')"

    KEYS = "make the signing key"
    EMBEDDER = "fetch the embedder (91 MB) and check its sha256"
    TRAINING = "make the training environment (torch; about 1 GB)"
    START = "start the sidecar as a systemd user service, now and at every login"
    STOP = "stop the sidecar's systemd user service"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilePlan:
    """What changes for one profile of Hermes."""

    name: str
    """Its name."""

    home: Path
    """Its folder."""

    files: tuple[FileChange, ...] = ()
    """Files in it."""

    jobs: tuple[JobChange, ...] = ()
    """Jobs of its scheduler."""

    backup: bytes | None = None
    """What is to be kept as the configuration as it was before."""

    receipt: Receipt | None = None
    """What is to be kept about this; ``None`` after an uninstall."""

    @property
    def empty(self) -> bool:
        """Whether nothing changes."""
        return not self.files and not self.jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that changes."""

    own: tuple[FileChange, ...] = ()
    """Files of Apprentice, and its systemd unit."""

    steps: tuple[Step, ...] = ()
    """Work that is more than writing a file."""

    profiles: tuple[ProfilePlan, ...] = ()
    """Changes in Hermes."""

    warnings: tuple[str, ...] = ()
    """What the operator should know before agreeing."""

    notes: tuple[str, ...] = ()
    """What is left to do by hand."""

    key: SecretStr | None = None
    """Hermes' key for the sidecar, where it needs one."""

    @property
    def empty(self) -> bool:
        """Whether nothing changes."""
        return not self.own and not self.steps and all(one.empty for one in self.profiles)


def plan_profile(
    state: ProfileState,
    upstream: RealUpstream,
    settings: Settings,
    hermes: HermesFacts,
    jobs: Sequence[JobRecord],
    placement: Placement,
) -> ProfilePlan:
    """Work out what changes for one profile.

    Args:
        state: The profile as it is.
        upstream: The endpoint that it uses today.
        settings: Apprentice's settings.
        hermes: The Hermes that is installed.
        jobs: Jobs that its scheduler is to have.
        placement: Where Apprentice runs.

    Raises:
        ConfigError: Something of our name is there that is not ours, or cannot be edited.
    """
    old = state.receipt
    edits = [as_edit(record) for record in old.edits] if old is not None else []
    before = original_text(state)
    refuse_foreign(state, read_yaml(before, str(state.home / "config.yaml")))
    wanted = wanted_edits(read_yaml(before, "config.yaml"), upstream, settings, hermes, placement)
    files: list[FileChange] = []
    data = state.parsed()
    if all(edit.holds(data) for edit in wanted) and _same_places(edits, wanted):
        config_sha256 = old.config_sha256 if old is not None else digest(state.config or b"")
        backup = state.backup
    else:
        edits = wanted = [with_additions(edit, data) for edit in wanted]
        try:
            after = apply_edits(before, wanted).encode()
        except ConfigError as error:
            raise ConfigError(f"{state.config_path}: {error} Nothing was changed.") from error
        config_sha256 = digest(after)
        backup = before.encode() if state.config is not None else None
        files.append(FileChange(path=state.config_path, before=state.config, after=after))
    env_text = old.env_text if old is not None and old.env_text in env_text_of(state) else ""
    values = {"APPRENTICE_HOME": str(settings.home)}
    if placement.key is not None:
        values[SIDECAR_KEY_ENV] = placement.key.get_secret_value()
    if values.keys() - state.variables():
        rest = without_addition(env_text_of(state), env_text)
        env_text = addition(rest, values)
        content = (rest + env_text).encode("utf-8", errors="surrogateescape")
        files.append(FileChange(path=state.env_path, before=state.env, after=content))
    scripts = {job.script: script_content(job.script, hermes, placement) for job in jobs}
    for name, content in scripts.items():
        present = state.scripts.get(name)
        if present != content:
            path = state.home / "scripts" / name
            files.append(FileChange(path=path, before=present, after=content))
    for name, sha256 in (old.scripts if old is not None else {}).items():
        outdated = state.scripts.get(name)
        if name not in scripts and outdated is not None and digest(outdated) == sha256:
            path = state.home / "scripts" / name
            files.append(FileChange(path=path, before=outdated, after=None))
    tab = dashboard_files() if hermes.has_apprentice and placement.shares_home else {}
    for changed in tab_changes(state.home, state.tab, old, tab):
        files.append(FileChange(path=changed.path, before=changed.before, after=changed.after))
    receipt = Receipt(
        profile=state.name,
        home=str(state.home),
        had_config=old.had_config if old is not None else state.config is not None,
        config_sha256=config_sha256,
        edits=tuple(as_record(edit) for edit in edits),
        had_env=old.had_env if old is not None else state.env is not None,
        env_text=env_text,
        scripts={name: digest(content) for name, content in scripts.items()},
        tab={name: digest(content) for name, content in tab.items()},
        jobs=tuple(jobs),
    )
    return ProfilePlan(
        name=state.name,
        home=state.home,
        files=tuple(files),
        jobs=_job_changes(state, jobs),
        backup=backup,
        receipt=receipt,
    )


def original_text(state: ProfileState) -> str:
    """Return the configuration without our edits, and with what the user changed since."""
    old = state.receipt
    if old is None or state.config is None:
        return state.text
    if digest(state.config) == old.config_sha256 and state.backup is not None:
        return state.backup.decode("utf-8")
    return revert_edits(state.text, [as_edit(record) for record in old.edits]).text


def refuse_foreign(state: ProfileState, config: dict[str, Any]) -> None:
    """Stop where something of our name is not ours.

    Args:
        state: The profile.
        config: Its configuration without our edits.

    Raises:
        ConfigError: There is such a thing.
    """
    found = [
        ".".join(path)
        for path in (
            ("providers", OUR_NAME),
            ("providers", UPSTREAM_NAME),
            ("mcp_servers", OUR_NAME),
        )
        if value_at(config, path) is not ABSENT
    ]
    custom = config.get("custom_providers")
    if isinstance(custom, list) and any(
        isinstance(item, dict) and item.get("name") == OUR_NAME for item in custom
    ):
        found.append("custom_providers")
    if foreign_in(state.tab, state.receipt):
        found.append(f"plugins/{OUR_NAME}")
    ours = state.receipt.scripts if state.receipt is not None else {}
    shipped = {path.name: path.read_bytes() for path in asset_dir("cron").glob("*.py")}
    found += [
        f"scripts/{name}"
        for name, content in state.scripts.items()
        if name in shipped and content != shipped[name] and digest(content) != ours.get(name)
    ]
    if found:
        raise ConfigError(
            f"The profile '{state.name}' of Hermes has something called '{OUR_NAME}' that this "
            f"setup did not make: {', '.join(found)} in {state.home}. It is not touched. Rename or "
            "remove it, then run the command again."
        )


def wanted_edits(
    config: dict[str, Any],
    upstream: RealUpstream,
    settings: Settings,
    hermes: HermesFacts,
    placement: Placement,
) -> list[Edit]:
    """Return the edits that a configuration without ours needs."""
    section = model_settings(config)
    edits: list[Edit] = []
    if isinstance(config.get("model"), str) or "model" not in config or config["model"] is None:
        after = {"provider": OUR_NAME, "default": upstream.model}
        edits.append(edit_of(config, ("model",), after))
    else:
        edits.append(edit_of(config, ("model", "provider"), OUR_NAME))
        if upstream.model not in (section.get(key) for key in ("default", "model", "name")):
            edits.append(edit_of(config, ("model", "default"), upstream.model))
    key = {"key_env": SIDECAR_KEY_ENV} if placement.key is not None else {"api_key": "unused"}
    entry = {"name": OUR_NAME, "base_url": placement.url, **key}
    edits.append(edit_of(config, ("providers", OUR_NAME), entry, named=True))
    if upstream.provider is not None:
        edits.append(edit_of(config, ("providers", UPSTREAM_NAME), upstream.provider, named=True))
    edits.append(_fallback(config, upstream))
    disabled = value_at(config, ("plugins", "disabled"))
    loads = hermes.has_apprentice and placement.shares_home
    if loads and not (isinstance(disabled, list) and OUR_NAME in disabled):
        edits.append(edit_of(config, ("plugins", "enabled"), OUR_NAME, item=True))
    tools = mcp_entry(settings, placement)
    edits.append(edit_of(config, ("mcp_servers", OUR_NAME), tools, named=True))
    if placement.carries_itself and not patient(config):
        edits.append(edit_of(config, (DISCOVERY,), DISCOVERY_SECONDS))
    for folder in (settings.skills_dir, asset_dir("skills")):
        edits.append(edit_of(config, ("skills", "external_dirs"), str(folder), item=True))
    return [edit for edit in edits if not edit.holds(config)]


def _fallback(config: dict[str, Any], upstream: RealUpstream) -> Edit:
    """Let Hermes ask the real upstream first when the sidecar is down."""
    if config.get("fallback_providers"):
        return edit_of(config, ("fallback_providers",), upstream.fallback, item=True)
    if config.get("fallback_model"):
        # Hermes tries this list before the entry or entries that the user has.
        return edit_of(config, ("fallback_providers",), upstream.fallback, item=True)
    return edit_of(config, ("fallback_model",), upstream.fallback)


def _job_changes(state: ProfileState, jobs: Sequence[JobRecord]) -> tuple[JobChange, ...]:
    changes: list[JobChange] = []
    known = {job.name: job for job in (state.receipt.jobs if state.receipt else ())}
    for job in jobs:
        if matching(state.jobs, job) is None:
            foreign = [other for other in state.jobs if other.name == job.name]
            if foreign:
                raise ConfigError(
                    f"Hermes has a job called '{job.name}' that runs something else "
                    f"({foreign[0].script or 'the agent'}). It is not touched. Rename or remove "
                    "it, then run the command again."
                )
            changes.append(JobChange(act=Act.CREATE, job=job))
        elif job.name in known and known[job.name] != job:
            changes.append(JobChange(act=Act.EDIT, job=job))
    names = {job.name for job in jobs}
    changes += [
        JobChange(act=Act.REMOVE, job=job)
        for job in known.values()
        if job.name not in names and matching(state.jobs, job) is not None
    ]
    return tuple(changes)


def _same_places(edits: Sequence[Edit], wanted: Sequence[Edit]) -> bool:
    """Whether nothing that was ours is no longer wanted."""

    def places(some: Sequence[Edit]) -> set[tuple[object, str]]:
        return {(edit.path, "" if edit.named else repr(edit.after)) for edit in some}

    return places(edits) == places(wanted)


def env_text_of(state: ProfileState) -> str:
    """Return the text of .env; bytes that are no UTF-8 survive the way back."""
    return (state.env or b"").decode("utf-8", errors="surrogateescape")
