"""Send requests through the sidecar as Hermes sends them, and note who answered.

The system prompt and the tools come from a request that the real Hermes made a
moment ago; only the user's words change.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from hermes_apprentice.demo.request import DemoRequest
from hermes_apprentice.errors import UpstreamError

CONCURRENCY = 12
_TIMEOUT = aiohttp.ClientTimeout(total=120)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One request and what came back."""

    item: DemoRequest
    """What was asked, with the right answer."""

    text: str
    """The answer."""

    route: str
    """Who gave it: ``specialist``, ``upstream`` or ``fallback``."""

    specialist: str
    """The specialist that answered or was asked first; may be empty."""

    seconds: float
    """Until the last byte."""


async def send(
    url: str,
    items: Sequence[DemoRequest],
    template: Mapping[str, Any],
    on_done: Callable[[], None] = lambda: None,
) -> list[Sent]:
    """Send requests, each as the first call of a turn of its own session, streamed.

    Args:
        url: The sidecar's address.
        items: What to ask, in this order.
        template: A recorded request body; its messages are replaced but for the system prompt.
        on_done: Called after each answer.

    Raises:
        UpstreamError: An answer was an error.
    """
    gate = asyncio.Semaphore(CONCURRENCY)
    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:

        async def one(item: DemoRequest) -> Sent:
            async with gate:
                sent = await _send(session, url, item, template)
            on_done()
            return sent

        return list(await asyncio.gather(*(one(item) for item in items)))


async def _send(
    session: aiohttp.ClientSession, url: str, item: DemoRequest, template: Mapping[str, Any]
) -> Sent:
    name = uuid.uuid4().hex[:12]
    headers = {
        "X-Hermes-Session-Id": name,
        "X-Hermes-Turn-Id": f"{name}:{name}:1",
        "X-Hermes-Api-Request-Id": f"{name}:{name}:1:api:1",
        "X-Hermes-Api-Call": "1",
        "X-Hermes-Platform": "cli",
        "Authorization": "Bearer unused",
    }
    began = time.perf_counter()
    async with session.post(
        f"{url}/v1/chat/completions", json=body_for(item, template), headers=headers
    ) as answer:
        if answer.status != 200:
            raise UpstreamError(f"status {answer.status}: {(await answer.text())[:200]}")
        text = await _read_stream(answer)
        return Sent(
            item=item,
            text=text,
            route=answer.headers.get("x-apprentice-route", ""),
            specialist=answer.headers.get("x-apprentice-specialist", ""),
            seconds=time.perf_counter() - began,
        )


def body_for(item: DemoRequest, template: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request body that Hermes would send for ``item``."""
    messages = [
        message for message in template.get("messages", []) if message.get("role") == "system"
    ]
    for turn in item.history:
        messages.append({"role": "user", "content": turn.request})
        messages.append({"role": "assistant", "content": turn.answer})
    messages.append({"role": "user", "content": item.request})
    return {
        **template,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def _read_stream(answer: aiohttp.ClientResponse) -> str:
    parts: list[str] = []
    async for line in answer.content:
        if not line.startswith(b"data: ") or line.strip() == b"data: [DONE]":
            continue
        chunk = json.loads(line[6:])
        for choice in chunk.get("choices", ()):
            parts.append(choice.get("delta", {}).get("content") or "")
    return "".join(parts)
