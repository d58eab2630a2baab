"""What is kept for how long: old calls become sums per day, old evidence becomes counts.

Nothing that is asked of the tables afterwards has another answer: what is removed is added
up first, in the same transaction, and what somebody still looks at one by one stays: the
comparisons and runs that the rollout's rules look back on, the answers whose reception is
judged, and the entries that tell which stored exchange a specialist answered. Only within a
day that was added up is the time of a call not known any more. Knows nothing about who asks.
"""

from __future__ import annotations

from typing import NamedTuple

from hermes_apprentice.storage.conduct import ANSWERS, ATTEMPTS, FAILED, RECEIVED
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.rollouts import HISTORY

DAY = 86_400.0

_TURN = 3_600.0
"""Seconds by which the time of a call and that of its exchange may differ."""

_OLD = f"""
FROM ledger AS entry WHERE entry.at >= :start AND entry.at < :end
 AND NOT (entry.slug IS NOT NULL AND {RECEIVED} AND entry.at >= COALESCE(
     (SELECT at FROM ledger AS later WHERE later.slug = entry.slug
       AND {RECEIVED.replace("entry.", "later.")}
       ORDER BY at DESC LIMIT 1 OFFSET {ANSWERS - 1}), 0))
 AND NOT (entry.route = 'specialist' AND EXISTS
     (SELECT 1 FROM exchanges WHERE session_id = entry.session
       AND asked_at <= entry.at + {_TURN} AND answered_at >= entry.at - {_TURN}))
 AND NOT (entry.route = 'specialist' AND entry.session LIKE 'fp-%' AND EXISTS
     (SELECT 1 FROM exchanges WHERE asked_at BETWEEN entry.at - {DAY} AND entry.at + {_TURN}
       AND answered_at >= entry.at - {_TURN}))
"""
"""Entries of a time that nobody looks at one by one."""

_SUM_UP = f"""
INSERT INTO ledger_days (at, until, tenant, call_kind, route, slug, model, calls, failed,
                         prompt_tokens, cached_tokens, completion_tokens, estimated, cost, saved,
                         unpriced, unsaved)
SELECT MIN(at), MAX(at), tenant, call_kind, route, slug, model, COUNT(*), SUM(status >= 400),
       SUM(prompt_tokens), SUM(cached_tokens), SUM(completion_tokens), SUM(estimated <> 0),
       COALESCE(SUM(cost), 0), COALESCE(SUM(saved), 0), SUM(cost IS NULL), SUM(saved IS NULL)
{_OLD} GROUP BY tenant, call_kind, route, slug, model
"""

_COMPARABLE = "answered AND agreed IS NOT NULL"

_OLD_COMPARISONS = f"""
FROM comparisons WHERE slug = :slug AND version = :version AND (
    ({_COMPARABLE} AND comparison_id < COALESCE(
        (SELECT comparison_id FROM comparisons
         WHERE slug = :slug AND version = :version AND {_COMPARABLE}
         ORDER BY comparison_id DESC LIMIT 1 OFFSET {HISTORY - 1}), 0))
    OR (at < :before AND NOT ({_COMPARABLE})))
"""

_COUNT_COMPARISONS = f"""
INSERT INTO comparison_sums (slug, version, compared, agreed, abstained, everything, last_at)
SELECT :slug, :version, SUM({_COMPARABLE}), COALESCE(SUM(answered AND agreed), 0),
       SUM(NOT answered AND reason IN ('confidence', 'invalid')), COUNT(*), MAX(at)
{_OLD_COMPARISONS} HAVING COUNT(*) > 0
ON CONFLICT (slug, version) DO UPDATE SET
    compared = compared + excluded.compared, agreed = agreed + excluded.agreed,
    abstained = abstained + excluded.abstained, everything = everything + excluded.everything,
    last_at = MAX(last_at, excluded.last_at)
"""

_OLD_ATTEMPTS = f"""
FROM attempts WHERE slug = :slug AND version = :version AND attempt_id < COALESCE(
    (SELECT attempt_id FROM attempts WHERE slug = :slug AND version = :version
     ORDER BY attempt_id DESC LIMIT 1 OFFSET {ATTEMPTS - 1}), 0)
"""

_COUNT_ATTEMPTS = f"""
INSERT INTO attempt_sums (slug, version, runs, failed)
SELECT :slug, :version, COUNT(*), SUM(outcome IN ({", ".join(f"'{one}'" for one in FAILED)}))
{_OLD_ATTEMPTS} HAVING COUNT(*) > 0
ON CONFLICT (slug, version) DO UPDATE SET
    runs = runs + excluded.runs, failed = failed + excluded.failed
"""


class Shortened(NamedTuple):
    """How many rows were added up and removed, or could be."""

    calls: int = 0
    """Entries of the ledger."""

    comparisons: int = 0
    """Answers beside each other."""

    attempts: int = 0
    """Runs of specialists."""


def shorten(database: Database, before: float, *, apply: bool = True) -> Shortened:
    """Add up and remove what is old; one day, or one version, in a transaction.

    Args:
        database: Apprentice's own.
        before: Unix time; taken down to the beginning of a day, UTC.
        apply: Do it; otherwise it is only counted.

    Raises:
        StorageError: The database is locked or cannot be written; what was done is done whole.
    """
    before -= before % DAY
    return Shortened(
        _calls(database, before, apply),
        _evidence(database, "comparisons", _COUNT_COMPARISONS, _OLD_COMPARISONS, before, apply),
        _evidence(database, "attempts", _COUNT_ATTEMPTS, _OLD_ATTEMPTS, before, apply),
    )


def _calls(database: Database, before: float, apply: bool) -> int:
    days = database.read(
        "SELECT DISTINCT CAST(at / :day AS INTEGER) AS day FROM ledger WHERE at < :before "
        "ORDER BY day",
        {"day": DAY, "before": before},
    )
    found = 0
    for row in days:
        span = {"start": row["day"] * DAY, "end": (row["day"] + 1) * DAY}
        old = [(one[0],) for one in database.read(f"SELECT entry.entry_id {_OLD}", span)]
        found += len(old)
        if not apply or not old:
            continue
        with database.transaction() as connection:
            old = [(one[0],) for one in connection.execute(f"SELECT entry.entry_id {_OLD}", span)]
            connection.execute(_SUM_UP, span)
            connection.executemany("DELETE FROM ledger WHERE entry_id = ?", old)
    return found


def _evidence(
    database: Database, table: str, count: str, old: str, before: float, apply: bool
) -> int:
    found = 0
    for row in database.read(f"SELECT DISTINCT slug, version FROM {table}"):
        which = {"slug": row["slug"], "version": row["version"], "before": before}
        rows = int(database.read(f"SELECT COUNT(*) {old}", which)[0][0])
        found += rows
        if apply and rows:
            with database.transaction() as connection:
                connection.execute(count, which)
                connection.execute(f"DELETE {old}", which)
    return found
