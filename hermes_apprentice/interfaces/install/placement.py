"""Where Apprentice runs, seen from Hermes: addresses, commands, and who reads which files.

Hermes stays where it is; an isolation profile moves Apprentice away from it.

* ``none``: everything on Hermes' side, as one user.
* ``docker``: Apprentice's processes in a container that mounts Apprentice's home under
  the same path and Hermes' home read-only, so that every path means the same on both
  sides. Inside of Hermes' own container: everything there but the sidecar.
* ``firecracker``: everything of Apprentice in a microVM that shares no file with
  Hermes; jobs and tools cross over by ssh.

Pure.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.install.wishes import Machine
from hermes_apprentice.settings import LOOPBACK, Settings

HOST_IN_CONTAINER = "host.docker.internal"
"""Name under which a container reaches the machine that it runs on."""

TAP_ADDRESS = "172.31.80.1"
"""The machine's address on the network that it shares with the microVM."""

GUEST_HOME = Path("/var/lib/hermes-apprentice")
"""Apprentice's home in the microVM."""

GUEST_HERMES = Path("/var/lib/hermes-sessions")
"""Copies of Hermes' session databases in the microVM."""

GUEST_PYTHON = "/opt/hermes-apprentice/bin/python"
"""The interpreter there."""

_SERVER = "hermes_apprentice.interfaces.mcp_tools"
_ACROSS = "hermes_apprentice.interfaces.across"


class Isolation(StrEnum):
    """How far Apprentice is kept from Hermes."""

    NONE = "none"
    """Not at all."""

    DOCKER = "docker"
    """In a container."""

    FIRECRACKER = "firecracker"
    """In a microVM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What an isolation profile comes to."""

    isolation: Isolation
    """Which one."""

    url: str
    """The sidecar's endpoint as Hermes reaches it."""

    keyed: bool
    """Whether the sidecar listens beyond loopback, and so wants a key of Hermes."""

    tools: tuple[str, ...]
    """Starts the MCP server, on Hermes' side."""

    jobs: tuple[str, ...]
    """Starts a scheduled job by its name, on Hermes' side; empty leaves it to Hermes."""

    shares_home: bool
    """Whether what runs inside of Hermes can read Apprentice's database."""

    carries_itself: bool
    """Whether the tools find both homes without being told."""

    key: SecretStr | None = None
    """Hermes' key for the sidecar, where it needs one."""

    contained: bool = False
    """Whether Hermes is itself in a container, and this runs beside it."""

    @property
    def makes_training(self) -> bool:
        """Whether a training environment that is made here runs where training does."""
        return self.isolation is Isolation.NONE or self.contained


def place(settings: Settings, machine: Machine) -> Placement:
    """Work out where everything is.

    Args:
        settings: Apprentice's settings.
        machine: What the machine has.

    Raises:
        ConfigError: The profile needs something that is not here, or no address is fixed.
    """
    wanted = settings.isolation
    isolation = Isolation(wanted.profile)
    url = wanted.sidecar_url.rstrip("/") or sidecar_url(settings)
    # In a container that can start others, Apprentice gets one of its own as anywhere else.
    contained = machine.contained and not machine.docker
    if isolation is Isolation.NONE or (isolation is Isolation.DOCKER and contained):
        return Placement(
            isolation=isolation,
            url=url,
            keyed=not _is_loopback(url),
            tools=(sys.executable, "-m", _SERVER),
            jobs=(),
            shares_home=True,
            carries_itself=False,
            contained=contained,
        )
    if isolation is Isolation.DOCKER:
        if not machine.docker:
            raise ConfigError(
                "The isolation profile 'docker' needs Docker, and its server does not answer here. "
                "Start it (`docker version` must show a server; the user who runs Hermes must be "
                "in the group 'docker'), or take --isolation none."
            )
        docker = docker_command(settings, machine.docker_command)
        enter = (*docker, "exec", "-i", wanted.container, "python")
        return Placement(
            isolation=isolation,
            url=url,
            keyed=True,
            tools=(*enter, "-m", _SERVER),
            jobs=(sys.executable, "-m", _ACROSS, "send"),
            shares_home=True,
            carries_itself=True,
        )
    _check_microvm(machine)
    if not wanted.sidecar_url:
        url = f"http://{wanted.guest.partition('@')[2]}:{_port(settings)}/v1"
    return Placement(
        isolation=isolation,
        url=url,
        keyed=True,
        tools=(*ssh_command(settings, machine.ssh_command), guest_command(_SERVER)),
        jobs=(sys.executable, "-m", _ACROSS, "send"),
        shares_home=False,
        carries_itself=True,
    )


def docker_command(settings: Settings, docker: str = "docker") -> tuple[str, ...]:
    """Return Docker's command, with the place where it listens where that is not the usual one."""
    host = settings.isolation.docker_host
    return (docker, "--host", host) if host else (docker,)


def ssh_command(settings: Settings, ssh: str = "ssh") -> tuple[str, ...]:
    """Return what reaches the microVM, without the command for it.

    Hermes may give its children another HOME, so key and known hosts are named.
    """
    folder = settings.home / "firecracker"
    return (
        ssh or "ssh",
        *("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"),
        *("-o", "StrictHostKeyChecking=accept-new"),
        *("-o", f'UserKnownHostsFile="{folder / "known_hosts"}"'),
        *("-o", "IdentitiesOnly=yes", "-i", str(folder / "id_ed25519")),
        settings.isolation.guest,
    )


def guest_command(module: str, *arguments: str) -> str:
    """Return the command line that runs one of our modules in the microVM."""
    homes = f"APPRENTICE_HOME={GUEST_HOME} HERMES_HOME={GUEST_HERMES}"
    return " ".join((f"env {homes} {GUEST_PYTHON} -m {module}", *arguments))


def reachable_upstream(url: str, placement: Placement) -> str:
    """Return an endpoint's address as the sidecar's side reaches it.

    What listens on the loopback of Hermes' machine is somewhere else for a container or a
    microVM.
    """
    parts = urlsplit(url)
    if not _is_loopback(url) or placement.isolation is Isolation.NONE or placement.contained:
        return url
    docker = placement.isolation is Isolation.DOCKER
    host = HOST_IN_CONTAINER if docker else TAP_ADDRESS
    where = f"{host}:{parts.port}" if parts.port else host
    return urlunsplit(parts._replace(netloc=where))


def _check_microvm(machine: Machine) -> None:
    missing: list[str] = []
    if not machine.kvm:
        missing.append(
            "/dev/kvm is missing or not yours: switch virtualisation on in the firmware and add "
            "the user to the group 'kvm'"
        )
    if not machine.ssh_command:
        missing.append("the command 'ssh' is missing: install an OpenSSH client")
    if missing:
        raise ConfigError(
            f"The isolation profile 'firecracker' is not possible here: {'; '.join(missing)}. "
            "--isolation docker or none is."
        )


def _port(settings: Settings) -> int:
    if settings.server.port == 0:
        raise ConfigError("server.port is 0 (any free port); Hermes needs a fixed one.")
    return settings.server.port


def sidecar_url(settings: Settings) -> str:
    """Return the sidecar's endpoint on the machine that it listens on.

    Raises:
        ConfigError: Its port is not fixed.
    """
    port, host = _port(settings), settings.server.host
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"  # every address of this machine, hence this one too
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def _is_loopback(url: str) -> bool:
    return (urlsplit(url).hostname or "") in LOOPBACK


def job_command(placement: Placement, script: str) -> Sequence[str]:
    """Return what a job's script on Hermes' side starts; empty where it does the work itself."""
    if not placement.jobs:
        return ()
    return (*placement.jobs, script.removeprefix("apprentice_").removesuffix(".py"))
