"""The sidecar as a systemd service: the unit's text, and whether and where it goes.

Pure, but for starting and stopping.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from hermes_apprentice.errors import ConfigError

UNIT = "apprentice.service"
"""Name of the unit."""


def unit_path() -> Path:
    """Return where systemd looks for this user's units."""
    return platformdirs.user_config_path() / "systemd" / "user" / UNIT


def unit_text(python: Path, home: Path, hermes_home: Path) -> str:
    """Write the unit.

    Args:
        python: The interpreter that has hermes-apprentice.
        home: Apprentice's home.
        hermes_home: Hermes' home, whose ``.env`` holds the keys.
    """
    return f"""\
[Unit]
Description=hermes-apprentice: the sidecar between Hermes and its model
After=network-online.target

[Service]
Type=exec
ExecStart="{_quoted(python)}" -m hermes_apprentice.interfaces.cli.main serve
Environment="APPRENTICE_HOME={_quoted(home)}"
Environment="HERMES_HOME={_quoted(hermes_home)}"
EnvironmentFile=-{_literal(hermes_home)}/.env
EnvironmentFile=-{_literal(home)}/upstream.env
Restart=always
RestartSec=2
# Running answers are finished before it ends.
TimeoutStopSec=75
NoNewPrivileges=yes
ProtectSystem=full
PrivateTmp=yes

[Install]
WantedBy=default.target
"""


def _literal(path: Path) -> str:
    return str(path).replace("%", "%%")


def _quoted(path: Path) -> str:
    return _literal(path).replace("\\", "\\\\").replace('"', '\\"')


def start_service() -> None:
    """Load the unit and start it, now and at every login.

    Raises:
        ConfigError: systemd refused.
    """
    _systemctl("daemon-reload")
    _systemctl("enable", UNIT)
    _systemctl("restart", UNIT)


def stop_service() -> None:
    """Stop the service and forget it; the unit's file is still there afterwards.

    Raises:
        ConfigError: systemd refused.
    """
    _systemctl("disable", "--now", UNIT)


def _systemctl(*arguments: str) -> None:
    command: Sequence[str] = ("systemctl", "--user", *arguments)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise ConfigError(f"systemctl cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        raise ConfigError(
            f"`{' '.join(command)}` failed: {done.stderr.strip()}. "
            "Start the sidecar yourself with `apprentice serve`, and set up with --no-service."
        )
