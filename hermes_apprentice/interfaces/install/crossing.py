"""What Hermes starts of Apprentice: the tools and the scheduled scripts. Reads shipped files."""

from __future__ import annotations

import json
import sys
from typing import Any

from hermes_apprentice.assets import asset_dir
from hermes_apprentice.interfaces.install.placement import Placement, job_command
from hermes_apprentice.interfaces.install.upstream import OUR_NAME
from hermes_apprentice.interfaces.install.wishes import HermesFacts
from hermes_apprentice.interfaces.install.yaml_text import read_yaml, value_at
from hermes_apprentice.settings import Settings

DISCOVERY = "mcp_discovery_timeout"
"""Hermes' setting for how long a session's first turn waits for tools."""

DISCOVERY_SECONDS = 6.0
"""Enough to enter a container or a microVM."""


def patient(config: dict[str, Any]) -> bool:
    """Whether Hermes waits for tools that have to be reached in a container or a microVM."""
    present = config.get(DISCOVERY)
    return isinstance(present, (int, float)) and present >= DISCOVERY_SECONDS


def mcp_entry(settings: Settings, placement: Placement) -> dict[str, Any]:
    """Return the entry that lets Hermes' agent use the tools."""
    path = asset_dir("mcp_server") / "config.yaml"
    shipped = read_yaml(path.read_text(encoding="utf-8"), str(path))
    entry = dict(value_at(shipped, ("mcp_servers", OUR_NAME)))
    command, *arguments = placement.tools
    entry |= {"command": command, "args": arguments}
    if placement.carries_itself:
        return entry
    environment = {
        "APPRENTICE_HOME": str(settings.home),
        "HERMES_HOME": str(settings.hermes_home),
    }
    return entry | {"env": {**entry.get("env", {}), **environment}}


def script_content(name: str, hermes: HermesFacts, placement: Placement) -> bytes:
    """Return a script for Hermes' scheduler, which runs it with Hermes' own interpreter."""
    path = asset_dir("cron") / name
    crossing = job_command(placement, name)
    if hermes.has_apprentice and not crossing:
        return path.read_bytes()
    command = json.dumps(list(crossing) or [sys.executable, str(path)], ensure_ascii=False)
    return (
        '"""Scheduled by Hermes (no agent): handed to where Apprentice is."""\n\n'
        f"import os\n\nCOMMAND = {command}\n"
        'if __name__ == "__main__":\n    os.execv(COMMAND[0], COMMAND)\n'
    ).encode()
