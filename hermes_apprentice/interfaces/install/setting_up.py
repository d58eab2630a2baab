"""Puts a whole plan together for a setup. Pure."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.install.admission import admitted
from hermes_apprentice.interfaces.install.containers import (
    build_command,
    start_command,
)
from hermes_apprentice.interfaces.install.isolating import (
    isolation_warnings,
    notes_on_the_tab,
    with_key,
)
from hermes_apprentice.interfaces.install.machine import KNOWN_HERMES
from hermes_apprentice.interfaces.install.microvm import (
    steps_to_start,
)
from hermes_apprentice.interfaces.install.own_files import own_files, train_python
from hermes_apprentice.interfaces.install.placement import (
    Isolation,
    Placement,
    place,
    reachable_upstream,
    sidecar_url,
)
from hermes_apprentice.interfaces.install.plan import (
    FileChange,
    Plan,
    Step,
    env_text_of,
    original_text,
    plan_profile,
)
from hermes_apprentice.interfaces.install.receipt import JobRecord
from hermes_apprentice.interfaces.install.service import unit_text
from hermes_apprentice.interfaces.install.survey import OwnState, ProfileState
from hermes_apprentice.interfaces.install.upstream import RealUpstream, find_upstream
from hermes_apprentice.interfaces.install.wishes import HermesFacts, Machine, Wishes
from hermes_apprentice.interfaces.install.yaml_text import read_yaml
from hermes_apprentice.settings import Settings

_LEAST_FREE = 2_000_000_000
_TRAINING_BYTES = 4_000_000_000


def plan_setup(
    settings: Settings,
    wishes: Wishes,
    profiles: Sequence[ProfileState],
    own: OwnState,
    hermes: Sequence[HermesFacts],
    machine: Machine,
    jobs: Sequence[JobRecord],
    variables: Sequence[str] = (),
) -> Plan:
    """Work out everything that a setup has to change.

    Args:
        settings: Apprentice's settings.
        wishes: What the operator asked for.
        profiles: The profiles that were asked for; the first one gets the jobs.
        own: Apprentice's own home.
        hermes: The Hermes that is installed, with the provider of each profile.
        machine: What the machine has.
        jobs: Jobs that the scheduler is to have.
        variables: Names of the environment variables that are set here.

    Raises:
        ConfigError: The setup is not possible; nothing was changed.
    """
    upstreams = [
        find_upstream(
            read_yaml(original_text(state), str(state.home / "config.yaml")),
            wishes,
            facts.provider,
            state.variables() | set(variables),
        )
        for state, facts in zip(profiles, hermes, strict=True)
    ]
    first = upstreams[0]
    placement = with_key(place(settings, machine), wishes, profiles, own)
    if first.base_url in (placement.url, sidecar_url(settings)):
        raise ConfigError(
            f"{first.base_url} is the sidecar itself. Name the real endpoint with --upstream-url, "
            "or give the sidecar another port: server.port in settings.toml."
        )
    for state, upstream in zip(profiles[1:], upstreams[1:], strict=True):
        if upstream.base_url != first.base_url:
            raise ConfigError(
                f"The profile '{state.name}' asks {upstream.base_url}, but '{profiles[0].name}' "
                f"asks {first.base_url}. The sidecar has one upstream: leave that profile out, or "
                "name an endpoint that serves both with --upstream-url."
            )
    # Jobs stay where an earlier setup put them.
    having = [
        number for number, state in enumerate(profiles) if state.receipt and state.receipt.jobs
    ]
    keeper = having[0] if having else 0
    plans = [
        plan_profile(state, upstream, settings, facts, jobs if number == keeper else (), placement)
        for number, (state, upstream, facts) in enumerate(
            zip(profiles, upstreams, hermes, strict=True)
        )
    ]
    files, steps = _own_changes(settings, wishes, profiles, own, first, machine, placement)
    return Plan(
        own=files,
        steps=steps,
        profiles=tuple(plans),
        warnings=tuple(
            [
                *_warnings(settings, wishes, profiles, own, hermes[0], first, machine, placement),
                *isolation_warnings(settings, profiles, hermes[0], first.base_url, placement),
            ]
        ),
        notes=(
            *_notes(settings, wishes, own, first, machine, placement),
            *notes_on_the_tab(profiles, own, hermes[0], placement),
        ),
        key=placement.key,
    )


def _own_changes(
    settings: Settings,
    wishes: Wishes,
    profiles: Sequence[ProfileState],
    own: OwnState,
    upstream: RealUpstream,
    machine: Machine,
    placement: Placement,
) -> tuple[tuple[FileChange, ...], tuple[Step, ...]]:
    files = list(own_files(settings, wishes, profiles, own, upstream, machine, placement))
    steps: list[Step] = []
    if placement.shares_home and not own.has_keys:
        steps.append(Step.KEYS)
    if placement.shares_home and placement.key is not None:
        if not admitted(own.directory, placement.key.get_secret_value()):
            steps.append(Step.TENANT)
    if placement.shares_home and not own.has_embedder:
        steps.append(Step.EMBEDDER)
    if wishes.with_training and not own.has_training and placement.makes_training:
        steps.append(Step.TRAINING)
    unit = unit_text(Path(sys.executable), settings.home, settings.hermes_home).encode()
    if _serves(wishes, machine, placement):
        if own.unit != unit:
            files.append(FileChange(path=own.unit_path, before=own.unit, after=unit))
        if own.unit != unit or not machine.sidecar_runs:
            steps.append(Step.START)
    elif own.unit == unit and placement.isolation is not Isolation.NONE:
        files.append(FileChange(path=own.unit_path, before=own.unit, after=None))
        if machine.user_services:
            steps.append(Step.STOP)
    return tuple(files), tuple(steps)


def _serves(wishes: Wishes, machine: Machine, placement: Placement) -> bool:
    """Whether systemd is to run the sidecar."""
    return wishes.service and machine.user_services and placement.isolation is Isolation.NONE


def _warnings(
    settings: Settings,
    wishes: Wishes,
    profiles: Sequence[ProfileState],
    own: OwnState,
    hermes: HermesFacts,
    upstream: RealUpstream,
    machine: Machine,
    placement: Placement,
) -> list[str]:
    found: list[str] = []
    if not hermes.version.startswith(KNOWN_HERMES):
        found.append(
            f"This Hermes is version {hermes.version or '(unknown)'}; this release was tested with "
            f"{KNOWN_HERMES}x. Run `apprentice doctor` afterwards."
        )
    python = shlex.quote(str(hermes.python or "python"))
    if not hermes.has_apprentice:
        found.append(
            "hermes-apprentice is not installed in Hermes' own environment, so its plugin is left "
            f"out: no replies over Telegram, and calls are told apart by their shape. To have it: "
            f"{python} -m pip install hermes-apprentice, then run this again."
        )
    if not hermes.has_mcp:
        found.append(
            "Hermes' MCP client is not installed, so the agent will not see Apprentice's tools: "
            f"{python} -m pip install 'hermes-agent[mcp]'"
        )
    if not hermes.has_messaging:
        found.append(
            "Hermes' messaging is not installed, so questions stay in `apprentice candidates`: "
            f"{python} -m pip install 'hermes-agent[messaging]'"
        )
    names = {state.name for state in profiles}
    for state in profiles:
        if state.chosen and state.chosen not in names:
            found.append(
                f"Hermes uses the profile '{state.chosen}' unless another one is named, and that "
                f"one is not part of this: add --profile {shlex.quote(state.chosen)}."
            )
        config = state.parsed()
        plugins = config.get("plugins")
        if isinstance(plugins, dict) and "apprentice" in (plugins.get("disabled") or ()):
            found.append(
                f"The plugin is disabled in the profile '{state.name}' and stays so; "
                "`hermes plugins enable apprentice` enables it."
            )
        ours = state.receipt.env_text if state.receipt is not None else ""
        told = f"APPRENTICE_HOME={settings.home}"
        if "APPRENTICE_HOME" in state.variables() and not ours and told not in env_text_of(state):
            found.append(
                f"{state.env_path} already sets APPRENTICE_HOME and is not changed; "
                f"see that it is {settings.home}."
            )
    asked = reachable_upstream(upstream.base_url, placement)
    if own.settings is not None and settings.upstream.base_url.rstrip("/") != asked:
        found.append(
            f"settings.toml has the upstream {settings.upstream.base_url}, while Hermes asks "
            f"{asked}. settings.toml is yours and stays; correct it if it is outdated."
        )
    if own.settings is not None and wishes.budget not in (None, settings.budget.monthly_dollars):
        found.append(
            "settings.toml is yours and stays; write the budget there: [budget] monthly_dollars."
        )
    if own.settings is not None and wishes.base_model not in (None, settings.trainer.base_model):
        found.append(
            "settings.toml is yours and stays; write the base model there: [trainer] base_model."
        )
    needed = _LEAST_FREE + (_TRAINING_BYTES if wishes.with_training else 0)
    if machine.free_bytes < needed:
        found.append(
            f"Only {machine.free_bytes / 1e9:.1f} GB are free at {settings.home}; "
            f"{needed / 1e9:.0f} GB are advised."
        )
    return found


def _notes(
    settings: Settings,
    wishes: Wishes,
    own: OwnState,
    upstream: RealUpstream,
    machine: Machine,
    placement: Placement,
) -> list[str]:
    notes: list[str] = []
    inline = upstream.inline_key is not None
    if placement.isolation is Isolation.FIRECRACKER:
        notes.append(steps_to_start(settings, upstream.key_env, inline))
    elif placement.isolation is Isolation.DOCKER and not placement.contained:
        notes.append(
            "Make the image once, in a clone of the project, and start the container:\n  "
            f"{build_command(wishes.with_training)}\n  "
            f"{start_command(settings, upstream.key_env, inline)}"
        )
    elif placement.contained and placement.isolation is Isolation.DOCKER:
        notes.append(
            "Start the sidecar outside of this container: in one of its own that shares this "
            "one's network (deploy/docker/beside-hermes.yaml), or on the machine with "
            "`apprentice serve --host ADDRESS` and --sidecar-url here."
        )
    elif not _serves(wishes, machine, placement):
        homes = f"APPRENTICE_HOME={shlex.quote(str(settings.home))} "
        homes += f"HERMES_HOME={shlex.quote(str(settings.hermes_home))}"
        key = ""
        if inline:
            key = f"set -a; . {shlex.quote(str(settings.home / 'upstream.env'))}; set +a; "
        elif upstream.key_env:
            key = f"{upstream.key_env}=... "
        notes.append(
            "Start the sidecar, and have it started with the machine:\n  "
            f"{key}{homes} {shlex.quote(sys.executable)} -m hermes_apprentice.interfaces.cli.main "
            "serve"
        )
    else:
        notes.append(
            "The sidecar stops when you log out unless you run `loginctl enable-linger` once."
        )
    python = train_python(settings, placement)
    if wishes.with_training and not own.has_training and own.settings is not None and python:
        notes.append(f"Add to settings.toml: [trainer] train_python = {json.dumps(python)}")
    notes.append(
        f"Restart Hermes' gateway so that it reads the changes; it then asks "
        f"{placement.url}, and {upstream.base_url} itself whenever the sidecar is down."
    )
    return notes
