"""Every link from Hermes to the sidecar, broken one at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.doctor import Finding, examine
from hermes_apprentice.interfaces.install import checks
from hermes_apprentice.interfaces.install.receipt import JobRecord, Receipt, digest
from hermes_apprentice.interfaces.install.scheduler import Job
from hermes_apprentice.interfaces.install.survey import ProfileState
from hermes_apprentice.interfaces.install.tab import TabState
from hermes_apprentice.interfaces.install.wishes import HermesFacts
from hermes_apprentice.settings import ApprovalSettings, IsolationSettings, Settings
from hermes_apprentice.storage.approvals import show_courier
from hermes_apprentice.storage.database import Database

JOB = JobRecord(name="a-tick", schedule="every 5m", script="tick.py", deliver="local")
SCRIPT = b"print()\n"
RECEIPT = Receipt(
    profile="default",
    home="/srv/hermes",
    had_config=True,
    config_sha256="",
    edits=(),
    had_env=True,
    env_text="",
    scripts={"tick.py": digest(SCRIPT)},
    jobs=(JOB,),
)


class Door(BaseHTTPRequestHandler):
    """Lets in whoever has the key."""

    def do_GET(self) -> None:
        self.send_response_only(200 if self.headers["Authorization"] == "Bearer k-7" else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def door() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def facts(**changes: Any) -> HermesFacts:
    values: dict[str, Any] = {
        "command": Path("/opt/hermes/bin/hermes"),
        "python": Path("/opt/hermes/bin/python"),
        "version": "0.19.0",
        "has_apprentice": True,
        "has_mcp": True,
        "has_messaging": True,
    }
    return HermesFacts(**values | changes)


def state(env: bytes = b"", **changes: Any) -> ProfileState:
    values: dict[str, Any] = {
        "name": "default",
        "home": Path("/srv/hermes"),
        "config": b"",
        "env": env,
        "scripts": {"tick.py": SCRIPT},
        "jobs": (Job(job_id="j1", name="a-tick", script="tick.py"),),
        "tab": TabState(),
        "chosen": "",
        "receipt": RECEIPT,
        "backup": None,
    }
    return ProfileState(**values | changes)


def config(url: str) -> dict[str, object]:
    return {
        "model": {"provider": "apprentice"},
        "providers": {"apprentice": {"base_url": url, "key_env": "APPRENTICE_KEY"}},
        "fallback_model": {"provider": "cellar"},
    }


def broken(findings: Iterator[Finding]) -> dict[str, str]:
    """What is wrong, and what to do about it."""
    found = {one.check: one.advice for one in findings if not one.ok}
    assert all(found.values())
    return found


def test_hermes_that_asks_somebody_else_is_seen(door: str) -> None:
    here = state(b"APPRENTICE_KEY=k-7\n")
    assert broken(checks._provider("", here, config(door))) == {}
    other = config(door) | {"model": {"provider": "cellar"}}
    assert broken(checks._provider("", here, other)) == {"provider": "apprentice setup --apply"}


def test_a_sidecar_that_hermes_cannot_reach_is_seen() -> None:
    found = broken(checks._provider("", state(), config("http://127.0.0.1:9/v1")))
    assert "apprentice serve" in found["hermes to sidecar"]


def test_a_sidecar_that_refuses_hermes_key_is_seen(door: str) -> None:
    found = list(checks._provider("", state(b"APPRENTICE_KEY=other\n"), config(door)))
    refused = next(one for one in found if one.check == "hermes to sidecar")
    assert (refused.ok, "refuses" in refused.found) == (False, True)


def test_a_missing_fallback_is_seen(door: str) -> None:
    alone = config(door) | {"fallback_model": None}
    found = broken(checks._provider("", state(b"APPRENTICE_KEY=k-7\n"), alone))
    assert list(found) == ["fallback"]


def test_a_plugin_that_is_not_enabled_is_seen() -> None:
    found = broken(checks._plugin("", facts(), {"plugins": {"enabled": ["other"]}}))
    assert found == {"plugin": "hermes plugins enable apprentice"}
    disabled = {"plugins": {"enabled": ["apprentice"], "disabled": ["apprentice"]}}
    assert "plugin" in broken(checks._plugin("", facts(), disabled))
    absent = broken(checks._plugin("", facts(has_apprentice=False), {}))
    assert "/opt/hermes/bin/python -m pip install hermes-apprentice" in absent["plugin"]


def test_a_tab_that_is_changed_or_shown_nothing_is_seen(door: str, settings: Settings) -> None:
    there = RECEIPT.model_copy(update={"tab": {"index.js": digest(b"ours")}})
    whole = TabState(files={"index.js": b"ours"})
    assert list(checks._tab("", state(tab=TabState()), RECEIPT, settings)) == []
    for files in ({}, {"index.js": b"theirs"}):
        changed = checks._tab("", state(tab=TabState(files=files)), there, settings)
        assert broken(changed) == {"tab": "apprentice setup --apply"}
    isolation = IsolationSettings(sidecar_url=door)
    keyed = settings.model_copy(update={"isolation": isolation})
    found = broken(checks._tab("", state(tab=whole), there, keyed))
    assert "apprentice tenants admin-key" in found["tab"]
    key = b"APPRENTICE_ADMIN_KEY=k-7\n"
    assert broken(checks._tab("", state(key, tab=whole), there, keyed)) == {}
    # A sidecar that is down is another check's.
    down = settings.model_copy(
        update={"isolation": IsolationSettings(sidecar_url="http://127.0.0.1:9/v1")}
    )
    assert broken(checks._tab("", state(tab=whole), there, down)) == {}


def test_tools_that_hermes_cannot_see_are_seen() -> None:
    assert "tools" in broken(checks._tools("", state(), facts(), {}))
    listed: dict[str, object] = {"mcp_servers": {"apprentice": {"command": "/opt/python"}}}
    found = broken(checks._tools("", state(), facts(has_mcp=False), listed))
    assert "pip install 'hermes-agent[mcp]'" in found["tools"]
    silent = facts(command=Path("/bin/true"))
    assert broken(checks._tools("", state(), silent, listed)) == {
        "tools": "hermes mcp test apprentice"
    }


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"jobs": ()}, "apprentice setup --apply"),
        ({"scripts": {}}, "apprentice setup --apply"),
        ({"scripts": {"tick.py": b"import os\n"}}, "yours"),
        ({"job": {"enabled": False}}, "hermes cron resume j1"),
        ({"job": {"last_error": "exit code 4"}}, "hermes cron run j1"),
        ({"job": {"next_run_at": time.time() - 3_600}}, "gateway"),
    ],
)
def test_a_job_that_does_not_fire_is_seen(changes: dict[str, Any], advice: str) -> None:
    assert broken(checks._jobs("", state(), RECEIPT)) == {}
    job = changes.pop("job", None)
    if job is not None:
        changes["jobs"] = (Job(job_id="j1", name="a-tick", script="tick.py", **job),)
    assert advice in broken(checks._jobs("", state(**changes), RECEIPT))["jobs"]


def test_telegram_without_anybody_who_may_decide_is_pointed_out(settings: Settings) -> None:
    assert broken(checks._telegram("", state(), settings)) == {}  # there is no Telegram
    here = state(b"TELEGRAM_BOT_TOKEN=1:x\nTELEGRAM_ALLOWED_USERS='4711, 12,@name'\n")
    found = broken(checks._telegram("", here, settings))
    assert '[approvals] deciders = ["telegram:4711", "telegram:12"]' in found["deciders"]
    somebody = settings.model_copy(
        update={"approvals": ApprovalSettings(deciders=("telegram:4711",))}
    )
    assert "deciders" not in broken(checks._telegram("", here, somebody))


def test_a_gateway_that_never_asked_for_messages_is_pointed_out(settings: Settings) -> None:
    here = state(b"TELEGRAM_BOT_TOKEN=1:x\n")
    assert "gateway" in broken(checks._telegram("", here, settings))["courier"]
    with Database(settings.database_path) as database, database.transaction() as connection:
        show_courier(connection, "gateway-1", datetime.now(UTC).timestamp())
    assert "courier" not in broken(checks._telegram("", here, settings))


def test_what_lies_in_a_container_or_a_microvm_is_not_looked_for_here(settings: Settings) -> None:
    place = settings.model_copy(update={"isolation": IsolationSettings(profile="firecracker")})
    names = {one.check for one in examine(place, (), checks.left_to_the_other_side(place))}
    assert names == {"sessions", "disk"}
    assert not settings.home.joinpath("apprentice.db").exists()


def test_a_microvm_that_does_not_answer_is_seen(settings: Settings) -> None:
    nowhere = IsolationSettings(profile="firecracker", guest="apprentice@127.0.0.1")
    place = settings.model_copy(update={"isolation": nowhere})
    found = broken(checks.check_inside(place))
    assert "start the microVM" in found["inside"]
