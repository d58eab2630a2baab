"""The files that run Apprentice in a container. Pure.

Apprentice's home is mounted under the path that it has outside, Hermes' home as well
and read-only, so that a path in a setting or a skill means the same on both sides.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from hermes_apprentice import __version__
from hermes_apprentice.interfaces.install.placement import HOST_IN_CONTAINER
from hermes_apprentice.settings import HOST_ENV, Settings

TRAINING_PYTHON = "/opt/training/bin/python"
"""The interpreter with torch, in an image that was built with ``TRAINING=yes``."""


def compose_path(home: Path) -> Path:
    """Return where the compose file lies."""
    return home / "docker" / "compose.yaml"


def compose_text(
    settings: Settings, user: str, key_env: str, key_file: bool, hidden: Sequence[Path]
) -> str:
    """Write the compose file.

    Args:
        settings: Apprentice's settings, with absolute paths.
        user: Owner of both homes, as ``uid:gid``.
        key_env: Variable with the upstream's key; empty where there is none.
        key_file: Whether the key stands in ``upstream.env`` in Apprentice's home.
        hidden: Files below Hermes' home that the container is not to see.
    """
    home, hermes, port = settings.home, settings.hermes_home, settings.server.port
    environment = {
        "APPRENTICE_HOME": _literal(home),
        "HERMES_HOME": _literal(hermes),
        HOST_ENV: HOST_IN_CONTAINER,
    }
    lines = [
        "# Written by `apprentice setup --isolation docker`, with the paths of this machine.",
        "services:",
        "  apprentice:",
        f"    image: hermes-apprentice:{__version__}",
        f"    container_name: {settings.isolation.container}",
        f"    command: [serve, --host, 0.0.0.0, --port, {_quoted(str(port))}]",
        f"    user: {_quoted(user)}  # who owns both homes",
        "    init: true  # jobs leave children behind that somebody has to wait for",
        "    restart: unless-stopped",
        "    stop_grace_period: 20s  # running answers are finished",
        "    read_only: true",
        "    tmpfs: [/tmp]",
        "    cap_drop: [ALL]",
        '    security_opt: ["no-new-privileges:true"]',
        "    # On this machine only; the sidecar wants its key from everybody all the same.",
        f'    ports: ["127.0.0.1:{port}:{port}"]',
        f'    extra_hosts: ["{HOST_IN_CONTAINER}:host-gateway"]',
        "    environment:",
        *(f"      {name}: {_quoted(value)}" for name, value in environment.items()),
    ]
    lines += [
        f'      {name}: "${{{name}:-}}"  # of --env-file'
        for name in _passed_on(settings, key_env, key_file)
    ]
    if key_file:
        lines.append(f"    env_file: [{_quoted(_literal(home / 'upstream.env'))}]")
    lines += [
        "    volumes:",
        *_mount(home),
        *_mount(hermes, read_only=True),
    ]
    for path in hidden:
        lines += _mount(path, source="/dev/null", read_only=True)
    lines += [
        "    healthcheck:",
        "      test:",
        "        - CMD",
        "        - python",
        "        - -c",
        "        - import urllib.request as u;"
        f" u.urlopen('http://127.0.0.1:{port}/healthz', timeout=5)",
        "      interval: 30s",
        "      start_period: 30s",
    ]
    return "\n".join(lines) + "\n"


def start_command(settings: Settings, key_env: str, key_file: bool) -> str:
    """Return what starts the container."""
    env = ""
    if _passed_on(settings, key_env, key_file):
        env = f"--env-file {shlex.quote(str(settings.hermes_home / '.env'))} "
    return f"docker compose {env}-f {shlex.quote(str(compose_path(settings.home)))} up -d"


def _passed_on(settings: Settings, key_env: str, key_file: bool) -> list[str]:
    """Return the variables that the container gets from Hermes' .env: the endpoints' keys."""
    first = [key_env] if key_env and not key_file else []
    others = [tier.api_key_env for tier in settings.upstream.fallbacks]
    taken = {key_env} if key_file else set()
    return list(dict.fromkeys([*first, *(one for one in others if one and one not in taken)]))


def build_command(training: bool) -> str:
    """Return what makes the image, in a clone of the project."""
    extra = "--build-arg TRAINING=yes " if training else ""
    return f"docker build {extra}-f deploy/docker/Dockerfile -t hermes-apprentice:{__version__} ."


def _mount(target: Path, source: str = "", read_only: bool = False) -> list[str]:
    lines = [
        "      - type: bind",
        f"        source: {_quoted(source or _literal(target))}",
        f"        target: {_quoted(_literal(target))}",
    ]
    return [*lines, "        read_only: true"] if read_only else lines


def _literal(path: Path) -> str:
    return str(path).replace("$", "$$")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
