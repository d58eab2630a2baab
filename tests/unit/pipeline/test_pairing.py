"""What may be merged, and what is refused with advice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.merge import MergeState, merge_digest
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Specialist, Stage, Step
from hermes_apprentice.domain.tenant import Limits
from hermes_apprentice.errors import ReplyError
from hermes_apprentice.pipeline import Pipeline
from hermes_apprentice.pipeline.merging import accept, propose, propose_alike, settle
from hermes_apprentice.pipeline.pairing import look
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.approvals import open_proposals
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore, StoredExchange
from hermes_apprentice.storage.merges import find_merge
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.rollouts import save_rollout
from hermes_apprentice.storage.specialists import find_specialist, save_specialist
from hermes_apprentice.storage.tenants import TenantStore, owner_of

NOW = 1_790_000_000.0
LABELS = ("bug", "billing")
MakeCandidate = Callable[..., Candidate]
MakeExchange = Callable[..., Exchange]


@pytest.fixture
def add(
    database: Database, make_candidate: MakeCandidate, make_exchange: MakeExchange
) -> Callable[..., None]:
    """Put a specialist into service, with twenty requests around a direction."""

    def add(
        slug: str,
        *,
        towards: float = 0.0,
        answers: tuple[str, ...] = LABELS,
        stage: Stage = Stage.LIVE,
        step: Step = Step.REGISTERED,
        kind: Kind = Kind.CLASSIFIER,
        embedder: str = "e",
        requests: int = 20,
    ) -> None:
        digits = f"{sum(slug.encode()):04x}"
        found = [
            make_exchange(
                f"Ticket {index} of {slug}, please.",
                answers[index % len(answers)],
                session_id=f"{slug}-{index}",
                asked_at=NOW - 1_000 + index,
            )
            for index in range(requests)
        ]
        noise = np.random.default_rng(3).standard_normal((requests, 8)) * 0.02
        direction = np.array([np.cos(towards), np.sin(towards), *[0.0] * 6])
        vectors = noise + direction
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        centre = direction.astype(np.float32)
        store = ExchangeStore(database)
        store.upsert([StoredExchange(exchange=one, user_row=1, answer_row=2) for one in found], NOW)
        ids = [one.exchange_id for one in found]
        store.save_embeddings(embedder, ids, vectors.astype(np.float32))
        pattern = make_candidate(f"gc-{digits}", slug=slug, kind=kind, size=requests).pattern
        with database.transaction() as connection:
            patterns = PatternStore(connection)
            patterns.save(
                StoredPattern(pattern=pattern, embedder=embedder, centre=centre, radius=0.5), NOW
            )
            patterns.add_members(pattern.pattern_id, [(name, 0.9) for name in ids])
            save_specialist(
                connection,
                Specialist(
                    slug=slug,
                    pattern_id=pattern.pattern_id,
                    candidate_id=f"gc-{digits}",
                    kind=kind,
                    step=step,
                    reason="",
                    run_id=f"run-{slug}",
                    version=1,
                    updated_at=NOW,
                ),
            )
            save_rollout(
                connection,
                Rollout(
                    slug=slug,
                    version=1,
                    stage=stage,
                    share=1.0,
                    held=False,
                    step_started_at=NOW,
                    reason="",
                ),
                NOW,
            )

    return add


@pytest.fixture
def shop(settings: Settings, database: Database) -> Workshop:
    return Workshop(settings, database, clock=lambda: NOW)


def test_two_of_one_task_are_alike_in_either_order(
    shop: Workshop, add: Callable[..., None]
) -> None:
    add("left")
    add("right", towards=0.5)
    merge = look(shop, "right", "left", "cli")
    assert merge.alike
    assert merge.slugs == ("left", "right")
    assert merge.cosine == pytest.approx(np.cos(0.5), abs=0.02)
    assert merge.pattern.size == 40
    assert (merge.left.fit, merge.right.fit) == (1.0, 1.0)
    assert merge.merge_id == f"mp-{merge_digest('right', 'left')[:4]}"
    assert look(shop, "left", "right", "cli") == merge


def test_far_requests_are_no_one_task_though_their_answers_fit(
    shop: Workshop, add: Callable[..., None]
) -> None:
    add("left")
    add("right", towards=1.5)
    merge = look(shop, "left", "right", "cli")
    assert not merge.alike
    assert propose_alike(shop) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stage": Stage.QUARANTINED}, "'right' is quarantined, so it cannot be merged"),
        ({"stage": Stage.RETIRED}, "'right' is retired, so it cannot be merged"),
        ({"step": Step.TRAINED}, r"'right' is not registered \(trained\)"),
        ({"kind": Kind.EXTRACTOR}, "'right' for an extractor|of different shapes"),
        ({"embedder": "other"}, "run 'apprentice detect'"),
        (
            {"answers": tuple(f"A text of its own, {n}, about it." for n in range(20))},
            "no shape in",
        ),
    ],
)
def test_what_cannot_be_merged_is_refused_with_the_reason(
    shop: Workshop, add: Callable[..., None], changes: dict[str, Any], said: str
) -> None:
    add("left")
    add("right", **changes)
    with pytest.raises(ReplyError, match=said):
        propose(shop, "left", "right", "cli")
    assert propose_alike(shop) == []
    with shop.database.transaction() as connection:
        assert open_proposals(connection) == []


def test_a_specialist_takes_part_in_one_merge_at_a_time(
    shop: Workshop, add: Callable[..., None]
) -> None:
    for slug in ("left", "right", "third"):
        add(slug)
    merge = propose(shop, "left", "right", "cli")
    with shop.database.transaction() as connection:
        accept(connection, merge, "run-1", "cli", NOW)
    with pytest.raises(ReplyError, match=f"'left' takes part in {merge.merge_id}"):
        propose(shop, "left", "third", "cli")
    with pytest.raises(ReplyError, match="is not registered"):
        propose(shop, merge.pattern.slug, "third", "cli")


def test_a_proposal_about_a_version_that_was_replaced_decides_nothing(
    shop: Workshop, add: Callable[..., None]
) -> None:
    add("left")
    add("right")
    merge = propose(shop, "left", "right", "cli")
    with shop.database.transaction() as connection:
        right = find_specialist(connection, "right")
        assert right is not None
        save_specialist(connection, replace(right, version=2))
    with shop.database.transaction() as connection:
        with pytest.raises(ReplyError, match="is out of date: 'right' has another version"):
            accept(connection, merge, "run-1", "cli", NOW)
    # The stale question makes room for a new one, with another nonce.
    with shop.database.transaction() as connection:
        (before,) = open_proposals(connection)
    propose(shop, "left", "right", "cli")
    with shop.database.transaction() as connection:
        (after,) = open_proposals(connection)
    assert before.nonce != after.nonce
    assert "'left'" in after.shown


def test_a_declined_pair_is_proposed_again_when_it_has_grown(
    shop: Workshop, add: Callable[..., None]
) -> None:
    add("left")
    add("right")
    (merge,) = propose_alike(shop)
    Pipeline(shop).reply("reject")
    assert propose_alike(shop) == []
    add("left", requests=65)
    assert [one.merge_id for one in propose_alike(shop)] == [merge.merge_id]


def test_what_belongs_to_different_tenants_stays_apart(
    shop: Workshop, add: Callable[..., None]
) -> None:
    add("left")
    add("right")
    tenants = TenantStore(shop.database)
    for name in ("ann", "bob"):
        tenants.create(name, Limits(), NOW)
    tenants.assign("left", "ann")
    with pytest.raises(ReplyError, match="'left' belongs to ann and 'right' to everybody"):
        propose(shop, "left", "right", "cli")
    tenants.assign("right", "ann")
    merge = propose(shop, "left", "right", "cli")
    with shop.database.transaction() as connection:
        accept(connection, merge, "run-1", "cli", NOW)
        assert owner_of(connection, merge.pattern.slug) == "ann"
    tenants.assign("right", "bob")
    settle(shop)
    with shop.database.transaction() as connection:
        found = find_merge(connection, merge.merge_id)
    assert found is not None and found.state is MergeState.FAILED
