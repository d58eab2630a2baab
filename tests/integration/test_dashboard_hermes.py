"""The tab in the real Hermes dashboard, installed by the real setup."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import platformdirs
import pytest
import yaml
from aiohttp import web

from hermes_apprentice.assets import dashboard_files
from hermes_apprentice.router.page import style
from hermes_apprentice.router.server import running_sidecar
from hermes_apprentice.settings import ServerSettings, Settings, UpstreamSettings
from hermes_apprentice.storage.approvals import add_message
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.files import write_atomically
from hermes_apprentice.testing import FakeSource

BIN = Path(sys.executable).parent
MODELS = platformdirs.user_cache_path("hermes-apprentice") / "models"
PATIENCE = 120.0
POISON = "<script>document.title='taken'</script>"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BIN / "hermes").exists(), reason="hermes-agent is not installed here"),
]


class Place:
    """A Hermes home with Apprentice set up in it."""

    def __init__(self, folder: Path) -> None:
        self.hermes = folder / "hermes"
        self.apprentice = folder / "apprentice"
        self.folder = folder
        self.hermes.mkdir()
        self.apprentice.mkdir()
        MODELS.mkdir(parents=True, exist_ok=True)
        (self.apprentice / "models").symlink_to(MODELS)
        (self.hermes / "config.yaml").write_text(
            "model: {provider: custom, default: m, base_url: 'http://127.0.0.1:9/v1', api_key: k}\n"
        )

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.endswith("_API_KEY") and not key.startswith(("APPRENTICE_", "XDG_"))
        }
        own = {"HERMES_HOME": str(self.hermes), "HOME": str(self.folder), "COLUMNS": "200"}
        return kept | own | {"NO_COLOR": "1"}

    async def run(self, name: str, *arguments: str) -> str:
        extra = {"APPRENTICE_HOME": str(self.apprentice)} if name == "apprentice" else {}
        process = await asyncio.create_subprocess_exec(
            BIN / name,
            *arguments,
            env=self.environment | extra,
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE):
            said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()
        return said.decode()

    @asynccontextmanager
    async def dashboard(self) -> AsyncIterator[str]:
        """Hermes' own dashboard, on a free port."""
        process = await asyncio.create_subprocess_exec(
            BIN / "hermes",
            *("dashboard", "--port", "0", "--no-open", "--skip-build", "--isolated"),
            env=self.environment,
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        said = b""
        try:
            async with asyncio.timeout(PATIENCE):
                while not (ready := re.search(rb"READY port=(\d+)", said)):
                    line = await process.stdout.readline()
                    said += line
                    assert line, said.decode()
            reading = asyncio.create_task(process.stdout.read())
            yield f"http://127.0.0.1:{int(ready[1])}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(20):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
            await reading


@asynccontextmanager
async def sidecar(place: Place) -> AsyncIterator[str]:
    settings = Settings(
        home=place.apprentice,
        hermes_home=place.hermes,
        upstream=UpstreamSettings(base_url="http://127.0.0.1:9/v1", api_key_env=""),
        server=ServerSettings(port=0),
    )
    async with running_sidecar(
        settings, source=FakeSource(None), price_of=lambda _: None
    ) as running:
        note = json.dumps({"pid": os.getpid(), "url": running.url}).encode()
        write_atomically(place.apprentice / "sidecar.json", note)
        yield running.url


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_set_up_served_by_hermes_to_its_users_and_taken_out_without_a_trace(
    place: Place,
) -> None:
    await place.run("apprentice", "setup", "--apply", "--non-interactive")
    page = "/api/plugins/apprentice/page"
    # There are tenants, and the operator keeps the sidecar's pages to themselves.
    await place.run("apprentice", "tenants", "create", "ann")
    key = (await place.run("apprentice", "tenants", "admin-key")).split()[0]
    with (place.hermes / ".env").open("a") as file:
        file.write(f"APPRENTICE_ADMIN_KEY={key}\n")
    async with (
        sidecar(place) as own,
        place.dashboard() as url,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"{own}/dashboard") as got:
            assert got.status == 401
        async with session.get(url + page) as got:
            assert got.status == 401
        async with session.get(url) as got:
            found = re.search(r'SESSION_TOKEN__="([^"]+)"', await got.text())
            assert found is not None
        headers = {"X-Hermes-Session-Token": found[1]}
        async with session.get(url + page, headers=headers) as got:
            shown = await got.text()
            assert "There is none yet." in shown
            assert key not in shown
        async with session.get(f"{url}/api/dashboard/plugins", headers=headers) as got:
            (tab,) = [one for one in await got.json() if one["name"] == "apprentice"]
            assert tab["tab"]["path"] == "/apprentice"
            assert tab["has_api"]
        async with session.get(f"{url}/dashboard-plugins/apprentice/plugin_api.py") as got:
            assert got.status == 404
        # A plugin that the user disables is not shown any more.
        config = place.hermes / "config.yaml"
        before = config.read_text()
        values = yaml.safe_load(before)
        values["plugins"]["disabled"] = ["apprentice"]
        config.write_text(yaml.safe_dump(values))
        async with session.get(url + page, headers=headers) as got:
            assert got.status == 404
        config.write_text(before)

    await place.run("apprentice", "uninstall", "--apply", "--non-interactive")
    assert not (place.hermes / "plugins").exists()
    left = {path.name for path in place.hermes.rglob("*")}
    assert not {name for name in left if "apprentice" in name.lower()}
    assert (place.hermes / ".env").read_text() == f"APPRENTICE_ADMIN_KEY={key}\n"


async def test_in_a_browser_the_tab_is_the_sidecars_page_and_cannot_act_on_hermes(
    place: Place, fill: Callable[..., None], chromium: Any
) -> None:
    for name, content in dashboard_files().items():
        path = place.hermes / "plugins" / "apprentice" / "dashboard" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    config = place.hermes / "config.yaml"
    config.write_text(config.read_text() + "plugins: {enabled: [apprentice]}\n")
    (place.hermes / ".env").write_text(f"APPRENTICE_HOME={place.apprentice}\n")
    with Database(place.apprentice / "apprentice.db") as database:
        fill(database, time.time(), POISON)
    frame = "document.querySelector('iframe[title=Apprentice]')"
    inside = f"{frame}?.contentDocument"
    async with place.dashboard() as url:
        async with sidecar(place) as own:
            await chromium.show(width=1280, height=900)
            await chromium.open(f"{url}/apprentice")
            await chromium.until(f"!!{inside}?.querySelector('h2')")
            text = await chromium.ask(f"{inside}.body.innerText")
            assert "ticket-label" in text
            assert text.count(POISON) >= 8
            assert await chromium.ask("document.title") != "taken"
            assert await chromium.ask(f"{frame}.getAttribute('sandbox')") == "allow-same-origin"
            # Hermes' theme is dark whatever the system prefers, and the frame is as high as it is.
            assert await chromium.ask(f"{inside}.documentElement.dataset.theme") == "dark"
            await chromium.until(f"{frame}.offsetHeight > {inside}.body.offsetHeight")
            assert "Apprentice" in await chromium.ask("document.querySelector('nav').textContent")
            # The browser talks to Hermes only; Hermes' server asks the sidecar.
            assert not [one for one in chromium.requested if one.startswith(own)]
            # Looked at again, it is brought up to date in place.
            await chromium.ask(f"window.kept = {inside}, 1")
            with Database(place.apprentice / "apprentice.db") as database:
                add(database, "It is news.")
            look = "document.dispatchEvent(new Event('visibilitychange')), "
            await chromium.until(f"{look}{inside}.body.innerText.includes('It is news.')")
            assert await chromium.ask(f"window.kept === {inside}")
        # With the sidecar gone it says so, and keeps what it had.
        said = await chromium.until(f"{look}document.querySelector('p[role=alert]')?.textContent")
        assert "apprentice serve" in said
        assert "ticket-label" in await chromium.ask(f"{inside}.body.innerText")
        # Whoever took the sidecar's place can say what they like, and do nothing to Hermes.
        hostile = "<script>parent.document.title='taken'</script><p onclick='' autofocus>mine"
        hostile += "<img src=x onerror=\"parent.document.title='taken'\">"
        for number, html in enumerate((f"<style>{style()}</style>{hostile}0", f"{hostile}1")):
            async with saying(place, html):
                await chromium.until(f"{look}{inside}?.body?.innerText.includes('mine{number}')")
                assert await chromium.ask("document.title") != "taken"


@asynccontextmanager
async def saying(place: Place, html: str) -> AsyncIterator[None]:
    """Something else where the sidecar should be."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=html, content_type="text/html")

    app = web.Application()
    app.router.add_get("/dashboard", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    note = {"pid": os.getpid(), "url": f"http://127.0.0.1:{runner.addresses[0][1]}"}
    write_atomically(place.apprentice / "sidecar.json", json.dumps(note).encode())
    yield
    await runner.cleanup()


def add(database: Database, text: str) -> None:
    with database.transaction() as connection:
        add_message(connection, "news", "news", text, time.time())
