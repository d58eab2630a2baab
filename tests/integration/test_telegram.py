"""Approvals over Telegram: the real gateway, our plugin, a fake Bot API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hermes_apprentice.approvals import desk
from hermes_apprentice.domain.approval import Proposal, ProposalState
from hermes_apprentice.domain.pattern import Candidate, CandidateState
from hermes_apprentice.settings import ApprovalSettings, Settings
from hermes_apprentice.storage.approvals import add_message, find_proposal
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.patterns import PatternStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

DECIDERS = ("telegram:4711", "telegram:4712")
Make = Callable[..., Candidate]


def write_settings(settings: Settings) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    deciders = ", ".join(f'"{one}"' for one in DECIDERS)
    (settings.home / "settings.toml").write_text(f"[approvals]\ndeciders = [{deciders}]\n")


def propose(settings: Settings, candidate: Candidate) -> None:
    """Store a candidate and its question, as a detection run does."""
    now = time.time()
    with Database(settings.database_path) as database, database.transaction() as connection:
        add_candidate(connection, candidate, now)
        desk.propose(connection, candidate, ApprovalSettings(deciders=DECIDERS), now)


def proposal(settings: Settings, handle: str) -> Proposal:
    with Database(settings.database_path) as database, database.transaction() as connection:
        found = find_proposal(connection, handle)
    assert found is not None
    return found
