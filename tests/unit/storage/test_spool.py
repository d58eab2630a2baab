from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from hermes_apprentice.domain.accounting import LedgerEntry
from hermes_apprentice.domain.routing import CallKind, Route
from hermes_apprentice.errors import StorageError
from hermes_apprentice.storage import spool as module
from hermes_apprentice.storage.aio import AsyncDatabase
from hermes_apprentice.storage.forgotten import forget_sessions
from hermes_apprentice.storage.ledger import append
from hermes_apprentice.storage.spool import REST_SECONDS, Place, Spool
from hermes_apprentice.storage.spooled import SEGMENT_BYTES, forget_in_spool

ENTRY = LedgerEntry(
    at=1.5,
    request_id="r-0",
    session="s",
    call_kind=CallKind.FIRST,
    route=Route.FALLBACK,
    model="big-one",
    status=200,
    slug="label-ticket",
    version=3,
    prompt_tokens=7,
    estimated=True,
    cost=12,
    latency_ms=2.5,
)


def numbered(number: int) -> LedgerEntry:
    return replace(ENTRY, request_id=f"r-{number}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[AsyncDatabase]:
    opened = await AsyncDatabase.open(tmp_path / "apprentice.db")
    yield opened
    await opened.close()


def left_behind(folder: Path, *entries: LedgerEntry) -> Path:
    """What a process that was killed leaves: its file, and no lock."""
    known = set(folder.iterdir()) if folder.exists() else set()
    spool = Spool(folder)
    for entry in entries:
        assert spool.add(entry) is not None
    spool.close()
    (path,) = set(folder.iterdir()) - known
    return path


async def names(database: AsyncDatabase) -> list[str]:
    rows = await database.read("SELECT request_id FROM ledger ORDER BY entry_id")
    return [row[0] for row in rows]


async def write(database: AsyncDatabase, spool: Spool, *pairs: tuple[LedgerEntry, Place]) -> None:
    places = [place for _, place in pairs]
    forget = spool.forgettable()
    await append(database, [one for one, _ in pairs], (), marks=spool.marks(places), forget=forget)
    spool.written(places)


def add(spool: Spool, entry: LedgerEntry) -> tuple[LedgerEntry, Place]:
    place = spool.add(entry)
    assert place is not None
    return entry, place


async def test_what_was_left_behind_reaches_the_ledger_whole_and_once(
    folder: Path, database: AsyncDatabase
) -> None:
    path = left_behind(folder, numbered(1), numbered(2))
    copy = path.read_bytes()
    assert await Spool(folder).take_over(database) == 2
    assert await names(database) == ["r-1", "r-2"]
    row = dict((await database.read("SELECT * FROM ledger"))[0])
    assert (row["at"], row["route"], row["slug"], row["version"]) == (
        1.5,
        "fallback",
        "label-ticket",
        3,
    )
    assert (row["cost"], row["saved"], row["estimated"]) == (12, None, 1)
    assert list(folder.iterdir()) == []
    assert await database.read("SELECT * FROM spools") == []
    # Killed after the transaction and before the file was removed: nothing twice.
    path.write_bytes(copy)
    await append(database, (), (), marks={path.name: len(copy)})
    assert await Spool(folder).take_over(database) == 0
    assert await names(database) == ["r-1", "r-2"]


async def test_only_what_was_not_written_yet_is_taken_over(
    folder: Path, database: AsyncDatabase
) -> None:
    spool = Spool(folder)
    pairs = [add(spool, numbered(number)) for number in range(5)]
    await write(database, spool, *pairs[:3])
    spool.close()
    assert await Spool(folder).take_over(database) == 2
    assert await names(database) == [f"r-{number}" for number in range(5)]


async def test_a_torn_line_and_strange_ones_are_left_out(
    folder: Path, database: AsyncDatabase
) -> None:
    path = left_behind(folder, numbered(1))
    strange = b'not json\n{"at": 1}\n{"request_id": "r-9", "at": "soon"}\n'
    last = left_behind(folder, numbered(2)).read_bytes()
    path.write_bytes(path.read_bytes() + strange + last[: len(last) // 2])
    assert await Spool(folder).take_over(database) == 2
    assert sorted(await names(database)) == ["r-1", "r-2"]
    assert list(folder.iterdir()) == []


async def test_a_line_that_no_table_can_hold_costs_no_other(
    folder: Path, database: AsyncDatabase
) -> None:
    left_behind(folder, numbered(1), replace(numbered(2), prompt_tokens=2**63), numbered(3))
    assert await Spool(folder).take_over(database) == 2
    assert await names(database) == ["r-1", "r-3"]


async def test_a_file_that_another_sidecar_writes_is_not_touched(
    folder: Path, database: AsyncDatabase
) -> None:
    other = Spool(folder)
    pair = add(other, numbered(1))
    await write(database, other, pair)
    mine = add(other, numbered(2))
    assert await Spool(folder).take_over(database) == 0
    assert len(list(folder.iterdir())) == 1
    assert len(await database.read("SELECT * FROM spools")) == 1
    await write(database, other, mine)
    other.close()
    assert await names(database) == ["r-1", "r-2"]
    assert not folder.exists()


async def test_written_files_go_and_their_marks_after_them(
    folder: Path, database: AsyncDatabase
) -> None:
    spool = Spool(folder)
    long = replace(ENTRY, reason="x" * 10_000)
    pairs = [add(spool, long) for _ in range(2 * SEGMENT_BYTES // 10_000 + 10)]
    assert len(list(folder.iterdir())) == 3
    await write(database, spool, *pairs[:-1])
    assert len(list(folder.iterdir())) == 1
    await write(database, spool, pairs[-1])
    assert len(await database.read("SELECT * FROM spools")) == 1
    spool.close()
    assert not folder.exists()


async def test_a_full_file_of_which_all_is_written_goes_when_the_next_one_begins(
    folder: Path, database: AsyncDatabase
) -> None:
    spool = Spool(folder)
    await write(database, spool, add(spool, replace(ENTRY, reason="x" * SEGMENT_BYTES)))
    (full,) = folder.iterdir()
    pair = add(spool, ENTRY)
    (fresh,) = folder.iterdir()
    assert fresh != full
    await write(database, spool, pair)
    assert [row[0] for row in await database.read("SELECT name FROM spools")] == [fresh.name]
    spool.close()
    assert not folder.exists()


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_disk_that_takes_only_half_a_line_loses_neither_line_nor_order(
    folder: Path, database: AsyncDatabase
) -> None:
    ticks = [0.0]
    spool = Spool(folder, ticks=lambda: ticks[0])
    first = add(spool, numbered(1))
    with files_no_larger_than(first[1].end + 20):
        assert spool.add(numbered(2)) is None
        assert "would be lost" in spool.problem
        assert spool.add(numbered(3)) is None  # it rests
    ticks[0] += REST_SECONDS
    spool.tend()
    assert spool.problem == ""
    add(spool, numbered(4))
    spool.close()
    assert await Spool(folder).take_over(database) == 2
    assert sorted(await names(database)) == ["r-1", "r-4"]


def test_a_folder_that_cannot_be_made_is_a_problem_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file is in the way")
    ticks = [0.0]
    spool = Spool(tmp_path / "spool", ticks=lambda: ticks[0])
    assert spool.add(ENTRY) is None
    assert str(tmp_path / "spool") in spool.problem
    (tmp_path / "spool").unlink()
    assert spool.add(ENTRY) is None  # not tried at every request
    ticks[0] += REST_SECONDS
    assert spool.add(ENTRY) is not None
    assert spool.problem == ""
    spool.close()


def test_a_disk_that_makes_requests_wait_is_left_alone(folder: Path) -> None:
    ticks = iter([0.0, 0.0, 7.0, 7.0])
    spool = Spool(folder, ticks=lambda: next(ticks))
    assert spool.add(ENTRY) is not None
    assert "longer than" in spool.problem


async def test_what_cannot_be_read_is_named_and_stops_nothing(
    folder: Path, database: AsyncDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST", 1_000)
    folder.mkdir()
    (folder / "a.jsonl").mkdir()
    left_behind(folder, numbered(1))
    spool = Spool(folder)
    assert await spool.take_over(database) == 1
    assert "a.jsonl" in spool.left_alone
    (folder / "a.jsonl").rmdir()
    (folder / "b.jsonl").write_bytes(b"x" * 2_000)
    os.mkfifo(folder / "c.jsonl")
    assert await spool.take_over(database) == 0
    assert "c.jsonl is none of ours" in spool.left_alone
    assert sorted(path.name for path in folder.iterdir()) == ["b.jsonl", "c.jsonl"]


def test_an_entry_that_is_no_text_is_not_spooled(folder: Path) -> None:
    spool = Spool(folder)
    assert spool.add(replace(ENTRY, model="\ud800")) is None
    assert spool.problem == ""
    spool.close()


async def test_a_session_that_was_forgotten_meanwhile_does_not_come_back(
    folder: Path, database: AsyncDatabase
) -> None:
    other = replace(numbered(2), session="somebody else")
    left_behind(folder, replace(numbered(1), session="secretive"), other)
    with sqlite3.connect(database.path) as connection:
        forget_sessions(connection, ["secretive"], 1.0)
    connection.close()
    assert await Spool(folder).take_over(database) == 2
    rows = await database.read("SELECT request_id, session FROM ledger ORDER BY request_id")
    assert [tuple(row) for row in rows] == [("r-1", "forgotten"), ("r-2", "somebody else")]


@pytest.mark.parametrize("name", ["s", "secretive", "20261103_081500_a1b2c3", 'a"\\ü', "s" * 300])
async def test_a_forgotten_name_leaves_every_file_and_no_call_is_lost(
    name: str, folder: Path, database: AsyncDatabase
) -> None:
    secretive = replace(numbered(1), session=name)
    keeper = replace(numbered(0), session="of nobody")
    dead = left_behind(folder, keeper, secretive, replace(secretive, request_id="r-2"))
    longer = left_behind(folder, replace(numbered(3), session=f"{name}-2"))
    live = Spool(folder)
    add(live, replace(secretive, request_id="r-4"))
    sizes = [path.stat().st_size for path in sorted(folder.iterdir())]
    assert forget_in_spool(folder, [name, "never seen", "\ud800"]) == 3
    assert forget_in_spool(folder, [name]) == 0
    assert [path.stat().st_size for path in sorted(folder.iterdir())] == sizes
    for path in folder.iterdir():
        assert orjson.dumps(name) not in path.read_bytes()
    place = live.add(replace(numbered(5), session="of nobody"))
    assert place is not None
    assert place.end == place.segment.path.stat().st_size
    live.close()
    assert await Spool(folder).take_over(database) == 6
    assert sorted(await names(database)) == [f"r-{number}" for number in range(6)]
    rows = await database.read("SELECT session FROM ledger WHERE request_id IN ('r-0', 'r-3')")
    assert {row[0] for row in rows} == {"of nobody", f"{name}-2"}
    assert not dead.exists()
    assert not longer.exists()


def test_forgetting_where_there_is_no_spool_or_none_of_ours_does_nothing(folder: Path) -> None:
    assert forget_in_spool(folder, ["s"]) == 0
    path = left_behind(folder, ENTRY)
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "other.txt").write_text('{"session":"s"}')
    assert forget_in_spool(folder, []) == 0
    assert forget_in_spool(folder, ["s"]) == 1
    assert (folder / "other.txt").read_text() == '{"session":"s"}'
    path.unlink()
    (folder / "folder.jsonl").mkdir()
    with pytest.raises(StorageError, match="cannot be changed"):
        forget_in_spool(folder, ["s"])
