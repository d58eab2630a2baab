"""Everything in the real Hermes that calls a model, one after the other; run as a child process.

Usage: ``python hermes_callers.py URL``, with ``HERMES_HOME`` set. Before each caller it
announces its name to the fake endpoint at ``URL/label/NAME``, so that what arrives there can be
told apart.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import urllib.request
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

MODEL = "fake-big"
PATIENCE = 60.0


def agent(url: str, platform: str, **options: Any) -> Any:
    from run_agent import AIAgent

    return AIAgent(
        base_url=f"{url}/v1",
        api_key="sk-invented",
        provider="custom",
        model=MODEL,
        platform=platform,
        quiet_mode=True,
        enabled_toolsets=["todo", "memory", "delegation", "skills"],
        **options,
    )


def conversation(turns: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number in range(turns):
        found += [
            {"role": "user", "content": f"Question {number}: " + "some words " * 800},
            {"role": "assistant", "content": f"Answer {number}: " + "other words " * 800},
        ]
    return found


def main_turn(url: str) -> None:
    agent(url, "cli").run_conversation("USE_TODO and say when you are done.")


def second_turn(url: str) -> None:
    agent(url, "cli").run_conversation(
        "What did I ask before?", conversation_history=conversation(1)
    )


def delegation(url: str) -> None:
    agent(url, "cli").run_conversation("DELEGATE the counting.")


def orchestration(url: str) -> None:
    agent(url, "cli").run_conversation("ORCHESTRATE the counting.")


def developer(url: str) -> None:
    """Models that take their instructions from a developer instead of a system."""
    one = agent(url, "cli")
    one.model = "gpt-5-invented"
    one.run_conversation("DELEGATE the counting, please.")


def cut_off(url: str) -> None:
    agent(url, "cli").run_conversation("BREAK_OFF in the middle.")


def review(url: str) -> None:
    one = agent(url, "telegram")
    one._spawn_background_review(conversation(1), review_memory=True, review_skills=True)
    for thread in threading.enumerate():
        if thread.name == "bg-review":
            thread.join(PATIENCE)


def curator(url: str) -> None:
    from agent import curator as module

    module._run_llm_review(module.CURATOR_REVIEW_PROMPT)


def cron(url: str) -> None:
    from cron.scheduler import run_job

    run_job({"id": "abcdefabcdef", "name": "greeting", "prompt": "Say hello.", "schedule": {}})


def title(url: str) -> None:
    from agent.title_generator import generate_title

    generate_title("Which lamp is brightest?", "The one in the tower.")


def compression(url: str) -> None:
    one = agent(url, "cli")
    one._compress_context(conversation(20), "You are an agent.", approx_tokens=90_000, force=True)


def auxiliary(url: str) -> None:
    from agent.auxiliary_client import call_llm

    for task in ("approval", "web_extract", "tts_audio_tags"):
        call_llm(task=task, messages=[{"role": "user", "content": "Is this safe?"}], max_tokens=16)


def mcp_sampling(url: str) -> None:
    from tools.mcp_tool import SamplingHandler

    content = SimpleNamespace(type="text", text="Which of the two is larger?")
    params = SimpleNamespace(
        messages=[SimpleNamespace(role="user", content=content, content_as_list=[content])],
        maxTokens=100,
        systemPrompt=None,
        modelPreferences=None,
        tools=[SimpleNamespace(name="look", description="Looks.", inputSchema={"type": "object"})],
    )
    asyncio.run(SamplingHandler("invented", {})(None, params))


def end(url: str) -> None:
    """Only waits until everything of the last caller has arrived."""


CALLERS: tuple[Callable[[str], None], ...] = (
    main_turn,
    second_turn,
    delegation,
    orchestration,
    developer,
    cut_off,
    review,
    curator,
    cron,
    title,
    compression,
    auxiliary,
    mcp_sampling,
)


def main() -> None:
    from hermes_cli.plugins import discover_plugins

    discover_plugins()
    url = sys.argv[1]
    for caller in (*CALLERS, end):
        with urllib.request.urlopen(f"{url}/label/{caller.__name__}", timeout=PATIENCE):
            pass
        caller(url)


if __name__ == "__main__":
    main()
