"""The dashboard over a real socket, and in a real browser."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from hermes_apprentice.router.server import Sidecar, running_sidecar
from hermes_apprentice.settings import ServerSettings, Settings, UpstreamSettings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.testing import FakeSource

POISON = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Sidecar]:
    local = settings.model_copy(
        update={
            "upstream": UpstreamSettings(base_url="http://127.0.0.1:9/v1", api_key_env=""),
            "server": ServerSettings(port=0),
        }
    )
    async with running_sidecar(local, source=FakeSource(None), price_of=lambda _: None) as sidecar:
        yield sidecar


async def get(url: str, **headers: str) -> tuple[int, str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            url, headers={name.replace("_", "-"): headers[name] for name in headers}
        ) as got,
    ):
        return got.status, await got.text(), got.headers


@pytest.mark.parametrize("path", ["/dashboard", "/admin/overview"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "dashboard.example"},
        {"Origin": "https://elsewhere.example"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
async def test_no_other_page_and_no_other_name_gets_it(
    settings: Settings, path: str, headers: dict[str, str]
) -> None:
    async with serving(settings) as sidecar:
        assert (await get(sidecar.url + path))[0] == 200
        status, text, _ = await get(sidecar.url + path, **headers)
    assert status == 403
    assert "specialists" not in text


async def test_it_is_kept_nowhere_and_framed_by_nobody(settings: Settings) -> None:
    async with serving(settings) as sidecar:
        _, text, headers = await get(f"{sidecar.url}/dashboard")
        assert (await get(f"{sidecar.url}/admin/overview"))[2]["cache-control"] == "no-store"
    assert headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "<script" not in text


async def test_programs_get_the_figures_of_the_page(
    settings: Settings, fill: Callable[..., None]
) -> None:
    with Database(settings.database_path) as database:
        fill(database, time.time())
    async with serving(settings) as sidecar, aiohttp.ClientSession() as session:
        async with session.get(f"{sidecar.url}/admin/overview") as got:
            found = await got.json()
    figures = found["figures"]
    assert [one["slug"] for one in figures["specialists"]][:2] == ["ticket-label", "mail-triage"]
    assert figures["questions"][0]["handle"] == "gc-7f3a"
    # A call of exactly 24 hours ago may be on either side.
    assert sum(slot.get("specialist", 0) for slot in figures["day"]["slots"]) in (23, 24)
    assert figures["messages"][0]["delivered_at"] is None


async def test_those_who_look_at_the_same_time_cost_one_reading(settings: Settings) -> None:
    async with serving(settings) as sidecar:
        url = f"{sidecar.url}/admin/overview"
        found = await asyncio.gather(*(get(url) for _ in range(8)))
    assert len({json.loads(text)["at"] for _, text, _ in found}) == 1


async def test_a_broken_database_is_said_and_found_again(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    settings.database_path.write_bytes(b"not a database, and long enough to be read as one" * 99)
    async with serving(settings) as sidecar:
        status, text, _ = await get(f"{sidecar.url}/dashboard")
        assert status == 200
        assert "is not an Apprentice database" in text
        settings.database_path.unlink()
        assert "There is none yet." in (await get(f"{sidecar.url}/dashboard"))[1]


CONTRAST = """
(() => {
  const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = parts => parts.slice(0, 3).map(one => one / 255)
    .map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, i) => sum + one * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = node => {
    for (; node; node = node.parentElement) {
      const found = rgb(getComputedStyle(node).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some(one => one.nodeType === 3 && one.data.trim());
    if (!own || node.closest("svg") || node.closest(".away")) continue;
    const [a, b] = [light(rgb(getComputedStyle(node).color)), light(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push([node.outerHTML.slice(0, 80), ratio]);
  }
  return bad;
})()
"""


@pytest.mark.slow
async def test_in_a_browser_nothing_runs_nothing_is_fetched_and_all_can_be_read(
    settings: Settings, fill: Callable[..., None], chromium: Any
) -> None:
    with Database(settings.database_path) as database:
        fill(database, time.time(), POISON)
    async with serving(settings) as sidecar:
        url = f"{sidecar.url}/dashboard"
        for width in (1280, 400):
            for theme in ("light", "dark"):
                await chromium.show(width=width, theme=theme)
                await chromium.open(url)
                assert await chromium.ask("document.title") == "Apprentice"
                text = await chromium.ask("document.body.innerText")
                assert text.count("<script>document.title='taken'</script>") >= 8
                assert not await chromium.ask("document.querySelector('script, img')")
                assert await chromium.ask(CONTRAST) == []
                wide = "document.documentElement.scrollWidth <= innerWidth"
                assert await chromium.ask(wide), f"scrolls sideways at {width} px"
        ground = await chromium.ask("getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(16, 21, 26)"  # the dark one
    assert {one for one in chromium.requested if not one.startswith("data:")} == {url}
    assert chromium.said == []


@pytest.mark.slow
async def test_in_a_browser_it_works_empty(settings: Settings, chromium: Any) -> None:
    async with serving(settings) as sidecar:
        await chromium.show(width=400)
        await chromium.open(f"{sidecar.url}/dashboard")
        text = await chromium.ask("document.body.innerText")
        assert "There is none yet." in text
        assert "not measured yet" in text
        assert await chromium.ask(CONTRAST) == []
    assert chromium.said == []


@pytest.mark.slow
async def test_in_a_browser_it_can_be_used_by_keyboard(
    settings: Settings, chromium: Any, fill: Callable[..., None]
) -> None:
    with Database(settings.database_path) as database:
        fill(database, time.time())
    async with serving(settings) as sidecar:
        await chromium.show(width=400)
        await chromium.open(f"{sidecar.url}/dashboard")
        reloads = "document.querySelector('meta[http-equiv=refresh]') !== null"
        assert await chromium.ask(reloads)
        await chromium.press("Tab", 9)
        assert await chromium.ask("document.activeElement.textContent") == "stop reloading"
        await chromium.press("Enter", 13)
        await chromium.until("location.search === '?refresh=off' && document.body !== null")
        await chromium.until("document.readyState === 'complete'")
        assert not await chromium.ask(reloads)
        reached = set()
        for _ in range(8):
            await chromium.press("Tab", 9)
            reached.add(await chromium.ask("document.activeElement.getAttribute('aria-label')"))
        # What is wider than a phone can be scrolled without a mouse.
        assert {"Speed by route", "Tokens by route", "What the upstream charged"} <= reached
        assert await chromium.ask("document.querySelectorAll('h1').length") == 1
        assert await chromium.ask(
            "[...document.querySelectorAll('section')].every(one => one.ariaLabel || "
            "document.getElementById(one.getAttribute('aria-labelledby')))"
        )
