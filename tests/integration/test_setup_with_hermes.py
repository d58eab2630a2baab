"""Installed into the real Hermes, used, and taken out again."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import random
import re
import socket
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import platformdirs
import pytest
import yaml

from hermes_apprentice.demo.texts import Corpus
from hermes_apprentice.demo.upstream import Pace, SimulatedUpstream
from hermes_apprentice.storage.database import Database

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
MODELS = platformdirs.user_cache_path("hermes-apprentice") / "models"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BIN / "hermes").exists(), reason="hermes-agent is not installed here"),
]

CONFIG = """\
# Mine; nobody else's.
model:
  provider: custom      # a machine in the cellar
  default: cellar-large
  base_url: {url}
  api_key: sk-invented-1

agent: {{max_turns: 20}}
skills:
  external_dirs:
  - /srv/none such   # not there today
# the end"""


class Place:
    """A Hermes home and an Apprentice home, with spaces in their paths."""

    def __init__(self, folder: Path, url: str) -> None:
        self.hermes = folder / "my hermes"
        self.apprentice = folder / "my apprentice"
        self.config = self.hermes / "config.yaml"
        self.hermes.mkdir()
        self.apprentice.mkdir()
        MODELS.mkdir(parents=True, exist_ok=True)
        (self.apprentice / "models").symlink_to(MODELS)
        self.text = CONFIG.format(url=url).encode()
        self.config.write_bytes(self.text)
        self.folder = folder

    def run(
        self, name: str, *arguments: str, ok: bool = True, **changes: str
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.endswith("_API_KEY") and not key.startswith(("APPRENTICE_", "XDG_"))
        }
        environment |= {
            "HERMES_HOME": str(self.hermes),
            "HOME": str(self.folder),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }
        if name == "apprentice":
            environment["APPRENTICE_HOME"] = str(self.apprentice)
        done = subprocess.run(
            [BIN / name, *arguments],
            env=environment | changes,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return done

    def jobs(self) -> list[str]:
        path = self.hermes / "cron" / "jobs.json"
        return sorted(job["name"] for job in json.loads(path.read_bytes())["jobs"])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, "http://127.0.0.1:9/v1")


@pytest.fixture
async def upstream() -> AsyncIterator[SimulatedUpstream]:
    rng = random.Random(3)
    found = SimulatedUpstream(
        corpus=Corpus(()),
        model="cellar-large",
        rng=rng,
        pace=Pace(first_token_s=0, per_token_s=0),
    )
    await found.start()
    yield found
    await found.stop()


def test_installed_listed_by_hermes_and_removed_without_a_trace(place: Place) -> None:
    shown = place.run("apprentice", "setup").stdout
    assert "-  provider: custom" in shown
    assert "sk-invented-1" not in shown
    assert place.config.read_bytes() == place.text
    assert not (place.hermes / "scripts").exists()

    done = place.run("apprentice", "setup", "--apply", "--non-interactive", "--budget", "5").stdout
    assert "serve" in done
    assert "sk-invented-1" not in done
    assert b"monthly_dollars = 5" in (place.apprentice / "settings.toml").read_bytes()
    assert "# a machine in the cellar" in place.config.read_text()
    again = place.run("apprentice", "setup").stdout
    assert "everything is in place" in again

    # The folder of the dashboard's tab is no second plugin.
    assert (place.hermes / "plugins" / "apprentice" / "dashboard" / "manifest.json").exists()
    (line,) = (
        line
        for line in place.run("hermes", "plugins", "list").stdout.splitlines()
        if re.search(r"\bapprentice\b", line)
    )
    assert "entrypoint" in line
    assert "enabled" in line
    assert "apprentice" in place.run("hermes", "mcp", "list").stdout
    assert "Tools discovered" in place.run("hermes", "mcp", "test", "apprentice").stdout
    assert "apprentice" in place.run("hermes", "skills", "list").stdout
    listed = place.run("hermes", "cron", "list").stdout
    names = ("apprentice-detect", "apprentice-tick", "apprentice-outbox")
    assert all(name in listed for name in names)
    # The plugin finds Apprentice's home without being told in the environment.
    assert place.run("hermes", "apprentice", "candidates", "--json").stdout.strip() == "[]"
    assert (place.apprentice / "apprentice.db").exists()

    ran = place.run("hermes", "cron", "run", "apprentice-tick").stdout
    assert "succeeded" in ran

    place.run("apprentice", "uninstall")
    assert place.config.read_bytes() != place.text
    place.run("apprentice", "uninstall", "--apply", "--non-interactive")
    assert place.config.read_bytes() == place.text
    assert place.jobs() == []
    assert list((place.hermes / "scripts").iterdir()) == []
    assert not (place.hermes / "plugins").exists()
    assert not (place.hermes / ".env").exists()
    assert "no setup" in place.run("apprentice", "uninstall").stdout


def test_after_hermes_rewrote_its_configuration_only_ours_is_removed(place: Place) -> None:
    place.run("apprentice", "setup", "--apply", "--non-interactive")
    place.run("hermes", "config", "set", "display.busy_input_mode", "queue")
    env = place.hermes / ".env"
    env.write_text(env.read_text() + "OTHER=1\n")
    assert "everything is in place" in place.run("apprentice", "setup").stdout
    place.run("apprentice", "uninstall", "--apply", "--non-interactive")
    left = yaml.safe_load(place.config.read_text())
    wanted = yaml.safe_load(place.text)
    assert {key: left[key] for key in wanted} == wanted
    assert left["display"]["busy_input_mode"] == "queue"
    assert "apprentice" not in place.config.read_text()
    assert env.read_text() == "OTHER=1\n"


@pytest.mark.parametrize(("answers", "agreed"), [("7\n\ny\n", True), ("7\n\nn\n", False)])
def test_in_a_terminal_it_asks_for_the_budget_and_before_it_changes_anything(
    place: Place, answers: str, agreed: bool
) -> None:
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answers.encode())
        done = subprocess.run(
            [BIN / "apprentice", "setup", "--apply"],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(place.folder),
                "HERMES_HOME": str(place.hermes),
                "APPRENTICE_HOME": str(place.apprentice),
            },
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert (done.returncode == 0) == agreed, done.stdout + done.stderr
    assert (place.config.read_bytes() != place.text) == agreed
    settings = place.apprentice / "settings.toml"
    assert settings.exists() == agreed
    if agreed:
        assert "monthly_dollars = 7" in settings.read_text()
        assert 'base_model = "Qwen/Qwen2.5-1.5B-Instruct"' in settings.read_text()


SYSTEMCTL = """\
#!/bin/sh
echo "$@" >> "{log}"
case "$2" in
show) echo 255 ;;
is-active) cat "{state}" 2>/dev/null || exit 3 ;;
enable) test ! -e "{broken}" || {{ echo "no bus" >&2; exit 1; }} ;;
restart) echo active > "{state}" ;;
disable) rm -f "{state}" ;;
esac
"""


def test_the_service_is_started_once_and_stopped_by_the_uninstall(
    place: Place, tmp_path: Path
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    log, state, broken = (tmp_path / name for name in ("log", "state", "broken"))
    command = folder / "systemctl"
    command.write_text(SYSTEMCTL.format(log=log, state=state, broken=broken))
    command.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    unit = tmp_path / ".config" / "systemd" / "user" / "apprentice.service"

    broken.touch()
    failed = place.run("apprentice", "setup", "--apply", ok=False, PATH=path)
    assert "no bus" in failed.stderr
    assert "--no-service" in failed.stderr
    broken.unlink()
    place.run("apprentice", "setup", "--apply", PATH=path)
    assert f'Environment="HERMES_HOME={place.hermes}"' in unit.read_text()
    assert "--user restart apprentice.service" in log.read_text()
    assert "everything is in place" in place.run("apprentice", "setup", PATH=path).stdout
    place.run("apprentice", "uninstall", "--apply", PATH=path)
    assert "--user disable --now apprentice.service" in log.read_text()
    assert not unit.exists()
    assert place.config.read_bytes() == place.text


UPSTREAMS = {
    "custom": "model: {{provider: custom, default: cellar-large, base_url: {url}, api_key: k}}\n",
    "named": "model: {{provider: cellar, default: cellar-large}}\n"
    "providers: {{cellar: {{name: cellar, base_url: {url}, api_key: k}}}}\n",
    "listed": "model: {{provider: 'custom:cellar', default: cellar-large}}\n"
    "custom_providers:\n- {{name: cellar, base_url: {url}, api_key: k}}\n",
}
"""The ways in which a Hermes names an endpoint of its user's own."""


@pytest.mark.parametrize("way", UPSTREAMS)
async def test_with_a_dead_sidecar_hermes_answers_through_the_fallback(
    tmp_path: Path, upstream: SimulatedUpstream, way: str
) -> None:
    place = Place(tmp_path, upstream.base_url)
    place.config.write_text(UPSTREAMS[way].format(url=upstream.base_url))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    (place.apprentice / "settings.toml").write_text(
        f'[server]\nport = {free}\n[upstream]\nbase_url = "{upstream.base_url}"\napi_key_env = ""\n'
    )
    await asyncio.to_thread(place.run, "apprentice", "setup", "--apply", "--non-interactive")
    config = yaml.safe_load(place.config.read_text())
    assert config["providers"]["apprentice"]["base_url"] == f"http://127.0.0.1:{free}/v1"
    done = await asyncio.to_thread(place.run, "hermes", "-z", "What would you do about moss?")
    assert upstream.calls["other"] >= 1, done.stdout
    assert "failed" not in done.stdout


async def test_with_a_dead_sidecar_the_gateway_answers_through_the_fallback(
    stage: ModuleType, tmp_path: Path
) -> None:
    telegram, model = stage.FakeTelegram(), stage.FakeUpstream()
    async with (
        stage.serving("/bot{token}/{method}", telegram.handle) as api,
        stage.serving("/v1/chat/completions", model.handle) as url,
    ):
        place = Place(tmp_path, f"{url}/v1")
        text = stage.CONFIG.format(model="big", upstream=f"{url}/v1", telegram=api)
        place.config.write_text(text)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            free = listener.getsockname()[1]
        (place.apprentice / "settings.toml").write_text(
            f'[server]\nport = {free}\n[upstream]\nbase_url = "{url}/v1"\napi_key_env = ""\n'
        )
        await asyncio.to_thread(place.run, "apprentice", "setup", "--apply", "--non-interactive")
        installed = place.config.read_text()
        assert f":{free}/v1" in installed
        async with stage.gateway(place.hermes, place.apprentice, telegram, installed):
            await telegram.say("Are you there?")
            await telegram.message("The upstream has answered")
        assert any("Are you there?" in asked for asked in model.asked)


async def test_installed_used_through_the_sidecar_and_taken_out_again(
    tmp_path: Path, upstream: SimulatedUpstream
) -> None:
    place = Place(tmp_path, upstream.base_url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    (place.apprentice / "settings.toml").write_text(
        f'[server]\nport = {free}\n[upstream]\nbase_url = "{upstream.base_url}"\n'
        'api_key_env = "APPRENTICE_UPSTREAM_KEY"\n'
    )
    await asyncio.to_thread(place.run, "apprentice", "setup", "--apply", "--non-interactive")
    key = (place.apprentice / "upstream.env").read_text().strip()
    assert key == 'APPRENTICE_UPSTREAM_KEY="sk-invented-1"'
    sidecar = await asyncio.create_subprocess_exec(
        BIN / "apprentice",
        "serve",
        env={
            **os.environ,
            "HERMES_HOME": str(place.hermes),
            "APPRENTICE_HOME": str(place.apprentice),
            "APPRENTICE_UPSTREAM_KEY": "sk-invented-1",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert sidecar.stdout is not None
        first = await asyncio.wait_for(sidecar.stdout.readline(), 60)
        assert f":{free}" in first.decode()
        done = await asyncio.to_thread(place.run, "hermes", "-z", "What would you do about moss?")
        assert upstream.calls["other"] >= 1, done.stdout
        checked = await asyncio.to_thread(place.run, "apprentice", "doctor", "--json")
        broken = [item for item in json.loads(checked.stdout) if not item["ok"]]
        assert {item["check"] for item in broken} <= {"training environment", "prices", "budget"}
    finally:
        sidecar.terminate()
        await asyncio.wait_for(sidecar.wait(), 30)
    await asyncio.to_thread(place.run, "apprentice", "uninstall", "--apply", "--non-interactive")
    assert place.config.read_bytes() == place.text
    assert not (place.apprentice / "upstream.env").exists()
    with Database(place.apprentice / "apprentice.db") as database:
        routes = [row[0] for row in database.read("SELECT route FROM ledger")]
    assert "upstream" in routes


async def test_a_tenant_that_comes_later_costs_hermes_the_sidecar_until_setup_gives_it_a_key(
    tmp_path: Path, upstream: SimulatedUpstream
) -> None:
    place = Place(tmp_path, upstream.base_url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    (place.apprentice / "settings.toml").write_text(
        f'[server]\nport = {free}\n[upstream]\nbase_url = "{upstream.base_url}"\napi_key_env = ""\n'
    )
    setup = ("setup", "--apply", "--non-interactive")
    await asyncio.to_thread(place.run, "apprentice", *setup)
    made = await asyncio.to_thread(place.run, "apprentice", "tenants", "create", "ann")
    assert "has no key yet" in made.stderr
    homes = {"HERMES_HOME": str(place.hermes), "APPRENTICE_HOME": str(place.apprentice)}
    sidecar = await asyncio.create_subprocess_exec(
        BIN / "apprentice",
        "serve",
        env={**os.environ, **homes},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )

    def through_the_sidecar() -> list[str]:
        with Database(place.apprentice / "apprentice.db") as database:
            return [row[0] for row in database.read("SELECT tenant FROM ledger WHERE status = 200")]

    try:
        assert sidecar.stdout is not None
        await asyncio.wait_for(sidecar.stdout.readline(), 60)
        done = await asyncio.to_thread(place.run, "hermes", "-z", "What would you do about moss?")
        assert upstream.calls["other"] >= 1, done.stdout
        assert "failed" not in done.stdout
        assert through_the_sidecar() == []
        await asyncio.to_thread(place.run, "apprentice", *setup)
        await asyncio.to_thread(place.run, "hermes", "-z", "And what about ivy?")
    finally:
        sidecar.terminate()
        await asyncio.wait_for(sidecar.wait(), 30)
    assert "hermes" in through_the_sidecar()
    await asyncio.to_thread(place.run, "apprentice", "uninstall", "--apply", "--non-interactive")
    assert place.config.read_bytes() == place.text
    assert not (place.hermes / ".env").exists()


def environment_beside(folder: Path, *paths: Path) -> Path:
    """Make an environment that sees these folders and none of the links into checkouts."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "seen.pth").write_text("".join(f"{path}\n" for path in paths))
    return folder / "bin" / "python"


def test_a_hermes_in_an_environment_of_its_own_gets_everything_but_the_plugin(
    place: Place, tmp_path: Path
) -> None:
    installed = Path(sysconfig.get_path("purelib"))
    theirs = environment_beside(tmp_path / "their env", installed)
    hermes = theirs.with_name("hermes")
    hermes.write_text(
        f"#!/bin/sh\n'''exec' \"{theirs}\" \"$0\" \"$@\"\n' '''\n"
        "from hermes_cli.main import main\nmain()\n"
    )
    hermes.chmod(0o755)
    ours = environment_beside(tmp_path / "our env", installed, ROOT)
    environment = {
        "PATH": f"{hermes.parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "HERMES_HOME": str(place.hermes),
        "APPRENTICE_HOME": str(place.apprentice),
    }

    def run(*command: str | Path, ok: bool = True) -> str:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return done.stdout

    apprentice = (ours, "-m", "hermes_apprentice.interfaces.cli.main")
    said = run(*apprentice, "setup", "--apply", "--non-interactive")
    assert "pip install hermes-apprentice" in said
    assert "everything is in place" in run(*apprentice, "setup")
    config = yaml.safe_load(place.config.read_text())
    assert "plugins" not in config
    assert config["mcp_servers"]["apprentice"]["command"] == str(ours)
    assert "succeeded" in run(hermes, "cron", "run", "apprentice-tick")
    assert "Tools discovered" in run(hermes, "mcp", "test", "apprentice")
    # Enabled by hand all the same, it cannot load, and the doctor says what to install where.
    place.config.write_text(place.config.read_text() + "plugins: {enabled: [apprentice]}\n")
    checked = json.loads(run(*apprentice, "doctor", "--json", ok=False))
    plugin = next(one for one in checked if one["check"] == "plugin")
    assert (plugin["ok"], plugin["advice"]) == (
        False,
        f"{theirs} -m pip install hermes-apprentice",
    )
    text = place.config.read_text().removesuffix("plugins: {enabled: [apprentice]}\n")
    place.config.write_text(text)
    run(*apprentice, "uninstall", "--apply", "--non-interactive")
    assert place.config.read_bytes() == place.text


def test_a_second_profile_is_set_up_without_jobs_of_its_own(place: Place) -> None:
    place.run("hermes", "profile", "create", "side work", ok=False)
    place.run("hermes", "profile", "create", "work")
    work = place.hermes / "profiles" / "work"
    (work / "config.yaml").write_bytes(place.text)
    profiles = ("--profile", "default", "--profile", "work")
    place.run("apprentice", "setup", "--apply", "--non-interactive", *profiles)
    for config in (place.config, work / "config.yaml"):
        assert yaml.safe_load(config.read_text())["model"]["provider"] == "apprentice"
    assert "apprentice-tick" in place.jobs()
    assert not (work / "scripts" / "apprentice_tick.py").exists()
    again = place.run("apprentice", "setup", *profiles).stdout
    assert "everything is in place" in again
    assert "Profiles    default, work\n" in again
    listed = place.run("hermes", "-p", "work", "plugins", "list").stdout
    assert "entrypoint" in listed
    place.run("apprentice", "uninstall", "--apply", "--non-interactive")
    assert place.config.read_bytes() == place.text
    assert (work / "config.yaml").read_bytes() == place.text
    missing = place.run("apprentice", "setup", "--profile", "nope", ok=False).stderr
    assert "no profile 'nope'" in missing
    assert "default, work" in missing


def test_with_a_profile_chosen_for_good_the_jobs_go_where_they_were_asked_for(
    place: Place,
) -> None:
    place.run("hermes", "profile", "create", "work")
    (place.hermes / "active_profile").write_text("work\n")
    place.run("apprentice", "setup", "--apply", "--non-interactive")
    assert "apprentice-tick" in place.jobs()
    place.run("apprentice", "uninstall", "--apply", "--non-interactive")
    assert place.jobs() == []


def test_doctor_follows_every_link(place: Place) -> None:
    # A port of its own, because somebody may run a sidecar on the usual one.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    (place.apprentice / "settings.toml").write_text(
        f'[server]\nport = {free}\n[upstream]\nbase_url = "http://127.0.0.1:9/v1"\n'
        'api_key_env = ""\n'
    )
    place.run("apprentice", "setup", "--apply", "--non-interactive")
    found = json.loads(place.run("apprentice", "doctor", "--json", ok=False).stdout)
    by_name = {item["check"]: item for item in found}
    assert {name: by_name[name]["ok"] for name in ("hermes", "provider", "fallback")} == {
        "hermes": True,
        "provider": True,
        "fallback": True,
    }
    for name in ("plugin", "tab", "tools", "jobs", "database", "disk", "clock"):
        assert by_name[name]["ok"], by_name[name]
    for name in ("hermes to sidecar", "upstream"):
        assert not by_name[name]["ok"]
        assert by_name[name]["advice"]
    jobs = json.loads((place.hermes / "cron" / "jobs.json").read_bytes())
    place.run("hermes", "cron", "remove", jobs["jobs"][0]["id"])
    (place.hermes / "scripts" / jobs["jobs"][1]["script"]).unlink()
    found = json.loads(place.run("apprentice", "doctor", "--json", ok=False).stdout)
    broken = next(item for item in found if item["check"] == "jobs")
    assert broken["found"].count("is missing") == 2
    assert broken["advice"] == "apprentice setup --apply"
    place.run("apprentice", "setup", "--apply", "--non-interactive")
    found = json.loads(place.run("apprentice", "doctor", "--json", ok=False).stdout)
    assert next(item for item in found if item["check"] == "jobs")["ok"]


@pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0,
    reason="no mount namespaces here",
)
def test_a_home_of_hermes_that_cannot_be_written_is_named_before_anything_is_changed(
    place: Place,
) -> None:
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    command = (BIN / "apprentice", "setup", "--apply", "--non-interactive")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, place.hermes, *command],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(place.folder),
            "HERMES_HOME": str(place.hermes),
            "APPRENTICE_HOME": str(place.apprentice),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 2
    assert f"{place.hermes} cannot be written" in done.stderr
    assert "Nothing was changed" in done.stderr
    assert [path.name for path in place.apprentice.iterdir()] == ["models"]
