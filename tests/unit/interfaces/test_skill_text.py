"""What the skill tells an agent to call exists."""

from __future__ import annotations

import re
from pathlib import Path

from typer.core import TyperGroup
from typer.main import get_group

from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.interfaces.cli.main import app
from hermes_apprentice.interfaces.mcp_tools import TOOLS

TEXT = (Path(__file__).resolve().parents[3] / "skills" / "apprentice" / "SKILL.md").read_text()


def test_every_command_exists() -> None:
    named = re.findall(r"`apprentice ([a-z]+)(?: ([a-z]+)\b)?", TEXT)
    assert len(named) >= 6
    commands = get_group(app).commands
    for name, below in named:
        assert name in commands
        group = commands[name]
        assert not below or (isinstance(group, TyperGroup) and below in group.commands)


def test_every_tool_is_named_and_every_name_is_a_tool() -> None:
    words = set(re.findall(r"`([a-z_]+)`", TEXT))
    tools = {tool.name for tool in TOOLS}
    assert tools <= words
    others = {"apprentice", "status", "asked", "asked_before", "tell_the_user", "done",
              "share_of_sessions", "why", "null"}  # fmt: skip
    assert words - tools - others <= {str(stage) for stage in Stage}
