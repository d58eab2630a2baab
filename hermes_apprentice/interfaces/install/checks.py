"""Checks of what a setup put into Hermes, for the doctor. Reads, and starts short commands."""

from __future__ import annotations

import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from hermes_apprentice.doctor import Check, Finding
from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.install.machine import KNOWN_HERMES, find_hermes
from hermes_apprentice.interfaces.install.receipt import Receipt, digest, read_receipts
from hermes_apprentice.interfaces.install.scheduler import matching
from hermes_apprentice.interfaces.install.survey import ProfileState, survey_profile
from hermes_apprentice.interfaces.install.upstream import OUR_NAME
from hermes_apprentice.interfaces.install.yaml_text import value_at
from hermes_apprentice.settings import Settings, child_environment

_REACH_SECONDS = 5.0
_COMMAND_SECONDS = 60
_OVERDUE_SECONDS = 900
_LOAD = "import hermes_apprentice.plugin as plugin; plugin.register"
_AGAIN = "apprentice setup --apply"


def check_hermes(settings: Settings) -> Iterator[Finding]:
    """Look at the Hermes that is installed."""
    facts = find_hermes(settings.hermes_home)
    known = facts.version.startswith(KNOWN_HERMES)
    yield Finding(
        "hermes",
        known,
        f"{facts.version or 'unknown version'}, run by {facts.python or facts.command}",
        "" if known else f"tested with {KNOWN_HERMES}x; see that the checks below pass",
        optional=True,
    )


def check_setup(settings: Settings) -> Iterator[Finding]:
    """Follow every link from Hermes to the sidecar, for each profile that was set up."""
    receipts = read_receipts(settings.home)
    if not receipts:
        yield Finding(
            "setup",
            False,
            "Hermes does not use Apprentice",
            "apprentice setup shows what it would change",
            optional=True,
        )
    for receipt in receipts:
        state = survey_profile(settings.home, receipt.profile, Path(receipt.home))
        where = f"profile {receipt.profile}: "
        config = state.parsed()
        yield from _provider(where, config)
        yield from _plugin(where, state, config)
        yield from _tools(where, state, config)
        yield from _jobs(where, state, receipt)


HERMES_CHECKS: tuple[Check, ...] = (("hermes", check_hermes), ("setup", check_setup))
"""What the doctor is to look at besides its own checks."""


def _provider(where: str, config: dict[str, object]) -> Iterator[Finding]:
    url = value_at(config, ("providers", OUR_NAME, "base_url"))
    used = value_at(config, ("model", "provider")) == OUR_NAME and isinstance(url, str)
    yield Finding(
        "provider",
        used,
        where + (f"asks {url}" if used else "Hermes does not ask the sidecar"),
        "" if used else _AGAIN,
    )
    if used:
        problem = _unreachable(str(url))
        yield Finding(
            "hermes to sidecar",
            not problem,
            where + (problem or "reached"),
            "apprentice serve, or systemctl --user start apprentice" if problem else "",
        )
    chain = [config.get("fallback_providers"), config.get("fallback_model")]
    present = any(chain)
    yield Finding(
        "fallback",
        present,
        where + ("present" if present else "none: a sidecar that is down stops Hermes"),
        "" if present else _AGAIN,
    )


def _unreachable(url: str) -> str:
    """Say why an endpoint cannot be reached; nothing where it answers at all."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/models", timeout=_REACH_SECONDS):
            return ""
    except urllib.error.HTTPError:
        return ""
    except (urllib.error.URLError, OSError, ValueError) as error:
        return f"{url} cannot be reached ({getattr(error, 'reason', error)})"


def _plugin(where: str, state: ProfileState, config: dict[str, object]) -> Iterator[Finding]:
    enabled = value_at(config, ("plugins", "enabled"))
    disabled = value_at(config, ("plugins", "disabled"))
    if not (isinstance(enabled, list) and OUR_NAME in enabled) or (
        isinstance(disabled, list) and OUR_NAME in disabled
    ):
        yield Finding(
            "plugin",
            False,
            where + "not enabled, so replies over Telegram are not seen",
            "hermes plugins enable apprentice",
            optional=True,
        )
        return
    python = find_hermes(state.home).python
    code, said = _said([str(python), "-c", _LOAD]) if python else (1, "interpreter unknown")
    yield Finding(
        "plugin",
        code == 0,
        where + ("enabled, and loads" if code == 0 else f"does not load: {said[-200:]}"),
        "" if code == 0 else f"{python or 'python'} -m pip install hermes-apprentice",
    )


def _tools(where: str, state: ProfileState, config: dict[str, object]) -> Iterator[Finding]:
    facts = find_hermes(state.home)
    if value_at(config, ("mcp_servers", OUR_NAME, "command")) is None or not isinstance(
        value_at(config, ("mcp_servers", OUR_NAME)), dict
    ):
        yield Finding("tools", False, where + "no entry in mcp_servers", _AGAIN)
        return
    if not facts.has_mcp:
        fix = f"{facts.python or 'python'} -m pip install 'hermes-agent[mcp]'"
        yield Finding("tools", False, where + "Hermes' MCP client is missing", fix, optional=True)
        return
    _, said = _said([str(facts.command), "mcp", "test", OUR_NAME], HERMES_HOME=str(state.home))
    found = re.search(r"Tools discovered: (\d+)", said)
    count = int(found[1]) if found else 0
    yield Finding(
        "tools",
        count > 0,
        where + (f"Hermes sees {count}" if count else f"Hermes sees none: {said[-200:]}"),
        "" if count else "hermes mcp test apprentice",
    )


def _jobs(where: str, state: ProfileState, receipt: Receipt) -> Iterator[Finding]:
    problems: list[str] = []
    fixes: dict[str, None] = {}
    for wanted in receipt.jobs:
        job = matching(state.jobs, wanted)
        script = state.scripts.get(wanted.script)
        if job is None or script is None:
            problems.append(f"{wanted.name} is missing")
            fixes[_AGAIN] = None
        elif not job.enabled:
            problems.append(f"{wanted.name} is paused")
            fixes[f"hermes cron resume {job.job_id}"] = None
        elif job.last_error:
            problems.append(f"{wanted.name} failed: {job.last_error[:200]}")
            fixes[f"hermes cron run {job.job_id}"] = None
        elif job.next_run_at is not None and job.next_run_at < time.time() - _OVERDUE_SECONDS:
            problems.append(f"{wanted.name} is overdue")
            fixes["start Hermes' gateway, which runs the jobs"] = None
        elif digest(script) != receipt.scripts.get(wanted.script):
            problems.append(f"{wanted.script} was changed")
            fixes["see that the change is yours"] = None
    if receipt.jobs:
        yield Finding(
            "jobs",
            not problems,
            where + ("; ".join(problems) or f"{len(receipt.jobs)} in Hermes' scheduler"),
            "; ".join(fixes),
        )


def _said(command: list[str], **changes: str) -> tuple[int, str]:
    """Run a command and return its exit code and what it printed, in one line."""
    try:
        done = subprocess.run(
            command,
            env=child_environment(NO_COLOR="1", **changes),
            cwd="/",  # so that an interpreter finds nothing in the current folder
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{command[0]} cannot be run: {error}") from error
    return done.returncode, " ".join((done.stdout + done.stderr).split())
