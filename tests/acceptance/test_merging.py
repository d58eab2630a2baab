"""Two specialists become one: asked, trained, judged against both, and only then in charge."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from hermes_apprentice.approvals import desk
from hermes_apprentice.dataset.reader import read_dataset
from hermes_apprentice.demo.texts import Sizes, make_corpus
from hermes_apprentice.detector.merging import Corpus, Group
from hermes_apprentice.domain.dataset import Split
from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.merge import MergeState
from hermes_apprentice.domain.pattern import Candidate, CandidateState, Forecast, Pattern
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Stage, Step
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.errors import ReplyError
from hermes_apprentice.pipeline import Pipeline, open_pipeline
from hermes_apprentice.pipeline.merging import propose_alike
from hermes_apprentice.pipeline.steps import in_shadow
from hermes_apprentice.pipeline.views import SpecialistView
from hermes_apprentice.router.loading import RegistrySource
from hermes_apprentice.settings import (
    ApprovalSettings,
    DatasetSettings,
    GateSettings,
    ModelSettings,
    Settings,
)
from hermes_apprentice.storage.approvals import find_proposal, waiting_messages
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore, StoredExchange
from hermes_apprentice.storage.merges import find_merge
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.rollouts import find_rollout, save_rollout
from hermes_apprentice.storage.specialists import find_specialist, save_specialist

NOW = 1_790_000_000.0
MODELS = platformdirs.user_cache_path("hermes-apprentice") / "models"


def exchanges(texts: Sequence[tuple[str, str]], session: str) -> list[Exchange]:
    return [
        Exchange(
            exchange_id=f"{session}-{index:04d}",
            profile="default",
            session_id=f"{session}_{index}",
            source="cli",
            turn_index=0,
            request=request,
            answer=answer,
            model="anthropic/claude-sonnet-4.6",
            asked_at=NOW - 90_000 + index,
            answered_at=NOW - 90_000 + index + 0.5,
            context_chars=0,
            input_tokens=9_000,
            output_tokens=4,
            corrected=False,
            ineligible=None,
        )
        for index, (request, answer) in enumerate(texts)
    ]


def graduate(pipeline: Pipeline, embedder: Embedder, found: Sequence[Exchange], number: int) -> str:
    """Store exchanges as a proposed pattern, as the detector would, and say train."""
    database = pipeline.shop.database
    store = ExchangeStore(database)
    store.upsert([StoredExchange(exchange=one, user_row=1, answer_row=2) for one in found], NOW)
    ids = [one.exchange_id for one in found]
    vectors = embedder.embed([one.request for one in found])
    store.save_embeddings(embedder.digest, ids, vectors)
    group = Group(
        Corpus(vectors, [one.request for one in found], [one.answer for one in found]),
        np.arange(len(found)),
    )
    pattern = Pattern(
        pattern_id=f"pt-{number:012x}",
        slug=f"tickets-{'abc'[number]}",
        label="tickets",
        size=len(found),
        tightness=float(group.cosines.mean()),
        shape=group.shape,
        kind=Kind.CLASSIFIER,
        runs_stable=2,
        first_seen=found[0].asked_at,
        last_seen=found[-1].asked_at,
        max_turn_index=0,
        forecast=Forecast(
            requests_per_day=3.0, cost_per_request=0, coverage=0.8, saved_per_month=0, priced=False
        ),
    )
    candidate = Candidate(
        candidate_id=f"gc-000{number}", pattern=pattern, state=CandidateState.OPEN, created_at=NOW
    )
    with database.transaction() as connection:
        patterns = PatternStore(connection)
        patterns.save(
            StoredPattern(
                pattern=pattern,
                embedder=embedder.digest,
                centre=group.centre,
                radius=group.radius,
            ),
            NOW,
        )
        patterns.add_members(pattern.pattern_id, [(name, 0.8) for name in ids])
        patterns.add_candidate(candidate)
        desk.propose(connection, candidate, pipeline.shop.settings.approvals, NOW)
    pipeline.reply(f"train {candidate.candidate_id}")
    return pattern.slug


def until_idle(pipeline: Pipeline) -> None:
    while pipeline.tick().pending:
        pass


def settings_for(root: Path, gate: GateSettings | None = None) -> Settings:
    return Settings(
        home=root / "apprentice",
        hermes_home=root / "hermes",
        models=ModelSettings(embedder="all-MiniLM-L6-v2", folder=MODELS),
        dataset=DatasetSettings(redact=False),
        gate=gate or GateSettings(),
    )


@pytest.fixture(scope="module")
def tickets() -> list[tuple[str, str]]:
    sizes = Sizes(order=1, ticket=240, chat=1, multi_turn=1, tool=1)
    return [(one.request, one.answer) for one in make_corpus(random.Random(5), sizes).of("ticket")]


@pytest.fixture(scope="module")
def two_served(
    tickets: list[tuple[str, str]], embedder: Embedder, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Two specialists of one task, trained and live."""
    root = tmp_path_factory.mktemp("parents")
    settings = settings_for(root)
    halves = (tickets[::2], [(f"Helpdesk mail. {text}", label) for text, label in tickets[1::2]])
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        for number, half in enumerate(halves):
            graduate(pipeline, embedder, exchanges(half, f"s{number}"), number)
        until_idle(pipeline)
        for view in pipeline.specialists():
            assert view.specialist.step is Step.REGISTERED, view.specialist.reason
            put(database, view.specialist.slug, Stage.LIVE)
    return root


def put(database: Database, slug: str, stage: Stage) -> None:
    """Stand in for the sidecar, which moves a rollout on evidence."""
    with database.transaction() as connection:
        rollout = find_rollout(connection, slug)
        assert rollout is not None
        share = 1.0 if stage is Stage.LIVE else 0.0
        save_rollout(connection, replace(rollout, stage=stage, share=share), NOW)


def stage_of(database: Database, slug: str) -> Stage:
    with database.transaction() as connection:
        rollout = find_rollout(connection, slug)
    assert rollout is not None
    return rollout.stage


def told(database: Database) -> list[str]:
    with database.transaction() as connection:
        return [message.text for message in waiting_messages(connection)]


Copy = Callable[..., Settings]


@pytest.fixture
def served(two_served: Path, tmp_path: Path) -> Copy:
    """Copy the two, so that a story may change them."""

    def copy(gate: GateSettings | None = None) -> Settings:
        shutil.copytree(two_served, tmp_path, dirs_exist_ok=True)
        return settings_for(tmp_path, gate)

    return copy


def test_a_merge_from_the_question_to_the_parents_retirement(served: Copy) -> None:
    settings = served()
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        merge = pipeline.propose_merge("tickets-b", "tickets-a")
        assert "Their shapes are compatible" in told(database)[-1]
        assert pipeline.reply("merge").startswith(f"{merge.merge_id} is accepted by cli")
        until_idle(pipeline)
        name = merge.pattern.slug
        views = {one.specialist.slug: one for one in pipeline.specialists()}
        assert views[name].specialist.step is Step.REGISTERED, views[name].specialist.reason
        assert "passed the gate and is no worse than either" in told(database)[-1]

        # No parent's test, nor anything nearly the same, was learned from.
        runs = {slug: read_dataset(run_of(settings, views[slug])) for slug in views}
        whole = runs[name]
        learned = {one.example_id for one in whole.examples if one.split is not Split.TEST}
        texts = {one.request for one in whole.examples if one.split is not Split.TEST}
        for parent in merge.slugs:
            tested = runs[parent].of(Split.TEST)
            assert len(tested) >= 10
            assert not {one.example_id for one in tested} & learned
            assert not {one.request for one in tested} & texts
        assert len(whole.examples) > 1.8 * len(runs["tickets-a"].examples)

        # The parents serve, and the matcher knows nothing else, until the whole is live.
        assert {stage_of(database, slug) for slug in merge.slugs} == {Stage.LIVE}
        assert stage_of(database, name) is Stage.SHADOW
        assert set(pipeline.shop.registry.open_matcher().details["specialists"]) == {*merge.slugs}

        # The sidecar reaches it through its parents, whose names are signed.
        source = RegistrySource(settings)
        loading = source.load(dict.fromkeys((*merge.slugs, name), 1))
        assert loading.problems == {}
        assert loading.specialists[name].parents == merge.slugs

        put(database, name, Stage.LIVE)
        assert pipeline.tick().matcher_refitted
        loading = source.load({name: 1})
        source.close()
        assert (set(loading.specialists), loading.problems) == ({name}, {})
        assert {stage_of(database, slug) for slug in merge.slugs} == {Stage.RETIRED}
        assert stage_of(database, name) is Stage.LIVE
        assert set(pipeline.shop.registry.open_matcher().details["specialists"]) == {name}
        with database.transaction() as connection:
            patterns = PatternStore(connection)
            members = len(patterns.members(merge.pattern.pattern_id))
            assert [one.pattern_id for one in patterns.patterns()] == [merge.pattern.pattern_id]
        assert members == sum(len(half) for half in (runs["tickets-a"].examples,)) * 2
        assert told(database)[-1].startswith(f"'{name}' is live and takes the place of")

        before = told(database)
        assert not pipeline.tick().matcher_refitted
        assert told(database) == before
        with pytest.raises(ReplyError, match="belongs to a merge that is over"):
            pipeline.tick(retry="tickets-a")
        with pytest.raises(ReplyError, match="was merged into another"):
            pipeline.reply("rollback tickets-a")

        # What comes in later belongs to the whole, and to none of the two.
        more = exchanges([("Helpdesk mail. I cannot log in since Monday.", "bug")] * 3, "late")
        ExchangeStore(database).upsert(
            [StoredExchange(exchange=one, user_row=1, answer_row=2) for one in more], NOW
        )
        pipeline.detect()
        with database.transaction() as connection:
            found = PatternStore(connection).members(merge.pattern.pattern_id)
        assert {one.exchange_id for one in more} <= set(found)


def run_of(settings: Settings, view: SpecialistView) -> Path:
    return settings.runs_dir / view.specialist.run_id / "dataset"


def test_a_merge_that_would_be_worse_for_one_of_the_two_is_refused(served: Copy) -> None:
    lenient = GateSettings(
        min_gain=0.0, agreement_floor=0.2, min_coverage=0.05, target_agreement=0.3
    )
    settings = served(lenient)
    with Database(settings.database_path) as database:
        # What the second was tested on stays as it was; what it would learn from now is wrong.
        labels = sorted(row[0] for row in database.read("SELECT DISTINCT answer FROM exchanges"))
        with database.transaction() as connection:
            for old, new in zip(labels, labels[1:] + labels[:1], strict=True):
                connection.execute(
                    "UPDATE exchanges SET answer = ? WHERE answer = ? AND exchange_id LIKE 's1-%'",
                    (f"{new}.", old),
                )
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        merge = pipeline.propose_merge("tickets-a", "tickets-b")
        pipeline.reply(f"merge {merge.merge_id}")
        until_idle(pipeline)
        view = next(
            one for one in pipeline.specialists() if one.specialist.slug == merge.pattern.slug
        )
        assert view.specialist.step is Step.REJECTED
        assert view.rollout is None
        text = told(database)[-1]
        assert text.startswith("The merge of 'tickets-a' and 'tickets-b' was tried and refused")
        assert "requests of 'tickets-b'" in text
        assert {stage_of(database, slug) for slug in merge.slugs} == {Stage.LIVE}
        assert pipeline.shop.registry.slugs() == merge.slugs
        report = pipeline.specialist(merge.pattern.slug).report
        assert "Right and sure on the" in report


def test_two_operators_at_once_decide_once(served: Copy) -> None:
    settings = served().model_copy(
        update={"approvals": ApprovalSettings(deciders=("telegram:1", "telegram:2"))}
    )
    with Database(settings.database_path) as database:
        handle = open_pipeline(settings, database).propose_merge("tickets-a", "tickets-b").merge_id
    together = threading.Barrier(2)

    def answer(words: str, who: str) -> str:
        with Database(settings.database_path) as own:
            together.wait(timeout=30)
            try:
                return open_pipeline(settings, own).reply(words, who)
            except ReplyError as error:
                return f"refused: {error}"

    with ThreadPoolExecutor(2) as pool:
        said = list(
            pool.map(answer, (f"merge {handle}", f"reject {handle}"), ("telegram:1", "telegram:2"))
        )
    assert sum(one.startswith("refused: ") for one in said) == 1
    with Database(settings.database_path) as database, database.transaction() as connection:
        proposal, merge = find_proposal(connection, handle), find_merge(connection, handle)
    assert proposal is not None and merge is not None
    accepted = proposal.decided_by == "telegram:1"
    assert merge.state is (MergeState.ACCEPTED if accepted else MergeState.DECLINED)


def test_who_may_not_decide_merges_nothing(served: Copy) -> None:
    settings = served()
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database)
        handle = pipeline.propose_merge("tickets-a", "tickets-b").merge_id
        with pytest.raises(ReplyError, match=f"telegram:9 may not decide {handle}"):
            pipeline.reply(f"merge {handle}", "telegram:9")
        with pytest.raises(ReplyError, match="asks that already"):
            pipeline.propose_merge("tickets-b", "tickets-a")
        with pytest.raises(ReplyError, match=r"There is no specialist 'tickets-z'"):
            pipeline.propose_merge("tickets-a", "tickets-z")
        with pytest.raises(ReplyError, match="is one specialist"):
            pipeline.propose_merge("tickets-a", "tickets-a")
        assert len(pipeline.specialists()) == 2


def test_a_pair_of_one_task_is_proposed_by_itself_once(served: Copy) -> None:
    settings = served()
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        (merge,) = propose_alike(pipeline.shop)
        assert merge.asked_by == "detector"
        assert propose_alike(pipeline.shop) == []
        assert pipeline.reply("reject") == (
            f"{merge.merge_id} is rejected by cli: 'tickets-a' and 'tickets-b' stay two."
        )
        assert propose_alike(pipeline.shop) == []
        with pytest.raises(ReplyError, match="The operator rejected"):
            pipeline.propose_merge("tickets-a", "tickets-b", "agent")
        assert pipeline.propose_merge("tickets-a", "tickets-b").merge_id == merge.merge_id


def test_a_merge_ends_when_a_parent_is_taken_out_meanwhile(served: Copy) -> None:
    settings = served()
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        merge = pipeline.propose_merge("tickets-a", "tickets-b")
        pipeline.reply("merge")
        pipeline.reply("demote tickets-a")
        assert pipeline.tick().pending == 0
        assert told(database)[-1] == (
            "The merge of 'tickets-a' and 'tickets-b' is called off: 'tickets-a' is out of "
            "service. Both go on as they are."
        )
        assert stage_of(database, "tickets-b") is Stage.LIVE
        with database.transaction() as connection:
            found = find_merge(connection, merge.merge_id)
        assert found is not None and found.state is MergeState.FAILED


def test_a_merged_specialist_that_fails_beside_its_parents_changes_nothing(served: Copy) -> None:
    settings = served()
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        merge = pipeline.propose_merge("tickets-a", "tickets-b")
        pipeline.reply("merge")
        name = merge.pattern.slug
        with database.transaction() as connection:
            one = find_specialist(connection, name)
            assert one is not None
            save_specialist(connection, replace(one, step=Step.REGISTERED, version=1))
            save_rollout(connection, replace(in_shadow(name, 1, NOW), stage=Stage.QUARANTINED), NOW)
        pipeline.tick()
        assert any("did not agree with the upstream often" in text for text in told(database))
        assert {stage_of(database, slug) for slug in merge.slugs} == {Stage.LIVE}
        with database.transaction() as connection:
            assert len(PatternStore(connection).members(merge.left.pattern.pattern_id)) > 50
        # Asked and accepted again, the earlier attempt's rollout ends nothing.
        again = pipeline.propose_merge("tickets-a", "tickets-b")
        pipeline.reply("merge")
        assert [move.slug for move in pipeline.tick().moves] == [again.pattern.slug]


def tick(settings: Settings, *, until_idle: bool = False) -> subprocess.Popen[bytes]:
    (settings.home / "settings.toml").write_text(
        "[dataset]\nredact = false\n"
        f'[models]\nembedder = "{settings.models.embedder}"\nfolder = "{settings.models_dir}"\n'
    )
    command = [sys.executable, "-m", "hermes_apprentice.interfaces.cli.main", "tick"]
    return subprocess.Popen(
        command + (["--until-idle"] if until_idle else []),
        env={
            **os.environ,
            "APPRENTICE_HOME": str(settings.home),
            "HERMES_HOME": str(settings.hermes_home),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def killed(settings: Settings, after: float) -> bool:
    child = tick(settings, until_idle=True)
    try:
        child.wait(timeout=after)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
    child.communicate(timeout=60)
    return child.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_merge_that_is_killed_anywhere_goes_on_and_does_nothing_twice(served: Copy) -> None:
    settings = served()
    with Database(settings.database_path) as database:
        merge = open_pipeline(settings, database).propose_merge("tickets-a", "tickets-b")
        open_pipeline(settings, database).reply("merge")
    rng = random.Random(3)
    kills = sum(killed(settings, rng.uniform(0.8, 4.0)) for _ in range(3))
    last = tick(settings, until_idle=True)
    _, errors = last.communicate(timeout=240)
    assert last.returncode == 0, errors.decode()
    with Database(settings.database_path) as database:
        put(database, merge.pattern.slug, Stage.LIVE)
    kills += sum(killed(settings, rng.uniform(0.8, 2.5)) for _ in range(1))
    last = tick(settings, until_idle=True)
    _, errors = last.communicate(timeout=240)
    assert last.returncode == 0, errors.decode()
    assert kills > 0
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database)
        assert pipeline.shop.registry.versions(merge.pattern.slug) == (1,)
        assert {stage_of(database, slug) for slug in merge.slugs} == {Stage.RETIRED}
        assert set(pipeline.shop.registry.open_matcher().details["specialists"]) == {
            merge.pattern.slug
        }
        with database.transaction() as connection:
            messages = waiting_messages(connection)
        keys = [one.key.partition(":")[0] for one in messages if one.topic == merge.merge_id]
        assert keys == ["merge", "accepted", "registered", "merge_done"]
    assert len(list(settings.runs_dir.iterdir())) == 3


def test_a_quarantined_specialist_asks_to_be_trained_again_and_keeps_its_test(
    served: Copy, tickets: list[tuple[str, str]]
) -> None:
    settings = served()
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        put(database, "tickets-a", Stage.QUARANTINED)
        pipeline.tick()
        assert not any(text.startswith("'tickets-a' version 1 should") for text in told(database))

        # Newer requests: some that the upstream answered, and one that a specialist did.
        newer = [
            replace(one, asked_at=NOW + index, answered_at=NOW + index + 0.5)
            for index, one in enumerate(
                exchanges([(f"One more: {text}", label) for text, label in tickets[:12]], "new"), 10
            )
        ]
        ExchangeStore(database).upsert(
            [StoredExchange(exchange=one, user_row=1, answer_row=2) for one in newer], NOW
        )
        own = newer[3]
        with database.transaction() as connection:
            PatternStore(connection).add_members(
                "pt-000000000000", [(one.exchange_id, 0.8) for one in newer]
            )
            connection.execute(
                "INSERT INTO ledger (at, request_id, session, call_kind, route, slug, model, "
                "status) VALUES (?, 'r', ?, 'first', 'specialist', 'tickets-a', 'm', 200)",
                (own.asked_at + 0.1, own.session_id),
            )
        before = read_dataset(settings.runs_dir / run_id(pipeline, "tickets-a") / "dataset")
        pipeline.tick()
        pipeline.tick()
        asked = [text for text in told(database) if "should be trained again" in text]
        assert len(asked) == 1
        assert "\n11 newer requests with the upstream's answers" in asked[0]
        assert pipeline.reply("details") == asked[0]
        assert "is trained again at the next tick" in pipeline.reply("train")
        until_idle(pipeline)
        view = next(one for one in pipeline.specialists() if one.specialist.slug == "tickets-a")
        assert (view.specialist.step, view.specialist.version) == (Step.REGISTERED, 2)
        assert view.rollout is not None
        assert (view.rollout.stage, view.rollout.version) == (Stage.SHADOW, 2)
        after = read_dataset(settings.runs_dir / run_id(pipeline, "tickets-a") / "dataset")
        assert set(before.of(Split.TEST)) <= set(after.of(Split.TEST))
        ids = {one.example_id for one in after.examples}
        assert own.exchange_id not in ids
        assert ids & {one.exchange_id for one in newer}


def test_a_training_again_that_is_refused_leaves_the_version_in_service(served: Copy) -> None:
    settings = served(GateSettings(min_coverage=1.0, target_agreement=1.0, min_gain=1.0))
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        pipeline.tick(retry="tickets-b")
        until_idle(pipeline)
        view = next(one for one in pipeline.specialists() if one.specialist.slug == "tickets-b")
        assert view.specialist.step in (Step.REJECTED, Step.WAITING)
        assert view.specialist.version == 1
        assert stage_of(database, "tickets-b") is Stage.LIVE
        assert "version 1 stays as it is" in told(database)[-1]
        assert "tickets-b" in pipeline.shop.registry.open_matcher().details["specialists"]


def test_a_drifting_specialist_asks_once_and_a_sound_one_does_not(served: Copy) -> None:
    settings = served()
    with Database(settings.database_path) as database:
        newer = replace(exchanges([("One more ticket, please.", "bug")], "new")[0], asked_at=NOW)
        ExchangeStore(database).upsert(
            [StoredExchange(exchange=newer, user_row=1, answer_row=2)], NOW
        )
        with database.transaction() as connection:
            for number, slug in enumerate(("tickets-a", "tickets-b")):
                PatternStore(connection).add_members("pt-000000000000", [(newer.exchange_id, 0.8)])
                connection.executemany(
                    "INSERT INTO comparisons (slug, version, at, origin, agreed, answered) "
                    "VALUES (?, 1, ?, 'audit', ?, 1)",
                    [(slug, NOW, index % 2 if number == 0 else 1) for index in range(40)],
                )
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        pipeline.tick()
        pipeline.tick()
        asked = [text for text in told(database) if "should be trained again" in text]
    assert len(asked) == 1
    assert "20 of the last 40 answers equal the upstream's, 80% should" in asked[0]


def test_a_specialist_that_nobody_asks_is_proposed_for_retirement_once(served: Copy) -> None:
    settings = served()
    with Database(settings.database_path) as database:
        later = NOW + 31 * 86_400
        with database.transaction() as connection:
            connection.execute(
                "INSERT INTO ledger (at, request_id, call_kind, route, slug, model, status) "
                "VALUES (?, 'r', 'first', 'specialist', 'tickets-a', 'm', 200)",
                (later - 86_400,),
            )
            connection.execute(
                "INSERT INTO comparisons (slug, version, at, origin, answered) "
                "VALUES ('tickets-b', 1, ?, 'shadow', 1)",
                (NOW + 3_600,),
            )
        for at in (later - 2 * 86_400, later, later + 86_400):
            open_pipeline(settings, database, clock=lambda at=at: at).tick()
        silent = [text for text in told(database) if "has seen no request" in text]
        assert silent == [
            "'tickets-b' version 1 has seen no request of its kind for 31 days.\n"
            "It costs nothing to keep. To retire it, reply: demote tickets-b"
        ]
        pipeline = open_pipeline(settings, database, clock=lambda: later)
        pipeline.reply("demote tickets-b")
        assert stage_of(database, "tickets-b") is Stage.RETIRED


def run_id(pipeline: Pipeline, slug: str) -> str:
    return next(
        one.specialist.run_id for one in pipeline.specialists() if one.specialist.slug == slug
    )
