"""The real Hermes lists our skills, and pays little for them in its prompt."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Kind, Shape, ShapeKind
from hermes_apprentice.domain.specialist import Envelope, Manifest, Specialist, Stage, Step
from hermes_apprentice.pipeline import open_pipeline
from hermes_apprentice.registry.skills import OWN_SKILLS, sync_skills
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.rollouts import save_rollout
from hermes_apprentice.storage.specialists import save_specialist

ROOT = Path(__file__).resolve().parents[2]
HERMES = Path(sys.executable).with_name("hermes")
MOST_TOKENS = 400
"""For all our skills in the prompt, by four characters to a token."""

with_hermes = pytest.mark.skipif(not HERMES.exists(), reason="hermes-agent is not installed here")

MANIFEST = Manifest(
    format=1,
    slug="x",
    version=1,
    pattern_id="pt-0123456789ab",
    label="ticket, label, billing, invoice, crash",
    kind=Kind.CLASSIFIER,
    base="all-MiniLM-L6-v2",
    embedder="e" * 64,
    dataset="d" * 64,
    redaction="none",
    recipe=(),
    shape=Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing")),
    envelope=Envelope(max_turn_index=0, min_chars=1, max_chars=900, ascii_only=False),
    verdict=Verdict(
        outcome=Outcome.PASSED, reasons=("All checks passed.",), scores=None, threshold=0.9
    ),
    created_at=1.0,
    files=(),
)


class Upstream(BaseHTTPRequestHandler):
    """Says one sentence, and keeps the system prompts."""

    server: FakeUpstream

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self.path.endswith("/chat/completions"):
            self.send_error(404)
            return
        self.server.prompts.append(body["messages"][0]["content"])
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "fake-big"}
        delta = {"role": "assistant", "content": "Fine."}
        for choices in (
            [{"index": 0, "delta": delta, "finish_reason": None}],
            [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        ):
            chunk = {**head, "choices": choices}
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")


class FakeUpstream(ThreadingHTTPServer):
    """A model endpoint."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Upstream)
        self.prompts: list[str] = []


@pytest.fixture
def upstream(settings: Settings) -> Iterator[FakeUpstream]:
    """The endpoint, with a Hermes home that reads our skills."""
    server = FakeUpstream()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings.skills_dir.mkdir(parents=True)
    settings.hermes_home.mkdir(parents=True)
    (settings.hermes_home / "config.yaml").write_text(
        json.dumps(
            {
                "model": {
                    "provider": "custom",
                    "default": "fake-big",
                    "base_url": f"http://127.0.0.1:{server.server_port}/v1",
                    "api_key": "sk-invented",
                    "context_length": 131_072,
                },
                "skills": {"external_dirs": [str(settings.skills_dir), str(ROOT / "skills")]},
            }
        )
    )
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def hermes(settings: Settings, *arguments: str) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    done = subprocess.run(
        [HERMES, *arguments],
        env={
            **kept,
            "HERMES_HOME": str(settings.hermes_home),
            "HOME": str(settings.home.parent),
            "NO_COLOR": "1",
            "COLUMNS": "200",
        },
        cwd=settings.home.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    return done.stdout + done.stderr


def specialists(number: int) -> list[Manifest]:
    return [replace(MANIFEST, slug=f"label-ticket-{count:02}") for count in range(number)]


def publish(settings: Settings, database: Database, slug: str) -> Path:
    """Sign and register a specialist, live; returns the folder of its version."""
    registry = open_pipeline(settings, database).shop.registry
    artefact = settings.home / "run" / slug
    artefact.mkdir(parents=True)
    (artefact / "model.npz").write_bytes(slug.encode())
    signed = registry.publish(artefact, replace(MANIFEST, slug=slug, version=0))
    registry.set_alias(slug, signed.version)
    pattern_id = f"pt-{slug:0>12}"
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO patterns VALUES (?, ?, '{}', 'e', x'00', 0.5, 1)", (pattern_id, slug)
        )
        save_specialist(
            connection,
            Specialist(
                slug=slug,
                pattern_id=pattern_id,
                candidate_id="gc-7f3a",
                kind=Kind.CLASSIFIER,
                step=Step.REGISTERED,
                reason="",
                run_id="run-1",
                version=signed.version,
                updated_at=1.0,
            ),
        )
        save_rollout(
            connection,
            Rollout(
                slug=slug,
                version=signed.version,
                stage=Stage.LIVE,
                share=1.0,
                held=False,
                step_started_at=1.0,
                reason="",
            ),
            1.0,
        )
    return settings.registry_dir / slug / str(signed.version)


def test_a_demoted_and_a_damaged_specialist_lose_their_skills(
    settings: Settings, database: Database
) -> None:
    for slug in ("good", "demoted", "damaged"):
        folder = publish(settings, database, slug)
    pipeline = open_pipeline(settings, database)

    def skills() -> set[str]:
        return {path.name.removeprefix("specialist-") for path in settings.skills_dir.iterdir()}

    pipeline.sync_skills()
    assert skills() == {"good", "demoted", "damaged"}
    pipeline.demote("demoted", "a test asked for it")
    assert skills() == {"good", "damaged"}
    (model,) = folder.rglob("model.npz")
    model.chmod(0o600)
    model.write_bytes(b"other")
    pipeline.sync_skills()
    assert skills() == {"good"}


@pytest.mark.slow
@with_hermes
def test_live_specialists_are_listed_and_demoted_ones_are_not(
    settings: Settings, upstream: FakeUpstream
) -> None:
    sync_skills(settings.skills_dir, specialists(2))
    listed = hermes(settings, "skills", "list")
    names = set(re.findall(r"specialist-label-ticket-\d\d", listed))
    assert names == {"specialist-label-ticket-00", "specialist-label-ticket-01"}
    assert re.search(r"\bapprentice\b.*enabled", listed), listed
    sync_skills(settings.skills_dir, specialists(1))
    listed = hermes(settings, "skills", "list")
    assert "specialist-label-ticket-00" in listed
    assert "specialist-label-ticket-01" not in listed


@pytest.mark.slow
@with_hermes
@pytest.mark.parametrize("number", [1, OWN_SKILLS, 100])
def test_the_prompt_stays_small_however_many_there_are(
    settings: Settings, upstream: FakeUpstream, number: int
) -> None:
    sync_skills(settings.skills_dir, specialists(number))
    assert "Fine." in hermes(settings, "-z", "Hello.")
    block = re.search(r"<available_skills>.*</available_skills>", upstream.prompts[0], re.DOTALL)
    assert block is not None
    ours = [line for line in block.group().splitlines() if re.search("specialist|apprentice", line)]
    assert any(re.match(r"\s*- apprentice\b", line) for line in ours), ours
    assert any("specialist" in line for line in ours)
    if number <= OWN_SKILLS:
        assert sum("Answered by itself: ticket, label, billing" in line for line in ours) == number
    else:
        assert any(f"The {number} recurring tasks" in line for line in ours)
    tokens = sum(len(line) + 1 for line in ours) / 4
    assert tokens <= MOST_TOKENS
