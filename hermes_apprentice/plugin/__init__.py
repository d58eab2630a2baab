"""Hermes' plugin: what Apprentice does inside of Hermes' own processes.

Imported by every ``hermes`` command, so it imports nothing but the standard
library. It tags model calls, answers the operator in the gateway, and offers
``/apprentice`` and ``hermes apprentice ...``. What a Hermes does not offer is
left out; the ``apprentice`` command always works.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hermes_apprentice.plugin.gateway import Watch, runs_a_gateway
from hermes_apprentice.plugin.tagging import tag_request

__all__ = ["register", "tag_request"]

_SUMMARY = "specialists for requests that keep coming back"


def register(ctx: Any) -> None:
    """Register with Hermes."""
    watch = Watch()
    middleware = getattr(ctx, "register_middleware", None)
    if callable(middleware):
        middleware("llm_request", tag_request)
    hook = getattr(ctx, "register_hook", None)
    if callable(hook):
        hook("pre_gateway_dispatch", watch.hear)
    slash = getattr(ctx, "register_command", None)
    if callable(slash):
        slash("apprentice", _slash(watch), description=_SUMMARY, args_hint="<command>")
    command = getattr(ctx, "register_cli_command", None)
    if callable(command):
        command(
            name="apprentice",
            help=f"{_SUMMARY}; see 'apprentice --help'",
            setup_fn=_take_everything,
            handler_fn=_run_command,
        )
    if runs_a_gateway():
        watch.start()


def _slash(watch: Watch) -> Any:
    """Return the handler of ``/apprentice``: in a terminal session, or where no hook was called.

    Hermes does not say who typed it, so that in a gateway it shows, and decides nothing.
    """

    def answer(arguments: str) -> Any:
        from hermes_apprentice.plugin.office import answer_command

        if watch.runner() is None:
            return answer_command(arguments, "cli").text
        return asyncio.to_thread(lambda: answer_command(arguments, None).text)

    return answer


def _take_everything(parser: Any) -> None:
    import argparse

    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="as for 'apprentice'")


def _run_command(arguments: Any) -> int:
    from hermes_apprentice.interfaces.cli.main import run

    return run(list(arguments.arguments))
