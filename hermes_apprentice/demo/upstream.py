"""A simulated upstream: an OpenAI-compatible endpoint that answers from known truth.

No language model runs here. For requests of its corpus it gives the
right answer of the generator, for anything else a stock phrase. What is
realistic is the outside: the wire format, streaming, usage, tool calls, and
the time it takes. Every response carries ``system_fingerprint: "simulated"``.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from hermes_apprentice.demo.request import DemoRequest, ToolStep
from hermes_apprentice.demo.texts import Corpus
from hermes_apprentice.demo.timeline import tokens_of
from hermes_apprentice.errors import UpstreamError

FINGERPRINT = "simulated"
"""Marks every response of the simulation."""

CONTEXT_LENGTH = 131_072
"""Advertised context in tokens; Hermes refuses models below 64,000."""

_TITLE_PROMPT = "Generate a short, descriptive title"
_POLITENESS = ("", "", "Sure. ", "Of course. ", "Gladly. ", "Happy to help. ")
_STOCK_ANSWERS = (
    "That depends on what matters most to you; tell me a little more.",
    "In short: start small, see what happens, and keep notes.",
    "There are several ways; the simplest one is usually good enough.",
    "I would sleep on it and decide tomorrow.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long the simulated model takes."""

    first_token_s: float = 0.35
    """Seconds until the first token."""

    per_token_s: float = 0.012
    """Seconds for every further token."""

    jitter: float = 0.25
    """Relative spread: each time is multiplied by a factor of 1 plus or minus this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """What is to be sent for one request."""

    content: str
    tool: ToolStep | None
    prompt_tokens: int
    completion_tokens: int
    answer_id: str
    model: str
    created: int

    def frame(self, kind: str) -> dict[str, Any]:
        """Return the fields that every object of the response shares."""
        return {
            "id": self.answer_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }

    @property
    def finish_reason(self) -> str:
        """How the answer ends."""
        return "tool_calls" if self.tool is not None else "stop"

    @property
    def usage(self) -> dict[str, Any]:
        """Return the token counts in OpenAI's form."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
        }

    def tool_calls(self) -> list[dict[str, Any]]:
        """Return the tool call in OpenAI's form."""
        if self.tool is None:
            return []
        function = {"name": self.tool.name, "arguments": self.tool.arguments}
        return [{"id": f"call_{self.answer_id[-12:]}", "type": "function", "function": function}]


@dataclass
class SimulatedUpstream:
    """A local server that stands in for the upstream model; labelled as simulated.

    Use ``await start()`` and ``await stop()``; it listens on a free port of the
    loopback interface.
    """

    corpus: Corpus
    """The requests it knows the answers to."""

    model: str
    """The one model it offers."""

    rng: random.Random
    """Source of the jitter and of the wording of free talk."""

    pace: Pace = field(default_factory=Pace)
    """How long it takes."""

    calls: Counter[str] = field(default_factory=Counter, init=False)
    """Answered calls per task of the corpus; ``other`` for anything else."""

    last_body: dict[str, Any] | None = field(default=None, init=False, repr=False)
    """The last request body that carried tools: what Hermes really sends."""

    _runner: web.AppRunner | None = field(default=None, init=False, repr=False)
    _port: int = field(default=0, init=False, repr=False)

    @property
    def base_url(self) -> str:
        """The address to configure as an OpenAI-compatible endpoint.

        Raises:
            UpstreamError: The server is not running.
        """
        if not self._port:
            raise UpstreamError("The simulated upstream is not running; start it first.")
        return f"http://127.0.0.1:{self._port}/v1"

    async def start(self) -> None:
        """Listen on a free port of the loopback interface."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_get("/v1/models", self._list_models)
        app.router.add_get("/v1/models/{model:.+}", self._describe_model)
        app.router.add_post("/v1/chat/completions", self._complete)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        try:
            await site.start()
        except OSError as exc:
            await runner.cleanup()
            raise UpstreamError(f"The simulated upstream could not listen: {exc}") from exc
        self._runner = runner
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening; running answers get a second to end. Safe to call twice."""
        runner, self._runner, self._port = self._runner, None, 0
        if runner is not None:
            await runner.cleanup()

    async def _list_models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [self._model_card()]})

    async def _describe_model(self, request: web.Request) -> web.Response:
        if request.match_info["model"] != self.model:
            return _error(404, f"there is no model {request.match_info['model']}")
        return web.json_response(self._model_card())

    def _model_card(self) -> dict[str, Any]:
        return {
            "id": self.model,
            "object": "model",
            "created": 0,
            "owned_by": FINGERPRINT,
            "context_length": CONTEXT_LENGTH,
        }

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
        except ValueError:
            return _error(400, "the body is not JSON")
        messages = body.get("messages") if isinstance(body, dict) else None
        if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
            return _error(400, "'messages' must be a list of objects")
        if body.get("tools"):
            self.last_body = body
        reply = self._reply(body, messages)
        await asyncio.sleep(self._spread(self.pace.first_token_s))
        if not body.get("stream"):
            await asyncio.sleep(self._spread(self.pace.per_token_s) * reply.completion_tokens)
            return web.json_response(_as_completion(reply))
        options = body.get("stream_options")
        with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        return await self._stream(request, reply, with_usage)

    async def _stream(
        self, request: web.Request, reply: _Reply, with_usage: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        try:
            await response.prepare(request)
            for index, chunk in enumerate(_as_chunks(reply, with_usage)):
                # The role comes with the first token, whose time has passed already.
                if index > 1 and chunk["choices"]:
                    await asyncio.sleep(self._spread(self.pace.per_token_s))
                await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            await response.write(b"data: [DONE]\n\n")
            await response.write_eof()
        except ConnectionResetError:
            # The client hung up, which it may; there is nobody left to tell.
            pass
        return response

    def _reply(self, body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> _Reply:
        content, tool = self._answer(body, messages)
        written = len(json.dumps(messages)) + len(json.dumps(body.get("tools") or ""))
        spoken = content + (tool.arguments if tool is not None else "")
        return _Reply(
            content=content,
            tool=tool,
            prompt_tokens=(written + 3) // 4,
            completion_tokens=tokens_of(spoken),
            answer_id=f"chatcmpl-{self.rng.getrandbits(96):024x}",
            model=self.model,
            created=int(time.time()),
        )

    def _answer(
        self, body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]
    ) -> tuple[str, ToolStep | None]:
        """Return the text of the answer, and the tool call that comes in its place."""
        system = next((text_of(m) for m in messages if m.get("role") == "system"), "")
        asked = next((text_of(m) for m in reversed(messages) if m.get("role") == "user"), "")
        if system.startswith(_TITLE_PROMPT):
            self.calls["other"] += 1
            return "A question and its answer", None
        known = self.corpus.find(asked)
        if known is None:
            self.calls["other"] += 1
            return self._talk(self.rng.choice(_STOCK_ANSWERS)), None
        self.calls[known.task] += 1
        first_call = bool(messages) and messages[-1].get("role") == "user"
        if known.tool is not None and first_call and _offers(body, known.tool.name):
            return known.tool.remark, known.tool
        return (self._talk(known.answer) if _is_free(known) else known.answer), None

    def _talk(self, text: str) -> str:
        """Vary the wording of free talk, as a sampled model does."""
        return self.rng.choice(_POLITENESS) + text

    def _spread(self, seconds: float) -> float:
        return seconds * self.rng.uniform(1 - self.pace.jitter, 1 + self.pace.jitter)


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a chat message, whose content may be a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, dict))
    return "\n".join(part for part in parts if isinstance(part, str))


def _is_free(known: DemoRequest) -> bool:
    return known.task == "chat"


def _offers(body: Mapping[str, Any], name: str) -> bool:
    tools = body.get("tools")
    offered = [tool.get("function") for tool in tools or () if isinstance(tool, dict)]
    return any(isinstance(each, dict) and each.get("name") == name for each in offered)


def _as_completion(reply: _Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.content}
    if reply.tool is not None:
        message["tool_calls"] = reply.tool_calls()
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
    return {**reply.frame("chat.completion"), "choices": [choice], "usage": reply.usage}


def _as_chunks(reply: _Reply, with_usage: bool) -> Iterator[dict[str, Any]]:
    """Yield the role, the content piece by piece, the end, and the usage if asked for."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {**reply.frame("chat.completion.chunk"), "choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    for piece in re.findall(r".{1,4}", reply.content, flags=re.DOTALL):
        yield chunk({"content": piece})
    for index, call in enumerate(reply.tool_calls()):
        arguments = call["function"]["arguments"]
        opening = {**call["function"], "arguments": ""}
        yield chunk({"tool_calls": [{**call, "index": index, "function": opening}]})
        for piece in re.findall(r".{1,8}", arguments, flags=re.DOTALL):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, finish=reply.finish_reason)
    if with_usage:
        frame = reply.frame("chat.completion.chunk")
        yield {**frame, "choices": [], "usage": reply.usage}


def _error(status: int, message: str) -> web.Response:
    body = {"error": {"message": message, "type": "invalid_request_error", "code": None}}
    return web.json_response(body, status=status)
