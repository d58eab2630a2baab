"""Finding the Hermes on a machine, and writing its service."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.install.machine import (
    examine_machine,
    find_hermes,
    interpreter_of,
)
from hermes_apprentice.interfaces.install.scheduler import read_jobs, wanted_jobs
from hermes_apprentice.interfaces.install.service import unit_text

ROOT = Path(__file__).resolve().parents[3]


def test_the_interpreter_is_read_from_the_command(tmp_path: Path) -> None:
    python = tmp_path / "my env" / "python3"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    command = tmp_path / "hermes"
    command.write_text("#!/bin/sh\n'''exec' \"" + str(python) + '" "$0" "$@"\n' + "' '''\n")
    assert interpreter_of(command) == python
    command.write_text(f'#!/bin/sh\nexec "{python}" "$0" "$@"\n')
    assert interpreter_of(command) == python
    command.write_text(f"#!{sys.executable}\nprint()\n")
    assert interpreter_of(command) == Path(sys.executable)
    command.write_text("#!/bin/sh\necho no\n")
    assert interpreter_of(command) is None
    assert interpreter_of(tmp_path / "nothing") is None


def test_the_hermes_beside_this_package_is_found(tmp_path: Path) -> None:
    found = find_hermes(tmp_path, "openrouter")
    assert found.version.startswith("0.")
    assert found.has_apprentice
    assert found.provider is not None
    assert "OPENROUTER_API_KEY" in found.provider.env_vars
    assert find_hermes(tmp_path, "no-such-provider").provider is None


def test_the_machine_is_described_also_for_a_home_that_is_not_there(tmp_path: Path) -> None:
    assert examine_machine(tmp_path / "a" / "b").free_bytes > 0


def test_gpus_docker_and_services_are_what_their_commands_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "unix:///run/user/7/d.sock"
    for name, said in (
        ("nvidia-smi", "echo 'Invented GPU, 24576 MiB'"),
        ("docker", f'case "$1" in context) echo {place} ;; *) echo 28.1 ;; esac'),
        ("systemctl", "echo active"),
        ("ssh", "true"),
    ):
        command = tmp_path / name
        command.write_text(f"#!/bin/sh\n{said}\n")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = examine_machine(tmp_path)
    assert found.gpus == ("Invented GPU, 24576 MiB",)
    assert (found.docker, found.docker_host) == ("28.1", place)
    assert (found.docker_command, found.ssh_command) == (f"{tmp_path}/docker", f"{tmp_path}/ssh")
    assert (found.user_services, found.sidecar_runs) == (True, True)
    for command in tmp_path.iterdir():
        command.write_text("#!/bin/sh\nexit 1\n")
    none = examine_machine(tmp_path)
    assert (none.gpus, none.docker, none.docker_host, none.user_services) == ((), "", "", False)


def test_the_shipped_jobs_have_their_scripts() -> None:
    jobs = wanted_jobs()
    assert {"apprentice-detect", "apprentice-tick", "apprentice-outbox"} <= {
        job.name for job in jobs
    }
    assert all((ROOT / "cron" / job.script).is_file() for job in jobs)


def test_a_broken_list_of_jobs_is_said_plainly(tmp_path: Path) -> None:
    assert read_jobs(tmp_path) == ()
    (tmp_path / "cron").mkdir()
    (tmp_path / "cron" / "jobs.json").write_text('{"jobs": 3}')
    with pytest.raises(ConfigError, match="hermes cron list"):
        read_jobs(tmp_path)


def test_the_unit_takes_paths_literally() -> None:
    text = unit_text(Path("/opt/my env/python"), Path('/srv/100%/"a"'), Path("/home/x y/.hermes"))
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text)
    command = shlex.split(unit["Service"]["ExecStart"])
    assert command == ["/opt/my env/python", "-m", "hermes_apprentice.interfaces.cli.main", "serve"]
    assert 'Environment="APPRENTICE_HOME=/srv/100%%/\\"a\\""' in text
    assert "EnvironmentFile=-/home/x y/.hermes/.env" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    python = tmp_path / "my %env" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    unit = tmp_path / "apprentice.service"
    unit.write_text(unit_text(python, tmp_path / 'a "b" $HOME', tmp_path / "c d"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(unit)],
        env={"PATH": os.defpath, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_unit_that_is_shipped_is_the_one_that_is_written() -> None:
    shipped = (ROOT / "deploy" / "systemd" / "apprentice.service").read_text()
    assert shipped.partition("\n\n")[2] == unit_text(
        Path("/opt/hermes-apprentice/bin/python"),
        Path("/var/lib/hermes-apprentice"),
        Path("/home/operator/.hermes"),
    )
