"""Compare what is stored of a session with what Hermes has now.

Pure: two lists in, a plan out. Decides which exchanges are new, which are
known under other rows, and which the user took back. Knows nothing about
databases.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from hermes_apprentice.domain.exchange import Exchange, Ineligible
from hermes_apprentice.observer.corrections import WINDOW, was_corrected
from hermes_apprentice.storage.exchanges import StoredExchange


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to change in the store for one session."""

    write: tuple[StoredExchange, ...] = ()
    """Exchanges to insert or overwrite."""

    remove: tuple[str, ...] = ()
    """Ids of requests that turned out to be parts of others."""

    new: int = 0
    """How many in ``write`` are answered for the first time."""

    updated: int = 0
    """How many in ``write`` were known and changed."""

    withdrawn: int = 0
    """How many in ``write`` the user took back since the last look."""

    incomplete: int = 0
    """How many in ``write`` wait for their answer."""


def plan(
    stored: Sequence[StoredExchange],
    found: Sequence[StoredExchange],
    *,
    before: Sequence[StoredExchange] = (),
    emptied_at: float | None = None,
) -> Plan:
    """Decide what to change.

    Args:
        stored: What is stored of the part of the session that was read.
        found: What Hermes has now of that part, in order.
        before: The exchanges just before, which may turn out to be corrected.
        emptied_at: Unix time before which messages may be missing only to save space.
    """
    known = {record.exchange.exchange_id: record for record in stored}
    matches = _match(stored, found)
    gone = [
        record
        for record in stored
        if record.exchange.exchange_id not in {m.exchange.exchange_id for m in matches.values()}
    ]
    current = [_under_known_name(record, matches.get(index)) for index, record in enumerate(found)]
    remove = [record.exchange.exchange_id for record in gone if _is_open(record)]
    # A request that went on growing has a new name, so its old one goes.
    remove += [
        matches[index].exchange.exchange_id
        for index, record in enumerate(current)
        if index in matches and matches[index].exchange.exchange_id != record.exchange.exchange_id
    ]
    kept = [record for record in gone if not _is_open(record)]
    last_seen = max((m.exchange.asked_at for m in matches.values()), default=float("-inf"))
    kept = [_without_rows(record, last_seen, emptied_at) for record in kept]
    everything = [*current, *kept]
    if kept:
        everything.sort(key=lambda record: record.exchange.asked_at)
    judged = _judged([*before, *everything])
    known |= {record.exchange.exchange_id: record for record in before}
    return _summary(judged, known, remove)


def _match(
    stored: Sequence[StoredExchange], found: Sequence[StoredExchange]
) -> dict[int, StoredExchange]:
    """Return for each found exchange which stored one it is."""
    names: tuple[Callable[[StoredExchange], Hashable | None], ...] = (
        lambda r: r.exchange.exchange_id,
        # Messages that were one turn may be joined into one row when rows are written anew.
        lambda r: None if _is_open(r) else (round(r.exchange.answered_at, 3), r.exchange.answer),
        # Rows that are written anew may lose their times.
        lambda r: (r.exchange.request, r.exchange.answer) if _has_rows(r) else None,
    )
    matches: dict[int, StoredExchange] = {}
    free = list(stored)
    for name in names:
        waiting: defaultdict[Hashable, list[StoredExchange]] = defaultdict(list)
        for record in free:
            if (key := name(record)) is not None:
                waiting[key].append(record)
        for index, record in enumerate(found):
            candidates = waiting.get(name(record), [])
            if index not in matches and candidates:
                matches[index] = candidates.pop(0)
        taken = {record.exchange.exchange_id for record in matches.values()}
        free = [record for record in free if record.exchange.exchange_id not in taken]
    return matches


def _under_known_name(found: StoredExchange, known: StoredExchange | None) -> StoredExchange:
    """Keep name and times of an exchange whose rows were written anew without their times."""
    if known is None or known.exchange.request != found.exchange.request:
        return found
    if known.exchange.exchange_id == found.exchange.exchange_id:
        return found
    exchange = replace(
        found.exchange,
        exchange_id=known.exchange.exchange_id,
        asked_at=known.exchange.asked_at,
        answered_at=known.exchange.answered_at,
    )
    return replace(found, exchange=exchange)


def _without_rows(
    record: StoredExchange, last_seen: float, emptied_at: float | None
) -> StoredExchange:
    """Judge an exchange whose rows are gone although the session goes on.

    What is missing at the end of a conversation was cut off by the user, to
    try again or to edit. What is missing before something that is still
    there was only dropped to save space.
    """
    exchange = record.exchange
    if record.user_row == 0:
        return record
    saved_space = emptied_at is not None and exchange.asked_at <= emptied_at
    if exchange.asked_at > last_seen and not saved_space:
        exchange = replace(exchange, ineligible=Ineligible.WITHDRAWN)
    answer_row = None if record.answer_row is None else 0
    return replace(record, exchange=exchange, user_row=0, answer_row=answer_row)


def _judged(records: Sequence[StoredExchange]) -> list[StoredExchange]:
    """Mark every exchange that the turns after it show to be wrong."""
    typed = [r for r in records if r.exchange.ineligible is not Ineligible.NOT_A_USER_TURN]
    corrected = {
        record.exchange.exchange_id: was_corrected(
            record.exchange.request,
            record.exchange.answer,
            [later.exchange.request for later in typed[index + 1 : index + 1 + WINDOW]],
        )
        for index, record in enumerate(typed)
    }
    return [
        replace(
            record,
            exchange=replace(
                record.exchange, corrected=corrected.get(record.exchange.exchange_id, False)
            ),
        )
        for record in records
    ]


def _summary(
    judged: Iterable[StoredExchange], known: dict[str, StoredExchange], remove: Sequence[str]
) -> Plan:
    write = []
    new = updated = withdrawn = incomplete = 0
    for record in judged:
        old = known.get(record.exchange.exchange_id)
        if old is not None and _same(old, record):
            continue
        write.append(record)
        incomplete += _is_open(record)
        if record.exchange.ineligible is Ineligible.WITHDRAWN:
            withdrawn += old is None or old.exchange.ineligible is not Ineligible.WITHDRAWN
        elif old is None or _is_open(old):
            new += not _is_open(record)
        else:
            updated += _said(old.exchange) != _said(record.exchange)
    return Plan(
        write=tuple(write),
        remove=tuple(remove),
        new=new,
        updated=updated,
        withdrawn=withdrawn,
        incomplete=incomplete,
    )


def _is_open(record: StoredExchange) -> bool:
    """Whether the exchange still waits for its answer."""
    return record.answer_row is None and record.exchange.ineligible is not Ineligible.WITHDRAWN


def _has_rows(record: StoredExchange) -> bool:
    """Whether the exchange is answered, and was still in Hermes' database at the last look."""
    return not _is_open(record) and record.user_row > 0


def _said(exchange: Exchange) -> Exchange:
    """Leave out the estimates, which move with every further call of the session."""
    return replace(exchange, input_tokens=0, output_tokens=0)


def _same(old: StoredExchange, record: StoredExchange) -> bool:
    return (old.user_row, old.answer_row, _said(old.exchange)) == (
        record.user_row,
        record.answer_row,
        _said(record.exchange),
    )
