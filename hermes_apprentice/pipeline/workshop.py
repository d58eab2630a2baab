"""What every part of the learning half works with, opened once and only when needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.embedding.onnx_embedder import open_embedder
from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.ledger.prices import PriceTable, load_prices
from hermes_apprentice.privacy.redaction import Redactor
from hermes_apprentice.registry.registry import Registry
from hermes_apprentice.registry.signing import load_or_create_keys
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database

Progress = Callable[[str, float], None]
"""Called with what is being done and how much of it is done, 0 to 1."""


def silent(what: str, share: float) -> None:
    """Show nothing."""


class Workshop:
    """Settings, database and the heavy parts behind them."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        clock: Callable[[], float] = time.time,
        progress: Progress = silent,
    ) -> None:
        self.settings = settings
        self.database = database
        self.clock = clock
        self.progress = progress

    def beside(self, database: Database) -> Workshop:
        """Return a workshop over another database, with the same settings."""
        return Workshop(self.settings, database, self.clock, self.progress)

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder; fetched on first use."""
        return open_embedder(
            ModelStore(self.settings.models_dir),
            self.settings.models.embedder,
            threads=2,
            pull=True,
        )

    @cached_property
    def registry(self) -> Registry:
        """The registry, with the keys that sign for it."""
        return Registry(self.settings.registry_dir, load_or_create_keys(self.settings.keys_dir))

    @cached_property
    def redactor(self) -> Redactor | None:
        """The redactor, or ``None`` where the operator switched redaction off."""
        return Redactor() if self.settings.dataset.redact else None

    @cached_property
    def prices(self) -> PriceTable:
        """The price table."""
        return load_prices(self.settings.prices_path)

    @property
    def leases(self) -> Path:
        """Where locks lie."""
        return self.settings.home / "locks"

    def run_dir(self, run_id: str) -> Path:
        """Return the folder of a run: dataset, artefact, verdict, log."""
        return self.settings.runs_dir / run_id
