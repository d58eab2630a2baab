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
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import yaml
from pydantic import SecretStr

from hermes_apprentice.demo.texts import Corpus
from hermes_apprentice.demo.upstream import Pace, SimulatedUpstream
from hermes_apprentice.interfaces.install.admission import admit, admitted
from hermes_apprentice.interfaces.install.carrying_out import carry_out, take_out
from hermes_apprentice.interfaces.install.machine import examine_machine, find_hermes
from hermes_apprentice.interfaces.install.plan import Plan
from hermes_apprentice.interfaces.install.scheduler import wanted_jobs
from hermes_apprentice.interfaces.install.setting_up import plan_setup
from hermes_apprentice.interfaces.install.survey import survey_own, survey_profiles
from hermes_apprentice.interfaces.install.taking_back import plan_removal
from hermes_apprentice.interfaces.install.wishes import Wishes
from hermes_apprentice.settings import IsolationSettings, Settings, load_settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.tenants import TenantStore

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
    . "{home}/upstream.env"
    set -- env -i PATH=/usr/bin:/bin APPRENTICE_HOME="{home}" HERMES_HOME="{hermes}" \\
        APPRENTICE_UPSTREAM_KEY="$APPRENTICE_UPSTREAM_KEY" "{python}" "$@"
    exec unshare -rm sh -c 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" &&
        mount --bind "{hosts}" /etc/hosts && exec "$@"' "{hermes}" "$@" ;;
esac
"""
CAN_MOUNT = subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
KEY = "ap-0123456789-" + "5a" * 32
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

    def docker(self) -> Path:
        """Put the stand-in for docker where it is found; the container is up."""
        hosts = self.folder / "hosts"
        hosts.write_text("127.0.0.1 localhost host.docker.internal\n")
        self.state.write_text("true\n")
        return self.command("docker", DOCKER, home=self.apprentice, hermes=self.hermes, hosts=hosts)

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
        names = [name for name in ("config.yaml", ".env") if (self.hermes / name).exists()]
        ours = [path for path in self.hermes.rglob("*") if "apprentice" in path.name]
        return names + [str(path.relative_to(self.hermes)) for path in ours]


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


@asynccontextmanager
async def sidecar(*command: str | Path) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        first = await asyncio.wait_for(process.stdout.readline(), 60)
        assert b"Listening" in first
        yield
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 30)


@pytest.mark.skipif(not CAN_MOUNT, reason="no mount namespaces here")
async def test_docker_is_entered_for_tools_and_jobs_and_hermes_asks_with_a_key(
    place: Place, upstream: SimulatedUpstream
) -> None:
    docker = place.docker()
    seen = upstream.base_url.replace("127.0.0.1", "host.docker.internal")
    mine = f'[server]\nport = {place.port}  # mine\n[upstream]\nbase_url = "{seen}"\n'
    mine += 'api_key_env = "APPRENTICE_UPSTREAM_KEY"\n'
    (place.apprentice / "settings.toml").write_text(mine)
    arguments = ("setup", "--isolation", "docker", "--non-interactive")
    shown = await asyncio.to_thread(place.run, "apprentice", *arguments)
    assert 'profile = "docker"' in shown
    assert "APPRENTICE_KEY=***" in shown
    assert all(word in shown for word in ("GPU  ", "KVM  ", "Docker      28.1", "GB free"))
    assert place.config.read_bytes() == place.text
    done = await asyncio.to_thread(place.run, "apprentice", *arguments, "--apply")
    assert "docker build" in done
    assert "docker compose" in done
    again = await asyncio.to_thread(place.run, "apprentice", "setup")
    assert "everything is in place" in again
    told = (place.apprentice / "settings.toml").read_text()
    assert told == mine + '\n[isolation]\nprofile = "docker"\n'

    config = yaml.safe_load(place.config.read_text())
    entry = config["providers"]["apprentice"]
    assert entry["base_url"] == f"http://127.0.0.1:{place.port}/v1"
    assert entry["key_env"] == "APPRENTICE_KEY"
    tools = config["mcp_servers"]["apprentice"]
    assert [tools["command"], *tools["args"][:3]] == [
        str(docker), "exec", "-i", "hermes-apprentice",
    ]  # fmt: skip
    assert "env" not in tools
    assert str(place.apprentice / "skills") in config["skills"]["external_dirs"]

    inside = (docker, "exec", "hermes-apprentice", "python", "-m")
    command = (*inside, "hermes_apprentice.interfaces.cli.main", "serve", "--host", "127.0.0.1")
    async with sidecar(*command):
        answered = await asyncio.to_thread(place.run, "hermes", "-z", "What helps against moss?")
        assert upstream.calls["other"] >= 1, answered
        assert "Tools discovered" in await asyncio.to_thread(
            place.run, "hermes", "mcp", "test", "apprentice"
        )
        for job in ("apprentice-detect", "apprentice-tick"):
            assert "succeeded" in await asyncio.to_thread(place.run, "hermes", "cron", "run", job)
        # Read in the container, which cannot write into Hermes' home.
        assert exchanges(place.apprentice) >= 1
        assert "apprentice" in await asyncio.to_thread(place.run, "hermes", "skills", "list")
        checked = json.loads(await asyncio.to_thread(place.run, "apprentice", "doctor", "--json"))
        names = {one["check"] for one in checked if not one["ok"]}
        assert names <= {"training environment", "prices", "budget"}
        assert any(one["found"] == "hermes-apprentice answers" for one in checked)
    with Database(place.apprentice / "apprentice.db") as database:
        rows = database.read("SELECT tenant, route FROM ledger")
    assert ("hermes", "upstream") in [tuple(row) for row in rows]

    await asyncio.to_thread(place.run, "apprentice", "uninstall", "--apply", "--non-interactive")
    assert place.config.read_bytes() == place.text
    assert place.left() == ["config.yaml"]
    assert not (place.apprentice / "docker" / "compose.yaml").exists()


@pytest.mark.skipif(not CAN_MOUNT, reason="no mount namespaces here")
async def test_a_container_that_is_down_costs_nothing_but_its_tools_and_is_told_once_a_day(
    place: Place, upstream: SimulatedUpstream
) -> None:
    place.docker()
    place.state.write_text("false\n")
    await asyncio.to_thread(
        place.run, "apprentice", "setup", "--isolation", "docker", "--apply", "--non-interactive"
    )
    told = load_settings({"APPRENTICE_HOME": str(place.apprentice)})
    assert told.upstream.base_url.startswith("http://host.docker.internal:")
    answered = await asyncio.to_thread(place.run, "hermes", "-z", "What helps against moss?")
    assert upstream.calls["other"] >= 1, answered
    await asyncio.to_thread(place.run, "hermes", "cron", "run", "apprentice-outbox")
    errors = [job["last_error"] for job in place.jobs() if job["name"] == "apprentice-outbox"]
    assert "up -d" in errors[0]
    again = await asyncio.to_thread(place.run, "hermes", "cron", "run", "apprentice-outbox")
    assert "succeeded" in again


def test_without_docker_or_a_place_to_run_it_is_said_what_is_missing(place: Place) -> None:
    place.command("docker", "#!/bin/sh\nexit 1\n")
    place.command("systemctl", "#!/bin/sh\nexit 1\n")
    if Path("/.dockerenv").exists():
        shown = place.run("apprentice", "setup", "--isolation", "docker")
        assert "Hermes runs in a container" in shown
    else:
        refused = place.run("apprentice", "setup", "--isolation", "docker", ok=False)
        assert "docker version" in refused
    assert place.config.read_bytes() == place.text


def planned(settings: Settings, ssh: Path) -> Plan:
    machine = dataclasses.replace(
        examine_machine(settings.home), kvm=True, contained=False, ssh_command=str(ssh)
    )
    states = survey_profiles(settings, ["default"])
    hermes = [find_hermes(state.home, "cellar") for state in states]
    return plan_setup(
        settings,
        Wishes(budget=3, new_key=SecretStr(KEY)),
        states,
        survey_own(settings),
        hermes,
        machine,
        wanted_jobs(),
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
        # Nobody answers there: the sidecar itself is not part of this.
        isolation=IsolationSettings(
            profile="firecracker", sidecar_url=f"http://127.0.0.1:{place.port}/v1"
        ),
    )
    plan = await asyncio.to_thread(planned, settings, ssh)
    assert any("shares no file" in text for text in plan.warnings)
    assert "build_rootfs.sh" in "\n".join(plan.notes)
    await asyncio.to_thread(carry_out, plan, settings, BIN / "hermes", print)
    again = await asyncio.to_thread(planned, settings, ssh)
    assert again.empty

    config = yaml.safe_load(place.config.read_text())
    assert config["providers"]["apprentice"]["base_url"] == f"http://127.0.0.1:{place.port}/v1"
    assert config["mcp_servers"]["apprentice"]["command"] == str(ssh)
    assert "plugins" not in config
    key = (place.apprentice / "firecracker" / "guest" / "hermes.key").read_text().strip()
    assert f'APPRENTICE_KEY="{key}"' in (place.hermes / ".env").read_text()
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
    with Database(inside / "home" / "apprentice.db") as database:
        admit(database, key, 1.0)
        admit(database, key, 2.0)
        assert admitted(TenantStore(database).directory(), key)
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
