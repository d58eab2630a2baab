"""What crosses over to a microVM and back: checked on arrival, never trusted."""

from __future__ import annotations

import io
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.across import (
    main,
    pack_skills,
    receive,
    send,
    told_today,
    unpack_skills,
)
from hermes_apprentice.settings import IsolationSettings, Settings

DAY = 86_400.0


def packed(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def link(name: str, target: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.SYMTYPE, target
        archive.addfile(member)
    return stream.getvalue()


def database(path: Path, rows: int) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(rows)])
        connection.commit()
    return path.read_bytes()


def test_sessions_arrive_in_the_same_file_that_was_read_before(
    settings: Settings, tmp_path: Path
) -> None:
    target = settings.hermes_home / "profiles" / "side work" / "state.db"
    receive(
        settings, io.BytesIO(packed(**{"profiles/side work/state.db": database(tmp_path / "a", 1)}))
    )
    number = target.stat().st_ino
    with closing(sqlite3.connect(target)) as reader:
        later = packed(**{"profiles/side work/state.db": database(tmp_path / "b", 2)})
        receive(settings, io.BytesIO(later))
        assert reader.execute("SELECT COUNT(*) FROM t").fetchone() == (2,)
    assert target.stat().st_ino == number


@pytest.mark.parametrize(
    "name", ["../state.db", "/etc/state.db", "profiles/../state.db", "config.yaml", "state.db/x"]
)
def test_nothing_but_session_databases_is_taken_in(
    settings: Settings, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match="no session database"):
        receive(settings, io.BytesIO(packed(**{name: database(tmp_path / "a", 1)})))
    with pytest.raises(ConfigError, match="no session database"):
        receive(settings, io.BytesIO(link("state.db", "/etc/passwd")))
    assert not any(settings.hermes_home.rglob("*.db"))


def test_half_of_a_transfer_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    whole = packed(**{"state.db": database(tmp_path / "a", 50_000)})
    with pytest.raises(ConfigError, match="whole"):
        receive(settings, io.BytesIO(whole[: len(whole) // 2]))
    with pytest.raises(ConfigError, match="whole"):
        receive(settings, io.BytesIO(packed(**{"state.db": b"no database at all" * 99})))


def test_skills_come_out_and_those_that_are_gone_go(settings: Settings, tmp_path: Path) -> None:
    there = settings.model_copy(update={"home": tmp_path / "there"})
    for name in ("moss", "fern"):
        (there.skills_dir / name).mkdir(parents=True)
        (there.skills_dir / name / "SKILL.md").write_text(name)
    unpack_skills(settings, pack_skills(there))
    assert (settings.skills_dir / "fern" / "SKILL.md").read_text() == "fern"
    (there.skills_dir / "fern" / "SKILL.md").unlink()
    unpack_skills(settings, pack_skills(there))
    assert [path.name for path in settings.skills_dir.iterdir()] == ["moss"]


@pytest.mark.parametrize(
    "archive",
    [
        packed(**{"moss/../../x/SKILL.md": b""}),
        packed(**{"/etc/SKILL.md": b""}),
        packed(**{"moss/run.sh": b""}),
        packed(**{"moss/SKILL.md": b"x" * 100_001}),
        packed(**{f"a{number}/SKILL.md": b"" for number in range(1_001)}),
        link("moss/SKILL.md", "/etc/passwd"),
        b"no archive",
    ],
    ids=["upwards", "absolute", "another name", "too long", "too many", "a link", "no archive"],
)
def test_what_is_no_skill_does_not_come_out_of_a_microvm(
    settings: Settings, archive: bytes
) -> None:
    mine = settings.skills_dir / "mine" / "SKILL.md"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(ConfigError):
        unpack_skills(settings, archive)
    assert [path.name for path in settings.skills_dir.rglob("*")] == ["mine", "SKILL.md"]


def test_a_side_that_does_not_answer_is_told_once_a_day(settings: Settings) -> None:
    assert not told_today(settings, 10 * DAY + 5)
    assert told_today(settings, 10 * DAY + 500)
    assert not told_today(settings, 11 * DAY)


def test_a_microvm_that_is_down_is_named(settings: Settings) -> None:
    section = IsolationSettings(profile="firecracker", guest="apprentice@127.0.0.1")
    with pytest.raises(ConfigError, match=r"apprentice@127\.0\.0\.1|ssh cannot be run"):
        send(settings.model_copy(update={"isolation": section}), "outbox")


def test_an_unknown_request_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APPRENTICE_HOME", str(settings.home))
    assert main(["run", "everything"]) == 1
    assert "Say: run JOB" in capsys.readouterr().err
    assert main(["admit", str(settings.home / "none")]) == 1
