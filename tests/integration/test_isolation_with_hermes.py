"""Apprentice in a container or a microVM, set up in the real Hermes.

The container is a stand-in for ``docker`` that runs what it is told with an environment of
its own, in a mount namespace where Hermes' home is read-only; the microVM is one for
``ssh`` with homes of its own. Hermes, our code and the files are real.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import yaml

from hermes_apprentice.demo.texts import Corpus
from hermes_apprentice.demo.upstream import Pace, SimulatedUpstream
from hermes_apprentice.interfaces.install.carrying_out import carry_out, take_out
from hermes_apprentice.interfaces.install.machine import examine_machine, find_hermes
from hermes_apprentice.interfaces.install.plan import Plan
from hermes_apprentice.interfaces.install.scheduler import wanted_jobs
from hermes_apprentice.interfaces.install.setting_up import plan_removal, plan_setup
from hermes_apprentice.interfaces.install.survey import survey_own, survey_profiles
from hermes_apprentice.interfaces.install.wishes import Wishes
from hermes_apprentice.settings import IsolationSettings, Settings, load_settings
from hermes_apprentice.storage.database import Database

BIN = Path(sys.executable).parent
MODELS = platformdirs.user_cache_path("hermes-apprentice") / "models"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BIN / "hermes").exists(), reason="hermes-agent is not installed here"),
]

DOCKER = """\
#!/bin/sh
# A container: its own environment, Hermes' home read-only, the homes under the same paths.
case "$1" in
version) echo 28.1 ;;
inspect) cat "{state}" ;;
exec)
    shift
    [ "$1" = -i ] && shift
    [ "$1 $2" = "hermes-apprentice python" ] || exit 1
    shift 2
    set -- env -i PATH=/usr/bin:/bin APPRENTICE_HOME="{home}" HERMES_HOME="{hermes}" "{python}" "$@"
    unshare -rm true 2>/dev/null || exec "$@"
    exec unshare -rm sh -c 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"' \\
        "{hermes}" "$@" ;;
esac
"""
SSH = """\
#!/bin/sh
# A microVM: no file is shared with this machine.
for last; do :; done
[ -e "{state}" ] || {{ echo "connect to host 172.31.80.2 port 22: timed out" >&2; exit 255; }}
exec env -i PATH=/usr/bin:/bin sh -c "$(echo "$last" | sed \\
    -e 's|/var/lib/hermes-apprentice|{home}|' -e 's|/var/lib/hermes-sessions|{hermes}|' \\
    -e 's|/opt/hermes-apprentice/bin/python|{python}|')"
"""


class Place:
    """Hermes' home and Apprentice's, with spaces in their paths, and commands that stand in."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.hermes = folder / "my hermes"
        self.apprentice = folder / "my apprentice"
        self.state = folder / "state"
        self.commands = folder / "bin"
        for path in (self.hermes, self.apprentice, self.commands):
            path.mkdir()
        MODELS.mkdir(parents=True, exist_ok=True)
        (self.apprentice / "models").symlink_to(MODELS)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self.config = self.hermes / "config.yaml"
        self.text = (
            f"# mine\nmodel: {{provider: cellar, default: cellar-large}}\n"
            f"providers: {{cellar: {{name: cellar, base_url: '{url}', api_key: sk-invented-7}}}}\n"
        ).encode()
        self.config.write_bytes(self.text)

    def command(self, name: str, text: str, **values: object) -> Path:
        path = self.commands / name
        path.write_text(text.format(state=self.state, python=sys.executable, **values))
        path.chmod(0o755)
        return path

    def run(self, name: str, *arguments: str, ok: bool = True) -> str:
        environment = {
            "PATH": f"{self.commands}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "HERMES_HOME": str(self.hermes),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }
        if name == "apprentice":
            environment["APPRENTICE_HOME"] = str(self.apprentice)
        done = subprocess.run(
            [BIN / name, *arguments],
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return done.stdout + done.stderr

    def jobs(self) -> list[dict[str, Any]]:
        return list(json.loads((self.hermes / "cron" / "jobs.json").read_bytes())["jobs"])

    def left(self) -> list[str]:
        """What is in Hermes' home that Hermes itself does not put there."""
        names = ("config.yaml", ".env", "scripts/apprentice_tick.py")
        return [name for name in names if (self.hermes / name).exists()]


@pytest.fixture
async def upstream() -> AsyncIterator[SimulatedUpstream]:
    found = SimulatedUpstream(
        corpus=Corpus(()),
        model="cellar-large",
        rng=random.Random(3),
        pace=Pace(first_token_s=0, per_token_s=0),
    )
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
def place(tmp_path: Path, upstream: SimulatedUpstream) -> Place:
    return Place(tmp_path, upstream.base_url)


def exchanges(home: Path) -> int:
    with Database(home / "apprentice.db") as database:
        return int(database.read("SELECT COUNT(*) FROM exchanges")[0][0])


async def test_docker_is_entered_for_tools_and_jobs_and_every_path_is_the_same_on_both_sides(
    place: Place, upstream: SimulatedUpstream
) -> None:
    place.command("docker", DOCKER, home=place.apprentice, hermes=place.hermes)
    place.state.write_text("true\n")
    arguments = ("setup", "--isolation", "docker", "--non-interactive")
    shown = await asyncio.to_thread(place.run, "apprentice", *arguments)
    assert 'profile = "docker"' in shown
    assert "host.docker.internal" in shown
    assert place.config.read_bytes() == place.text
    done = await asyncio.to_thread(place.run, "apprentice", *arguments, "--apply")
    assert "docker build" in done
    assert "docker compose" in done
    assert "everything is in place" in await asyncio.to_thread(place.run, "apprentice", "setup")

    config = yaml.safe_load(place.config.read_text())
    assert config["providers"]["apprentice"]["base_url"] == "http://127.0.0.1:8765/v1"
    entry = config["mcp_servers"]["apprentice"]
    assert [entry["command"], *entry["args"][:3]] == [
        str(place.commands / "docker"), "exec", "-i", "hermes-apprentice",
    ]  # fmt: skip
    assert "env" not in entry
    assert str(place.apprentice / "skills") in config["skills"]["external_dirs"]
    told = load_settings({"APPRENTICE_HOME": str(place.apprentice)})
    assert told.upstream.base_url.startswith("http://host.docker.internal:")
    compose = yaml.safe_load((place.apprentice / "docker" / "compose.yaml").read_text())
    mounts = {one["target"]: one for one in compose["services"]["apprentice"]["volumes"]}
    assert mounts[str(place.apprentice)]["source"] == str(place.apprentice)
    assert mounts[str(place.hermes)]["read_only"]
    assert mounts[f"{place.hermes}/.env"]["source"] == "/dev/null"

    # The container is not up yet: Hermes answers, through the fallback.
    answered = await asyncio.to_thread(place.run, "hermes", "-z", "What helps against moss?")
    assert upstream.calls["other"] >= 1, answered
    assert "Tools discovered" in await asyncio.to_thread(
        place.run, "hermes", "mcp", "test", "apprentice"
    )
    for job in ("apprentice-detect", "apprentice-tick"):
        assert "succeeded" in await asyncio.to_thread(place.run, "hermes", "cron", "run", job)
    assert exchanges(place.apprentice) >= 1  # read in the container, where nothing can be written
    assert "apprentice" in await asyncio.to_thread(place.run, "hermes", "skills", "list")

    await asyncio.to_thread(place.run, "apprentice", "uninstall", "--apply", "--non-interactive")
    assert place.config.read_bytes() == place.text
    assert place.left() == ["config.yaml"]
    assert not (place.apprentice / "docker" / "compose.yaml").exists()


async def test_a_container_that_is_down_is_told_once_a_day(place: Place) -> None:
    place.command("docker", DOCKER, home=place.apprentice, hermes=place.hermes)
    place.state.write_text("false\n")
    await asyncio.to_thread(
        place.run, "apprentice", "setup", "--isolation", "docker", "--apply", "--non-interactive"
    )
    said = await asyncio.to_thread(place.run, "hermes", "cron", "run", "apprentice-outbox")
    assert "succeeded" not in said
    assert "succeeded" in await asyncio.to_thread(
        place.run, "hermes", "cron", "run", "apprentice-outbox"
    )


def planned(settings: Settings, ssh: Path) -> Plan:
    machine = dataclasses.replace(
        examine_machine(settings.home), kvm=True, contained=False, ssh_command=str(ssh)
    )
    states = survey_profiles(settings, ["default"])
    hermes = [find_hermes(state.home, "cellar") for state in states]
    return plan_setup(
        settings, Wishes(budget=3), states, survey_own(settings), hermes, machine, wanted_jobs()
    )


async def test_a_microvm_gets_copies_of_the_sessions_and_gives_back_skills(
    place: Place, upstream: SimulatedUpstream
) -> None:
    inside = place.folder / "guest"
    inside.mkdir()
    (inside / "home").mkdir()
    (inside / "home" / "models").symlink_to(MODELS)
    ssh = place.command("ssh", SSH, home=inside / "home", hermes=inside / "sessions")
    settings = Settings(
        home=place.apprentice,
        hermes_home=place.hermes,
        isolation=IsolationSettings(profile="firecracker"),
    )
    plan = await asyncio.to_thread(planned, settings, ssh)
    assert any("shares no file" in text for text in plan.warnings)
    assert "build_rootfs.sh" in "\n".join(plan.notes)
    await asyncio.to_thread(carry_out, plan, settings, BIN / "hermes", print)
    again = await asyncio.to_thread(planned, settings, ssh)
    assert again.empty

    config = yaml.safe_load(place.config.read_text())
    assert config["providers"]["apprentice"]["base_url"] == "http://172.31.80.2:8765/v1"
    assert config["mcp_servers"]["apprentice"]["command"] == str(ssh)
    assert "plugins" not in config
    guest = load_settings({"APPRENTICE_HOME": str(place.apprentice / "firecracker" / "guest")})
    assert guest.hermes_home == Path("/var/lib/hermes-sessions")
    assert guest.upstream.base_url.startswith("http://172.31.80.1:")
    assert guest.budget.monthly_dollars == 3
    keys = (place.apprentice / "firecracker" / "guest" / "upstream.env").read_text()
    assert keys == 'APPRENTICE_UPSTREAM_KEY="sk-invented-7"\n'

    await asyncio.to_thread(place.run, "hermes", "cron", "run", "apprentice-detect")
    assert "The microVM apprentice@172.31.80.2 does not answer" in place.jobs()[0]["last_error"]
    place.state.touch()  # it is started
    await asyncio.to_thread(place.run, "hermes", "-z", "What helps against moss?")
    skill = inside / "home" / "skills" / "moss" / "SKILL.md"
    skill.parent.mkdir(parents=True)
    skill.write_text("---\nname: moss\ndescription: About moss.\n---\nAsk about moss.\n")
    for job in ("apprentice-detect", "apprentice-tick"):
        said = await asyncio.to_thread(place.run, "hermes", "cron", "run", job)
        assert "succeeded" in said
    assert exchanges(inside / "home") >= 1
    assert not (place.apprentice / "apprentice.db").exists()
    assert "Tools discovered" in await asyncio.to_thread(
        place.run, "hermes", "mcp", "test", "apprentice"
    )
    assert "moss" in await asyncio.to_thread(place.run, "hermes", "skills", "list")

    states = survey_profiles(settings, ["default"])
    take_out(
        plan_removal(settings, states, survey_own(settings), services=False),
        settings, BIN / "hermes", print,
    )  # fmt: skip
    assert place.config.read_bytes() == place.text
    assert place.left() == ["config.yaml"]
    assert place.jobs() == []
