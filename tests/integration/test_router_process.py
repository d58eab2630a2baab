"""The sidecar as a process of its own."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hermes_apprentice.domain.tenant import Limits
from hermes_apprentice.errors import ConfigError
from hermes_apprentice.router.server import serve
from hermes_apprentice.settings import ServerSettings, Settings, child_environment
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.tenants import TenantStore

PATIENCE = 30.0
PROGRAM = """
from hermes_apprentice.router.server import serve
from hermes_apprentice.settings import load_settings
serve(load_settings(), ready=lambda url: print(url, flush=True))
"""


@contextmanager
def process(home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    home.mkdir(parents=True, exist_ok=True)
    (home / "settings.toml").write_text(
        '[server]\nport = 0\n[upstream]\nbase_url = "http://127.0.0.1:9/v1"\napi_key_env = ""\n'
    )
    environment = child_environment(
        APPRENTICE_HOME=str(home), HERMES_HOME=str(home / "hermes"), OPENROUTER_API_KEY=""
    )
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert running.stdout is not None
        yield running, running.stdout.readline().strip()
    finally:
        running.kill()
        running.wait(PATIENCE)
        if running.stdout is not None:
            running.stdout.close()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_stops_cleanly_when_told(
    tmp_path: Path, stop: signal.Signals
) -> None:
    home = tmp_path / "home"
    note = home / "sidecar.json"
    with process(home) as (running, url):
        assert json.loads(note.read_text())["url"] == url
        assert json.loads(note.read_text())["pid"] == running.pid
        with urllib.request.urlopen(f"{url}/healthz", timeout=PATIENCE) as answer:
            assert json.loads(answer.read())["status"] == "ok"
        running.send_signal(stop)
        assert running.wait(PATIENCE) == 0
    assert not note.exists()


def test_a_kill_loses_nothing_that_the_next_start_needs(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with process(home) as (running, url):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{url}/v1/nothing", timeout=PATIENCE)
        running.kill()
        running.wait(PATIENCE)
    assert (home / "sidecar.json").exists()
    with process(home) as (running, url):
        assert json.loads((home / "sidecar.json").read_text())["url"] == url
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 0


def test_a_port_in_use_is_a_clear_error(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        busy = settings.model_copy(update={"server": ServerSettings(port=port)})
        with pytest.raises(ConfigError, match=r"server\.port"):
            serve(busy)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "example.test", ""])
def test_it_does_not_listen_to_other_machines(settings: Settings, host: str) -> None:
    open_to_all = settings.model_copy(update={"server": ServerSettings(host=host, port=0)})
    with pytest.raises(ConfigError, match="tenants"):
        serve(open_to_all)


def test_a_kill_forgets_at_most_what_was_not_yet_written_of_a_quota(tmp_path: Path) -> None:
    home = tmp_path / "home"
    limit, written, more = 12, 5, 3
    path = home / "apprentice.db"
    with Database(path) as database:
        limits = Limits(daily_requests=limit)
        key = TenantStore(database).create("ann", limits, time.time()).text

    def ask(url: str) -> int:
        request = urllib.request.Request(f"{url}/v1/models")
        request.add_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def counted() -> int:
        with Database(path) as database:
            found = database.read("SELECT MAX(requests) FROM tenant_usage")
        return int(found[0][0] or 0)

    with process(home) as (running, url):
        for _ in range(written):
            assert ask(url) == 502  # counted, though its upstream cannot be reached
        deadline = time.monotonic() + PATIENCE
        while counted() < written:
            assert time.monotonic() < deadline
        for _ in range(more):
            assert ask(url) == 502
        running.kill()
        running.wait(PATIENCE)
    assert written <= counted() <= written + more
    with process(home) as (running, url):
        left = limit - counted()
        assert [ask(url) for _ in range(left + 1)] == [502] * left + [429]
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 0
    assert counted() == limit
