"""Hermes' dashboard asks the sidecar for its page."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from hermes_apprentice.assets import dashboard_files
from hermes_apprentice.interfaces.own_page import sidecar_of
from hermes_apprentice.plugin.tab import page_for_tab
from hermes_apprentice.settings import IsolationSettings, ServerSettings, Settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "apprentice"
    folder.mkdir()
    monkeypatch.setenv("APPRENTICE_HOME", str(folder))
    return folder


@pytest.fixture
def server() -> Iterator[tuple[str, list[str], list[str]]]:
    asked: list[str] = []
    keys: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} for {self.headers['Host']}")
            keys.append(self.headers["Authorization"] or "")
            codes = [int(one) for one in asked if one.isdecimal()]
            self.send_response(codes[0] if codes else 200)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write("<p>ü".encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked, keys
        running.shutdown()
        thread.join()


def note(home: Path, url: str) -> None:
    (home / "sidecar.json").write_text(json.dumps({"pid": 1, "url": url}))


def test_the_page_is_fetched_from_where_the_sidecar_says_it_listens(
    home: Path, server: tuple[str, list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked, keys = server
    note(home, url)
    # A proxy in the environment is not the way to this machine.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert page_for_tab() == {"html": "<p>ü"}
    assert asked == [f"/dashboard?embedded=on for {url.removeprefix('http://')}"]
    assert keys == [""]


def test_the_operators_key_is_sent_to_the_sidecar_and_what_to_do_without_it_is_said(
    home: Path, server: tuple[str, list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked, keys = server
    note(home, url)
    monkeypatch.setenv("APPRENTICE_ADMIN_KEY", "ap-invented")
    assert "html" in page_for_tab()
    assert keys == ["Bearer ap-invented"]
    asked.append("401")
    refused = page_for_tab()["problem"]
    assert "is not it" in refused
    assert "ap-invented" not in refused
    monkeypatch.delenv("APPRENTICE_ADMIN_KEY")
    advice = page_for_tab()["problem"]
    assert "apprentice tenants admin-key" in advice
    assert "APPRENTICE_ADMIN_KEY=" in advice


def test_the_operators_key_follows_no_redirection(
    home: Path, server: tuple[str, list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked, keys = server
    asked.append("302")
    note(home, url)
    monkeypatch.setenv("APPRENTICE_ADMIN_KEY", "ap-invented")
    assert "(302)" in page_for_tab()["problem"]
    assert keys == ["Bearer ap-invented"]


def test_where_the_setup_was_told_an_address_that_one_is_asked(settings: Settings) -> None:
    settings.home.mkdir()
    note(settings.home, "http://172.17.0.1:8765")
    told = IsolationSettings(profile="docker", sidecar_url="http://host.docker.internal:8765/v1/")
    outside = settings.model_copy(update={"isolation": told})
    assert sidecar_of(outside) == "http://host.docker.internal:8765"
    assert sidecar_of(settings) == "http://172.17.0.1:8765"


def test_a_refusal_and_a_sidecar_that_is_down_are_said(
    home: Path, server: tuple[str, list[str], list[str]]
) -> None:
    url, asked, _keys = server
    asked.append("403")
    note(home, url)
    assert "refused to show its page (403)" in page_for_tab()["problem"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    note(home, f"http://127.0.0.1:{port}")
    assert "apprentice serve" in page_for_tab()["problem"]


def test_settings_that_cannot_be_read_are_said(home: Path) -> None:
    (home / "settings.toml").write_text("[server\n")
    assert "settings.toml" in page_for_tab()["problem"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 5}', '{"url": "file:///etc/passwd"}'])
def test_a_note_that_makes_no_sense_is_passed_by(settings: Settings, text: str) -> None:
    settings.home.mkdir()
    (settings.home / "sidecar.json").write_text(text)
    local = settings.model_copy(update={"server": ServerSettings(host="::1", port=4_711)})
    assert sidecar_of(local) == "http://[::1]:4711"
    everywhere = settings.model_copy(update={"server": ServerSettings(host="0.0.0.0", port=4_711)})
    assert sidecar_of(everywhere) == "http://127.0.0.1:4711"


def test_the_manifest_names_files_that_are_there() -> None:
    files = dashboard_files()
    manifest = json.loads(files["manifest.json"])
    assert {"manifest.json", manifest["entry"], manifest["api"]} == set(files)
