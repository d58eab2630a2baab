"""A vLLM as a child: started, watched, started again, ended; a fake stands in for vLLM itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import pytest

from hermes_apprentice.errors import ConfigError, NotReadyError, ServingError
from hermes_apprentice.serving.model_server import ModelServer, served_now
from hermes_apprentice.serving.vllm import Address, VllmChild, arguments, read_note, vllm_python
from hermes_apprentice.settings import Settings, UpstreamSettings, VllmSettings


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, vllm_stage: ModuleType) -> Path:
    """An environment in which ``vllm.entrypoints.openai.api_server`` is the fake."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True, with_pip=False)
    packages = next((folder / "lib").iterdir()) / "site-packages"
    target = packages / "vllm" / "entrypoints" / "openai" / "api_server.py"
    target.parent.mkdir(parents=True)
    shutil.copy(str(vllm_stage.__file__), target)
    return folder / "bin" / "python"


@pytest.fixture
def child_settings(settings: Settings, python: Path) -> Settings:
    settings.home.mkdir(parents=True)
    chosen = VllmSettings(server="child", python=str(python), base_model="tiny", start_seconds=20)
    return settings.model_copy(update={"vllm": chosen})


class Watcher:
    """Notes what a child reports."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[Address | str] = asyncio.Queue()

    async def up(self, address: Address) -> None:
        self.seen.put_nowait(address)

    async def down(self, reason: str) -> None:
        self.seen.put_nowait(reason)

    async def next(self) -> Address | str:
        return await asyncio.wait_for(self.seen.get(), 30)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[tuple[VllmChild, Watcher]]:
    child, watcher = VllmChild(settings, first_pause=0.01), Watcher()
    task = asyncio.create_task(child.run(watcher.up, watcher.down))
    try:
        yield child, watcher
    finally:
        task.cancel()
        await asyncio.wait({task})


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


async def test_it_starts_takes_only_its_key_and_ends_with_whoever_started_it(
    child_settings: Settings,
) -> None:
    async with running(child_settings) as (child, watcher):
        address = await watcher.next()
        assert isinstance(address, Address)
        assert address.url.startswith("http://127.0.0.1:")
        assert read_note(child_settings.vllm_note) == address
        assert child_settings.vllm_note.stat().st_mode & 0o077 == 0
        async with ModelServer(*address) as server:
            assert await server.names() == ("base",)
        async with ModelServer(address.url) as server:
            with pytest.raises(ServingError):
                await server.names()
        pid = child.pid
        assert pid is not None
    assert not is_alive(pid)
    with pytest.raises(NotReadyError):
        read_note(child_settings.vllm_note)


async def test_a_killed_one_is_started_again_with_another_key(child_settings: Settings) -> None:
    async with running(child_settings) as (child, watcher):
        first = await watcher.next()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        reason = await watcher.next()
        assert isinstance(reason, str)
        assert "exit status -9" in reason
        second = await watcher.next()
        assert isinstance(second, Address)
        assert isinstance(first, Address)
        assert second.key != first.key


async def test_one_that_fails_at_once_is_tried_again_and_says_where_its_log_is(
    child_settings: Settings,
) -> None:
    failing = child_settings.vllm.model_copy(update={"extra_args": ("--port", "nonsense")})
    settings = child_settings.model_copy(update={"vllm": failing})
    async with running(settings) as (_, watcher):
        for _ in range(2):
            reason = await watcher.next()
            assert isinstance(reason, str)
            assert str(settings.vllm_log) in reason
    assert b"nonsense" in settings.vllm_log.read_bytes()


async def test_it_ends_when_its_parent_is_killed(child_settings: Settings, tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from hermes_apprentice.serving.vllm import VllmChild\n"
        "from hermes_apprentice.settings import Settings\n"
        "settings = Settings.model_validate_json(sys.argv[1])\n"
        "child = VllmChild(settings)\n"
        "async def up(address): print(child.pid, flush=True)\n"
        "async def down(reason): print(reason, flush=True)\n"
        "asyncio.run(child.run(up, down))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, child_settings.model_dump_json()],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(await asyncio.to_thread(parent.stdout.readline))
    assert is_alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while is_alive(pid):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def test_the_upstreams_key_is_not_handed_on(
    child_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "upstream-secret")
    settings = child_settings.model_copy(
        update={"upstream": UpstreamSettings(api_key_env="SOME_KEY")}
    )
    child = VllmChild(settings)

    async def environment() -> bytes:
        watcher = Watcher()
        task = asyncio.create_task(child.run(watcher.up, watcher.down))
        await watcher.next()
        found = Path(f"/proc/{child.pid}/environ").read_bytes()
        task.cancel()
        await asyncio.wait({task})
        return found

    assert b"upstream-secret" not in asyncio.run(environment())


def test_its_arguments_follow_from_the_settings() -> None:
    settings = VllmSettings(
        base_model="m", max_loras=3, max_lora_rank=32, extra_args=("--seed", "1")
    )
    given = arguments(settings, 1234)
    pairs: Callable[[str], str] = lambda name: given[given.index(name) + 1]  # noqa: E731
    assert pairs("--host") == "127.0.0.1"
    assert pairs("--port") == "1234"
    assert pairs("--max-loras") == "3"
    assert pairs("--max-lora-rank") == "32"
    assert given[-2:] == ("--seed", "1")


def test_without_vllm_or_a_base_it_says_what_to_do(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"vllm\.base_model"):
        VllmChild(settings)
    with pytest.raises(ConfigError, match=r"vllm\.python"):
        vllm_python(VllmSettings(python=str(tmp_path / "nowhere")))
    with pytest.raises(ConfigError, match="lacks vLLM"):
        vllm_python(VllmSettings(python=sys.executable))


def service(settings: Settings) -> subprocess.Popen[str]:
    """Run `apprentice vllm` in a process of its own."""
    settings.home.mkdir(parents=True, exist_ok=True)
    chosen = settings.vllm
    (settings.home / "settings.toml").write_text(
        f'[vllm]\nserver = "{chosen.server}"\npython = "{chosen.python}"\nbase_model = "tiny"\n'
    )
    return subprocess.Popen(
        [sys.executable, "-m", "hermes_apprentice.interfaces.cli.main", "vllm"],
        env={**os.environ, "APPRENTICE_HOME": str(settings.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_as_a_service_it_is_found_by_its_note_and_ends_on_sigterm(
    child_settings: Settings,
) -> None:
    chosen = child_settings.vllm.model_copy(update={"server": "service"})
    process = service(child_settings.model_copy(update={"vllm": chosen}))
    assert process.stdout is not None
    line = process.stdout.readline()
    address = read_note(child_settings.vllm_note)
    assert address.url in line
    assert served_now(address) == ("base",)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert not child_settings.vllm_note.exists()
    with pytest.raises(ServingError):
        served_now(address)


def test_as_a_service_that_nobody_would_use_it_does_not_start(child_settings: Settings) -> None:
    process = service(child_settings)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert 'set it to "service"' in " ".join(errors.split())
