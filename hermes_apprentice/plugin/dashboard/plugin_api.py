"""Mounted by Hermes' dashboard: hands the tab the page of the sidecar."""

from __future__ import annotations

from hermes_apprentice.plugin.tab import make_router

router = make_router()
