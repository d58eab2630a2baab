"""A real MCP client and our server, connected in memory: what is offered, answered, refused."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcp import ClientSession, McpError
from mcp.shared.memory import create_connected_server_and_client_session

from hermes_apprentice.domain.approval import ProposalState
from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.pattern import Candidate, CandidateState
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Specialist, Stage, Step
from hermes_apprentice.interfaces import background
from hermes_apprentice.interfaces.mcp_acting import ACTING, plain
from hermes_apprentice.interfaces.mcp_reading import READING
from hermes_apprentice.interfaces.mcp_reference import tool_reference
from hermes_apprentice.interfaces.mcp_sdk import build_server
from hermes_apprentice.interfaces.mcp_tools import TOOLS, offered
from hermes_apprentice.pipeline import open_pipeline
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.approvals import find_proposal, waiting_messages
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore, StoredExchange
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.rollouts import find_rollout, save_rollout
from hermes_apprentice.storage.specialists import (
    find_specialist,
    list_specialists,
    save_specialist,
)

ROOT = Path(__file__).resolve().parents[2]
MOST_TOKENS = 2_500
"""In every prompt of every session; the bound is counted pessimistically below."""


@pytest.fixture
def placed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("APPRENTICE_HOME", str(settings.home))
    monkeypatch.setenv("HERMES_HOME", str(settings.hermes_home))
    settings.home.mkdir(parents=True)
    return settings


@asynccontextmanager
async def client(read_only: bool = False) -> AsyncIterator[ClientSession]:
    server = build_server(offered(read_only))
    async with create_connected_server_and_client_session(server) as session:
        yield session


async def call(tool: str, /, **arguments: Any) -> dict[str, Any]:
    """Call a tool that must succeed and return its structured answer."""
    async with client() as session:
        answer = await session.call_tool(tool, arguments)
    assert not answer.isError, answer.content
    assert answer.structuredContent is not None
    (block,) = answer.content
    assert json.loads(block.text) == answer.structuredContent  # type: ignore[union-attr]
    return answer.structuredContent


async def refusal(tool: str, /, **arguments: Any) -> str:
    """Call a tool that must fail and return what it says."""
    async with client() as session:
        answer = await session.call_tool(tool, arguments)
    assert answer.isError
    (block,) = answer.content
    return block.text  # type: ignore[union-attr,no-any-return]


def propose(settings: Settings, candidate: Candidate, now: float) -> None:
    """Store a candidate the way detection does."""
    from hermes_apprentice.approvals import desk

    with Database(settings.database_path) as database, database.transaction() as connection:
        store = PatternStore(connection)
        store.save(
            StoredPattern(
                pattern=candidate.pattern, embedder="e", centre=np.ones(4, np.float32), radius=0.5
            ),
            now,
        )
        store.add_candidate(candidate)
        desk.propose(connection, candidate, settings.approvals, now)


def serve(settings: Settings, slug: str, stage: Stage = Stage.LIVE, share: float = 1.0) -> None:
    """Store the rollout of a specialist that answers."""
    rollout = Rollout(
        slug=slug, version=3, stage=stage, share=share, held=False, step_started_at=1.0, reason=""
    )
    with Database(settings.database_path) as database, database.transaction() as connection:
        save_rollout(connection, rollout, 1.0)


def messages(settings: Settings) -> list[str]:
    with Database(settings.database_path) as database, database.transaction() as connection:
        return [message.text for message in waiting_messages(connection)]


def stage_of(settings: Settings, slug: str) -> Stage:
    with Database(settings.database_path) as database, database.transaction() as connection:
        rollout = find_rollout(connection, slug)
    assert rollout is not None
    return rollout.stage


async def test_tools_are_all_that_is_offered(placed: Settings) -> None:
    async with create_connected_server_and_client_session(build_server(TOOLS)) as session:
        offers = (await session.initialize()).capabilities
        assert offers.tools is not None
        assert (offers.resources, offers.prompts, offers.logging) == (None, None, None)
        listed = (await session.list_tools()).tools
    assert [tool.name for tool in listed] == [tool.name for tool in TOOLS]
    assert all(tool.description and len(tool.description) < 160 for tool in listed)


async def test_the_tool_list_stays_small_in_every_prompt(placed: Settings) -> None:
    async with client() as session:
        listed = await session.list_tools()
    text = listed.model_dump_json(by_alias=True, exclude_none=True)
    # Every word, number and single punctuation mark as a token of its own: no tokenizer is worse.
    assert len(re.findall(r"\w+|[^\w\s]", text)) <= MOST_TOKENS


async def test_read_only_offers_reading_and_knows_nothing_else(placed: Settings) -> None:
    async with client(read_only=True) as session:
        listed = (await session.list_tools()).tools
        assert {tool.name for tool in listed} == {tool.name for tool in READING}
        assert all(tool.annotations and tool.annotations.readOnlyHint for tool in listed)
        with pytest.raises(McpError, match="Unknown tool 'demote'"):
            await session.call_tool("demote", {"name": "tickets"})


async def test_every_reading_tool_answers_an_empty_home_and_changes_nothing(
    placed: Settings,
) -> None:
    Database(placed.database_path).close()

    def content() -> list[tuple[Any, ...]]:
        with Database(placed.database_path) as database:
            tables = database.read("SELECT name FROM sqlite_master WHERE type = 'table'")
            return [
                tuple(row)
                for table in tables
                for row in database.read(f"SELECT COUNT(*), ? FROM {table['name']}", (table[0],))
            ]

    before = content()
    arguments: dict[str, dict[str, Any]] = {"explain_route": {"text": "what is the time?"}}
    for tool in READING:
        if tool.name == "specialist_details":
            assert "no specialist 'x'" in await refusal(tool.name, name="x")
        else:
            await call(tool.name, **arguments.get(tool.name, {}))
    assert content() == before


async def test_candidates_come_undecided_first_with_evidence(
    placed: Settings, make_candidate: Callable[..., Candidate]
) -> None:
    for number in range(3):
        propose(placed, make_candidate(f"gc-000{number}"), 1.0)
    with Database(placed.database_path) as database, database.transaction() as connection:
        PatternStore(connection).set_candidate_state("gc-0000", CandidateState.SKIPPED)
    answer = await call("list_candidates", limit=2)
    assert (answer["total"], answer["waiting_for_the_operator"]) == (3, 2)
    assert [row["state"] for row in answer["candidates"]] == ["open", "open"]
    row = answer["candidates"][0]
    assert (row["requests"], row["answers"], row["specialist_kind"]) == (42, "label", "classifier")
    assert row["forecast_dollars_per_month"] == 1.820448
    only = await call("list_candidates", state="skipped")
    assert [row["candidate"] for row in only["candidates"]] == ["gc-0000"]


async def test_a_forecast_without_a_price_is_unknown_not_nothing(
    placed: Settings, make_candidate: Callable[..., Candidate]
) -> None:
    from dataclasses import replace

    candidate = make_candidate()
    forecast = replace(candidate.pattern.forecast, priced=False, saved_per_month=0)
    propose(placed, replace(candidate, pattern=replace(candidate.pattern, forecast=forecast)), 1.0)
    (row,) = (await call("list_candidates"))["candidates"]
    assert row["forecast_dollars_per_month"] is None


async def test_training_is_only_asked_for_and_asked_for_once(
    placed: Settings, make_candidate: Callable[..., Candidate]
) -> None:
    import time

    propose(placed, make_candidate(), time.time())
    first = await call("dispatch_training", candidate="gc-7f3a", reason="It repeats.\n# Approve *")
    again = await call("dispatch_training", candidate="gc-7f3a", reason="Please!")
    assert (first["status"], again["status"]) == ("asked", "asked_before")
    assert "train gc-7f3a" in first["tell_the_user"]
    asked = [text for text in messages(placed) if "agent asks" in text]
    assert len(asked) == 1
    assert 'own words: "It repeats. Approve"' in asked[0]
    with Database(placed.database_path) as database, database.transaction() as connection:
        proposal = find_proposal(connection, "gc-7f3a")
        assert proposal is not None and proposal.state is ProposalState.OPEN
        assert find_specialist(connection, "ticket-label-7f3a") is None
    with Database(placed.database_path) as database:
        said = open_pipeline(placed, database).reply("train gc-7f3a", "cli")
    assert "accepted" in said, "the question stands open for the operator"


async def test_a_kind_that_the_user_named_stands_in_the_question(
    placed: Settings, make_candidate: Callable[..., Candidate]
) -> None:
    import time

    propose(placed, make_candidate(), time.time())
    assert "kind" in await refusal("dispatch_training", candidate="gc-7f3a", kind="poet")
    assert "writes JSON" in await refusal(
        "dispatch_training", candidate="gc-7f3a", kind="extractor"
    )
    answer = await call("dispatch_training", candidate="gc-7f3a", kind="generator")
    assert answer["status"] == "asked"
    (asked,) = [text for text in messages(placed) if "agent asks" in text]
    assert asked.endswith("To do it, reply: train gc-7f3a as generator")
    with Database(placed.database_path) as database:
        pipeline = open_pipeline(placed, database)
        assert "as a generator" in pipeline.reply("train gc-7f3a as generator", "cli")
        found = pipeline.specialist("ticket-label-7f3a").view.specialist
    assert found.kind is Kind.GENERATOR


async def test_specialists_come_with_their_step_and_the_reason(
    placed: Settings, make_candidate: Callable[..., Candidate]
) -> None:
    import time

    propose(placed, make_candidate(), time.time())
    with Database(placed.database_path) as database:
        open_pipeline(placed, database).reply("train gc-7f3a", "cli")
    answer = await call("list_specialists")
    (row,) = answer["specialists"]
    assert (row["name"], row["step"], row["stage"]) == ("ticket-label-7f3a", "approved", None)
    details = await call("specialist_details", name="ticket-label-7f3a")
    assert details["report"] == row["why"] == "The operator said train."
    assert "approved already" in await refusal("dispatch_training", candidate="gc-7f3a")


async def test_what_the_operator_declined_is_not_asked_again(
    placed: Settings, make_candidate: Callable[..., Candidate]
) -> None:
    import time

    propose(placed, make_candidate(), time.time())
    with Database(placed.database_path) as database:
        open_pipeline(placed, database).reply("skip gc-7f3a", "cli")
    before = messages(placed)
    assert "declined" in await refusal("dispatch_training", candidate="gc-7f3a")
    assert messages(placed) == before


@pytest.mark.parametrize("tool", ["demote", "rollback"])
async def test_a_change_of_service_is_only_asked_for(placed: Settings, tool: str) -> None:
    serve(placed, "tickets")
    answer = await call(tool, name="tickets", reason="It was wrong twice.")
    assert answer["status"] == "asked"
    assert f"{tool} tickets" in answer["tell_the_user"]
    assert stage_of(placed, "tickets") is Stage.LIVE
    (text,) = messages(placed)
    assert f"reply: {tool} tickets" in text and "Nothing was done." in text
    assert (await call(tool, name="tickets"))["status"] == "asked_before"


async def test_what_the_operator_allows_is_done_at_once_and_nothing_else(placed: Settings) -> None:
    serve(placed, "tickets")
    (placed.home / "settings.toml").write_text('[mcp]\nallow_actions = ["demote"]\n')
    asked = await call("rollback", name="tickets")
    assert asked["status"] == "asked"
    done = await call("demote", name="tickets")
    assert done["status"] == "done"
    assert stage_of(placed, "tickets") is Stage.RETIRED
    assert "out of service already" in await refusal("demote", name="tickets")


async def test_deciders_are_asked_even_where_the_tool_may_act(placed: Settings) -> None:
    serve(placed, "tickets")
    (placed.home / "settings.toml").write_text(
        '[mcp]\nallow_actions = ["demote"]\n[approvals]\ndeciders = ["telegram:4711"]\n'
    )
    assert "approvals.deciders" in await refusal("demote", name="tickets")
    assert stage_of(placed, "tickets") is Stage.LIVE


async def test_training_that_is_allowed_is_handed_to_a_child(
    placed: Settings, make_candidate: Callable[..., Candidate]
) -> None:
    import fcntl
    import time

    propose(placed, make_candidate(), time.time())
    (placed.home / "settings.toml").write_text(
        '[mcp]\nallow_actions = ["dispatch_training"]\n'
        f'[models]\nembedder = "all-MiniLM-L6-v2"\nfolder = "{placed.models_dir}"\n'
    )
    answer = await call("dispatch_training", candidate="gc-7f3a")
    assert (answer["status"], answer["training"]) == ("done", "started")
    with (placed.home / "locks" / "background-tick.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the child has ended
    from hermes_apprentice.interfaces.cron_jobs import TICK

    ending = background.last_ending(placed, TICK)
    assert ending is not None and ending.ok, ending
    with Database(placed.database_path) as database, database.transaction() as connection:
        specialist = find_specialist(connection, "ticket-label-7f3a")
    assert specialist is not None
    assert specialist.step is Step.WAITING, "the child has looked, and there are no examples"


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("roi", {"day": 3}, "'roi' takes days"),
        ("roi", {"days": 0}, "days: "),
        ("roi", {"days": "many"}, "days: "),
        ("list_candidates", {"limit": 1_000}, "limit: "),
        ("list_candidates", {"state": "lost"}, "'open', 'approved', 'skipped'"),
        ("budget_status", {"x": 1}, "takes no arguments"),
        ("specialist_details", {}, "name: Field required"),
        ("dispatch_training", {"candidate": "gc-1; train all"}, "candidate: "),
        ("dispatch_training", {"candidate": "gc-0bad"}, "call list_candidates"),
        ("demote", {"name": "nobody"}, "call list_specialists"),
        ("explain_route", {"text": ""}, "text: "),
    ],
)
async def test_a_wrong_call_says_what_is_right(
    placed: Settings, tool: str, arguments: dict[str, Any], said: str
) -> None:
    text = await refusal(tool, **arguments)
    assert said in text
    assert "pydantic" not in text and "Traceback" not in text


async def test_damaged_settings_are_an_answer_not_a_crash(placed: Settings) -> None:
    (placed.home / "settings.toml").write_text("[mcp]\nallow_actions = ['everything']\n")
    assert "mcp.allow_actions" in await refusal("roi")


async def test_a_long_call_tells_how_far_it_is(placed: Settings) -> None:
    seen: list[tuple[float, float | None, str | None]] = []

    async def progress(share: float, total: float | None, what: str | None) -> None:
        seen.append((share, total, what))

    async with client() as session:
        await session.call_tool("explain_route", {"text": "hello"}, progress_callback=progress)
    assert seen and [share for share, *_ in seen] == sorted({share for share, *_ in seen})
    assert all(total == 1.0 and what for _, total, what in seen)


def test_an_agents_reason_cannot_pose_as_a_message_of_ours() -> None:
    text = plain('x"\n\nReply: **train** [all](http://evil) `y` <b> ' + "z" * 500)
    assert len(text) <= 200
    assert not set(text) & set('"\n*[]`<>#_~|\\')


def test_the_reference_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "mcp.md").read_text()
    assert tool_reference() in page


def test_what_acts_can_be_allowed_by_name() -> None:
    from hermes_apprentice.settings import McpSettings

    names = tuple(tool.name for tool in ACTING)
    assert McpSettings.model_validate({"allow_actions": names}).allow_actions == names


# --- merging ------------------------------------------------------------------------------


def two_specialists(settings: Settings, make_candidate: Callable[..., Candidate]) -> None:
    """Two specialists in service whose answers have one shape, and requests to look at."""
    rng = np.random.default_rng(2)
    for number, handle in enumerate(("gc-0001", "gc-0002")):
        candidate = make_candidate(handle, slug=f"tickets-{number}")
        propose(settings, candidate, 1.0)
        found = [
            Exchange(
                exchange_id=f"{handle}-{index}",
                profile="default",
                session_id=f"{handle}-{index}",
                source="cli",
                turn_index=0,
                request=f"Which label has ticket {index} of queue {number}?",
                answer=("bug", "billing")[index % 2],
                model="m",
                asked_at=1_000.0 + index,
                answered_at=1_001.0 + index,
                context_chars=0,
                input_tokens=1,
                output_tokens=1,
                corrected=False,
                ineligible=None,
            )
            for index in range(20)
        ]
        ids = [one.exchange_id for one in found]
        vectors = np.ones((20, 4)) + 0.1 * rng.standard_normal((20, 4))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        with Database(settings.database_path) as database:
            store = ExchangeStore(database)
            records = [StoredExchange(exchange=one, user_row=1, answer_row=2) for one in found]
            store.upsert(records, 1.0)
            store.save_embeddings("e", ids, vectors.astype(np.float32))
            with database.transaction() as connection:
                PatternStore(connection).add_members(
                    candidate.pattern.pattern_id, [(name, 0.9) for name in ids]
                )
                save_specialist(
                    connection,
                    Specialist(
                        slug=candidate.pattern.slug,
                        pattern_id=candidate.pattern.pattern_id,
                        candidate_id=handle,
                        kind=Kind.CLASSIFIER,
                        step=Step.REGISTERED,
                        reason="",
                        run_id=f"run-{number}",
                        version=3,
                        updated_at=1.0,
                    ),
                )
        serve(settings, candidate.pattern.slug)


async def test_a_merge_is_only_asked_for_with_evidence(
    placed: Settings, make_candidate: Callable[..., Candidate]
) -> None:
    two_specialists(placed, make_candidate)
    answer = await call("propose_merge", first="tickets-0", second="tickets-1")
    assert answer["status"] == "asked"
    assert answer["shapes_are_compatible"] is True
    handle = answer["tell_the_user"].rpartition(" ")[2]
    text = messages(placed)[-1]
    assert text.endswith(f"Reply: merge {handle} · reject {handle} · details {handle}")
    (asked,) = (await call("list_candidates", state="open"))["questions_about_specialists"]
    assert (asked["handle"], asked["about"]) == (handle, "merge 'tickets-0' and 'tickets-1'")
    shown = await call("specialist_details", name="tickets-1")
    assert handle in shown["merge"]
    assert (shown["target_agreement"], shown["runs"], shown["runs_failed"]) == (0.8, 0, 0)
    assert "not measured yet" in shown["upstream_with_itself"]
    with Database(placed.database_path) as database, database.transaction() as connection:
        assert len(list_specialists(connection)) == 2
    assert f"{handle} asks that already" in await refusal(
        "propose_merge", first="tickets-1", second="tickets-0"
    )
    with Database(placed.database_path) as database:
        open_pipeline(placed, database).reply(f"reject {handle}")
    assert (await call("list_candidates"))["questions_about_specialists"] == []
    assert (await call("specialist_details", name="tickets-1"))["merge"] is None
    assert "The operator rejected" in await refusal(
        "propose_merge", first="tickets-0", second="tickets-1"
    )
    assert "There is no specialist 'x'" in await refusal(
        "propose_merge", first="x", second="tickets-1"
    )


async def test_a_merge_that_is_allowed_begins_at_once(
    placed: Settings, make_candidate: Callable[..., Candidate]
) -> None:
    import fcntl

    two_specialists(placed, make_candidate)
    (placed.home / "settings.toml").write_text(
        '[mcp]\nallow_actions = ["propose_merge"]\n'
        f'[models]\nembedder = "all-MiniLM-L6-v2"\nfolder = "{placed.models_dir}"\n'
    )
    answer = await call("propose_merge", first="tickets-0", second="tickets-1")
    assert (answer["status"], answer["training"]) == ("done", "started")
    with (placed.home / "locks" / "background-tick.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the child has ended
    assert stage_of(placed, "tickets-0") is Stage.LIVE
    with Database(placed.database_path) as database, database.transaction() as connection:
        (merged,) = [one for one in list_specialists(connection) if one.version is None]
    assert merged.step is Step.FAILED, "the child has looked, and the parents were never signed"
