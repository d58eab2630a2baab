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
from hermes_apprentice.plugin.tab import fetch_page, sidecar_of
from hermes_apprentice.settings import ServerSettings, Settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "apprentice"
    folder.mkdir()
    monkeypatch.setenv("APPRENTICE_HOME", str(folder))
    return folder


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} for {self.headers['Host']}")
            refused = "refuse" in self.server.refusing  # type: ignore[attr-defined]
            self.send_response(403 if refused else 200)
            self.end_headers()
            self.wfile.write("<p>ü".encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        running.refusing = asked  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


def note(home: Path, url: str) -> None:
    (home / "sidecar.json").write_text(json.dumps({"pid": 1, "url": url}))


def test_the_page_is_fetched_from_where_the_sidecar_says_it_listens(
    home: Path, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = server
    note(home, url)
    # A proxy in the environment is not the way to this machine.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert fetch_page() == {"html": "<p>ü"}
    assert asked == [f"/dashboard?embedded=on for {url.removeprefix('http://')}"]


def test_a_refusal_and_a_sidecar_that_is_down_are_said(
    home: Path, server: tuple[str, list[str]]
) -> None:
    url, asked = server
    asked.append("refuse")
    note(home, url)
    assert "refused to show its page (403)" in fetch_page()["problem"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    note(home, f"http://127.0.0.1:{port}")
    assert "apprentice serve" in fetch_page()["problem"]


def test_settings_that_cannot_be_read_are_said(home: Path) -> None:
    (home / "settings.toml").write_text("[server\n")
    assert "settings.toml" in fetch_page()["problem"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 5}', '{"url": "file:///etc/passwd"}'])
def test_a_note_that_makes_no_sense_is_passed_by(settings: Settings, text: str) -> None:
    settings.home.mkdir()
    (settings.home / "sidecar.json").write_text(text)
    local = settings.model_copy(update={"server": ServerSettings(host="::1", port=4_711)})
    assert sidecar_of(local) == "http://[::1]:4711"


def test_the_manifest_names_files_that_are_there() -> None:
    files = dashboard_files()
    manifest = json.loads(files["manifest.json"])
    assert {"manifest.json", manifest["entry"], manifest["api"]} == set(files)
