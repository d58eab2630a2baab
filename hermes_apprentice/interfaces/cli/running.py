"""Commands that run or inspect the serving half: serve, vllm, explain, doctor, demo."""

from __future__ import annotations

from pathlib import Path

import typer

from hermes_apprentice.interfaces.cli.console import Json, opened, print_json, say
from hermes_apprentice.interfaces.cli.entry import ending_quietly
from hermes_apprentice.terminal import print_findings


def serve(
    port: int | None = typer.Option(None, min=0, max=65_535, help="Instead of the setting."),
    host: str | None = typer.Option(
        None, help="Instead of the setting; in a container or a microVM."
    ),
) -> None:
    """Run the sidecar until it is stopped."""
    with ending_quietly():  # until the sidecar listens to signals itself
        from hermes_apprentice.router.server import serve as run_sidecar
        from hermes_apprentice.settings import load_settings

        settings = load_settings()
        given = {"port": port, "host": host}
        changes = {name: value for name, value in given.items() if value is not None}
        server = settings.server.model_copy(update=changes)
        settings = settings.model_copy(update={"server": server})
        run_sidecar(settings, ready=lambda url: typer.echo(f"Listening on {url}"))


def vllm() -> None:
    """Run vLLM for generators until it is stopped; the sidecar finds it by itself."""
    from hermes_apprentice.serving.vllm import run_service
    from hermes_apprentice.settings import load_settings

    run_service(load_settings(), typer.echo)


def explain(
    text: str = typer.Argument(help="A request, as a user would type it."),
    tenant: str = typer.Option("", help="For this tenant, who sees its own and what is shared."),
    as_json: bool = Json,
) -> None:
    """Tell where a request would go, and why."""
    from hermes_apprentice.router.explain import explain_request

    with opened() as (settings, _, _):
        explanation = explain_request(settings, text, tenant=tenant)
    if as_json:
        print_json(explanation)
        return
    say(explanation.in_words())


def doctor(
    as_json: bool = Json,
    here: bool = typer.Option(
        False, "--here", help="Only what lies on this side: in a container, in a microVM."
    ),
) -> int:
    """Check every part, and say how to repair what is wrong."""
    from hermes_apprentice.doctor import examine
    from hermes_apprentice.interfaces.install.checks import (
        HERMES_CHECKS,
        left_to_the_other_side,
    )
    from hermes_apprentice.settings import load_settings

    settings = load_settings()
    if here:
        findings = examine(settings)
    else:
        findings = examine(settings, HERMES_CHECKS, left_to_the_other_side(settings))
    if as_json:
        print_json(findings)
    else:
        print_findings(
            [
                (
                    "ok" if item.ok else "missing" if item.optional else "WRONG",
                    item.check,
                    item.found,
                    item.advice,
                )
                for item in findings
            ]
        )
        wrong = sum(not item.ok and not item.optional for item in findings)
        say(f"\n{wrong} wrong." if wrong else "\nNothing is wrong.")
    return 0 if all(item.ok or item.optional for item in findings) else 1


def demo(
    live_upstream: bool = typer.Option(
        False, "--live-upstream", help="Ask a real model (OPENROUTER_API_KEY) instead."
    ),
    keep: Path | None = typer.Option(
        None, help="Keep the demo's home here, to look at it afterwards."
    ),
    seed: int = typer.Option(7, help="For the generated requests."),
) -> None:
    """Show the whole loop on generated requests: real Hermes, real training, simulated upstream."""
    from hermes_apprentice.demo.story import run_demo

    run_demo(live_upstream=live_upstream, keep=keep, seed=seed)


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (serve, vllm, explain, doctor, demo):
        app.command()(command)
