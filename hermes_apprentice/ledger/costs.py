"""What requests cost: the upstream's charges per model, checks of specialists, training.

Read from the ledger; what has no price is counted, never summed as nothing. What
specialists saved is in ``roi``.
"""

from __future__ import annotations

from dataclasses import dataclass

from hermes_apprentice.storage.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """What one upstream model was asked and charged; amounts in micro-dollars."""

    model: str
    """Its name as the upstream knows it."""

    requests: int
    """Calls, audits included."""

    prompt_tokens: int
    """Tokens sent, the cached ones included."""

    cached_tokens: int
    """Tokens of those that came from the upstream's cache."""

    completion_tokens: int
    """Tokens received."""

    cost: int
    """Its charge, where its price is known."""

    unpriced: int
    """Calls without a known price or usage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSummary:
    """All charges of a period; amounts in micro-dollars."""

    since: float
    """Unix time of its start."""

    models: tuple[ModelCost, ...]
    """One per upstream model, the dearest first."""

    audits: int
    """Part of the charges that checked specialists' answers."""

    training: int
    """Spent on training."""

    @property
    def total(self) -> int:
        """Everything with a known price."""
        return sum(model.cost for model in self.models) + self.training


def cost_summary(database: Database, since: float) -> CostSummary:
    """Sum the charges from ``since`` (Unix time) on.

    Raises:
        StorageError: The database cannot be read.
    """
    rows = database.read(
        """
        SELECT model,
               SUM(calls) AS requests,
               SUM(prompt_tokens) AS prompt_tokens,
               SUM(cached_tokens) AS cached_tokens,
               SUM(completion_tokens) AS completion_tokens,
               SUM(cost) AS cost,
               SUM(unpriced) AS unpriced
        FROM ledger_sums WHERE at >= ? AND route <> 'specialist'
        GROUP BY model ORDER BY cost DESC, model
        """,
        (since,),
    )
    audits = database.read(
        "SELECT COALESCE(SUM(cost), 0) AS cost FROM ledger_sums WHERE at >= ? AND route = 'audit'",
        (since,),
    )
    training = database.read(
        "SELECT COALESCE(SUM(amount), 0) AS amount FROM spending WHERE at >= ?", (since,)
    )
    return CostSummary(
        since=since,
        models=tuple(ModelCost(**dict(row)) for row in rows),
        audits=int(audits[0]["cost"]),
        training=int(training[0]["amount"]),
    )
