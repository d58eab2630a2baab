from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Manifest, Specialist, Stage, Step
from hermes_apprentice.errors import ConfigError, LeaseHeldError
from hermes_apprentice.pipeline import Pipeline
from hermes_apprentice.pipeline.housekeeping import DAY, clean
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.lease import lease
from hermes_apprentice.storage.rollouts import save_rollout
from hermes_apprentice.storage.specialists import save_specialist

NOW = 1_790_000_000.0
SLUG = "order-mails"


@pytest.fixture
def shop(settings: Settings, database: Database) -> Workshop:
    return Workshop(settings, database, clock=lambda: NOW)


@pytest.fixture
def publish(
    shop: Workshop, artefact: Path, make_draft: Callable[..., Manifest]
) -> Callable[[str], int]:
    def make(run: str) -> int:
        version = shop.registry.publish(artefact, make_draft(recipe=(("run", run),))).version
        shop.registry.set_alias(SLUG, version)
        make_run(shop, run)
        return version

    return make


def make_run(shop: Workshop, run: str, age_days: float = 90) -> Path:
    folder = shop.run_dir(run) / "dataset"
    folder.mkdir(parents=True)
    (folder / "examples.jsonl").write_text("{}\n")
    moment = NOW - age_days * DAY
    for path in (folder / "examples.jsonl", folder, folder.parent):
        os.utime(path, (moment, moment))
    return folder.parent


def serve(shop: Workshop, version: int) -> None:
    rollout = Rollout(
        slug=SLUG,
        version=version,
        stage=Stage.LIVE,
        share=1.0,
        held=False,
        step_started_at=NOW,
        reason="It agrees.",
    )
    with shop.database.transaction() as connection:
        save_rollout(connection, rollout, NOW)


def test_without_apply_nothing_goes(shop: Workshop, publish: Callable[[str], int]) -> None:
    for run in ("run-a", "run-b", "run-c"):
        publish(run)
    found = clean(shop)
    assert [waste.what for waste in found] == [f"version 1 of '{SLUG}'", "run run-a"]
    assert all(waste.size > 0 and waste.path.exists() for waste in found)
    assert shop.registry.versions(SLUG) == (1, 2, 3)


def test_old_versions_and_their_runs_go(shop: Workshop, publish: Callable[[str], int]) -> None:
    for run in ("run-a", "run-b", "run-c"):
        publish(run)
    clean(shop, apply=True)
    assert shop.registry.versions(SLUG) == (2, 3)
    assert sorted(path.name for path in shop.settings.runs_dir.iterdir()) == ["run-b", "run-c"]
    assert clean(shop, apply=True) == ()


def test_what_is_served_never_goes(shop: Workshop, publish: Callable[[str], int]) -> None:
    for run in ("run-a", "run-b", "run-c"):
        publish(run)
    serve(shop, 1)
    clean(shop, keep=1, apply=True)
    assert shop.registry.versions(SLUG) == (1, 3)
    assert shop.run_dir("run-a").exists()


def test_a_present_run_and_a_young_one_stay(shop: Workshop) -> None:
    make_run(shop, "run-present")
    make_run(shop, "run-young", age_days=3)
    make_run(shop, "run-old")
    with shop.database.transaction() as connection:
        connection.execute("PRAGMA defer_foreign_keys = ON")
        connection.execute(
            "INSERT INTO patterns VALUES ('pt-1', ?, '{}', '', x'00', 0.5, ?)", (SLUG, NOW)
        )
        save_specialist(
            connection,
            Specialist(
                slug=SLUG,
                pattern_id="pt-1",
                candidate_id="gc-1a2b",
                kind=Kind.EXTRACTOR,
                step=Step.REJECTED,
                reason="The gate said no.",
                run_id="run-present",
                version=None,
                updated_at=NOW,
            ),
        )
    assert [waste.what for waste in clean(shop, apply=True)] == ["run run-old"]
    assert not shop.run_dir("run-old").exists()


def test_a_version_that_was_tampered_with_hides_no_run(
    shop: Workshop, publish: Callable[[str], int]
) -> None:
    publish("run-a")
    (shop.registry.root / SLUG / "1" / "manifest.sig").write_text("{}")
    clean(shop, apply=True)
    assert shop.registry.versions(SLUG) == (1,)


def test_nothing_goes_while_a_tick_runs(shop: Workshop, publish: Callable[[str], int]) -> None:
    for run in ("run-a", "run-b", "run-c"):
        publish(run)
    with lease(shop.leases, "tick"), pytest.raises(LeaseHeldError):
        clean(shop, apply=True)
    assert shop.registry.versions(SLUG) == (1, 2, 3)


def test_one_version_has_to_stay(shop: Workshop) -> None:
    with pytest.raises(ConfigError, match="keep"):
        clean(shop, keep=0)


def old_call(shop: Workshop, age_days: float) -> None:
    with shop.database.transaction() as connection:
        connection.execute(
            "INSERT INTO ledger (at, request_id, call_kind, route, model, status) "
            "VALUES (?, 'r', 'first', 'upstream', 'm', 200)",
            (NOW - age_days * DAY,),
        )


def calls(shop: Workshop) -> tuple[int, int]:
    sums = shop.database.read("SELECT COALESCE(SUM(calls), 0) FROM ledger_days")[0][0]
    return shop.database.read("SELECT COUNT(*) FROM ledger")[0][0], sums


def test_old_calls_are_listed_and_with_apply_added_up(shop: Workshop) -> None:
    for age in (10, 399, 402, 900):
        old_call(shop, age)
    (found,) = clean(shop)
    assert "2 old calls" in found.what
    assert calls(shop) == (4, 0)
    clean(shop, apply=True)
    assert calls(shop) == (2, 2)
    assert clean(shop) == ()


def test_a_tick_adds_up_old_calls_by_itself(shop: Workshop) -> None:
    old_call(shop, 402)
    old_call(shop, 1)
    Pipeline(shop).tick()
    assert calls(shop) == (1, 1)
