"""Hermes' own loader finds the plugin, and the tags reach the wire in a form it accepts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice import plugin

CALL = {
    "session_id": "20260901_080000_aaaaaa",
    "turn_id": "t",
    "api_request_id": "r:api:1",
    "api_call_count": 1,
    "platform": "cli",
}


class Context:
    """Records what a plugin registers."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def register_middleware(self, kind: str, callback: Any) -> None:
        self.seen[kind] = callback

    def register_cli_command(self, name: str, **rest: Any) -> None:
        self.seen[name] = rest


def test_the_plugin_registers_tagging_and_a_command() -> None:
    context = Context()
    plugin.register(context)
    assert sorted(context.seen) == ["apprentice", "llm_request"]


def test_a_hermes_that_offers_nothing_is_left_alone() -> None:
    assert plugin.register(object()) is None


def test_a_call_is_tagged_without_changing_the_original() -> None:
    request = {"model": "m", "extra_headers": {"X-Own": "1"}}
    tagged = plugin.tag_request(request=request, **CALL)
    assert tagged is not None
    assert tagged["request"]["extra_headers"] == {
        "X-Own": "1",
        "X-Hermes-Session-Id": "20260901_080000_aaaaaa",
        "X-Hermes-Turn-Id": "t",
        "X-Hermes-Api-Request-Id": "r:api:1",
        "X-Hermes-Api-Call": "1",
        "X-Hermes-Platform": "cli",
    }
    assert request == {"model": "m", "extra_headers": {"X-Own": "1"}}


def test_an_unknown_request_is_left_alone() -> None:
    assert plugin.tag_request(request="what is this", **CALL) is None


@pytest.mark.slow
def test_hermes_lists_and_runs_the_plugin(tmp_path: Path) -> None:
    hermes = Path(sys.executable).with_name("hermes")
    (tmp_path / "config.yaml").write_text("plugins: {enabled: [apprentice]}\n")
    environment = {
        **os.environ,
        "HERMES_HOME": str(tmp_path),
        "APPRENTICE_HOME": str(tmp_path / "apprentice"),
        "COLUMNS": "160",
        "NO_COLOR": "1",
    }
    listed = subprocess.run(
        [hermes, "plugins", "list"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert "apprentice" in listed.stdout
    shown = subprocess.run(
        [hermes, "apprentice", "candidates", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert shown.stdout.strip() == "[]", shown.stderr
