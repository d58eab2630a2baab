"""Hermes' own loader finds the plugin, and the tags reach the wire in a form it accepts."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from hermes_apprentice import plugin
from hermes_apprentice.interfaces.cli.main import app

HERMES = Path(sys.executable).with_name("hermes")

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

    def register_hook(self, name: str, callback: Any) -> None:
        self.seen[name] = callback

    def register_command(self, name: str, handler: Any, **rest: Any) -> None:
        self.seen[f"/{name}"] = handler

    def register_cli_command(self, name: str, **rest: Any) -> None:
        self.seen[name] = rest


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HERMES_HOME": str(home),
        "APPRENTICE_HOME": str(home / "apprentice"),
        "COLUMNS": "160",
        "NO_COLOR": "1",
    }


def test_the_plugin_registers_what_hermes_offers() -> None:
    context = Context()
    plugin.register(context)
    assert sorted(context.seen) == [
        "/apprentice",
        "apprentice",
        "llm_request",
        "post_llm_call",
        "pre_gateway_dispatch",
        "pre_llm_call",
    ]


def test_a_hermes_that_offers_nothing_is_left_alone_and_the_command_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert plugin.register(object()) is None
    assert len(caplog.records) == 6
    assert all("the 'apprentice' command" in one.getMessage() for one in caplog.records)


def test_what_a_hermes_refuses_costs_no_other_part(caplog: pytest.LogCaptureFixture) -> None:
    class Later(Context):
        """Calls things differently."""

        def register_middleware(self, kind: str, callback: Any) -> None:
            raise ValueError("unknown middleware kind")

        def register_command(self, name: str, handler: Any) -> None:
            raise AssertionError("not reached: description is not taken")

    context = Later()
    with caplog.at_level(logging.WARNING):
        plugin.register(context)
    assert sorted(context.seen) == [
        "apprentice",
        "post_llm_call",
        "pre_gateway_dispatch",
        "pre_llm_call",
    ]
    assert "ValueError: unknown middleware kind" in caplog.text
    assert "register_command('apprentice') is not possible" in caplog.text


def test_the_help_names_every_command_there_is() -> None:
    context = Context()
    plugin.register(context)
    parser = argparse.ArgumentParser(prog="hermes apprentice", formatter_class=_Wide)
    context.seen["apprentice"]["setup_fn"](parser)
    line = next(one for one in parser.format_help().splitlines() if one.startswith("Commands: "))
    named = line.removeprefix("Commands: ").partition(".")[0].split(", ")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert sorted(named) == sorted(commands)
    # What a chat is told to look for on the machine is there.
    said = context.seen["/apprentice"]("help")
    for group, names in (
        ("specialists", ("advance", "hold", "resume", "merge", "gc")),
        ("", ("jobs", "keys", "tenants", "doctor")),
    ):
        present = commands[group].commands if group else commands
        assert set(names) <= set(present)
        assert all(name in said for name in (group, *names))


class _Wide(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=2_000)


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


def test_the_slash_command_answers_in_a_terminal_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPRENTICE_HOME", str(tmp_path))
    context = Context()
    plugin.register(context)
    slash = context.seen["/apprentice"]
    assert slash("") == "Nothing was proposed yet.\nThere is no specialist yet."
    assert slash("train") == "Nothing waits for a decision."
    assert "train gc-7f3a" in slash("help")
    assert slash("dance").startswith("That reply was not understood.")


def test_settings_that_cannot_be_read_are_told_and_break_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPRENTICE_HOME", str(tmp_path))
    (tmp_path / "settings.toml").write_text("approvals = [")
    context = Context()
    plugin.register(context)
    assert "settings.toml cannot be read" in context.seen["/apprentice"]("")


def test_importing_the_plugin_takes_less_than_50_ms() -> None:
    code = (
        "import time; began = time.process_time(); import hermes_apprentice.plugin; "
        "print(time.process_time() - began)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.05


@pytest.mark.slow
@pytest.mark.skipif(not HERMES.exists(), reason="hermes-agent is not installed here")
def test_hermes_lists_and_runs_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("plugins: {enabled: [apprentice]}\n")
    listed = subprocess.run(
        [HERMES, "plugins", "list"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "apprentice" in listed.stdout
    shown = subprocess.run(
        [HERMES, "apprentice", "candidates", "--json"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert shown.stdout.strip() == "[]", shown.stderr
