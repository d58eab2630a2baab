"""Hermes' dashboard asks this for the sidecar's page; Hermes checks first who is asking.

Runs in the dashboard's own process. The browser never talks to the sidecar, which
therefore needs to trust no web page.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.settings import Settings, load_settings

if TYPE_CHECKING:
    from fastapi import APIRouter

PATIENCE = 30.0
"""Seconds for the sidecar to answer."""

_LONGEST = 5_000_000


def make_router() -> APIRouter:
    """Return what Hermes mounts below ``/api/plugins/apprentice``."""
    from fastapi import APIRouter

    router = APIRouter()

    @router.get("/page")
    async def page() -> dict[str, str]:
        return await asyncio.to_thread(fetch_page)

    return router


def fetch_page() -> dict[str, str]:
    """Return the page as ``html``, or why there is none as ``problem``."""
    try:
        settings = load_settings()
    except ConfigError as error:
        return {"problem": str(error)}
    url = sidecar_of(settings)
    # Whatever proxy the environment names is not the way to this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/dashboard?embedded=on", timeout=PATIENCE) as answer:
            return {"html": answer.read(_LONGEST).decode("utf-8", "replace")}
    except urllib.error.HTTPError as error:
        return {"problem": f"The sidecar at {url} refused to show its page ({error.code})."}
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return {
            "problem": f"The sidecar at {url} cannot be reached ({reason}). Start it with "
            "'apprentice serve', or 'systemctl --user start apprentice'."
        }


def sidecar_of(settings: Settings) -> str:
    """Return where the sidecar listens: what it noted when it started, or the settings."""
    try:
        noted = json.loads((settings.home / "sidecar.json").read_bytes())["url"]
        if urlsplit(noted).scheme == "http":
            # In a container it listens on every address.
            return str(noted).replace("//0.0.0.0", "//127.0.0.1")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    host, port = settings.server.host, settings.server.port
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
