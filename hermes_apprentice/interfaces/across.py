"""Runs a scheduled job where Apprentice is, when that is not where Hermes is.

Hermes' scheduler starts ``send JOB`` on its own side. For a container that enters the
container and starts ``run JOB`` there. A microVM shares no file with Hermes: copies of
the session databases go in before a detection, and the skills of live specialists come
out after a tick, checked, because what comes out of there is not trusted. A side that
does not answer is told about once a day, not at every run.
"""

from __future__ import annotations

import io
import json
import re
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from hermes_apprentice.errors import ApprenticeError, ConfigError
from hermes_apprentice.interfaces import cron_jobs
from hermes_apprentice.interfaces.install.admission import admit
from hermes_apprentice.interfaces.install.placement import (
    docker_command,
    guest_command,
    ssh_command,
)
from hermes_apprentice.observer.file_state import signature
from hermes_apprentice.observer.profiles import discover_profiles
from hermes_apprentice.settings import Settings, load_settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.files import new_folder, write_atomically

JOBS = {
    "detect": cron_jobs.detect,
    "tick": cron_jobs.tick,
    "outbox": cron_jobs.outbox,
    "digest": cron_jobs.digest,
}
"""What can be run over there."""

_MODULE = "hermes_apprentice.interfaces.across"
_DATABASE = re.compile(r"(?:profiles/(?!\.)[^/\0]+/)?state\.db\Z")
_SKILL = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}/SKILL\.md\Z")
_LONGEST_SKILL = 100_000
_MOST_SKILLS = 1_000
_PATIENCE = 3_000
_UNREACHABLE = 255


def send(settings: Settings, job: str) -> int:
    """Run a job on the other side; what it prints there is printed here.

    Raises:
        ConfigError: The other side is not reachable, or takes nothing.
    """
    if settings.isolation.profile == "docker":
        name = settings.isolation.container
        docker = docker_command(settings)
        running = _call([*docker, "inspect", "-f", "{{.State.Running}}", name])
        if running.stdout.strip() != b"true":
            raise ConfigError(
                f"The container '{name}' is not running ({_end(running.stderr)}). Start it: "
                f"docker compose -f {settings.home / 'docker' / 'compose.yaml'} up -d"
            )
        return _shown(_call([*docker, "exec", name, "python", "-m", _MODULE, "run", job]))
    if settings.isolation.profile == "firecracker":
        if job == "detect":
            _send_sessions(settings)
        code = _shown(_in_guest(settings, "run", job))
        if job == "tick":
            _fetch_skills(settings)
        return code
    return JOBS[job]()


def _send_sessions(settings: Settings) -> None:
    """Bring copies of the session databases over, unless nothing was written since."""
    note = settings.home / "firecracker" / "sent.json"
    found = [path for _, path in discover_profiles(settings.hermes_home) if path.exists()]
    profiles = [(path, str(path.relative_to(settings.hermes_home))) for path in found]
    states = {name: signature(path, time.time()) for path, name in profiles}
    try:
        before = json.loads(note.read_bytes())
    except (OSError, ValueError):
        before = {}
    due = [
        (path, name)
        for path, name in profiles
        if states[name] is None or states[name] != before.get(name)
    ]
    if not due:
        return
    with tempfile.TemporaryFile() as packed:
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
            for path, name in due:
                with tempfile.TemporaryDirectory() as folder:
                    copy = Path(folder) / "copy.db"
                    _snapshot(path, copy)
                    archive.add(copy, name)
        packed.seek(0)
        done = _in_guest(settings, "receive", stdin=packed)
    if done.returncode:
        raise ConfigError(f"The microVM did not take the sessions: {_end(done.stderr)}")
    write_atomically(note, json.dumps(before | states).encode())


def _snapshot(path: Path, copy: Path) -> None:
    """Copy a database as it is at one moment; Hermes goes on writing meanwhile."""
    try:
        with (
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise ConfigError(f"{path} cannot be copied: {error}. It is tried again.") from error


def receive(settings: Settings, packed: IO[bytes]) -> None:
    """Take copies of session databases in, into the files that are read over here.

    Raises:
        ConfigError: Something else came.
    """
    try:
        with tarfile.open(fileobj=packed, mode="r|gz") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                if content is None or not _DATABASE.match(member.name) or ".." in member.name:
                    raise ConfigError(f"'{member.name}' is no session database.")
                target = settings.hermes_home / member.name
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with tempfile.NamedTemporaryFile(dir=target.parent) as file:
                    while part := content.read(1 << 20):
                        file.write(part)
                    file.flush()
                    # Into the same file, so that what was read of it stays known.
                    with (
                        closing(sqlite3.connect(file.name)) as source,
                        closing(sqlite3.connect(target)) as kept,
                    ):
                        source.backup(kept)
    except (tarfile.TarError, sqlite3.Error, EOFError) as error:
        raise ConfigError(f"The sessions did not arrive whole: {error}.") from error


def pack_skills(settings: Settings) -> bytes:
    """Return the generated skills as one archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in sorted(settings.skills_dir.glob("*/SKILL.md")):
            archive.add(path, f"{path.parent.name}/{path.name}")
    return packed.getvalue()


def unpack_skills(settings: Settings, packed: bytes) -> None:
    """Put skills from the other side where Hermes reads them; those that are gone go here too.

    Raises:
        ConfigError: Something else came; nothing was changed.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r|gz") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                if (
                    content is None
                    or not _SKILL.match(member.name)
                    or member.size > _LONGEST_SKILL
                    or len(found) >= _MOST_SKILLS
                ):
                    raise ConfigError(f"The microVM sent '{member.name[:80]}', which is no skill.")
                found[member.name] = content.read()
    except (tarfile.TarError, EOFError) as error:
        raise ConfigError(f"The skills did not arrive whole: {error}.") from error
    present = {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for path in settings.skills_dir.glob("*/SKILL.md")
    }
    if found == present:
        return
    with new_folder(settings.skills_dir) as folder:
        for name, text in found.items():
            (folder / name).parent.mkdir()
            (folder / name).write_bytes(text)


def _fetch_skills(settings: Settings) -> None:
    done = _in_guest(settings, "skills")
    if done.returncode:
        raise ConfigError(f"The microVM's skills cannot be read: {_end(done.stderr)}")
    unpack_skills(settings, done.stdout)


def _in_guest(
    settings: Settings, *arguments: str, stdin: int | IO[bytes] = subprocess.DEVNULL
) -> subprocess.CompletedProcess[bytes]:
    done = _call([*ssh_command(settings), guest_command(_MODULE, *arguments)], stdin)
    if done.returncode == _UNREACHABLE:
        raise ConfigError(
            f"The microVM {settings.isolation.guest} does not answer: {_end(done.stderr)}. Start "
            "it; docs/operating.md says how."
        )
    return done


def _call(
    command: Sequence[str], stdin: int | IO[bytes] = subprocess.DEVNULL
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            list(command), stdin=stdin, capture_output=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{command[0]} cannot be run: {error}") from error


def _shown(done: subprocess.CompletedProcess[bytes]) -> int:
    sys.stdout.buffer.write(done.stdout)
    sys.stdout.flush()
    sys.stderr.buffer.write(done.stderr)
    return done.returncode


def _end(said: bytes) -> str:
    return " ".join(said.decode(errors="replace").split())[-300:] or "it said nothing"


def told_today(settings: Settings, now: float) -> bool:
    """Note that something is told, and return whether it was told today already."""
    path = settings.home / "install" / "unreachable"
    day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d").encode()
    if path.is_file() and path.read_bytes() == day:
        return True
    write_atomically(path, day)
    return False


def main(arguments: Sequence[str]) -> int:
    """Do what the first argument says."""
    what = arguments[0] if arguments else ""
    job = arguments[1] if len(arguments) > 1 else ""
    settings: Settings | None = None
    try:
        settings = load_settings()
        if what in ("run", "send") and job in JOBS:
            return JOBS[job]() if what == "run" else send(settings, job)
        if what == "receive":
            receive(settings, sys.stdin.buffer)
            return 0
        if what == "skills":
            sys.stdout.buffer.write(pack_skills(settings))
            return 0
        if what == "admit":
            with Database(settings.database_path) as database:
                admit(database, Path(job).read_text(encoding="ascii").strip(), time.time())
            return 0
        raise ConfigError("Say: run JOB, send JOB, receive, skills, or admit FILE.")
    except (ApprenticeError, OSError, UnicodeDecodeError) as error:
        print(f"apprentice: {error}", file=sys.stderr)
        known = what == "send" and settings is not None and told_today(settings, time.time())
        return 0 if known else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
