"""Works out which of Apprentice's own files a setup changes: settings, keys, isolation. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from hermes_apprentice.interfaces.install.containers import (
    TRAINING_PYTHON,
    compose_path,
    compose_text,
)
from hermes_apprentice.interfaces.install.microvm import (
    guest_settings,
    guest_settings_path,
    vm_path,
    vm_text,
)
from hermes_apprentice.interfaces.install.placement import (
    Isolation,
    Placement,
    reachable_upstream,
)
from hermes_apprentice.interfaces.install.plan import FileChange
from hermes_apprentice.interfaces.install.settings_file import (
    Chosen,
    settings_text,
    shared_text,
    with_isolation,
)
from hermes_apprentice.interfaces.install.survey import OwnState, ProfileState, decoded
from hermes_apprentice.interfaces.install.upstream import RealUpstream
from hermes_apprentice.interfaces.install.wishes import Machine, Wishes
from hermes_apprentice.settings import IsolationSettings, Settings


def own_files(
    settings: Settings,
    wishes: Wishes,
    profiles: Sequence[ProfileState],
    own: OwnState,
    upstream: RealUpstream,
    machine: Machine,
    placement: Placement,
) -> Iterator[FileChange]:
    """Work out which of Apprentice's own files change.

    Args:
        settings: Apprentice's settings.
        wishes: What the operator asked for.
        profiles: The profiles of Hermes that are set up.
        own: Apprentice's own home.
        upstream: What Hermes asks today.
        machine: What the machine has.
        placement: Where Apprentice runs.

    Raises:
        ConfigError: settings.toml cannot be edited.
    """
    path = settings.home / "settings.toml"
    base_url = reachable_upstream(upstream.base_url, placement)
    deciders = tuple(dict.fromkeys(one for state in profiles for one in telegram_users(state)))
    chosen = Chosen(
        base_url=base_url,
        key_env=upstream.key_env,
        budget=wishes.budget,
        base_model=wishes.base_model,
        train_python=train_python(settings, placement) if wishes.with_training else "",
        deciders=deciders,
    )
    if own.settings is None:
        written = settings_text(settings, chosen).encode()
        yield FileChange(path=path, before=None, after=written)
    elif settings.isolation != IsolationSettings() or b"[isolation]" in own.settings:
        text = decoded(own.settings, path)
        written = with_isolation(text, settings.isolation, str(path)).encode()
        if written != own.settings:
            yield FileChange(path=path, before=own.settings, after=written)
    wanted: dict[Path, bytes] = {}
    inline = upstream.inline_key
    key = b""
    if inline is not None:
        key = f"{upstream.key_env}={json.dumps(inline.get_secret_value())}\n".encode()
    if placement.isolation is Isolation.DOCKER and not placement.contained:
        ours = (state.home / ".env" for state in profiles)
        hidden = list(dict.fromkeys([*ours, *own.env_files]))
        wanted[compose_path(settings.home)] = compose_text(
            settings, machine.user, upstream.key_env, inline is not None, hidden
        ).encode()
    if placement.isolation is Isolation.FIRECRACKER:
        wanted[vm_path(settings.home)] = vm_text(settings.home).encode()
        guest = guest_settings_path(settings.home)
        if guest not in own.isolation_files:
            wanted[guest] = guest_settings(shared_text(chosen)).encode()
        if key:
            wanted[guest.with_name("upstream.env")] = key
        if placement.key is not None:
            text = f"{placement.key.get_secret_value()}\n"
            wanted[guest.with_name("hermes.key")] = text.encode()
    elif key:
        wanted[settings.home / "upstream.env"] = key
    present = own.isolation_files
    if own.upstream_env is not None:
        present = present | {settings.home / "upstream.env": own.upstream_env}
    for path, content in wanted.items():
        if present.get(path) != content:
            yield FileChange(path=path, before=present.get(path), after=content)


def train_python(settings: Settings, placement: Placement) -> str:
    """Return the interpreter of the training environment, as the side that trains sees it."""
    if placement.makes_training:
        return str(settings.home / "training" / "bin" / "python")
    return TRAINING_PYTHON if placement.isolation is Isolation.DOCKER else ""


def telegram_users(state: ProfileState) -> list[str]:
    """Return whom Hermes trusts on Telegram, as Apprentice names people."""
    listed = state.value_of("TELEGRAM_ALLOWED_USERS").split(",")
    return [f"telegram:{one.strip()}" for one in listed if one.strip().isdecimal()]
