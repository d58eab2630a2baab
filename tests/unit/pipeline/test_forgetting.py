"""What is forgotten is in no file any more, and whatever learnt from it leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hermes_apprentice.dataset.builder import build_dataset
from hermes_apprentice.domain.accounting import LedgerEntry
from hermes_apprentice.domain.dataset import Dataset, Split
from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.domain.routing import CallKind, Rollout, Route
from hermes_apprentice.domain.specialist import Manifest, Specialist, Stage, Step
from hermes_apprentice.errors import DatasetError, LeaseHeldError, RegistryError, ReplyError
from hermes_apprentice.interfaces.cli.main import run as command
from hermes_apprentice.pipeline import Pipeline, forgetting, open_pipeline, stages
from hermes_apprentice.pipeline.exporting import export_specialist
from hermes_apprentice.pipeline.past import dataset_of
from hermes_apprentice.pipeline.past import tested as earlier_datasets
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.approvals import waiting_messages
from hermes_apprentice.storage.corrections import Correction, CorrectionKind, add_correction
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore, StoredExchange
from hermes_apprentice.storage.forgotten import forgotten_sessions
from hermes_apprentice.storage.lease import lease
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.rollouts import find_rollout, save_rollout
from hermes_apprentice.storage.specialists import find_specialist, save_specialist
from hermes_apprentice.storage.spool import Spool

NOW = 1_790_000_000.0
SLUG = "ticket-label-7f3a"
SESSIONS = 60
SECRETIVE = "session-7"
"""The session that is forgotten; word7w and answer note7n are in it and nowhere else."""


@pytest.fixture
def pipeline(
    settings: Settings,
    database: Database,
    make_exchange: Callable[..., Exchange],
    make_candidate: Callable[..., Candidate],
    make_draft: Callable[..., Manifest],
) -> Pipeline:
    """A specialist in service that was trained on sixty sessions of one exchange each."""
    pipeline = open_pipeline(settings, database, clock=lambda: NOW)
    exchanges = [
        make_exchange(
            f"please label ticket number {n} about word{n}w right now",
            ("bug", "billing")[n % 2],
            session_id=f"session-{n}",
            asked_at=NOW - 1_000_000 + n * 1_000,
            answered_at=NOW - 1_000_000 + n * 1_000 + 5,
        )
        for n in range(SESSIONS)
    ]
    ExchangeStore(database).upsert(
        [StoredExchange(exchange=one, user_row=0, answer_row=0) for one in exchanges], NOW
    )
    candidate = make_candidate("gc-7f3a", slug=SLUG)
    run = pipeline.shop.run_dir("run-1")
    dataset = build_dataset(
        exchanges, candidate.pattern.pattern_id, settings.dataset, None, run / "dataset", NOW
    )
    leave_traces(run / "classifier", dataset)
    draft = make_draft(
        slug=SLUG,
        pattern_id=candidate.pattern.pattern_id,
        dataset=dataset.digest,
        recipe=(("run", "run-1"),),
    )
    pipeline.shop.registry.publish(run / "classifier" / "artefact", draft)
    pipeline.shop.registry.set_alias(SLUG, 1)
    with database.transaction() as connection:
        store = PatternStore(connection)
        centre = np.ones(4, dtype=np.float32) / 2
        store.save(
            StoredPattern(pattern=candidate.pattern, embedder="e", centre=centre, radius=0.5), NOW
        )
        store.add_candidate(candidate)
        store.add_members(
            candidate.pattern.pattern_id, [(one.exchange_id, 0.9) for one in exchanges]
        )
        save_specialist(
            connection,
            Specialist(
                slug=SLUG,
                pattern_id=candidate.pattern.pattern_id,
                candidate_id="gc-7f3a",
                kind=candidate.pattern.kind,
                step=Step.REGISTERED,
                reason="It is signed.",
                run_id="run-1",
                version=1,
                updated_at=NOW,
            ),
        )
        save_rollout(connection, rollout(Stage.LIVE), NOW)
        connection.execute(
            "INSERT INTO ledger (at, request_id, session, call_kind, route, model, status) "
            "VALUES (?, 'r', ?, 'first', 'upstream', 'm', 200)",
            (NOW, SECRETIVE),
        )
        add_correction(connection, correction(SECRETIVE))
    return pipeline


def rollout(stage: Stage) -> Rollout:
    return Rollout(
        slug=SLUG,
        version=1,
        stage=stage,
        share=1.0 if stage is Stage.LIVE else 0.0,
        held=False,
        step_started_at=NOW,
        reason="It agrees.",
    )


def correction(session: str) -> Correction:
    return Correction(
        session_id=session,
        asked_at=NOW,
        kind=CorrectionKind.REJECTED,
        at=NOW,
        request_digest="0" * 32,
    )


def leave_traces(output: Path, dataset: Dataset) -> None:
    """Write what a training and a gate leave beside the dataset."""
    texts = "\n".join(one.request for one in dataset.examples)
    (output / "artefact").mkdir(parents=True)
    (output / "artefact" / "words.json").write_text(texts)
    (output / "work").mkdir()
    (output / "work" / "task.json").write_text(texts)
    (output / "worker.log").write_text(texts)
    predictions = [
        json.dumps({"example_id": one.example_id, "text": one.answer, "confidence": 0.9})
        for one in dataset.examples
        if one.split is not Split.TEST
    ]
    (output / "out_of_fold.jsonl").write_text("\n".join(predictions) + "\n")
    (output / "verdict.md").write_text(
        f"# passed\n\n## Why\n\n- good\n\n## Disagreements\n\n{texts}"
    )
    (output / "verdict.json").write_text("{}")


def files_with(home: Path, text: str) -> list[str]:
    return sorted(
        str(path.relative_to(home))
        for path in home.rglob("*")
        if path.is_file() and text.encode() in path.read_bytes()
    )


def specialist(pipeline: Pipeline) -> Specialist:
    with pipeline.shop.database.transaction() as connection:
        found = find_specialist(connection, SLUG)
    assert found is not None
    return found


def messages(pipeline: Pipeline) -> list[str]:
    with pipeline.shop.database.transaction() as connection:
        return [one.text for one in waiting_messages(connection) if one.topic == "forgotten"]


def left_in(pipeline: Pipeline) -> set[str]:
    manifest = pipeline.shop.registry.open_version(SLUG, 1).manifest
    return {one.request for one in dataset_of(pipeline.shop, manifest).examples}


def test_a_plan_names_what_would_go_and_changes_nothing(pipeline: Pipeline) -> None:
    home = pipeline.shop.settings.home
    before = files_with(home, "word7w")
    assert len(before) >= 6
    found = forgetting.plan(pipeline.shop, [SECRETIVE])
    assert (found.exchanges, found.runs, found.done) == (1, (("run-1", 1),), False)
    assert [(one.slug, one.version, one.examples) for one in found.versions] == [(SLUG, 1, 1)]
    assert "until it is replaced" in found.versions[0].fate
    assert files_with(home, "word7w") == before
    assert not messages(pipeline)


def test_a_forgotten_session_stays_only_in_what_serves_until_it_is_replaced(
    pipeline: Pipeline,
) -> None:
    home = pipeline.shop.settings.home
    forgetting.forget(pipeline.shop, [SECRETIVE])
    assert files_with(home, "word7w") == [f"registry/{SLUG}/1/files/words.json"]
    assert len(left_in(pipeline)) == SESSIONS - 1
    output = pipeline.shop.run_dir("run-1") / "classifier"
    assert sorted(path.name for path in output.iterdir()) == [
        "out_of_fold.jsonl",
        "verdict.json",
        "verdict.md",
    ]
    assert len((output / "out_of_fold.jsonl").read_text().splitlines()) >= 40
    assert "## Why" in (output / "verdict.md").read_text()
    database = pipeline.shop.database
    assert database.read("SELECT * FROM corrections") == []
    assert [row[0] for row in database.read("SELECT session FROM ledger")] == ["forgotten"]
    assert database.read("SELECT * FROM forgetting") == []
    (question,) = pipeline.questions()
    assert question.handle.startswith("rt-")
    (told,) = messages(pipeline)
    assert f"'{SLUG}' version 1" in told
    assert SECRETIVE not in told


def test_a_forgotten_session_leaves_the_calls_that_a_killed_sidecar_left_behind(
    pipeline: Pipeline,
) -> None:
    home = pipeline.shop.settings.home
    spool = Spool(pipeline.shop.settings.spool_dir)
    for name in (SECRETIVE, "session-70"):
        assert spool.add(
            LedgerEntry(
                at=NOW,
                request_id=f"r-{name}",
                session=name,
                call_kind=CallKind.FIRST,
                route=Route.UPSTREAM,
                model="m",
                status=200,
            )
        )
    spool.close()
    assert len(files_with(home / "spool", f'"{SECRETIVE}"')) == 1
    forgetting.forget(pipeline.shop, [SECRETIVE])
    assert files_with(home / "spool", f'"{SECRETIVE}"') == []
    assert len(files_with(home / "spool", '"session-70"')) == 1


def test_nobody_can_write_a_forgotten_session_again(
    pipeline: Pipeline, make_exchange: Callable[..., Exchange]
) -> None:
    forgetting.forget(pipeline.shop, [SECRETIVE])
    store = ExchangeStore(pipeline.shop.database)
    again = make_exchange("word7w once more", session_id=SECRETIVE)
    other = make_exchange("something else", session_id="session-new")
    total = store.counts().total
    store.upsert(
        [StoredExchange(exchange=one, user_row=1, answer_row=2) for one in (again, other)], NOW
    )
    assert store.counts().total == total + 1
    with pipeline.shop.database.transaction() as connection:
        assert not add_correction(connection, correction(SECRETIVE))
        assert add_correction(connection, correction("session-new"))


def test_forgetting_twice_changes_nothing_more(pipeline: Pipeline) -> None:
    forgetting.forget(pipeline.shop, [SECRETIVE])
    digest = dataset_of(pipeline.shop, pipeline.shop.registry.open_version(SLUG, 1).manifest).digest
    found = forgetting.forget(pipeline.shop, [SECRETIVE])
    assert (found.exchanges, found.runs) == (0, ())
    manifest = pipeline.shop.registry.open_version(SLUG, 1).manifest
    assert dataset_of(pipeline.shop, manifest).digest == digest
    assert len(pipeline.questions()) == 1


def test_a_second_session_is_taken_out_of_what_is_left(pipeline: Pipeline) -> None:
    forgetting.forget(pipeline.shop, [SECRETIVE])
    forgetting.forget(pipeline.shop, ["session-8", "session-9"])
    assert len(left_in(pipeline)) == SESSIONS - 3
    card = (pipeline.shop.run_dir("run-1") / "dataset" / "card.md").read_text()
    assert "57 are left" in card


def test_a_dataset_that_somebody_else_reduced_is_refused(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    folder = pipeline.shop.run_dir("run-1") / "dataset"
    forgetting.forget(pipeline.shop, [SECRETIVE])
    shutil.copytree(folder, tmp_path / "one")
    forgetting.forget(pipeline.shop, ["session-8"])
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "one", folder)
    with pytest.raises(DatasetError, match="not the one"):
        left_in(pipeline)


def test_retired_versions_go_at_once_and_cannot_be_resumed(pipeline: Pipeline) -> None:
    home, shop = pipeline.shop.settings.home, pipeline.shop
    forgetting.forget(shop, [SECRETIVE], retire=True)
    assert files_with(home, "word7w") == []
    assert shop.registry.versions(SLUG) == ()
    assert not shop.run_dir("run-1").exists()
    after = specialist(pipeline)
    assert (after.step, after.version) == (Step.WAITING, None)
    assert pipeline.questions() == []
    with shop.database.transaction() as connection:
        found = find_rollout(connection, SLUG)
    assert found is not None
    assert found.stage is Stage.RETIRED
    with pytest.raises(ReplyError, match="was removed"):
        stages.resume(pipeline, SLUG, "a test")


def test_a_version_that_was_kept_can_be_retired_later(pipeline: Pipeline) -> None:
    forgetting.forget(pipeline.shop, [SECRETIVE])
    found = forgetting.forget(pipeline.shop, [], retire=True)
    assert [(one.slug, one.version) for one in found.versions] == [(SLUG, 1)]
    assert files_with(pipeline.shop.settings.home, "word7w") == []
    assert f"'{SLUG}' version 1" in messages(pipeline)[1]


def test_a_version_goes_when_another_takes_its_place(
    pipeline: Pipeline, tmp_path: Path, make_draft: Callable[..., Manifest]
) -> None:
    forgetting.forget(pipeline.shop, [SECRETIVE])
    assert forgetting.drop_tainted(pipeline.shop) == []
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "weights").write_bytes(b"1")
    registry = pipeline.shop.registry
    registry.publish(tmp_path / "next", make_draft(slug=SLUG))
    registry.set_alias(SLUG, 2)
    with pipeline.shop.database.transaction() as connection:
        save_specialist(connection, replace(specialist(pipeline), version=2))
        save_rollout(connection, replace(rollout(Stage.SHADOW), version=2), NOW)
    with pytest.raises(ReplyError, match="forgotten"):
        pipeline.rollback(SLUG, "a test")
    assert forgetting.drop_tainted(pipeline.shop) == [f"'{SLUG}' version 1"]
    assert registry.versions(SLUG) == (2,)
    assert files_with(pipeline.shop.settings.home, "word7w") == []
    assert "version 1 is deleted" in messages(pipeline)[-1]
    assert forgetting.drop_tainted(pipeline.shop) == []


def test_a_version_that_learnt_what_was_forgotten_is_not_exported(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    forgetting.forget(pipeline.shop, [SECRETIVE])
    with pytest.raises(RegistryError, match="forgotten since"):
        export_specialist(pipeline.shop, SLUG, tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_a_version_that_the_operator_retired_goes_too(pipeline: Pipeline) -> None:
    pipeline.demote(SLUG, "a test")
    forgetting.forget(pipeline.shop, [SECRETIVE])
    assert pipeline.shop.registry.versions(SLUG) == ()
    assert specialist(pipeline).version is None


@pytest.mark.parametrize("step", [Step.DATASET_BUILT, Step.TRAINED, Step.VALIDATED])
def test_a_training_under_way_begins_again_without_them(pipeline: Pipeline, step: Step) -> None:
    pipeline.shop.registry.remove(SLUG, 1, current=True)
    with pipeline.shop.database.transaction() as connection:
        save_specialist(connection, replace(specialist(pipeline), step=step, version=None))
        connection.execute("DELETE FROM rollouts")
    forgetting.forget(pipeline.shop, [SECRETIVE])
    after = specialist(pipeline)
    assert after.step is Step.APPROVED
    assert after.run_id != "run-1"
    assert files_with(pipeline.shop.settings.home, "word7w") == []


def test_a_version_whose_dataset_is_gone_counts_by_pattern_and_time(pipeline: Pipeline) -> None:
    shutil.rmtree(pipeline.shop.run_dir("run-1"))
    found = forgetting.plan(pipeline.shop, [SECRETIVE])
    assert [(one.version, one.examples) for one in found.versions] == [(1, 0)]


def test_a_dataset_of_which_nothing_is_left_goes_as_a_whole(pipeline: Pipeline) -> None:
    forgetting.forget(pipeline.shop, [f"session-{n}" for n in range(SESSIONS)])
    assert not (pipeline.shop.run_dir("run-1") / "dataset").exists()
    assert earlier_datasets(pipeline.shop, SLUG, 1) == []
    with pytest.raises(DatasetError, match="were forgotten"):
        left_in(pipeline)


def test_an_unknown_session_is_refused_and_nothing_changes(pipeline: Pipeline) -> None:
    with pytest.raises(ReplyError, match="no session 'nobody'"):
        forgetting.forget(pipeline.shop, [SECRETIVE, "nobody"])
    with pipeline.shop.database.transaction() as connection:
        assert forgotten_sessions(connection) == set()


def test_nothing_is_forgotten_while_a_tick_runs(pipeline: Pipeline) -> None:
    with lease(pipeline.shop.leases, "tick"), pytest.raises(LeaseHeldError):
        forgetting.forget(pipeline.shop, [SECRETIVE])
    assert len(left_in(pipeline)) == SESSIONS


def test_sessions_are_found_by_words_and_forgotten_from_the_command_line(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = pipeline.shop.settings
    monkeypatch.setenv("APPRENTICE_HOME", str(settings.home))
    monkeypatch.setenv("HERMES_HOME", str(settings.hermes_home))
    assert command(["forget", "--containing", "WORD7W"]) == 0
    shown = capsys.readouterr().out
    assert SECRETIVE in shown
    assert "Nothing was changed" in shown
    assert command(["forget", "--containing", "word7_"]) == 1  # no wildcard
    assert command(["forget", SECRETIVE, "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] is True
    assert len(left_in(pipeline)) == SESSIONS - 1
    assert command(["forget"]) == 2


_KILLED = """
import os, sys
seen = 0

def hook(event, arguments):
    global seen
    if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod"):
        path = str(arguments[0])
        writes = event != "open" or (arguments[1] or "r")[0] in "wax" or (arguments[2] & 3)
        if path.startswith(sys.argv[1]) and writes:
            seen += 1
            if seen == int(sys.argv[2]):
                os.kill(os.getpid(), 9)

from hermes_apprentice.pipeline import forgetting, open_pipeline
from hermes_apprentice.settings import load_settings
from hermes_apprentice.storage.database import Database

settings = load_settings()
with Database(settings.database_path) as database:
    pipeline = open_pipeline(settings, database, clock=lambda: 1_790_000_000.0)
    sys.addaudithook(hook)
    forgetting.forget(pipeline.shop, sys.argv[3:])
print(seen)
"""
"""Forgets, and kills itself at the n-th change of a file."""


def forget_until(home: Path, step: int, *sessions: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "APPRENTICE_HOME": str(home),
        "HERMES_HOME": str(home.with_name("hermes")),
    }
    return subprocess.run(
        [sys.executable, "-c", _KILLED, str(home), str(step), *sessions],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_forgetting_killed_at_any_change_of_a_file_is_finished_later(
    pipeline: Pipeline, settings: Settings, tmp_path: Path
) -> None:
    pipeline.shop.database.settle()
    shutil.copytree(settings.home, tmp_path / "whole")
    whole = forget_until(tmp_path / "whole", 0, SECRETIVE)
    assert whole.returncode == 0, whole.stderr
    changes = int(whole.stdout)
    assert changes > 20
    begun = 0
    for step in range(1, changes + 1, max(1, changes // 8)):
        home = tmp_path / f"killed-{step}"
        shutil.copytree(settings.home, home)
        assert forget_until(home, step, SECRETIVE).returncode == -9
        moved = settings.model_copy(update={"home": home})
        with Database(moved.database_path) as database:
            after = open_pipeline(moved, database, clock=lambda: NOW)
            if not database.read("SELECT * FROM forgotten_sessions"):
                continue  # it had not begun, and nothing is lost
            begun += 1
            forgetting.go_on(after.shop)
            assert not forgetting.go_on(after.shop)
            assert len(messages(after)) == 1
            assert files_with(home, "word7w") == [f"registry/{SLUG}/1/files/words.json"]
            assert len(left_in(after)) == SESSIONS - 1
            assert len(after.questions()) == 1
            assert not list(home.rglob("runs/*/.*"))
    assert begun >= 5
