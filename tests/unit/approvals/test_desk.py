"""Proposals are decided once, by the right people; messages are delivered at least once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hermes_apprentice.approvals import desk
from hermes_apprentice.approvals.grammar import parse_reply
from hermes_apprentice.approvals.outbox import deliver
from hermes_apprentice.domain.approval import ProposalState
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.errors import ReplyError
from hermes_apprentice.settings import ApprovalSettings
from hermes_apprentice.storage.approvals import (
    decide_proposal,
    find_proposal,
    open_proposals,
    waiting_messages,
)
from hermes_apprentice.storage.database import Database

NOW = 1_790_000_000.0
Make = Callable[..., Candidate]


def propose(database: Database, candidate: Candidate, deciders: tuple[str, ...] = ()) -> None:
    with database.transaction() as connection:
        desk.propose(connection, candidate, ApprovalSettings(deciders=deciders), NOW)


def accept(
    database: Database, text: str, who: str = "cli", at: float = NOW + 1, **answers: str
) -> str:
    with database.transaction() as connection:
        reply = replace(parse_reply(text), **answers)
        proposal = desk.resolve(connection, reply, who, at)
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
    deliver(database, lambda key, text: sent.append(text), NOW)
    assert sent == []


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
    deliver(database, lambda key, text: sent.append(text), later)
    assert len(sent) == 2


@pytest.mark.parametrize(
    ("deciders", "who", "allowed"),
    [
        ((), "cli", True),
        ((), "mcp", True),
        ((), "telegram:4711", False),
        (("telegram:4711",), "telegram:4711", True),
        (("4711",), "telegram:4711", True),
        (("discord:4711",), "telegram:4711", False),
        (("telegram:4711",), "telegram:99", False),
        (("telegram:4711",), "cli", True),
        (("telegram:4711",), "mcp", False),
    ],
)
def test_who_may_decide(deciders: tuple[str, ...], who: str, allowed: bool) -> None:
    assert desk.may_decide(deciders, who) is allowed


def test_a_refused_person_is_told_how_to_change_that(
    database: Database, make_candidate: Make
) -> None:
    propose(database, make_candidate())
    with pytest.raises(ReplyError, match=r'add "telegram:4711" to approvals\.deciders'):
        accept(database, "train gc-7f3a", who="telegram:4711")


def test_somebody_taken_off_the_list_decides_no_more(
    database: Database, make_candidate: Make
) -> None:
    propose(database, make_candidate(), deciders=("telegram:4711",))
    with database.transaction() as connection, pytest.raises(ReplyError, match="may not decide"):
        desk.resolve(connection, parse_reply("train"), "telegram:4711", NOW, deciders=())


def test_a_button_decides_the_question_it_belongs_to(
    database: Database, make_candidate: Make
) -> None:
    propose(database, make_candidate("gc-0001"))
    propose(database, make_candidate("gc-0002"))
    with database.transaction() as connection:
        second = find_proposal(connection, "gc-0002")
    assert second is not None
    assert accept(database, "train", nonce=second.nonce) == "gc-0002"
    with pytest.raises(ReplyError, match="gc-0002 was already accepted by cli"):
        accept(database, "skip", nonce=second.nonce)


def test_a_button_of_a_replaced_question_decides_nothing(
    database: Database, make_candidate: Make
) -> None:
    propose(database, make_candidate())
    with database.transaction() as connection:
        (old,) = open_proposals(connection)
        decide_proposal(connection, old.proposal_id, ProposalState.EXPIRED, "clock", NOW)
    propose(database, make_candidate(size=99))
    with pytest.raises(ReplyError, match="replaced by a newer one"):
        accept(database, "train", nonce=old.nonce)
    with pytest.raises(ReplyError, match="out of date"):
        accept(database, "train", quoted=old.shown)
    with pytest.raises(ReplyError, match="out of date"):
        accept(database, "train gc-7f3a", quoted=old.shown)
    assert accept(database, "train gc-7f3a") == "gc-7f3a"


def test_a_quoted_question_says_which(database: Database, make_candidate: Make) -> None:
    propose(database, make_candidate("gc-0001"))
    propose(database, make_candidate("gc-0002"))
    with database.transaction() as connection:
        first, _ = open_proposals(connection)
    wrapped = f"Cronjob Response: apprentice-outbox\n{first.shown}\nTo stop this job, say so."
    assert accept(database, "train", quoted=wrapped) == "gc-0001"


def test_a_reply_that_names_another_candidate_than_it_quotes_is_asked_back(
    database: Database, make_candidate: Make
) -> None:
    propose(database, make_candidate("gc-0001"))
    propose(database, make_candidate("gc-0002"))
    with database.transaction() as connection:
        first, _ = open_proposals(connection)
    with pytest.raises(ReplyError, match="Which one do you mean"):
        accept(database, "train gc-0002", quoted=first.shown)


def test_of_two_at_once_one_decides_and_the_other_is_told_who(
    database: Database, make_candidate: Make
) -> None:
    propose(database, make_candidate())
    with database.transaction() as connection:
        seen = desk.resolve(connection, parse_reply("train"), "cli", NOW)
    accept(database, "train", who="cli")
    with (
        database.transaction() as connection,
        pytest.raises(ReplyError, match="was accepted by cli a moment ago"),
    ):
        desk.decide(connection, seen, False, "mcp", NOW)


# --- several kinds of questions -----------------------------------------------------------


def ask(database: Database, handle: str, shown: str = "?") -> str:
    with database.transaction() as connection:
        return desk.ask(connection, handle, "subject", shown, ApprovalSettings(), NOW).nonce


def test_a_bare_answer_means_the_only_question_that_is_answered_so(
    database: Database, make_candidate: Make
) -> None:
    propose(database, make_candidate())
    ask(database, "mp-1a2b")
    assert accept(database, "merge") == "mp-1a2b"
    assert accept(database, "train") == "gc-7f3a"
    with pytest.raises(ReplyError, match="Nothing waits for a decision"):
        accept(database, "merge")


def test_details_alone_asks_which_of_two_kinds(database: Database, make_candidate: Make) -> None:
    propose(database, make_candidate())
    ask(database, "mp-1a2b")
    with database.transaction() as connection, pytest.raises(ReplyError, match="Which one"):
        desk.meant(connection, parse_reply("details"))


def test_train_alone_never_merges(database: Database) -> None:
    nonce = ask(database, "mp-1a2b")
    with pytest.raises(ReplyError, match=r"Open: mp-1a2b\."):
        accept(database, "train")
    with pytest.raises(ReplyError, match="mp-1a2b is answered with merge or reject"):
        accept(database, "train", nonce=nonce)
    with pytest.raises(ReplyError, match="mp-1a2b is answered with merge or reject"):
        accept(database, "train", quoted="One specialist could do the work of two (mp-1a2b).")


def test_a_button_of_a_merge_decides_it_once(database: Database) -> None:
    nonce = ask(database, "mp-1a2b")
    assert accept(database, "merge", nonce=nonce) == "mp-1a2b"
    with pytest.raises(ReplyError, match="already accepted by cli"):
        accept(database, "reject", nonce=nonce)


def test_an_old_question_about_a_merge_cannot_be_answered_by_quoting_it(
    database: Database,
) -> None:
    old = "The old words (mp-1a2b).\nReply: merge mp-1a2b"
    ask(database, "mp-1a2b", "The new words (mp-1a2b).\nReply: merge mp-1a2b")
    with pytest.raises(ReplyError, match="out of date"):
        accept(database, "merge", quoted=old)


@pytest.mark.parametrize("handle", ["gc-7f3a", "rt-5c1e0a", "mp-1a2b"])
def test_a_questions_message_tells_its_nonce(database: Database, handle: str) -> None:
    nonce = ask(database, handle)
    with database.transaction() as connection:
        (message,) = waiting_messages(connection)
    assert desk.nonce_of(message.key) == nonce
    assert desk.nonce_of(f"accepted:{nonce}") == ""


def test_an_expired_merge_is_asked_again_only_while_it_makes_sense(database: Database) -> None:
    ask(database, "mp-1a2b")
    ask(database, "mp-3c4d")
    later = NOW + 15 * 86_400
    with database.transaction() as connection:
        renewed = desk.renew_expired(
            connection,
            lambda handle: None,
            ApprovalSettings(),
            later,
            lambda handle: "Again?" if handle == "mp-1a2b" else None,
        )
        assert [one.proposal_id for one in open_proposals(connection)] == ["mp-1a2b"]
    assert renewed == 1
    with pytest.raises(ReplyError, match="mp-3c4d has expired"):
        accept(database, "merge mp-3c4d", at=later)
