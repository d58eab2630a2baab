"""The matcher and its word filter as traffic and registry change, and after a restart."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.routing import FILTER_FILE, MATCHER_FILE
from hermes_apprentice.domain.shape import Kind, Shape, ShapeKind
from hermes_apprentice.domain.specialist import Manifest, Specialist, Step
from hermes_apprentice.embedding.views import matching_vectors
from hermes_apprentice.pipeline import matching
from hermes_apprentice.pipeline.matching import bound_of, refit_matcher
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.registry.matchers import MATCHER_FOLDER
from hermes_apprentice.settings import Settings
from hermes_apprentice.statistics.open_set import OpenSetModel
from hermes_apprentice.statistics.word_filter import WordFilter
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore, StoredExchange
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.specialists import save_specialist
from hermes_apprentice.testing import FakeEmbedder

NOW = 1_790_000_000.0
SHAPE = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing"), median_chars=5)
PLACES = ("app", "site", "export", "search", "login", "report", "upload", "invoice", "chat", "map")
TICKETS = [
    f"label this ticket: the {place} {what} since update {number}"
    for place in PLACES
    for what in ("crashes", "freezes", "is slow", "shows nothing")
    for number in range(4)
]
ORDERS = [f"read this order of {count} {thing} for {place}" for count in range(6) for thing in
          ("chairs", "lamps", "desks") for place in PLACES[:6]]  # fmt: skip
STORIES = [
    f"tell me a {mood} story about a {hero} and {count} old ships"
    for mood in ("sad", "merry", "long", "short")
    for hero in ("dragon", "sailor", "baker", "queen", "robot")
    for count in range(12)
]
SONGS = [f"sing a song number {count} on green hills by the sea" for count in range(60)]
ASKED = [*TICKETS[::7], *ORDERS[::7], *STORIES[::11], *SONGS[::9], "what is the time", "hm"]

Tell = Callable[..., list[str]]
Register = Callable[..., None]


def opened(settings: Settings, database: Database) -> Workshop:
    """A workshop as a new process would open it."""
    shop = Workshop(settings, database, clock=lambda: NOW)
    shop.embedder = FakeEmbedder(64)  # type: ignore[misc]
    return shop


@pytest.fixture
def shop(settings: Settings, database: Database) -> Workshop:
    return opened(settings, database)


@pytest.fixture
def tell(database: Database, make_exchange: Callable[..., Exchange]) -> Tell:
    """Let somebody ask, and return the names of what was asked."""

    def tell(texts: list[str], answer: str) -> list[str]:
        found = [
            make_exchange(text, answer, session_id=f"s-{text}", asked_at=NOW - 5_000 + index)
            for index, text in enumerate(texts)
        ]
        ExchangeStore(database).upsert(
            [StoredExchange(exchange=one, user_row=1, answer_row=2) for one in found], NOW
        )
        return [one.exchange_id for one in found]

    return tell


@pytest.fixture
def register(
    database: Database,
    shop: Workshop,
    artefact: Path,
    make_draft: Callable[..., Manifest],
    make_candidate: Callable[..., Any],
) -> Register:
    """Put a version of a specialist into the registry, with the requests of its pattern."""

    def register(slug: str, members: list[str]) -> None:
        pattern = make_candidate(f"gc-{sum(slug.encode()):04x}", slug=slug).pattern
        manifest = make_draft(
            slug=slug, pattern_id=pattern.pattern_id, kind=Kind.CLASSIFIER, shape=SHAPE
        )
        version = shop.registry.publish(artefact, manifest).version
        centre = shop.embedder.embed([slug])[0]
        with database.transaction() as connection:
            patterns = PatternStore(connection)
            patterns.save(
                StoredPattern(pattern=pattern, embedder="e", centre=centre, radius=0.5), NOW
            )
            patterns.add_members(pattern.pattern_id, [(name, 0.9) for name in members])
            save_specialist(
                connection,
                Specialist(
                    slug=slug,
                    pattern_id=pattern.pattern_id,
                    candidate_id=f"gc-{sum(slug.encode()):04x}",
                    kind=Kind.CLASSIFIER,
                    step=Step.REGISTERED,
                    reason="",
                    run_id="run-1",
                    version=version,
                    updated_at=NOW,
                ),
            )

    return register


def decisions(shop: Workshop) -> list[tuple[object, bool | None]]:
    """What the newest published matcher and its filter say about many texts."""
    files = shop.registry.open_matcher().files
    model = OpenSetModel.from_bytes(files[MATCHER_FILE])
    words = WordFilter.from_bytes(files[FILTER_FILE]) if FILTER_FILE in files else None
    taken = model.decide(matching_vectors(shop.embedder.encode(ASKED)))
    return [
        (decision, None if words is None else words.check(text).rejected)
        for decision, text in zip(taken, ASKED, strict=True)
    ]


def classes(shop: Workshop) -> tuple[str, ...]:
    return OpenSetModel.from_bytes(shop.registry.open_matcher().files[MATCHER_FILE]).classes


def test_the_same_state_is_fitted_once_and_decides_the_same_after_a_restart(
    shop: Workshop, tell: Tell, register: Register, settings: Settings, database: Database
) -> None:
    tell(STORIES, "Once upon a time.")
    register("label-ticket", tell(TICKETS, "bug"))
    assert refit_matcher(shop)
    before = decisions(shop)
    assert {rejected for _, rejected in before} == {True, False}  # there is a filter, and it acts
    again = opened(settings, database)
    assert not refit_matcher(again)
    assert decisions(again) == before
    # Even where the file is gone, the same state gives the same decisions.
    shutil.rmtree(settings.registry_dir / MATCHER_FOLDER)
    assert refit_matcher(opened(settings, database))
    assert decisions(again) == before


def test_a_new_specialist_gets_its_class_and_its_words(
    shop: Workshop, tell: Tell, register: Register
) -> None:
    tell(STORIES, "Once upon a time.")
    register("label-ticket", tell(TICKETS, "bug"))
    orders = tell(ORDERS, "Ten chairs.")
    assert refit_matcher(shop)
    first = dict(zip(ASKED, decisions(shop), strict=True))
    assert bound_of(shop, "read-orders") is None
    register("read-orders", orders)
    assert refit_matcher(shop)
    assert classes(shop) == ("label-ticket", "read-orders")
    second = dict(zip(ASKED, decisions(shop), strict=True))
    turned_away = [text for text in ORDERS[::7] if first[text][1]]
    assert turned_away  # by a filter to which orders were other traffic
    assert not any(second[text][1] for text in turned_away)
    assert bound_of(shop, "read-orders") is not None
    register("label-ticket", [])  # another version of what is known
    assert refit_matcher(shop)
    assert not refit_matcher(shop)


def test_more_traffic_is_learned_by_both_once_it_is_a_fifth_more(
    shop: Workshop, tell: Tell, register: Register
) -> None:
    tell(STORIES, "Once upon a time.")
    register("label-ticket", tell(TICKETS, "bug"))
    assert refit_matcher(shop)
    before = shop.registry.open_matcher()
    tell(SONGS, "La la la.")
    assert not refit_matcher(shop)  # 60 more to 400 are no fifth
    tell([f"{text}, please" for text in SONGS], "La la la.")
    assert refit_matcher(shop)
    after = shop.registry.open_matcher()
    assert after.number == before.number + 1
    assert after.details["background"] == before.details["background"] + 2 * len(SONGS)
    found = [WordFilter.from_bytes(one.files[FILTER_FILE]) for one in (before, after)]
    assert found[0].to_bytes() != found[1].to_bytes()


def test_without_enough_texts_to_bound_its_loss_there_is_no_filter(
    shop: Workshop, tell: Tell, register: Register
) -> None:
    tell(STORIES, "Once upon a time.")
    register("label-ticket", tell(TICKETS[:60], "bug"))
    assert refit_matcher(shop)
    assert set(shop.registry.open_matcher().files) == {MATCHER_FILE}
    register("label-ticket", tell(TICKETS, "bug"))
    assert refit_matcher(shop)
    assert set(shop.registry.open_matcher().files) == {MATCHER_FILE, FILTER_FILE}


def test_a_matcher_of_an_older_method_is_replaced(
    shop: Workshop, tell: Tell, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(STORIES, "Once upon a time.")
    register("label-ticket", tell(TICKETS[:40], "bug"))
    with monkeypatch.context() as patched:
        patched.setattr(matching, "METHOD", "an older one")
        assert refit_matcher(shop)
    assert refit_matcher(shop)


def test_the_signed_record_says_what_is_proven_about_each_pattern(
    shop: Workshop, tell: Tell, register: Register
) -> None:
    assert bound_of(shop, "label-ticket") is None  # nothing was fitted yet
    tell(STORIES, "Once upon a time.")
    register("label-ticket", tell(TICKETS, "bug"))
    assert refit_matcher(shop)
    found = bound_of(shop, "label-ticket")
    model = OpenSetModel.from_bytes(shop.registry.open_matcher().files[MATCHER_FILE])
    assert found == model.bound_of(0)
    assert found is not None and found.background == len(STORIES)
    assert not found.achieved  # 240 other requests prove no 0.5 %
    assert bound_of(shop, "nobody") is None
