"""What the specialists saved and what they cost, read from the ledger.

Knows nothing about how entries got there. An amount that rests on estimated
tokens or on a missing price is marked, never silently summed.
"""

from __future__ import annotations

from dataclasses import dataclass

from hermes_apprentice.errors import TenantError
from hermes_apprentice.storage.database import Database

_MONTH = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialistRoi:
    """The account of one specialist; amounts in micro-dollars."""

    slug: str
    """The specialist."""

    answered: int
    """Requests it answered."""

    fallbacks: int
    """Matching requests it was asked and passed on to the upstream."""

    saved: int
    """What the upstream would have charged for those it answered, an estimate."""

    audits: int
    """What the upstream charged for checking its answers."""

    spent: int
    """What its training ever cost in money, before the period too; electricity is not counted."""

    unpriced: int
    """Answers whose saving is unknown, because the model is not in the price table."""

    saved_per_month: int | None
    """``saved - audits`` at the pace of the period; ``None`` below one day of data."""

    break_even_days: float | None
    """Days until the spending is earned back; 0 where nothing was spent, ``None`` if never."""

    @property
    def net(self) -> int:
        """Saved, less audits and spending."""
        return self.saved - self.audits - self.spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Roi:
    """The account of all traffic in a period."""

    since: float
    """Unix time of its start."""

    requests: int
    """Every routed call."""

    upstream_cost: int
    """What the upstream charged where its price is known, audits not included."""

    upstream_unpriced: int
    """Upstream calls without a known price or usage."""

    routed_share: float
    """Share of first calls that a specialist answered."""

    specialists: tuple[SpecialistRoi, ...]
    """One for each that was asked in the period, or that money was spent on in it."""

    @property
    def net(self) -> int:
        """Sum over the specialists."""
        return sum(row.net for row in self.specialists)


def roi(database: Database, since: float, now: float, tenant: str | None = None) -> Roi:
    """Sum the ledger from ``since`` (Unix time) to ``now``.

    Args:
        database: Where it is.
        since: Start of the period.
        now: End of the period.
        tenant: Only this one's calls. Training is the operator's and is left out then.

    Raises:
        TenantError: Nobody of that name is known, nor ever asked anything.
    """
    if tenant is not None and not database.read(
        "SELECT 1 FROM tenants WHERE name = ? UNION ALL SELECT 1 FROM ledger WHERE tenant = ? "
        "LIMIT 1",
        (tenant, tenant),
    ):
        raise TenantError(f"There is no tenant '{tenant}'; see: apprentice tenants list")
    totals = database.read(
        """
        SELECT COALESCE(SUM(calls * (route <> 'audit')), 0) AS requests,
               COALESCE(SUM(cost * (route <> 'audit')), 0) AS upstream_cost,
               SUM(unpriced * (route IN ('upstream', 'fallback'))) AS unpriced,
               SUM(calls * (call_kind = 'first' AND route <> 'audit')) AS firsts,
               SUM(calls * (call_kind = 'first' AND route = 'specialist')) AS answered
        FROM ledger_sums WHERE at >= ? AND (? IS NULL OR tenant = ?)
        """,
        (since, tenant, tenant),
    )[0]
    rows = database.read(
        """
        SELECT slug,
               SUM(calls * (route = 'specialist')) AS answered,
               SUM(calls * (route = 'fallback')) AS fallbacks,
               SUM(saved * (route = 'specialist')) AS saved,
               SUM(cost * (route = 'audit')) AS audits,
               SUM(unsaved * (route = 'specialist')) AS unpriced,
               MIN(at) AS first_at
        FROM ledger_sums WHERE at >= ? AND slug IS NOT NULL AND (? IS NULL OR tenant = ?)
        GROUP BY slug ORDER BY slug
        """,
        (since, tenant, tenant),
    )
    spent, lately = {}, []
    if tenant is None:
        for row in database.read(
            "SELECT slug, SUM(amount) AS amount, MAX(at) AS last FROM spending "
            "WHERE slug IS NOT NULL GROUP BY slug ORDER BY slug"
        ):
            spent[row["slug"]] = int(row["amount"])
            if row["last"] >= since:
                lately.append(row["slug"])
    asked = {row["slug"] for row in rows}
    return Roi(
        since=since,
        requests=int(totals["requests"]),
        upstream_cost=int(totals["upstream_cost"]),
        upstream_unpriced=int(totals["unpriced"] or 0),
        routed_share=int(totals["answered"] or 0) / max(1, int(totals["firsts"] or 0)),
        specialists=tuple(
            _account(
                slug=row["slug"],
                answered=int(row["answered"]),
                fallbacks=int(row["fallbacks"]),
                saved=int(row["saved"]),
                audits=int(row["audits"]),
                unpriced=int(row["unpriced"]),
                spent=spent.get(row["slug"], 0),
                seconds=now - float(row["first_at"]),
            )
            for row in rows
        )
        # Paid for in the period, and not asked in it.
        + tuple(_account(slug=slug, spent=spent[slug]) for slug in lately if slug not in asked),
    )


def _account(
    *,
    slug: str,
    spent: int,
    answered: int = 0,
    fallbacks: int = 0,
    saved: int = 0,
    audits: int = 0,
    unpriced: int = 0,
    seconds: float = 0.0,
) -> SpecialistRoi:
    earned = saved - audits
    pace = earned / seconds if seconds > 0 else 0.0
    if spent == 0:
        break_even: float | None = 0.0
    else:
        break_even = spent / pace / 86_400 if pace > 0 else None
    return SpecialistRoi(
        slug=slug,
        answered=answered,
        fallbacks=fallbacks,
        saved=saved,
        audits=audits,
        spent=spent,
        unpriced=unpriced,
        saved_per_month=round(pace * _MONTH) if seconds >= 86_400 else None,
        break_even_days=break_even,
    )
