"""What the operator should know about keys and isolation before agreeing to a plan."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

from hermes_apprentice.interfaces.install.admission import TENANT
from hermes_apprentice.interfaces.install.placement import (
    Isolation,
    Placement,
    reachable_upstream,
    ssh_command,
)
from hermes_apprentice.interfaces.install.plan import SIDECAR_KEY_ENV
from hermes_apprentice.interfaces.install.receipt import read_receipts
from hermes_apprentice.interfaces.install.survey import OwnState, ProfileState, survey_profile
from hermes_apprentice.interfaces.install.wishes import HermesFacts, Wishes
from hermes_apprentice.settings import ADMIN_KEY_ENV, Settings


def isolation_warnings(
    settings: Settings,
    profiles: Sequence[ProfileState],
    hermes: HermesFacts,
    upstream: str,
    placement: Placement,
) -> list[str]:
    """Say what is different from a setup with everything in one place.

    Args:
        settings: Apprentice's settings.
        profiles: The profiles of Hermes that are set up.
        hermes: The Hermes that is installed.
        upstream: The real endpoint, as Hermes reaches it.
        placement: Where Apprentice runs.
    """
    found: list[str] = []
    seen = reachable_upstream(upstream, placement)
    if seen != upstream:
        found.append(
            f"The model endpoint {upstream} is on this machine, so the sidecar asks {seen}. See "
            "that it listens there too, not on 127.0.0.1 only."
        )
    if placement.contained and placement.isolation is Isolation.NONE:
        found.append(
            "Hermes runs in a container: start the sidecar inside it as well, or on the outside "
            "with --isolation docker --sidecar-url http://ADDRESS:PORT/v1. Both homes must be on "
            "volumes, or they end with the container."
        )
    if placement.contained and placement.isolation is Isolation.DOCKER:
        found.append(
            f"Hermes runs in a container, and asks the sidecar outside of it at {placement.url}. "
            f"Mount {settings.home} and {settings.hermes_home} there under the same paths, "
            "because jobs, tools and plugin stay on this side."
        )
    if placement.isolation is Isolation.FIRECRACKER:
        inside = shlex.join(ssh_command(settings))
        plugin = "Its plugin is left out" if hermes.has_apprentice else "There is no plugin"
        found.append(
            f"The microVM shares no file with Hermes. {plugin}: no buttons and replies over "
            "Telegram, and calls are told apart by their shape. Messages are still delivered by "
            f"the job; decide with {inside} apprentice reply 'train gc-...', or let the agent ask "
            "through its tools."
        )
    return found


def with_key(
    placement: Placement, wishes: Wishes, profiles: Sequence[ProfileState], own: OwnState
) -> Placement:
    """Return the placement with Hermes' key: the one that it has, or a new one."""
    if not placement.keyed and not own.directory.tenants:
        return placement
    present = [value for state in profiles if (value := state.value_of(SIDECAR_KEY_ENV))]
    return replace(placement, key=SecretStr(present[0]) if present else wishes.new_key)


def notes_on_the_tab(
    profiles: Sequence[ProfileState], own: OwnState, hermes: HermesFacts, placement: Placement
) -> list[str]:
    """Say what the tab in Hermes' dashboard needs, where the sidecar wants the operator's key.

    The key is not made here: whoever has it sees every tenant's figures, so that it is the
    operator who decides whether Hermes' dashboard may show them.
    """
    wanted = placement.keyed or own.directory.has_admin_key
    missing = [state for state in profiles if not state.value_of(ADMIN_KEY_ENV)]
    if not (wanted and missing and hermes.has_apprentice and placement.shares_home):
        return []
    places = ", ".join(str(state.env_path) for state in missing)
    makes = "makes a new one, if you lost it" if own.directory.has_admin_key else "makes it"
    return [
        "The tab in Hermes' dashboard needs the operator's key, because the sidecar shows its "
        f"page to nobody else (`apprentice tenants admin-key` {makes}):\n  "
        f"{ADMIN_KEY_ENV}=ap-... into {places}"
    ]


def hint_about_the_tab(settings: Settings) -> str:
    """Say where a new operator's key is needed, if a tab was put into Hermes' dashboard.

    Raises:
        ConfigError: What a setup left cannot be read.
    """
    places = [str(Path(one.home) / ".env") for one in read_receipts(settings.home) if one.tab]
    if not places:
        return ""
    return (
        "The tab in Hermes' dashboard needs it from now on: "
        f"{ADMIN_KEY_ENV}=ap-... into {', '.join(places)}"
    )


def keys_that_stay(profiles: Sequence[ProfileState], own: OwnState) -> list[str]:
    """Say which keys an uninstall leaves, and how they end."""
    notes = [
        f"{ADMIN_KEY_ENV} in {state.env_path} is your own line and stays; remove it."
        for state in profiles
        if state.value_of(ADMIN_KEY_ENV)
    ]
    if TENANT in own.directory.tenants:
        notes.append(f"Hermes' key is gone; `apprentice tenants revoke {TENANT}` ends it.")
    return notes


def hint_about_hermes(settings: Settings) -> str:
    """Say what a Hermes that was set up without a key needs, once the sidecar wants one.

    Raises:
        ConfigError: What a setup left cannot be read.
    """
    keyless = [
        one.profile
        for one in read_receipts(settings.home)
        if not survey_profile(settings.home, one.profile, Path(one.home)).value_of(SIDECAR_KEY_ENV)
    ]
    if not keyless:
        return ""
    named = "".join(f" --profile {shlex.quote(one)}" for one in keyless)
    return (
        "Hermes on this machine has no key yet, and answers through its fallback until "
        f"`apprentice setup{named} --apply` gives it one; restart its gateway then."
    )


def how_to_stop(settings: Settings) -> str:
    """Say how the sidecar is stopped, where that is not by a service."""
    profile = settings.isolation.profile
    stops = {"docker": f"docker rm -f {settings.isolation.container}", "firecracker": "end the VM"}
    return f" ({stops[profile]})" if profile in stops else ""
