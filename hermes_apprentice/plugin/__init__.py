"""Hermes' plugin: what Apprentice does inside of Hermes' own processes.

Imported by every ``hermes`` command, so it imports nothing but the standard
library. It tags model calls, notices corrections, answers the operator in the
gateway, and offers ``/apprentice`` and ``hermes apprentice ...``. What a Hermes
does not offer is left out, and said once in its log; the ``apprentice`` command
always works.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from hermes_apprentice.plugin.corrections import Memory
from hermes_apprentice.plugin.gateway import Watch, runs_a_gateway
from hermes_apprentice.plugin.tagging import tag_request

__all__ = ["register", "tag_request"]

_SUMMARY = "specialists for requests that keep coming back"

_COMMANDS = (
    "observe detect report candidates reply tick outbox serve explain doctor demo roi budget setup "
    "uninstall specialists tenants models keys jobs forget vllm"
)
"""What ``hermes apprentice`` takes; not read from the command itself, which loads too much here."""

_log = logging.getLogger(__name__)


def register(ctx: Any) -> None:
    """Register with Hermes: each part by itself, so that one which it lacks costs no other."""
    watch, memory = Watch(), Memory()
    _offer(ctx, "register_middleware", "llm_request", tag_request)
    _offer(ctx, "register_hook", "pre_gateway_dispatch", watch.hear)
    _offer(ctx, "register_hook", "pre_llm_call", memory.asked)
    _offer(ctx, "register_hook", "post_llm_call", memory.answered)
    _offer(
        ctx,
        "register_command",
        "apprentice",
        _slash(watch),
        description=_SUMMARY,
        args_hint="<command>",
    )
    _offer(
        ctx,
        "register_cli_command",
        name="apprentice",
        help=f"{_SUMMARY}; see 'apprentice --help'",
        setup_fn=_take_everything,
        handler_fn=_run_command,
    )
    if runs_a_gateway():
        watch.start()


def _offer(ctx: Any, method: str, *what: Any, **more: Any) -> None:
    """Register one part, or say what this Hermes goes without."""
    register_part: Callable[..., Any] | None = getattr(ctx, method, None)
    problem = "it has no such method"
    if callable(register_part):
        try:
            register_part(*what, **more)
            return
        except Exception as error:  # the edge: whatever a Hermes of another version raises
            problem = f"{type(error).__name__}: {error}"
    name = what[0] if what else more.get("name", "")
    _log.warning(
        "apprentice: %s('%s') is not possible in this Hermes (%s); the 'apprentice' command on "
        "the machine does the same",
        method,
        name,
        problem,
    )


def _slash(watch: Watch) -> Any:
    """Return the handler of ``/apprentice``: in a terminal session, or where no hook was called.

    Hermes does not say who typed it, so that in a gateway it shows, and decides nothing.
    """

    def answer(arguments: str) -> Any:
        import asyncio

        from hermes_apprentice.plugin.office import answer_command

        if watch.runner() is None:
            return answer_command(arguments, "cli").text
        return asyncio.to_thread(lambda: answer_command(arguments, None).text)

    return answer


def _take_everything(parser: Any) -> None:
    import argparse

    parser.epilog = (
        f"Commands: {', '.join(_COMMANDS.split())}. 'hermes apprentice COMMAND --help' tells what "
        "each takes."
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="as for 'apprentice'")


def _run_command(arguments: Any) -> int:
    from hermes_apprentice.interfaces.cli.main import run

    return run(list(arguments.arguments))
