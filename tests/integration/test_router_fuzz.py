"""Ten thousand malformed requests and registry files: a clear error each, no crash, no leak."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.shape import Kind, Shape, ShapeKind
from hermes_apprentice.domain.specialist import Envelope, Manifest
from hermes_apprentice.errors import ApprenticeError
from hermes_apprentice.registry.matchers import MATCHER_FOLDER
from hermes_apprentice.registry.registry import Registry
from hermes_apprentice.registry.signing import load_or_create_keys
from hermes_apprentice.router.server import Sidecar, running_sidecar
from hermes_apprentice.settings import ServerSettings, Settings, UpstreamSettings
from hermes_apprentice.testing import FakeMatcher, FakeSource

REQUESTS, FILES = 7_000, 3_000
KEY, TEXT = "sk-planted-0815", "planted words about a lamp"
PATIENCE = 30.0
IMPATIENCE = 0.3

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 10**30, 1.5e300, "", "x", TEXT, [], [[]], {}, {"a": []}, [None],
    "\ud800", "\x00", {"type": "text", "text": 7}, [{"type": "image_url"}], "9" * 5_000,
)  # fmt: skip
FIELDS = (
    "messages", "model", "tools", "stream", "stream_options", "max_tokens", "n", "stop",
    "response_format", "tool_choice", "modalities", "logprobs", "max_completion_tokens", "audio",
)  # fmt: skip
HEADERS = (
    ("content-encoding", "gzip"), ("content-encoding", "br"), ("content-encoding", "deflate, gzip"),
    ("x-hermes-session-id", "ü" * 300), ("x-hermes-api-call", "-1"), ("x-hermes-api-call", "1e9"),
    ("x-hermes-platform", "\xff"), ("x-apprentice-tenant", "a,b"), ("host", "evil.example"),
    ("host", "[::1"), ("origin", "null"), ("content-length", "7"), ("content-length", "-7"),
    ("transfer-encoding", "chunked"), ("expect", "100-continue"), ("x", "\x01"),
)  # fmt: skip
PATHS = (
    "/v1/chat/completions", "/v1/chat/completions", "/v1/chat/completions", "/v1/models/%ff%00",
    "/v1/", "/v1/../admin", "/apprentice/explain", "/apprentice/explain?text=%ff&turn=9999999",
    "/admin/overview?days=x", "/healthz", "//", "/v1/embeddings", "*", "http://a/v1/models",
)  # fmt: skip


def broken_body(chance: random.Random) -> bytes:
    message: dict[str, Any] = {"role": "user", "content": TEXT}
    value: Any = {"model": "big-one", "messages": [message], "tools": [{"type": "function"}]}
    for _ in range(chance.randrange(1, 4)):
        value[chance.choice(FIELDS)] = chance.choice(VALUES)
    message[chance.choice(("role", "content", "tool_calls"))] = chance.choice(VALUES)
    data = json.dumps(value).encode()
    match chance.randrange(8):
        case 0:
            return data[: chance.randrange(len(data))]
        case 1:
            place = chance.randrange(len(data))
            return data[:place] + chance.randbytes(3) + data[place + 3 :]
        case 2:
            return b"[" * chance.randrange(3_000) + TEXT.encode()
        case 3:
            return chance.choice((b"", b"null", b"NaN", b'"' + TEXT.encode(), b"\xef\xbb\xbf{}"))
        case 4:
            return gzip.compress(data)[: chance.randrange(10, 60)]
    return data


def broken_request(chance: random.Random, host: str) -> bytes:
    body = broken_body(chance)
    headers = {"host": host, "connection": "close", "authorization": f"Bearer {KEY}"}
    headers["content-length"] = str(len(body))
    for name, value in chance.sample(HEADERS, chance.randrange(3)):
        headers[name] = value
    lines = [f"{name}: {value}" for name, value in headers.items()]
    method = chance.choice(("POST", "POST", "POST", "GET", "BREW", "OPTIONS"))
    head = "\r\n".join([f"{method} {chance.choice(PATHS)} HTTP/1.1", *lines, "", ""])
    data = head.encode("latin-1", "replace") + body
    if chance.random() < 0.05:
        place = chance.randrange(len(head))
        data = data[:place] + chance.randbytes(2) + data[place + 2 :]
    return data


async def status_of(port: int, data: bytes) -> tuple[int, bytes]:
    """Send bytes and return status and body; whoever waits for more is told that there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        waiting = asyncio.create_task(reader.read())
        await asyncio.wait({waiting}, timeout=IMPATIENCE)
        if not waiting.done():
            writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            head, _, body = (await waiting).partition(b"\r\n\r\n")
    except ConnectionError:
        return 0, b""
    finally:
        writer.close()
    return (int(head.split(b" ", 2)[1]) if head else 0), body


@pytest.fixture
async def running(settings: Settings) -> Any:
    found = settings.model_copy(
        update={
            "upstream": UpstreamSettings(base_url="http://127.0.0.1:9/v1", api_key_env=""),
            "server": ServerSettings(port=0),
        }
    )
    async with running_sidecar(found, source=FakeSource(FakeMatcher({}))) as sidecar:
        # Where nothing listens, three tries each are not what is tested here.
        for _ in range(3):
            sidecar.parts.upstream.first.breaker.failed()
        yield sidecar


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_no_malformed_request_breaks_anything_or_gets_into_the_log(
    running: Sidecar, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    port = int(running.url.rpartition(":")[2])
    chance, statuses = random.Random(4711), Counter[int]()

    async def ask(count: int) -> None:
        for _ in range(count):
            status, body = await status_of(port, broken_request(chance, f"127.0.0.1:{port}"))
            statuses[status] += 1
            assert status != 500, body
            if status >= 400 and status != 404 and body.startswith(b"{"):
                assert json.loads(body.split(b"\r\n")[0])["error"]["message"]
                assert KEY.encode() not in body

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(ask(REQUESTS // 20))
    assert sum(statuses.values()) == REQUESTS
    print(statuses)
    assert statuses[400] > REQUESTS / 10
    assert statuses[502] > REQUESTS / 20
    status, _ = await status_of(
        port, f"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n".encode()
    )
    assert status == 200
    assert running.parts.metrics.faults == {}
    assert running.parts.metrics.in_flight == 0
    assert KEY not in caplog.text
    assert TEXT not in caplog.text


def signed(root: Path, keys_dir: Path) -> Registry:
    registry = Registry(root, load_or_create_keys(keys_dir))
    artefact = root.parent / "artefact"
    artefact.mkdir()
    (artefact / "weights.npz").write_bytes(TEXT.encode() * 20)
    draft = Manifest(
        format=1,
        slug="label",
        version=0,
        pattern_id="pt-0123456789ab",
        label="label",
        kind=Kind.CLASSIFIER,
        base="fake",
        embedder="e" * 64,
        dataset="d" * 64,
        redaction="none",
        recipe=(("note", KEY),),
        shape=Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing")),
        envelope=Envelope(max_turn_index=2, min_chars=5, max_chars=300, ascii_only=True),
        verdict=Verdict(outcome=Outcome.PASSED, reasons=(TEXT,), scores=None, threshold=0.5),
        created_at=1_790_000_000.0,
        files=(),
    )
    registry.publish(artefact, draft)
    registry.set_alias("label", 1)
    registry.publish_matcher({"matcher.npz": TEXT.encode()}, {"embedder": "e" * 64})
    return registry


def damaged(chance: random.Random, data: bytes) -> bytes:
    place = chance.randrange(len(data))
    match chance.randrange(6):
        case 0:
            return data[:place]
        case 1:
            return (
                data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]
            )
        case 2:
            return chance.randbytes(chance.randrange(200))
        case 3:
            return b"[" * 100_000
        case 4:
            return data[:place] + data[place : place + 9] + data[place:]
    return json.dumps(chance.choice([value for value in VALUES if value != "\ud800"])).encode()


def openings(registry: Registry) -> Iterator[Any]:
    yield lambda: registry.open_version("label", 1)
    yield lambda: registry.alias("label")
    yield registry.open_matcher


@pytest.mark.slow
def test_no_malformed_registry_file_is_opened_or_breaks_anything(tmp_path: Path) -> None:
    registry = signed(tmp_path / "registry", tmp_path / "keys")
    chance = random.Random(4711)
    files = [
        path for path in sorted(registry.root.rglob("*")) if path.is_file() and path.name != ".lock"
    ]
    assert {path.parts[len(registry.root.parts)] for path in files} == {"label", MATCHER_FOLDER}
    whole = [opening() for opening in openings(registry)]
    refused = 0
    for _ in range(FILES):
        path = chance.choice(files)
        before = path.read_bytes()
        path.write_bytes(damaged(chance, before))
        outcomes = []
        for opening, right in zip(openings(registry), whole, strict=True):
            try:
                assert opening() == right
            except ApprenticeError as error:
                outcomes.append(str(error))
        path.write_bytes(before)
        assert all(text and KEY not in text and TEXT not in text for text in outcomes)
        refused += bool(outcomes)
    assert refused > FILES * 0.95
    assert [opening() for opening in openings(registry)] == whole
