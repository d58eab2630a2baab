"""Each check stands alone, says what it found, and what to do about it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.doctor import Finding, _disk, examine
from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.tenant import Limits
from hermes_apprentice.errors import ConfigError
from hermes_apprentice.settings import (
    BudgetSettings,
    ModelSettings,
    Settings,
    UpstreamSettings,
    VllmSettings,
    load_settings,
)
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchange_records import StoredExchange
from hermes_apprentice.storage.exchanges import ExchangeStore
from hermes_apprentice.storage.tenants import TenantStore


class Endpoint(HTTPServer):
    """Answers every request; keeps the keys, and tells the time it was given."""

    offset = 0.0
    status = 200
    body = b""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_GET(self) -> None:
        self.server.keys.append(self.headers["Authorization"])
        self.send_response_only(self.server.status)
        self.send_header("Date", formatdate(time.time() + self.server.offset, usegmt=True))
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def upstream(settings: Settings, url: str, variable: str = "INVENTED_KEY") -> Settings:
    section = UpstreamSettings(base_url=url, api_key_env=variable)
    return settings.model_copy(update={"upstream": section})


def found(findings: list[Finding], check: str) -> Finding:
    return next(item for item in findings if item.check == check)


def test_everything_that_is_wrong_comes_with_a_way_out(settings: Settings) -> None:
    findings = examine(upstream(settings, "http://127.0.0.1:9/v1", ""))
    assert {item.check for item in findings if not item.ok} >= {"sessions", "upstream", "sidecar"}
    assert all(item.advice for item in findings if not item.ok)


def test_a_check_that_fails_does_not_hide_the_others(settings: Settings) -> None:
    def broken(_: Settings) -> Iterator[Finding]:
        raise ConfigError("something is odd; do this about it")

    def whole(_: Settings) -> Iterator[Finding]:
        yield Finding("whole", True, "fine")

    settings.home.mkdir(parents=True)
    settings.database_path.write_bytes(b"this is no database" * 100)
    findings = examine(
        upstream(settings, "http://127.0.0.1:9/v1"), (("broken", broken), ("whole", whole))
    )
    assert not found(findings, "database").ok
    assert found(findings, "disk").ok
    assert found(findings, "broken").found == "something is odd; do this about it"
    assert found(findings, "whole").ok


def test_the_key_is_found_where_the_service_reads_it(
    settings: Settings, endpoint: Endpoint
) -> None:
    placed = upstream(settings, endpoint.url)
    missing = found(examine(placed), "upstream")
    assert not missing.ok
    assert "INVENTED_KEY" in missing.advice
    settings.hermes_home.mkdir(parents=True)
    (settings.hermes_home / ".env").write_text('OTHER=1\nexport INVENTED_KEY="k-1"\n')
    assert found(examine(placed), "upstream").ok
    (settings.home / "upstream.env").write_text("INVENTED_KEY=k-2\n")
    assert found(examine(placed), "upstream").ok
    assert endpoint.keys == ["Bearer k-1", "Bearer k-2"]


def test_a_key_that_is_refused_is_a_finding(settings: Settings, endpoint: Endpoint) -> None:
    endpoint.status = 401
    refused = found(examine(upstream(settings, endpoint.url, "")), "upstream")
    assert (refused.ok, "key" in refused.advice) == (False, True)
    endpoint.status = 404  # some endpoints have no list of models
    assert found(examine(upstream(settings, endpoint.url, "")), "upstream").ok


def test_every_endpoint_that_stands_in_is_looked_at_with_its_own_key(
    settings: Settings, endpoint: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("k-9\n")
    settings.home.mkdir(parents=True)
    (settings.home / "settings.toml").write_text(
        f'[upstream]\nbase_url = "{endpoint.url}"\napi_key_env = "FIRST_KEY"\n'
        f'[[upstream.fallbacks]]\nbase_url = "{endpoint.url}"\napi_key_file = "{tmp_path}/key"\n'
        f'[[upstream.fallbacks]]\nbase_url = "{endpoint.url}"\napi_key_file = "{tmp_path}/none"\n'
        '[[upstream.fallbacks]]\nbase_url = "http://127.0.0.1:9/v1"\n'
    )
    told = {"APPRENTICE_HOME": str(settings.home), "FIRST_KEY": "k-1"}
    told["HERMES_HOME"] = str(settings.hermes_home)
    chain = [one for one in examine(load_settings(told)) if one.check == "upstream"]
    assert [one.ok for one in chain] == [True, True, False, False]
    assert [one.optional for one in chain] == [False, True, True, True]
    assert endpoint.keys == ["Bearer k-1", "Bearer k-9"]
    assert str(tmp_path / "none") in chain[2].advice


def test_a_sidecar_that_wants_the_operators_key_gets_it_from_hermes_env(
    settings: Settings, endpoint: Endpoint
) -> None:
    settings.home.mkdir(parents=True)
    (settings.home / "sidecar.json").write_text(
        json.dumps({"url": endpoint.url.removesuffix("/v1")})
    )
    endpoint.body = b'{"status":"ok"}'
    kept = found(examine(upstream(settings, "http://127.0.0.1:9/v1", "")), "sidecar")
    assert (kept.ok, "APPRENTICE_ADMIN_KEY" in kept.found) == (True, True)
    settings.hermes_home.mkdir(parents=True)
    (settings.hermes_home / ".env").write_text("APPRENTICE_ADMIN_KEY=ap-invented\n")
    endpoint.body = b'{"status":"degraded","problems":{"ledger":"is full"}}'
    told = found(examine(upstream(settings, "http://127.0.0.1:9/v1", "")), "sidecar")
    assert (told.ok, "ledger: is full" in told.found) == (False, True)
    assert endpoint.keys == [None, "Bearer ap-invented"]


@pytest.mark.parametrize(("offset", "wrong"), [(0.0, 0), (3_600.0, 1), (-3_600.0, 1)])
def test_a_clock_that_is_off_is_seen(
    settings: Settings, endpoint: Endpoint, offset: float, wrong: int
) -> None:
    endpoint.offset = offset
    findings = examine(upstream(settings, endpoint.url, ""))
    assert sum(item.check == "clock" and not item.ok for item in findings) == wrong


def test_a_missing_embedder_an_unset_budget_and_missing_sessions_are_seen(
    settings: Settings, tmp_path: Path
) -> None:
    empty = settings.model_copy(update={"models": ModelSettings(folder=tmp_path / "none")})
    findings = examine(upstream(empty, "http://127.0.0.1:9/v1", ""))
    assert found(findings, "embedder").advice == "apprentice models pull"
    assert "monthly_dollars" in found(findings, "budget").advice
    assert found(findings, "budget").optional
    assert "HERMES_HOME" in found(findings, "sessions").found
    assert found(findings, "sidecar").advice == "apprentice serve"
    rich = settings.model_copy(update={"budget": BudgetSettings(monthly_dollars=5)})
    assert found(examine(upstream(rich, "http://127.0.0.1:9/v1", "")), "budget").ok


def test_a_disk_that_is_full_is_seen(settings: Settings) -> None:
    finding = next(_disk(settings, least=10**18))
    assert (finding.ok, finding.advice) == (False, "free some space")


def test_requests_from_the_future_mean_that_the_clock_is_behind(
    settings: Settings, make_exchange: Callable[..., Exchange]
) -> None:
    asked = time.time() + 7_200
    one = make_exchange(asked_at=asked, answered_at=asked + 1)
    with Database(settings.database_path) as database:
        record = StoredExchange(exchange=one, user_row=1, answer_row=2)
        ExchangeStore(database).upsert([record], asked)
    behind = found(examine(upstream(settings, "http://127.0.0.1:9/v1", "")), "clock")
    assert not behind.ok
    assert "in the future" in behind.found


def test_tenants_are_counted_and_a_lost_table_is_seen(settings: Settings) -> None:
    assert found(examine(settings), "tenants").ok
    with Database(settings.database_path) as database:
        office = TenantStore(database)
        office.create("ann", Limits(monthly_budget=0), 1.0)
    first, second = [one for one in examine(settings) if one.check == "tenants"]
    assert first.found == "1 with a key: ann"
    assert second.optional and "limit ann --budget" in second.advice
    with Database(settings.database_path) as database:
        with database.transaction() as connection:
            connection.execute("DELETE FROM tenant_keys")
            connection.execute("DELETE FROM tenants")
    lost = found(examine(settings), "tenants")
    assert not lost.ok and "tenants.required" in lost.found and lost.advice


def test_the_model_server_is_looked_at_as_the_settings_say(
    settings: Settings, fake_vllm: Any
) -> None:
    def found(**values: Any) -> Finding:
        chosen = settings.model_copy(update={"vllm": VllmSettings(**values)})
        (one,) = [item for item in examine(chosen) if item.check == "model server"]
        return one

    assert found().ok
    assert found().optional
    assert not found(server="service").ok
    assert found(server="url", url=fake_vllm.url).ok
    missing = found(server="url", url=fake_vllm.url, served_names={"tickets": "tickets-v3"})
    assert not missing.ok
    assert "tickets-v3" in missing.found
    assert not found(server="url", url="http://127.0.0.1:9/v1").ok
