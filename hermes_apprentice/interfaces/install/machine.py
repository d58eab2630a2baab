"""Looks at the machine and at the Hermes on it. Reads only; starts short commands.

What cannot be found out is reported as not there: a probe that fails never stops
the setup.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.install.service import UNIT
from hermes_apprentice.interfaces.install.wishes import HermesFacts, Machine, ProviderFacts
from hermes_apprentice.settings import child_environment

KNOWN_HERMES = "0.19."
"""Versions that this release was tested with."""

_SECONDS = 60
_EXEC_LINE = re.compile(r"""exec'?\s+"?(/[^"\n]+?)"?\s+"\$0\"""")
_PROBE = """
import importlib.util as u, json, sys
from importlib import metadata
def has(name):
    try:
        return u.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
def version():
    try:
        return metadata.version("hermes-agent")
    except metadata.PackageNotFoundError:
        return ""
facts = {"version": version(), "mcp": has("mcp"), "messaging": has("telegram"),
         "apprentice": has("hermes_apprentice.plugin"), "provider": None}
try:
    from providers import get_provider_profile
    p = get_provider_profile(sys.argv[1])
    if p is not None:
        facts["provider"] = [p.base_url, p.api_mode, p.auth_type, list(p.env_vars)]
except Exception:
    pass
print(json.dumps(facts))
"""


def examine_machine(home: Path, docker_host: str = "") -> Machine:
    """Return what this machine has.

    Args:
        home: Where disk space is needed; need not exist yet.
        docker_host: Where Docker listens; empty leaves it to Docker's command.
    """
    docker = ["docker", *(("--host", docker_host) if docker_host else ())]
    place = home
    while not place.exists():
        place = place.parent
    gpus = _output(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"])
    return Machine(
        gpus=tuple(line.strip() for line in gpus.splitlines() if line.strip()),
        kvm=os.access("/dev/kvm", os.R_OK | os.W_OK),
        docker=_output([*docker, "version", "--format", "{{.Server.Version}}"]).strip(),
        free_bytes=shutil.disk_usage(place).free,
        user_services=bool(_output(["systemctl", "--user", "show", "-p", "Version", "--value"])),
        sidecar_runs=_output(["systemctl", "--user", "is-active", UNIT]).strip() == "active",
        docker_host=docker_host or _docker_host(),
        docker_command=shutil.which("docker") or "docker",
        ssh_command=shutil.which("ssh") or "",
        contained=in_container(Path("/")),
        user=f"{os.geteuid()}:{os.getegid()}",
    )


def _docker_host() -> str:
    """Return where Docker listens by its context or its variable, unless it is the usual place."""
    found = _output(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"])
    return "" if found.strip() == "unix:///var/run/docker.sock" else found.strip()


def in_container(root: Path) -> bool:
    """Whether a root folder is that of a Docker or Podman container."""
    return any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv"))


def containers_with_hermes() -> list[str]:
    """Return the names of running containers that look like Hermes."""
    listed = _output(["docker", "ps", "--format", "{{.Names}} {{.Image}}"])
    return [line.split()[0] for line in listed.splitlines() if "hermes" in line.lower()]


def find_hermes(hermes_home: Path, provider: str = "auto") -> HermesFacts:
    """Return the Hermes that is installed here, first the one beside this very package.

    Args:
        hermes_home: Its home, so that its own plugins and settings are seen.
        provider: The provider to ask its list about.

    Raises:
        ConfigError: There is none.
    """
    beside = Path(sys.executable).with_name("hermes")
    found = str(beside) if beside.is_file() else shutil.which("hermes")
    if found is None:
        raise ConfigError(_no_hermes(containers_with_hermes()))
    command = Path(found)
    python = interpreter_of(command)
    said: dict[str, object] = {}
    if python is not None:
        text = _output([str(python), "-c", _PROBE, provider], HERMES_HOME=str(hermes_home))
        try:
            said = json.loads(text.strip().splitlines()[-1])
        except (ValueError, IndexError):
            said = {}
    listed = said.get("provider")
    facts = None
    if isinstance(listed, list) and len(listed) == 4:
        facts = ProviderFacts(
            base_url=str(listed[0]),
            api_mode=str(listed[1]),
            auth_type=str(listed[2]),
            env_vars=tuple(str(name) for name in listed[3]),
        )
    return HermesFacts(
        command=command,
        python=python,
        version=str(said.get("version") or ""),
        has_apprentice=bool(said.get("apprentice")),
        has_mcp=bool(said.get("mcp")),
        has_messaging=bool(said.get("messaging")),
        provider=facts,
    )


def _no_hermes(containers: Sequence[str]) -> str:
    text = "The command 'hermes' is not found. Install Hermes Agent, or add its folder to PATH."
    others = [name for name in containers if "apprentice" not in name]
    if not others:
        return text
    return (
        f"{text} If Hermes lives in the container '{others[0]}', install hermes-apprentice there "
        f"and run this inside: docker exec -it {others[0]} apprentice setup"
    )


def interpreter_of(command: Path) -> Path | None:
    """Return the interpreter that an installed Python command runs with."""
    try:
        head = command.read_bytes()[:4_096].decode("utf-8", errors="replace")
    except OSError:
        return None
    first = head.split("\n", 1)[0]
    candidates = [first[2:].strip()] if first.startswith("#!") and "python" in first else []
    # Where the path is long or has spaces, pip writes a shell line that starts the interpreter.
    candidates += _EXEC_LINE.findall(head)
    candidates.append(str(command.resolve().with_name("python")))
    for name in candidates:
        if Path(name).is_file() and os.access(name, os.X_OK):
            return Path(name)
    return None


def _output(command: Sequence[str], **changes: str) -> str:
    """Return what a command prints, or nothing where it fails."""
    try:
        done = subprocess.run(
            list(command),
            env=child_environment(**changes),
            cwd="/",  # so that an interpreter finds nothing in the current folder
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
