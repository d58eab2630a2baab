"""What the command line says about a tick."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hermes_apprentice.approvals import desk
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.interfaces.cli.main import run as command
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern

NOW = 1_790_000_000.0
LATER = NOW + 365 * 86_400.0


def test_a_tick_tells_that_it_asked_again(
    settings: Settings,
    database: Database,
    make_candidate: Callable[..., Candidate],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = make_candidate()
    centre = np.ones(4, np.float32)
    with database.transaction() as connection:
        store = PatternStore(connection)
        store.save(StoredPattern(pattern=asked.pattern, embedder="e", centre=centre, radius=1), NOW)
        store.add_candidate(asked)
        desk.propose(connection, asked, settings.approvals, NOW)
    monkeypatch.setenv("APPRENTICE_HOME", str(settings.home))
    monkeypatch.setattr("time.time", lambda: LATER)
    assert command(["tick"]) == 0
    assert "asked again: 1." in capsys.readouterr().out
    assert command(["tick"]) == 0
    assert "Nothing to do" in capsys.readouterr().out
