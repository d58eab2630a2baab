"""Commands that put Apprentice into a Hermes and take it out again."""

from __future__ import annotations

import difflib
import re
import secrets
import sys
from pathlib import Path

import typer
from pydantic import SecretStr

from hermes_apprentice.domain.tenant import new_key
from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.install.carrying_out import carry_out, take_out
from hermes_apprentice.interfaces.install.machine import examine_machine, find_hermes
from hermes_apprentice.interfaces.install.placement import Isolation
from hermes_apprentice.interfaces.install.plan import FileChange, Plan, original_text
from hermes_apprentice.interfaces.install.receipt import read_receipts
from hermes_apprentice.interfaces.install.scheduler import wanted_jobs
from hermes_apprentice.interfaces.install.setting_up import plan_setup
from hermes_apprentice.interfaces.install.settings_file import BASE_MODELS
from hermes_apprentice.interfaces.install.survey import (
    profile_names,
    survey_own,
    survey_profile,
    survey_profiles,
)
from hermes_apprentice.interfaces.install.taking_back import plan_removal
from hermes_apprentice.interfaces.install.upstream import provider_name
from hermes_apprentice.interfaces.install.wishes import HermesFacts, Machine, Wishes
from hermes_apprentice.interfaces.install.yaml_text import read_yaml
from hermes_apprentice.settings import (
    IsolationSettings,
    Settings,
    child_environment,
    load_settings,
)

_SECRET = re.compile(
    r"""((?:key|token|secret|password|authorization|cookie)["']?\s*[:=]\s*)"""
    r"""("[^"]*"|'[^']*'|(?:\w+\s+)?[^\s,}]+)""",
    re.IGNORECASE,
)
_OUR_KEY = re.compile(r"ap-[0-9a-f]{10}-[0-9a-f]{64}")
_SHOWN = ("unused", '""', "''", "null")

Apply = typer.Option(False, "--apply", help="Do it; without this, only show what would change.")
Quiet = typer.Option(False, "--non-interactive", help="Ask nothing.")
HermesHome = typer.Option(None, "--hermes-home", help="Hermes' home, instead of HERMES_HOME.")


def setup(
    hermes_home: Path | None = HermesHome,
    profile: list[str] = typer.Option(
        ["default"], "--profile", help="A profile of Hermes; repeat it for several."
    ),
    apply: bool = Apply,
    non_interactive: bool = Quiet,
    budget: float | None = typer.Option(
        None, min=0, help="Ceiling for paid training, dollars per month."
    ),
    model: str | None = typer.Option(None, help="The model, where Hermes has none yet."),
    upstream_url: str | None = typer.Option(
        None, help="The real endpoint, instead of the one that Hermes uses today."
    ),
    key_env: str | None = typer.Option(None, help="The variable that holds its key."),
    base_model: str | None = typer.Option(
        None, help="The model that generators start from, such as Qwen/Qwen2.5-1.5B-Instruct."
    ),
    isolation: Isolation | None = typer.Option(
        None, help="Where Apprentice runs: beside Hermes, in a container, or in a microVM."
    ),
    sidecar_url: str | None = typer.Option(
        None, help="Where Hermes reaches the sidecar, if it is not where the profile says."
    ),
    with_training: bool = typer.Option(
        False, "--with-training", help="Make the training environment as well (torch)."
    ),
    service: bool = typer.Option(
        True, help="Run the sidecar as a systemd user service where there is systemd."
    ),
) -> None:
    """Put Apprentice into Hermes; shows what would change unless --apply is given."""
    settings = _isolated(_settings(hermes_home), isolation, sidecar_url)
    asks = apply and not non_interactive and sys.stdin.isatty()
    if asks and not (settings.home / "settings.toml").exists():
        if budget is None:
            budget = typer.prompt(
                "Most that may be spent on training in a month, in dollars", default=0.0, type=float
            )
        if base_model is None:
            typer.echo(f"Models that generators can start from: {', '.join(BASE_MODELS)}")
            base_model = typer.prompt("Base model", default=settings.trainer.base_model)
    wishes = Wishes(
        profiles=tuple(dict.fromkeys(profile)),
        model=model,
        upstream_url=upstream_url,
        key_env=key_env,
        budget=budget,
        base_model=base_model,
        new_key=SecretStr(new_key(secrets.token_bytes).text),
        with_training=with_training,
        service=service,
    )
    machine = examine_machine(settings.home, settings.isolation.docker_host)
    if settings.isolation.profile == Isolation.DOCKER.value:
        settings = _isolated(settings, docker_host=machine.docker_host)
    states = survey_profiles(settings, wishes.profiles)
    homes = {str(state.home) for state in states}
    having = [one.home for one in read_receipts(settings.home) if one.jobs]
    elsewhere = bool(having) and not homes.intersection(having)
    hermes = [
        find_hermes(
            state.home,
            provider_name(read_yaml(original_text(state), str(state.home / "config.yaml"))),
        )
        for state in states
    ]
    plan = plan_setup(
        settings,
        wishes,
        states,
        survey_own(settings),
        hermes,
        machine,
        () if elsewhere else wanted_jobs(),
        sorted(child_environment()),
    )
    typer.echo(_found(settings, hermes[0], machine))
    _finish(plan, "setup", settings, hermes[0].command, apply, asks)


def uninstall(
    hermes_home: Path | None = HermesHome, apply: bool = Apply, non_interactive: bool = Quiet
) -> None:
    """Take Apprentice out of Hermes again; what it learned stays in its own home."""
    settings = _settings(hermes_home)
    receipts = read_receipts(settings.home)
    if hermes_home is not None:
        inside = settings.hermes_home
        receipts = [
            one for one in receipts if Path(one.home) in (inside, inside / "profiles" / one.profile)
        ]
    states = [survey_profile(settings.home, one.profile, Path(one.home)) for one in receipts]
    services = examine_machine(settings.home).user_services
    plan = plan_removal(settings, states, survey_own(settings), services)
    command: Path | None = None
    if any(one.jobs for one in plan.profiles):
        command = find_hermes(settings.hermes_home).command
    asks = apply and not non_interactive and sys.stdin.isatty()
    _finish(plan, "uninstall", settings, command, apply, asks)


def _settings(hermes_home: Path | None) -> Settings:
    settings = load_settings()
    # Resolved, because what was done is found again by the path.
    folder = (hermes_home or settings.hermes_home).expanduser().resolve()
    return settings.model_copy(
        update={"hermes_home": folder, "home": settings.home.expanduser().resolve()}
    )


def _isolated(
    settings: Settings,
    isolation: Isolation | None = None,
    sidecar_url: str | None = None,
    docker_host: str | None = None,
) -> Settings:
    """Return the settings with what was asked for about isolation; another profile starts anew."""
    present = settings.isolation
    if isolation is not None and isolation.value != present.profile:
        present = IsolationSettings(profile=isolation.value)
    wanted = {"sidecar_url": sidecar_url, "docker_host": docker_host}
    changes = {name: value for name, value in wanted.items() if value is not None}
    return settings.model_copy(update={"isolation": present.model_copy(update=changes)})


def _finish(
    plan: Plan, name: str, settings: Settings, command: Path | None, apply: bool, asks: bool
) -> None:
    """Show a plan, and carry it out if that is wanted."""
    for warning in plan.warnings:
        typer.echo(f"\nNote: {warning}")
    if plan.empty and not (name == "uninstall" and plan.profiles):
        typer.echo(
            "\nNothing to change: everything is in place."
            if name == "setup"
            else "Nothing to undo: there is no setup of this home."
        )
        return
    typer.echo(_shown(plan))
    if not apply:
        typer.echo(f"Nothing was changed. `apprentice {name} --apply` does it.")
        return
    if asks and not typer.confirm("Do this?"):
        raise ConfigError("Stopped; nothing was changed.")
    (carry_out if name == "setup" else take_out)(plan, settings, command, typer.echo)
    typer.echo("\nDone.")
    for note in plan.notes:
        typer.echo(note)
    if name == "setup":
        typer.echo("Check it with `apprentice doctor`; `apprentice uninstall` takes it back.")


def _found(settings: Settings, hermes: HermesFacts, machine: Machine) -> str:
    """Say what was detected."""
    gpus = ", ".join(machine.gpus) or "none (classifiers and extractors train on the CPU)"
    return "\n".join(
        (
            f"Hermes      {hermes.version or 'unknown version'}, {settings.hermes_home}",
            f"            run by {hermes.python or hermes.command}",
            f"Profiles    {', '.join(profile_names(settings.hermes_home))}",
            f"Apprentice  {settings.home}, {machine.free_bytes / 1e9:.0f} GB free",
            f"GPU         {gpus}",
            f"KVM         {'yes' if machine.kvm else 'no'}",
            f"Docker      {machine.docker or 'no'}",
            f"Isolation   {_where(settings, machine)}",
        )
    )


def _where(settings: Settings, machine: Machine) -> str:
    inside = "; Hermes runs in a container" if machine.contained else ""
    return settings.isolation.profile + inside


def _shown(plan: Plan) -> str:
    """Write a plan as differences and steps."""
    parts = [_difference(change) for change in plan.own]
    for profile in plan.profiles:
        parts += [_difference(change) for change in profile.files]
        parts += [
            f"{change.act.value} job: {change.job.name}, {change.job.schedule}, "
            f"{change.job.script}, to {change.job.deliver} (profile {profile.name})\n"
            for change in profile.jobs
        ]
    parts += [f"{step.value}\n" for step in plan.steps]
    return "\n" + "\n".join(parts)


def _difference(change: FileChange) -> str:
    """Write a change as a unified difference in which keys are hidden."""
    path = str(change.path)
    if change.path.suffix == ".js":
        size = len(change.after if change.after is not None else change.before or b"")
        return f"{'write' if change.after is not None else 'remove'} {path}, {size:,} bytes\n"
    lines = difflib.unified_diff(
        _lines(change.before),
        _lines(change.after),
        path if change.before is not None else "/dev/null",
        path if change.after is not None else "/dev/null",
        n=1 if change.path.suffix == ".yaml" else 0,
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _lines(data: bytes | None) -> list[str]:
    text = (data or b"").decode("utf-8", errors="replace")
    return [_hide(line) for line in text.splitlines(keepends=True)]


def _hide(line: str) -> str:
    return _SECRET.sub(_hidden, _OUR_KEY.sub("ap-***", line))


def _hidden(found: re.Match[str]) -> str:
    return found[0] if found[2] in _SHOWN else f"{found[1]}***"


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(setup)
    app.command()(uninstall)
