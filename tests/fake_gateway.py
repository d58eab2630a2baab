"""The real Hermes gateway between a fake Telegram Bot API and a fake upstream.

Only the two ends are fake: the gateway, its Telegram library, our plugin and
our database are what users run. Every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

HERMES = Path(sys.executable).with_name("hermes")
TOKEN = "123456:invented-token-for-tests"
OPERATOR = 4711
COLLEAGUE = 4712
STRANGER = 99
START = 120.0
PATIENCE = 60.0

CONFIG = """\
model:
  provider: custom
  default: {model}
  base_url: {upstream}
  api_key: sk-invented
  context_length: 131072
plugins:
  enabled: [apprentice]
platforms:
  telegram:
    enabled: true
    extra:
      base_url: {telegram}/bot
"""

ENV = """\
TELEGRAM_BOT_TOKEN={token}
TELEGRAM_ALLOWED_USERS={users}
TELEGRAM_HOME_CHANNEL={home}
"""


class FakeTelegram:
    """A Bot API that keeps what is sent, and plays what people type and press."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.toasts: list[dict[str, Any]] = []
        self.edits: list[dict[str, Any]] = []
        self.polled = asyncio.Event()
        self.rate_limits: list[int] = []
        self.down = False
        self.refused = asyncio.Event()
        self.silent_after = ""
        self._updates: list[dict[str, Any]] = []
        self._numbers = itertools.count(1000)
        self._changed = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        values: dict[str, Any] = {**request.query, **(await request.post())}
        if self.down and method == "sendMessage":
            self.refused.set()
            return web.json_response(
                {"ok": False, "error_code": 502, "description": "Bad Gateway"}, status=502
            )
        if method == "sendMessage" and self.rate_limits:
            wait = self.rate_limits.pop(0)
            return web.json_response(
                {
                    "ok": False,
                    "error_code": 429,
                    "description": f"Too Many Requests: retry after {wait}",
                    "parameters": {"retry_after": wait},
                },
                status=429,
            )
        answer = getattr(self, f"_{method}", None)
        if answer is None:
            if method in ("sendRichMessage", "sendRichMessageDraft", "sendMessageDraft"):
                return web.json_response(
                    {"ok": False, "error_code": 404, "description": "Not Found"}, status=404
                )
            return web.json_response({"ok": True, "result": True})
        return web.json_response({"ok": True, "result": await answer(values)})

    async def _getMe(self, values: dict[str, Any]) -> Any:
        return {"id": 123456, "is_bot": True, "first_name": "Bot", "username": "invented_bot"}

    async def _getUpdates(self, values: dict[str, Any]) -> Any:
        self.polled.set()
        offset = int(values.get("offset", 0))
        deadline = time.monotonic() + min(float(values.get("timeout", 0)), 5.0)
        async with self._changed:
            while True:
                found = [one for one in self._updates if one["update_id"] >= offset]
                left = deadline - time.monotonic()
                if found or left <= 0:
                    return found
                try:
                    await asyncio.wait_for(self._changed.wait(), left)
                except TimeoutError:
                    return []

    async def _sendMessage(self, values: dict[str, Any]) -> Any:
        number = next(self._numbers)
        markup = json.loads(values.get("reply_markup") or "null")
        sent = {
            "message_id": number,
            "chat": str(values["chat_id"]),
            "text": str(values["text"]),
            "buttons": {
                button["text"]: button["callback_data"]
                for row in (markup or {}).get("inline_keyboard", [])
                for button in row
            },
        }
        async with self._changed:
            self.sent.append(sent)
            self._changed.notify_all()
        if self.silent_after and self.silent_after in sent["text"]:
            await asyncio.Event().wait()  # it is in the chat, and the sender never learns that
        return self._message(number, int(values["chat_id"]), sent["text"], bot=True)

    async def _answerCallbackQuery(self, values: dict[str, Any]) -> Any:
        async with self._changed:
            self.toasts.append(values)
            self._changed.notify_all()
        return True

    async def _editMessageReplyMarkup(self, values: dict[str, Any]) -> Any:
        async with self._changed:
            self.edits.append(values)
            self._changed.notify_all()
        return True

    def _message(self, number: int, chat: int, text: str, *, bot: bool = False) -> dict[str, Any]:
        sender = (
            {"id": 123456, "is_bot": True, "first_name": "Bot", "username": "invented_bot"}
            if bot
            else {"id": chat, "is_bot": False, "first_name": "Someone"}
        )
        return {
            "message_id": number,
            "date": int(time.time()),
            "chat": {"id": chat, "type": "private", "first_name": "Someone"},
            "from": sender,
            "text": text,
        }

    async def _push(self, kind: str, content: dict[str, Any]) -> None:
        async with self._changed:
            self._updates.append({"update_id": next(self._numbers), kind: content})
            self._changed.notify_all()

    async def say(
        self,
        text: str,
        user: int = OPERATOR,
        *,
        reply_to: dict[str, Any] | None = None,
        forwarded: bool = False,
        edited: bool = False,
    ) -> None:
        """Let a person type something in their private chat."""
        message = self._message(next(self._numbers), user, text)
        if text.startswith("/"):
            length = len(text.split()[0])
            message["entities"] = [{"type": "bot_command", "offset": 0, "length": length}]
        if reply_to is not None:
            message["reply_to_message"] = self._message(
                reply_to["message_id"], user, reply_to["text"], bot=True
            )
        if forwarded:
            message["forward_origin"] = {
                "type": "hidden_user",
                "date": int(time.time()),
                "sender_user_name": "Somebody",
            }
        if edited:
            message["edit_date"] = int(time.time())
        await self._push("edited_message" if edited else "message", message)

    async def press(self, data: str, message: dict[str, Any], user: int = OPERATOR) -> None:
        """Let a person press a button."""
        await self._push(
            "callback_query",
            {
                "id": str(next(self._numbers)),
                "from": {"id": user, "is_bot": False, "first_name": "Someone"},
                "chat_instance": "1",
                "data": data,
                "message": self._message(
                    message["message_id"], int(message["chat"]), message["text"], bot=True
                ),
            },
        )

    async def message(self, part: str, *, after: int = 0, within: float = PATIENCE) -> Any:
        """Wait for a message that contains ``part``, behind the first ``after`` messages."""
        return await self._wait(
            lambda: next((one for one in self.sent[after:] if part in one["text"]), None),
            within,
            f"a message with {part!r}",
        )

    async def toast(self, part: str, within: float = PATIENCE) -> Any:
        """Wait for the short answer to a pressed button."""
        return await self._wait(
            lambda: next((one for one in self.toasts if part in one.get("text", "")), None),
            within,
            f"a toast with {part!r}",
        )

    async def edit(self, within: float = PATIENCE) -> Any:
        """Wait until buttons are taken away."""
        return await self._wait(lambda: self.edits[0] if self.edits else None, within, "an edit")

    async def _wait(self, found: Callable[[], Any], within: float, what: str) -> Any:
        async def look() -> Any:
            async with self._changed:
                while (one := found()) is None:
                    await self._changed.wait()
                return one

        try:
            return await asyncio.wait_for(look(), within)
        except TimeoutError:
            texts = "\n".join(one["text"] for one in self.sent)
            raise AssertionError(
                f"{what} did not come within {within:g} s; sent:\n{texts}"
            ) from None


class FakeIrc:
    """An IRC server with one bot on it, which keeps what the bot says."""

    def __init__(self) -> None:
        self.sent: list[dict[str, str]] = []
        self.polled = asyncio.Event()
        self.port = 0
        self._changed = asyncio.Condition()
        self._bot: asyncio.StreamWriter | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen on a free loopback port until the block ends."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            if self._bot is not None:
                self._bot.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._bot = writer
        while line := (await reader.readline()).decode().rstrip("\r\n"):
            command, _, rest = line.partition(" ")
            if command == "USER":
                writer.write(b":fake 001 hermes-bot :Welcome\r\n")
            elif command == "JOIN":
                self.polled.set()
            elif command == "PRIVMSG":
                target, _, text = rest.partition(" :")
                async with self._changed:
                    self.sent.append({"chat": target, "text": text})
                    self._changed.notify_all()
        writer.close()

    async def say(self, text: str, nick: str) -> None:
        """Let somebody write to the bot in private."""
        assert self._bot is not None
        self._bot.write(f":{nick}!user@host PRIVMSG hermes-bot :{text}\r\n".encode())
        await self._bot.drain()

    async def message(self, part: str, *, after: int = 0) -> dict[str, str]:
        """Wait for a line with ``part``, behind the first ``after`` lines."""

        async def look() -> dict[str, str]:
            async with self._changed:
                while True:
                    for one in self.sent[after:]:
                        if part in one["text"]:
                            return one
                    await self._changed.wait()

        try:
            return await asyncio.wait_for(look(), PATIENCE)
        except TimeoutError:
            raise AssertionError(f"no line with {part!r} came; sent: {self.sent}") from None


class FakeUpstream:
    """Streams an answer; to a request with SLOW in it only when the test says so."""

    def __init__(self, answer: Callable[[str], str | None] = lambda text: None) -> None:
        self._answer = answer
        self._template: dict[str, Any] = {}
        self.asked: list[str] = []
        self.slow_began = asyncio.Event()
        self.release = asyncio.Event()
        self.hung_up = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = _last_user_text(body)
        self.asked.append(text)
        if body.get("tools"):
            self._template = body
        answer = self._answer(text) or "The upstream has answered."
        head, tail = answer[: len(answer) // 2], answer[len(answer) // 2 :]
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            if "SLOW" in text and body.get("tools"):
                self.slow_began.set()
                await asyncio.wait_for(self.release.wait(), PATIENCE)
            for delta, finish in (
                ({"role": "assistant", "content": head}, None),
                ({"content": tail}, None),
                ({}, "stop"),
            ):
                choice = {"index": 0, "delta": delta, "finish_reason": finish}
                await response.write(_event({"choices": [choice]}))
            usage = {"prompt_tokens": 900, "completion_tokens": 4, "total_tokens": 904}
            await response.write(_event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n")
        except (ConnectionError, asyncio.CancelledError):
            self.hung_up = True
            raise
        return response

    def template(self) -> dict[str, Any]:
        """Return the last body that carried tools: what Hermes really sends."""
        return self._template


def _event(content: dict[str, Any]) -> bytes:
    head = {"id": "chatcmpl-x", "object": "chat.completion.chunk", "created": 1, "model": "big"}
    return b"data: " + json.dumps(head | content).encode() + b"\n\n"


def _last_user_text(body: dict[str, Any]) -> str:
    for message in reversed(body["messages"]):
        if message["role"] == "user":
            content = message["content"]
            return content if isinstance(content, str) else json.dumps(content)
    return ""


@asynccontextmanager
async def serving(
    path: str, handler: Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]
) -> AsyncIterator[str]:
    """Serve one handler on a free loopback port and give the address."""
    app = web.Application(client_max_size=20_000_000)
    app.router.add_route("*", path, handler)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def environment(hermes_home: Path, apprentice_home: Path) -> dict[str, str]:
    """Return the environment of a child: its homes, and nobody's keys."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.endswith(("_API_KEY", "_TOKEN")) and not key.startswith("TELEGRAM_")
    }
    return kept | {
        "HERMES_HOME": str(hermes_home),
        "APPRENTICE_HOME": str(apprentice_home),
        "HOME": str(hermes_home.parent),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
        "NO_COLOR": "1",
    }


@asynccontextmanager
async def gateway(
    hermes_home: Path,
    apprentice_home: Path,
    chat: FakeTelegram | FakeIrc,
    config: str,
    env: str = ENV.format(token=TOKEN, users=f"{OPERATOR},{COLLEAGUE}", home=OPERATOR),
) -> AsyncIterator[Process]:
    """Run ``hermes gateway run`` until the block ends; it is connected when the block begins."""
    hermes_home.mkdir(parents=True, exist_ok=True)
    (hermes_home / "config.yaml").write_text(config, encoding="utf-8")
    (hermes_home / ".env").write_text(env, encoding="utf-8")
    chat.polled.clear()
    log = hermes_home.parent / "gateway.out"
    with log.open("ab") as stream:
        process = await asyncio.create_subprocess_exec(
            HERMES,
            "gateway",
            "run",
            env=environment(hermes_home, apprentice_home),
            cwd=hermes_home.parent,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    try:
        try:
            await asyncio.wait_for(chat.polled.wait(), START)
        except TimeoutError:
            raise AssertionError(f"the gateway did not start: {log.read_text()[-3000:]}") from None
        yield process
    finally:
        await stop(process)


async def stop(process: Process) -> None:
    """End a process: politely, then not."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), 20)
    except TimeoutError:
        process.kill()
        await process.wait()
