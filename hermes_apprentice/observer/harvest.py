"""Copy new exchanges of one Hermes profile, and follow what became of the old ones.

Reads forward by row id, a few thousand rows at a time, and writes what it found
together with the new position in one transaction. So a process that is killed
leaves a state from which the next one goes on, and two processes take turns.
Rows that Hermes rewrites, takes back or deletes are found by comparing rows
that were read before, a bounded number in each call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hermes_apprentice.domain.exchange import Ineligible
from hermes_apprentice.observer import file_state
from hermes_apprentice.observer.copies import emptied_archive_at
from hermes_apprentice.observer.corrections import WINDOW
from hermes_apprentice.observer.reconcile import Plan, plan
from hermes_apprentice.observer.session_db import SessionReader
from hermes_apprentice.observer.session_rows import MessageRow, RowPlace, RowState, SessionRow
from hermes_apprentice.observer.turns import Turn, assemble, copied_from, to_exchange
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import Cursor, ExchangeStore, RowReference, StoredExchange
from hermes_apprentice.storage.forgotten import forgotten_sessions, forgotten_turns, turn_digest

BATCH_ROWS = 2_000
"""Rows of Hermes read and written in one transaction."""

_RECENT = 200
"""Newest exchanges compared with Hermes in every call."""

_SLICE = 500
"""Older exchanges compared in every call, until all have been since the last change."""

_ANCESTORS = 3
"""Earlier sessions in which the original of a copied turn is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HarvestReport:
    """What one harvest did; all counts are exchanges."""

    new: int
    """Answered for the first time."""

    updated: int
    """Known ones that changed: corrected by the user, answered again."""

    withdrawn: int
    """Taken back by the user since the last harvest."""

    deleted: int
    """Forgotten, because their session was deleted in Hermes."""

    incomplete: int
    """Waiting for their answer; a later harvest picks it up."""

    last_row: int
    """Row of Hermes up to which everything has been read."""

    settled: bool
    """Whether every stored exchange has been compared since Hermes' last change.

    If not, the next harvest goes on with it.
    """


@dataclass(slots=True)
class _Tally:
    new: int = 0
    updated: int = 0
    withdrawn: int = 0
    deleted: int = 0
    incomplete: set[str] = field(default_factory=set)

    def add(self, changes: Plan) -> None:
        self.new += changes.new
        self.updated += changes.updated
        self.withdrawn += changes.withdrawn
        for record in changes.write:
            if record.exchange.ineligible is Ineligible.UNANSWERED and record.answer_row is None:
                self.incomplete.add(record.exchange.exchange_id)
            else:
                self.incomplete.discard(record.exchange.exchange_id)
        self.incomplete.difference_update(changes.remove)


def harvest(
    state_db: Path,
    profile: str,
    database: Database,
    now: float,
    progress: Callable[[int, int], None] | None = None,
) -> HarvestReport:
    """Bring the stored exchanges of a profile up to date with Hermes.

    Calling it again changes nothing. One call reads every new row and honours
    every deleted session and whatever was taken back of the newest exchanges;
    ``/undo`` far in the past is found within some calls, see
    ``HarvestReport.settled``.

    Args:
        state_db: Hermes' database; only read.
        profile: Name to store the exchanges under.
        database: Apprentice's own database.
        now: Unix time.
        progress: Called with the row reached and the last row after every batch.

    Raises:
        SessionDBError: Hermes' database is missing, locked or not one.
        StorageError: Apprentice's own cannot be written.
    """
    store = ExchangeStore(database)
    signature = file_state.signature(state_db, now)
    cursor = store.cursor(profile)
    tally = _Tally()
    unchanged = signature is not None and cursor.details.get("signature") == signature
    if not unchanged or cursor.details.get("sweep") is not None:
        with SessionReader(state_db) as reader:
            harvester = _Harvester(reader, store, profile, now, tally)
            last = reader.last_row()
            more = True
            while more:
                with database.transaction() as connection:
                    harvester.forgotten = forgotten_sessions(connection)
                    harvester.forgotten_turns = forgotten_turns(connection)
                    cursor, more = harvester.step(file_state.identity(state_db), signature)
                if progress is not None:
                    progress(cursor.last_row, max(last, cursor.last_row))
    return HarvestReport(
        new=tally.new,
        updated=tally.updated,
        withdrawn=tally.withdrawn,
        deleted=tally.deleted,
        incomplete=len(tally.incomplete),
        last_row=cursor.last_row,
        settled=cursor.details.get("sweep") is None,
    )


class _Harvester:
    """The steps of one harvest."""

    def __init__(
        self,
        reader: SessionReader,
        store: ExchangeStore,
        profile: str,
        now: float,
        tally: _Tally,
    ) -> None:
        self._reader = reader
        self._store = store
        self._profile = profile
        self._now = now
        self._tally = tally
        self._all_new = False
        self.forgotten: set[str] = set()
        """Sessions that must not be read again."""
        self.forgotten_turns: set[str] = set()
        """Digests of their turns, by which copies of them are known in branches."""
        self._done: dict[str, int] = {}
        """Sessions read as a whole, and up to which row."""

    def step(self, identity: str | None, signature: str | None) -> tuple[Cursor, bool]:
        """Read the next rows; after the last ones, compare a part of the old ones.

        Returns:
            The new position, and whether there are more rows to read.
        """
        with self._reader.snapshot():
            before = self._store.cursor(self._profile)
            details = dict(before.details)
            last_row = before.last_row
            if details.get("identity") != identity or self._reader.last_row() < last_row:
                # Another file, so its ids mean nothing: read it all, and compare all.
                known = self._store.session_ids(self._profile)
                details = {"identity": identity, "sweep": ""} if known else {"identity": identity}
                last_row = 0
                self._all_new = not known
            rows = self._reader.rows_after(last_row, BATCH_ROWS)
            self._read(rows, last_row)
            more = len(rows) == BATCH_ROWS
            if not more:
                self._look_back(details, signature)
            cursor = Cursor(last_row=rows[-1].row_id if rows else last_row, details=details)
        if cursor != before:
            self._store.save_cursor(self._profile, str(self._reader.path), cursor, self._now)
        return cursor, more

    # --- new rows -------------------------------------------------------------------------

    def _read(self, rows: Sequence[MessageRow], last_row: int) -> None:
        by_session: defaultdict[str, list[MessageRow]] = defaultdict(list)
        for row in rows:
            if row.session_id in self.forgotten:
                continue
            if row.row_id > self._done.get(row.session_id, 0):
                by_session[row.session_id].append(row)
        newest = {
            name: self._store.newest_of_session(self._profile, name, WINDOW + 1)
            for name in by_session
        }
        places = self._reader.places(known[-1].user_row for known in newest.values() if known)
        first = self._reader.first_rows(name for name, known in newest.items() if not known)
        sessions = self._reader.sessions(by_session)
        for name, new_rows in by_session.items():
            session = sessions.get(name) or _unknown_session(name)
            known = newest[name]
            if known and _only_appended(known[-1], places, new_rows):
                self._append(session, known, new_rows, last_row)
            elif not known and first[name] > last_row:
                self._take_whole(session, new_rows)
            else:
                self._take_whole(session)

    def _append(
        self,
        session: SessionRow,
        known: Sequence[StoredExchange],
        new_rows: Sequence[MessageRow],
        last_row: int,
    ) -> None:
        """Go on from the last known turn, which the new rows may belong to."""
        *earlier, last = known
        rows = self._reader.rows_between(session.session_id, last.user_row, last_row)
        context = self._reader.compacted_context(session.session_id, last.user_row)
        asked_with = last.exchange.context_chars
        turns = assemble(
            [*rows, *new_rows],
            turn_index=last.exchange.turn_index,
            context_chars=asked_with if context is None else context,
        )
        # A compaction since then makes the context of later turns shorter, not that of this one.
        turns[0] = replace(turns[0], context_chars=asked_with)
        self._apply(plan([last], self._records(turns, session), before=earlier))

    def _take_whole(self, session: SessionRow, rows: Sequence[MessageRow] | None = None) -> None:
        """Compare a whole session with what is stored of it.

        Args:
            session: The session.
            rows: Its rows, if they are known to be all so far.
        """
        name = session.session_id
        if name in self.forgotten:
            return
        if rows is None:
            rows = self._reader.rows_of(name)
            self._done[name] = rows[-1].row_id if rows else 0
        turns = assemble(rows)
        if session.parent is not None:
            ancestors = [assemble(self._reader.rows_of(old)) for old in self._lineage(session)]
            turns = turns[copied_from(turns, ancestors, session.started_at) :]
        stored = self._store.of_session(self._profile, name)
        found = self._without_forgotten(self._records(turns, session), stored)
        self._apply(plan(stored, found, emptied_at=emptied_archive_at(rows)))

    def _without_forgotten(
        self, found: list[StoredExchange], stored: Sequence[StoredExchange]
    ) -> list[StoredExchange]:
        """Leave out what a session begins with and a forgotten one held.

        A branch carries its parent's history, and when Hermes deletes the parent nothing
        else tells that it is a copy.
        """
        known = {record.exchange.exchange_id for record in stored}
        for count, record in enumerate(found):
            one = record.exchange
            digest = turn_digest(one.request, one.answer)
            if digest not in self.forgotten_turns or one.exchange_id in known:
                return found[count:]
        return []

    def _lineage(self, session: SessionRow) -> list[str]:
        """Return the sessions that this one came from, nearest first."""
        found: list[str] = []
        while session.parent is not None and len(found) < _ANCESTORS:
            found.append(session.parent)
            session = self._reader.sessions(found[-1:]).get(found[-1], _unknown_session(""))
        return found

    def _records(self, turns: Sequence[Turn], session: SessionRow) -> list[StoredExchange]:
        return [
            StoredExchange(
                exchange=to_exchange(turn, session, self._profile),
                user_row=turn.user_row,
                answer_row=turn.answer_row,
            )
            for turn in turns
        ]

    def _apply(self, changes: Plan) -> None:
        self._store.delete(changes.remove)
        self._store.upsert(changes.write, self._now)
        self._tally.add(changes)

    # --- old rows -------------------------------------------------------------------------

    def _look_back(self, details: dict[str, object], signature: str | None) -> None:
        """Find what was deleted or taken back since the last call."""
        if signature is None or details.get("signature") != signature:
            self._forget_deleted(details)
            if not self._all_new:  # what this call read for the first time needs no second look
                details["again"] = details.get("sweep") is not None
                details.setdefault("sweep", "")
                self._compare(self._store.newest_references(self._profile, _RECENT))
        self._sweep(details)
        details["signature"] = signature

    def _forget_deleted(self, details: dict[str, object]) -> None:
        """Honour deleted sessions, if counting shows that there are any."""
        count, highest = self._reader.session_tally()
        before = details.get("sessions")
        details["sessions"] = [count, highest]
        if isinstance(before, list):
            known, last = before
            if known + self._reader.sessions_added(last) == count:
                return
        stored = self._store.session_ids(self._profile)
        for name in sorted(set(stored) - self._reader.existing(stored)):
            self._forget(name)

    def _sweep(self, details: dict[str, object]) -> None:
        """Compare the next older exchanges, and remember where to go on."""
        position = details.get("sweep")
        if not isinstance(position, str):
            return
        references = self._store.references_after(self._profile, position, _SLICE)
        self._compare(references)
        if len(references) >= _SLICE:
            details["sweep"] = references[-1].session_id
        elif details.pop("again", False):
            details["sweep"] = ""
        else:
            del details["sweep"]

    def _compare(self, references: Sequence[RowReference]) -> None:
        """Read again every session of which a row is not as it was."""
        places = self._reader.places(
            row for r in references for row in (r.user_row, r.answer_row) if row
        )
        suspects = {r.session_id for r in references if _has_moved(r, places)}
        rowless = {r.session_id for r in references if not r.user_row} - suspects
        suspects |= rowless - self._reader.existing(rowless)
        sessions = self._reader.sessions(suspects)
        for name in sorted(suspects):
            if name in sessions:
                self._take_whole(sessions[name])
            else:
                self._forget(name)

    def _forget(self, session_id: str) -> None:
        """Honour the deletion of a session; its branches now own what they copied."""
        self._tally.deleted += self._store.delete_session(self._profile, session_id)
        branches = self._reader.branches_of(session_id)
        for session in self._reader.sessions(branches).values():
            self._take_whole(session)


def _only_appended(
    last: StoredExchange, places: dict[int, RowPlace], new_rows: Sequence[MessageRow]
) -> bool:
    """Whether the last known turn stands as it was, so that nothing was rewritten."""
    place = places.get(last.user_row)
    return (
        place is not None
        and place.session_id == last.exchange.session_id
        and place.state is RowState.LIVE
        # A compaction may have copied it, under a new time or without its answer.
        and abs(place.timestamp - last.exchange.asked_at) < 0.001
        and (last.answer_row is None or last.answer_row > last.user_row)
        and new_rows[0].row_id > last.user_row
    )


def _has_moved(reference: RowReference, places: dict[int, RowPlace]) -> bool:
    """Whether the rows of a stored exchange are gone, or in another state than it."""
    for row in (reference.user_row, reference.answer_row):
        if not row:
            continue
        place = places.get(row)
        if place is None or place.session_id != reference.session_id:
            return True
        taken_back = place.state is RowState.WITHDRAWN
        if taken_back is not reference.withdrawn:
            # The answer to a request that was taken back may be in the archive, and stays there.
            return not (reference.withdrawn and row == reference.answer_row)
    return False


def _unknown_session(session_id: str) -> SessionRow:
    """Stand in for a session whose row is missing although its messages are there."""
    return SessionRow(session_id, "unknown", "", 0.0, None, 0, 0, 0, 0)
