"""Hermes' dashboard asks this for the sidecar's page; Hermes checks first who is asking.

Runs in the dashboard's own process. The browser never talks to the sidecar, which
therefore needs to trust no web page, and never sees the operator's key.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.own_page import fetch_page
from hermes_apprentice.settings import load_settings

if TYPE_CHECKING:
    from fastapi import APIRouter


def make_router() -> APIRouter:
    """Return what Hermes mounts below ``/api/plugins/apprentice``."""
    from fastapi import APIRouter

    router = APIRouter()

    @router.get("/page")
    async def page() -> dict[str, str]:
        return await asyncio.to_thread(page_for_tab)

    return router


def page_for_tab() -> dict[str, str]:
    """Return the page as ``html``, or why there is none as ``problem``."""
    try:
        settings = load_settings()
    except ConfigError as error:
        return {"problem": str(error)}
    found = fetch_page(settings)
    return {"problem": found.problem} if found.problem else {"html": found.html}
