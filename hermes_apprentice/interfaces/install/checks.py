"""Checks of what a setup put into Hermes, for the doctor. Reads, and starts short commands."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

from hermes_apprentice.doctor import Check, Finding
from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.install.machine import (
    KNOWN_HERMES,
    examine_machine,
    find_hermes,
)
from hermes_apprentice.interfaces.install.own_files import telegram_users
from hermes_apprentice.interfaces.install.placement import (
    Isolation,
    docker_command,
    guest_command,
    ssh_command,
)
from hermes_apprentice.interfaces.install.receipt import Receipt, digest, read_receipts
from hermes_apprentice.interfaces.install.scheduler import matching
from hermes_apprentice.interfaces.install.survey import ProfileState, survey_profile
from hermes_apprentice.interfaces.install.upstream import OUR_NAME
from hermes_apprentice.interfaces.install.wishes import HermesFacts
from hermes_apprentice.interfaces.install.yaml_text import value_at
from hermes_apprentice.interfaces.own_page import fetch_page
from hermes_apprentice.settings import ADMIN_KEY_ENV, Settings, child_environment
from hermes_apprentice.storage.database import Database

_REACH_SECONDS = 5.0
_COMMAND_SECONDS = 60
_OVERDUE_SECONDS = 900
_LOAD = "import hermes_apprentice.plugin as plugin; plugin.register"
_AGAIN = "apprentice setup --apply"
_CLI = "hermes_apprentice.interfaces.cli.main"
_INSIDE_CONTAINER = frozenset({"upstream", "training environment", "model server"})
_INSIDE_MICROVM = _INSIDE_CONTAINER | {
    *("database", "embedder", "registry", "prices", "sidecar", "budget", "clock", "tenants"),
}


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
    if not facts.has_messaging:
        fix = f"{facts.python or 'python'} -m pip install 'hermes-agent[messaging]'"
        missing = "Hermes' messaging is missing, so questions stay on this machine"
        yield Finding("messaging", False, missing, fix, optional=True)


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
        facts = find_hermes(state.home)
        yield from _provider(where, state, config)
        if Isolation(settings.isolation.profile) is not Isolation.FIRECRACKER:
            yield from _plugin(where, facts, config)
            yield from _telegram(where, state, settings)
            yield from _tab(where, state, receipt, settings)
        yield from _tools(where, state, facts, config)
        yield from _jobs(where, state, receipt)


def check_inside(settings: Settings) -> Iterator[Finding]:
    """Look at Apprentice's side from there, where it is in a container or a microVM."""
    profile = Isolation(settings.isolation.profile)
    if profile is Isolation.NONE:
        return
    arguments = ("doctor", "--here", "--json")
    if profile is Isolation.FIRECRACKER:
        place, fix = settings.isolation.guest, "start the microVM: docs/operating.md"
        command = [*ssh_command(settings), guest_command(_CLI, *arguments)]
    else:
        if not examine_machine(settings.home, settings.isolation.docker_host).docker:
            return  # Hermes is in a container, and the sidecar is somewhere that cannot be entered
        place, fix = settings.isolation.container, f"docker start {settings.isolation.container}"
        command = [*docker_command(settings), "exec", place, "python", "-m", _CLI, *arguments]
    _, said = _said(command, lines=True)
    try:
        found = [Finding(**one) for one in json.loads(said[said.index("[") :])]
    except (ValueError, TypeError):
        yield Finding("inside", False, f"{place} does not answer: {said[-200:]}", fix)
        return
    yield Finding("inside", True, f"{place} answers")
    for one in found:
        yield replace(one, found=f"in {place}: {one.found}")


HERMES_CHECKS: tuple[Check, ...] = (
    ("hermes", check_hermes),
    ("setup", check_setup),
    ("inside", check_inside),
)
"""What the doctor is to look at besides its own checks."""


def left_to_the_other_side(settings: Settings) -> frozenset[str]:
    """Return the doctor's own checks that say something only where Apprentice is."""
    if Isolation(settings.isolation.profile) is Isolation.DOCKER:
        return _INSIDE_CONTAINER
    return (
        _INSIDE_MICROVM
        if Isolation(settings.isolation.profile) is Isolation.FIRECRACKER
        else frozenset()
    )


def _provider(where: str, state: ProfileState, config: dict[str, object]) -> Iterator[Finding]:
    url = value_at(config, ("providers", OUR_NAME, "base_url"))
    used = value_at(config, ("model", "provider")) == OUR_NAME and isinstance(url, str)
    yield Finding(
        "provider",
        used,
        where + (f"asks {url}" if used else "Hermes does not ask the sidecar"),
        "" if used else _AGAIN,
    )
    if used:
        key = state.value_of(str(value_at(config, ("providers", OUR_NAME, "key_env"))))
        problem, fix = _unreachable(str(url), key)
        yield Finding("hermes to sidecar", not problem, where + (problem or "reached"), fix)
    chain = [config.get("fallback_providers"), config.get("fallback_model")]
    present = any(chain)
    yield Finding(
        "fallback",
        present,
        where + ("present" if present else "none: a sidecar that is down stops Hermes"),
        "" if present else _AGAIN,
    )


def _unreachable(url: str, key: str) -> tuple[str, str]:
    """Say why an endpoint cannot be used, and what to do; nothing where it answers at all."""
    try:
        request = urllib.request.Request(f"{url.rstrip('/')}/models")
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        with urllib.request.urlopen(request, timeout=_REACH_SECONDS):
            return "", ""
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return f"{url} refuses Hermes' key ({error.code})", _AGAIN
        return "", ""
    except (urllib.error.URLError, OSError, ValueError) as error:
        return (
            f"{url} cannot be reached ({getattr(error, 'reason', error)})",
            "apprentice serve, systemctl --user start apprentice, or start the container",
        )


def _telegram(where: str, state: ProfileState, settings: Settings) -> Iterator[Finding]:
    """Follow a question from Apprentice to a phone, and the answer back."""
    if "TELEGRAM_BOT_TOKEN" not in state.variables():
        return
    deciders = settings.approvals.deciders
    known = json.dumps(telegram_users(state) or ["telegram:4711"])
    yield Finding(
        "deciders",
        bool(deciders),
        where + (", ".join(deciders) or "Telegram is connected, and nobody may decide there"),
        "" if deciders else f"in {settings.home / 'settings.toml'}: [approvals] deciders = {known}",
        optional=True,
    )
    with Database(settings.database_path) as database:
        seen = database.read("SELECT MAX(seen_at) FROM couriers")[0][0]
    yield Finding(
        "courier",
        seen is not None,
        where
        + (
            f"a gateway delivered {_ago(time.time() - seen)} ago"
            if seen is not None
            else "no gateway has ever asked for messages, so the scheduler prints them"
        ),
        "" if seen is not None else "hermes gateway restart, and name a home channel: /sethome",
        optional=True,
    )


def _ago(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.0f} h"


def _plugin(where: str, facts: HermesFacts, config: dict[str, object]) -> Iterator[Finding]:
    install = f"{facts.python or 'python'} -m pip install hermes-apprentice"
    enabled = value_at(config, ("plugins", "enabled"))
    disabled = value_at(config, ("plugins", "disabled"))
    if not (isinstance(enabled, list) and OUR_NAME in enabled) or (
        isinstance(disabled, list) and OUR_NAME in disabled
    ):
        yield Finding(
            "plugin",
            False,
            where + "not enabled, so replies over Telegram are not seen",
            "hermes plugins enable apprentice"
            if facts.has_apprentice
            else f"{install}, then {_AGAIN}",
            optional=True,
        )
        return
    python = facts.python
    code, said = _said([str(python), "-c", _LOAD]) if python else (1, "interpreter unknown")
    yield Finding(
        "plugin",
        code == 0,
        where + ("enabled, and loads" if code == 0 else f"does not load: {said[-200:]}"),
        "" if code == 0 else install,
    )


def _tab(
    where: str, state: ProfileState, receipt: Receipt, settings: Settings
) -> Iterator[Finding]:
    """Look at the tab of Hermes' dashboard: its files, and whether it is shown the page."""
    if not receipt.tab:
        return
    have = {name: digest(content) for name, content in state.tab.files.items()}
    if have != dict(receipt.tab):
        yield Finding("tab", False, where + "files of Hermes' dashboard tab differ", _AGAIN)
        return
    key = state.value_of(ADMIN_KEY_ENV)
    mine = settings.model_copy(update={"admin_key": SecretStr(key) if key else None})
    page = fetch_page(mine, _REACH_SECONDS)
    if page.refused:
        fix = f"{ADMIN_KEY_ENV}=ap-... into {state.env_path}; `apprentice tenants admin-key` makes"
        yield Finding("tab", False, where + page.problem, f"{fix} the key", optional=True)
    else:
        shown = "Hermes' dashboard is shown the page" if page.html else "its files are there"
        yield Finding("tab", True, where + shown)


def _tools(
    where: str, state: ProfileState, facts: HermesFacts, config: dict[str, object]
) -> Iterator[Finding]:
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


def _said(command: list[str], lines: bool = False, **changes: str) -> tuple[int, str]:
    """Run a command and return its exit code and what it printed, in one line unless asked."""
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
    if lines and done.stdout:
        return done.returncode, done.stdout
    return done.returncode, " ".join((done.stdout + done.stderr).split())
