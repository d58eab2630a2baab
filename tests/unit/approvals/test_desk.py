"""Proposals are decided once, by the right people; messages are delivered at least once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hermes_apprentice.approvals import desk
from hermes_apprentice.approvals.grammar import parse_reply
from hermes_apprentice.domain.approval import ProposalState
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.errors import DeliveryError, ReplyError
from hermes_apprentice.settings import ApprovalSettings
from hermes_apprentice.storage.approvals import add_message, find_proposal
from hermes_apprentice.storage.database import Database

NOW = 1_790_000_000.0
Make = Callable[..., Candidate]


def propose(database: Database, candidate: Candidate, deciders: tuple[str, ...] = ()) -> None:
    with database.transaction() as connection:
        desk.propose(connection, candidate, ApprovalSettings(deciders=deciders), NOW)


def accept(database: Database, text: str, who: str = "cli", at: float = NOW + 1) -> str:
    with database.transaction() as connection:
        proposal = desk.resolve(connection, parse_reply(text), who, at)
        desk.decide(connection, proposal, True, who, at)
        return proposal.proposal_id


def test_a_proposal_is_decided_once(database: Database, make_candidate: Make) -> None:
    propose(database, make_candidate())
    assert accept(database, "train gc-7f3a") == "gc-7f3a"
    with pytest.raises(ReplyError, match="already accepted by cli"):
        accept(database, "train gc-7f3a")


def test_a_bare_train_means_the_only_open_proposal(
    database: Database, make_candidate: Make
) -> None:
    propose(database, make_candidate("gc-0001"))
    assert accept(database, "train") == "gc-0001"


def test_a_bare_train_asks_which_when_two_are_open(
    database: Database, make_candidate: Make
) -> None:
    propose(database, make_candidate("gc-0001"))
    propose(database, make_candidate("gc-0002"))
    with pytest.raises(ReplyError, match=r"Which one do you mean\? Open: gc-0001, gc-0002"):
        accept(database, "train")


def test_only_named_people_decide(database: Database, make_candidate: Make) -> None:
    propose(database, make_candidate(), deciders=("4711",))
    with pytest.raises(ReplyError, match="99 may not decide"):
        accept(database, "train gc-7f3a", who="99")
    assert accept(database, "train gc-7f3a", who="4711") == "gc-7f3a"


def test_an_expired_proposal_cannot_be_accepted(database: Database, make_candidate: Make) -> None:
    propose(database, make_candidate())
    with pytest.raises(ReplyError, match="has expired"):
        accept(database, "train gc-7f3a", at=NOW + 15 * 86_400)


def test_a_second_proposal_of_the_same_candidate_does_not_replace_an_open_one(
    database: Database, make_candidate: Make
) -> None:
    propose(database, make_candidate())
    with database.transaction() as connection:
        first = find_proposal(connection, "gc-7f3a")
    propose(database, make_candidate())
    with database.transaction() as connection:
        assert find_proposal(connection, "gc-7f3a") == first


def test_a_rolled_back_change_leaves_no_message(database: Database, make_candidate: Make) -> None:
    with pytest.raises(RuntimeError), database.transaction() as connection:
        desk.propose(connection, make_candidate(), ApprovalSettings(), NOW)
        raise RuntimeError
    sent: list[str] = []
    desk.deliver(database, lambda key, text: sent.append(text), NOW)
    assert sent == []


def test_a_failed_delivery_stays_and_holds_back_its_topic_only(database: Database) -> None:
    with database.transaction() as connection:
        for topic, key in (("a", "a1"), ("a", "a2"), ("b", "b1")):
            add_message(connection, topic, key, f"text {key}", NOW)
    sent: list[str] = []

    def flaky(key: str, text: str) -> None:
        if key == "a1" and not sent:
            sent.append("tried a1")
            raise DeliveryError("down")
        sent.append(key)

    assert desk.deliver(database, flaky, NOW) == desk.Delivery(delivered=1, failed=1)
    assert desk.deliver(database, flaky, NOW) == desk.Delivery(delivered=2, failed=0)
    assert sent == ["tried a1", "b1", "a1", "a2"]


def test_the_same_event_makes_one_message(database: Database) -> None:
    with database.transaction() as connection:
        assert add_message(connection, "a", "k", "one", NOW)
        assert not add_message(connection, "a", "k", "two", NOW)
    sent: list[str] = []
    desk.deliver(database, lambda key, text: sent.append(text), NOW)
    assert sent == ["one"]


def test_a_process_killed_between_sending_and_recording_sends_again(database: Database) -> None:
    with database.transaction() as connection:
        add_message(connection, "a", "k", "hello", NOW)
    keys: list[str] = []

    def die_after_sending(key: str, text: str) -> None:
        keys.append(key)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.deliver(database, die_after_sending, NOW)
    desk.deliver(database, lambda key, text: keys.append(key), NOW)
    assert keys == ["k", "k"]


def test_a_declined_proposal_is_kept_as_declined(database: Database, make_candidate: Make) -> None:
    propose(database, make_candidate())
    with database.transaction() as connection:
        proposal = desk.resolve(connection, parse_reply("skip gc-7f3a"), "cli", NOW)
        desk.decide(connection, proposal, False, "cli", NOW)
    with database.transaction() as connection:
        kept = find_proposal(connection, "gc-7f3a")
    assert kept is not None
    assert (kept.state, kept.decided_by) == (ProposalState.DECLINED, "cli")


def test_an_expired_question_is_asked_again_with_a_new_nonce(
    database: Database, make_candidate: Make
) -> None:
    propose(database, make_candidate())
    later = NOW + 15 * 86_400
    with database.transaction() as connection:
        before = find_proposal(connection, "gc-7f3a")
        renewed = desk.renew_expired(
            connection, lambda handle: make_candidate(handle), ApprovalSettings(), later
        )
        after = find_proposal(connection, "gc-7f3a")
    assert renewed == 1
    assert before is not None and after is not None
    assert after.nonce != before.nonce
    assert accept(database, "train gc-7f3a", at=later + 1) == "gc-7f3a"
    sent: list[str] = []
    desk.deliver(database, lambda key, text: sent.append(text), NOW)
    assert len(sent) == 2
