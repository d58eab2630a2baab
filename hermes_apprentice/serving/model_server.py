"""Talk to an OpenAI-compatible server that runs generators.

Chat completions with the probabilities of their tokens, and vLLM's calls that load and unload
adapters while it runs. Every answer of the server is checked before it is believed: a path that
does not exist, or a page that is no such answer, is an error even where its status says
otherwise. Knows nothing about specialists or about who may load what.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from hermes_apprentice.domain.prompt import Message
from hermes_apprentice.errors import AdapterError, NotReadyError, ServingError, UnknownModelError

if TYPE_CHECKING:
    import aiohttp

CALL_SECONDS = 60.0
"""For calls that generate nothing."""

LOAD_SECONDS = 300.0
"""For loading an adapter."""

GENERATE_SECONDS = 600.0
"""Longest that one answer may take, where nobody sets a shorter deadline."""

_MAX_BODY = 4_000_000
_RUNNING = re.compile(
    rb"^vllm:num_requests_(?:running|waiting)(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE
)


class Completion(NamedTuple):
    """What a server generated."""

    text: str
    """The answer."""

    finish: str
    """Why it ended: ``stop`` is the model's own end."""

    log_probabilities: tuple[float, ...] | None
    """One per token, the end of the answer among them where the server counts it; ``None`` where
    the server gives none."""


class ModelServer:
    """One server; belongs to the event loop it was entered in."""

    def __init__(self, url: str, key: str = "") -> None:
        """Hold the address.

        Args:
            url: The OpenAI endpoint, which ends in ``/v1``.
            key: Sent as a bearer token, unless empty.
        """
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ModelServer:
        import aiohttp  # not before a generator is served: every command comes by here

        self._session = aiohttp.ClientSession(
            headers=self._headers,
            connector=aiohttp.TCPConnector(limit=256),
            trust_env=False,
            auto_decompress=True,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def complete(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        chat_template: str = "",
        strict: bool = True,
    ) -> Completion:
        """Return the greedy answer to ``messages``.

        Args:
            model: Name of the model or adapter.
            messages: The conversation.
            max_tokens: Longest answer.
            chat_template: Replaces the server's own, where the server allows that.
            strict: Whether an answer under another name than the one asked is an error.

        Raises:
            NotReadyError: The server cannot be reached.
            UnknownModelError: It has no such model.
            ServingError: It failed, or answered with something else.
        """
        body: dict[str, Any] = {
            "model": model,
            "messages": [message._asdict() for message in messages],
            "temperature": 0,
            "max_tokens": max_tokens,
            "logprobs": True,
            # Without a number of alternatives llama.cpp's server in Python gives none.
            "top_logprobs": 1,
            "stream": False,
        }
        if chat_template:
            body["chat_template"] = chat_template
        status, data = await self._call("POST", "/chat/completions", body, GENERATE_SECONDS)
        if status == 404:
            raise UnknownModelError(f"the model server has no {model}")
        if status != 200:
            # What it says is not repeated: it may quote the request.
            hint = (
                "; start vLLM with --trust-request-chat-template"
                if status == 400 and "trust-request-chat-template" in str(data)
                else ""
            )
            raise ServingError(f"the model server refused a request with status {status}{hint}")
        return _completion(data, model if strict else None)

    async def names(self) -> tuple[str, ...]:
        """Return the names of everything that it serves, the base first.

        Raises:
            NotReadyError: The server cannot be reached.
            ServingError: It answered with something else.
        """
        status, data = await self._call("GET", "/models", None, CALL_SECONDS)
        if status != 200:
            raise ServingError(
                f"{self.url}/models answered {status}; "
                "vllm.url must be an OpenAI endpoint that ends in /v1"
            )
        try:
            cards = data["data"]
            names = [str(card["id"]) for card in cards if not card.get("parent")]
            return (*names, *(str(card["id"]) for card in cards if card.get("parent")))
        except (KeyError, TypeError, AttributeError) as exc:
            raise ServingError(f"{self.url}/models is no list of models") from exc

    async def load(self, name: str, folder: Path) -> None:
        """Load an adapter.

        Raises:
            AdapterError: The server refused it, or lists it not afterwards.
            ServingError: The server failed.
        """
        status, data = await self._call(
            "POST",
            "/load_lora_adapter",
            {"lora_name": name, "lora_path": str(folder)},
            LOAD_SECONDS,
        )
        if status in (404, 405) and "lora" not in _said(data).lower():
            raise AdapterError(
                f"the server at {self.url} loads no adapters: start vLLM with --enable-lora and "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, or name its models in vllm.served_names"
            )
        if status != 200:
            raise AdapterError(f"the model server refused {name} ({status}): {_said(data)}")
        if name not in await self.names():
            raise AdapterError(f"the model server said that it loaded {name}, and does not list it")

    async def unload(self, name: str) -> None:
        """Unload an adapter; one that is not there is no error.

        Raises:
            ServingError: The server failed, or lists it still.
        """
        status, data = await self._call(
            "POST", "/unload_lora_adapter", {"lora_name": name}, CALL_SECONDS
        )
        if status not in (200, 404):
            raise ServingError(f"the model server keeps {name} ({status}): {_said(data)}")
        if name in await self.names():
            raise ServingError(f"the model server said that it unloaded {name}, and lists it still")

    async def busy(self) -> int | None:
        """Return how many requests run or wait in a vLLM; ``None`` where nobody says."""
        import aiohttp

        assert self._session is not None
        try:
            async with self._session.get(
                self.url.removesuffix("/v1") + "/metrics",
                timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
            ) as answer:
                found = _RUNNING.findall(await answer.content.read(_MAX_BODY))
                return int(sum(float(value) for value in found)) if found else None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None, seconds: float
    ) -> tuple[int, Any]:
        import aiohttp

        assert self._session is not None
        data = b""
        try:
            async with self._session.request(
                method,
                self.url + path,
                data=orjson.dumps(body) if body is not None else None,
                headers={"Content-Type": "application/json"} if body is not None else None,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
            ) as answer:
                while block := await answer.content.read(1 << 16):
                    data += block
                    if len(data) > _MAX_BODY:
                        raise ServingError("the model server's answer is too long to be one")
                status = answer.status
        except aiohttp.ClientConnectorError as exc:
            raise NotReadyError(f"the model server at {self.url} cannot be reached") from exc
        except TimeoutError as exc:
            raise ServingError(
                f"the model server did not answer {path} in {seconds:.0f} s"
            ) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise NotReadyError(
                f"the model server at {self.url} broke off: {type(exc).__name__}"
            ) from exc
        try:
            return status, orjson.loads(data)
        except orjson.JSONDecodeError:
            return status, data.decode("utf-8", "replace")


def served_now(address: tuple[str, str]) -> tuple[str, ...]:
    """Return what a server serves, for a caller without an event loop.

    Args:
        address: Its endpoint and key.

    Raises:
        ServingError: It cannot be reached, or is no such server.
    """

    async def ask() -> tuple[str, ...]:
        async with ModelServer(*address) as server:
            return await server.names()

    return asyncio.run(ask())


def _completion(data: Any, model: str | None) -> Completion:
    try:
        answered_by = data.get("model")
        choice = data["choices"][0]
        text, finish = choice["message"]["content"], choice["finish_reason"]
        tokens = (choice.get("logprobs") or {}).get("content")
        values = tuple(float(token["logprob"]) for token in tokens) if tokens else None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as exc:
        raise ServingError("the model server's answer is no chat completion") from exc
    if model is not None and answered_by != model:
        raise ServingError(f"{model} was asked, and {str(answered_by)[:80]} answered")
    if not isinstance(text, str) or not isinstance(finish, str):
        raise ServingError("the model server's answer has no text or no end")
    return Completion(text=text, finish=finish, log_probabilities=values)


def _said(data: Any) -> str:
    """Return what an error says; servers' errors about adapters quote no request."""
    if isinstance(data, dict):
        error = data.get("error", data)
        data = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(data).split())[:300]
