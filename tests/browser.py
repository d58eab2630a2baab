"""A real browser for tests: Debian's Chromium without a window, driven over its own protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

DEADLINE = 60.0


def executable() -> str | None:
    """Where the browser is, if there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.said: list[str] = []
        """What the console printed, exceptions and refused loads included."""
        self.requested: list[str] = []
        """Every address that was loaded."""

    async def listen(self) -> None:
        async for message in self._socket:
            event = json.loads(message.data)
            if "id" in event:
                answer = self._answers.pop(event["id"])
                if not answer.done():
                    answer.set_result(event)
                continue
            values = event.get("params", {})
            match event["method"]:
                case "Page.loadEventFired":
                    self._loaded.set()
                case "Runtime.exceptionThrown":
                    self.said.append(values["exceptionDetails"]["text"])
                case "Runtime.consoleAPICalled":
                    self.said.append(" ".join(str(one.get("value")) for one in values["args"]))
                case "Log.entryAdded":
                    self.said.append(values["entry"]["text"])
                case "Network.requestWillBeSent":
                    self.requested.append(values["request"]["url"])

    async def tell(self, method: str, **values: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": values})
        async with asyncio.timeout(DEADLINE):
            event = await self._answers[number]
        assert "error" not in event, event
        return dict(event["result"])

    async def open(self, url: str) -> None:
        self._loaded.clear()
        answer = await self.tell("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        async with asyncio.timeout(DEADLINE):
            await self._loaded.wait()

    async def show(self, *, width: int = 1280, height: int = 900, theme: str = "light") -> None:
        """Pretend to have a screen of this size, and a user who likes this theme."""
        await self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        feature = {"name": "prefers-color-scheme", "value": theme}
        await self.tell("Emulation.setEmulatedMedia", features=[feature])

    async def ask(self, expression: str) -> Any:
        """Return the value of an expression, JSON or a promise of it."""
        answer = await self.tell(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait for an expression to become something (a value, no element), and return it."""
        async with asyncio.timeout(DEADLINE):
            while not (found := await self.ask(expression)):
                await self.ask("new Promise(done => setTimeout(done, 50, 1))")
        return found

    async def press(self, key: str, code: int) -> None:
        values = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        text = {"text": "\r"} if key == "Enter" else {}
        await self.tell("Input.dispatchKeyEvent", type="keyDown", **values, **text)
        await self.tell("Input.dispatchKeyEvent", type="keyUp", **values)

    async def picture(self, path: Path) -> None:
        """Keep the whole page as a PNG, to be looked at."""
        answer = await self.tell("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))


@contextlib.asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Page]:
    """Start a browser with a profile of its own, for as long as the block lasts."""
    command = executable()
    assert command is not None
    process = await asyncio.create_subprocess_exec(
        command,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        "about:blank",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            while b"DevTools listening on" not in (line := await process.stderr.readline()):
                assert line, "the browser did not start"
        port = line.decode().split("://")[1].partition("/")[0].rpartition(":")[2]
        reading = asyncio.create_task(process.stderr.read())
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tabs = await answer.json()
            (place,) = (tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            async with session.ws_connect(place, max_msg_size=0) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await page.tell(f"{domain}.enable")
                yield page
            await listening
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        await reading
