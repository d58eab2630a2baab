"""What the operator asks for, and what is known about a Hermes and its machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the operator asks for; ``None`` leaves it to what is found."""

    profiles: tuple[str, ...] = ("default",)
    """Profiles of Hermes; the first one gets the scheduled jobs."""

    model: str | None = None
    """The model that Hermes asks for."""

    upstream_url: str | None = None
    """The real endpoint."""

    key_env: str | None = None
    """The variable with its key."""

    budget: float | None = None
    """Ceiling for paid training, dollars per month."""

    base_model: str | None = None
    """The model that generators start from."""

    new_key: SecretStr = field(default_factory=lambda: SecretStr(""))
    """A fresh key for Hermes; used where the sidecar wants one and Hermes has none."""

    with_training: bool = False
    """Whether to make the training environment."""

    service: bool = True
    """Whether to run the sidecar as a systemd user service where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFacts:
    """What Hermes' own list says about a provider."""

    base_url: str
    """Its endpoint; empty where the user names it."""

    api_mode: str
    """How it is spoken to, such as ``chat_completions``."""

    auth_type: str
    """``api_key``, or a way to sign in."""

    env_vars: tuple[str, ...]
    """Variables that may hold its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HermesFacts:
    """A Hermes that is installed here."""

    command: Path
    """The ``hermes`` executable."""

    python: Path | None
    """The interpreter of its environment, where it could be told."""

    version: str
    """Its version, or empty."""

    has_apprentice: bool
    """Whether hermes-apprentice can be imported there."""

    has_mcp: bool
    """Whether its MCP client is installed."""

    has_messaging: bool
    """Whether its Telegram adapter is installed."""

    provider: ProviderFacts | None = None
    """The provider that was asked about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this machine has."""

    gpus: tuple[str, ...]
    """Names and memory of NVIDIA GPUs."""

    kvm: bool
    """Whether microVMs could run."""

    docker: str
    """Version of the Docker server; empty where there is none."""

    free_bytes: int
    """Free space where Apprentice's home lies."""

    user_services: bool
    """Whether systemd runs services for this user."""

    sidecar_runs: bool = False
    """Whether the sidecar runs as one of them."""

    docker_host: str = ""
    """Where Docker listens; empty is its usual place."""

    docker_command: str = "docker"
    """Docker's command."""

    ssh_command: str = ""
    """The command ssh; empty where there is none."""

    contained: bool = False
    """Whether this is itself a container."""

    user: str = "0:0"
    """User and group that run this, as numbers."""
