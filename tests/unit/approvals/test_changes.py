"""What the operator reads about merging, training again, and retirement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hermes_apprentice.approvals import changes, messages
from hermes_apprentice.approvals.outbox import SENT_AGAIN
from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.merge import Merge, MergeState, Parent
from hermes_apprentice.domain.pattern import Candidate

NOW = 1_790_000_000.0
Make = Callable[..., Candidate]


@pytest.fixture
def merge(make_candidate: Make) -> Merge:
    def parent(handle: str, slug: str, compared: int) -> Parent:
        return Parent(
            slug=slug,
            version=1,
            pattern=make_candidate(handle, slug=slug).pattern,
            compared=compared,
            agreed=max(0, compared - 2),
            fit=0.98,
        )

    return Merge(
        merge_id="mp-1a2b",
        left=parent("gc-0001", "order-mail", 80),
        right=parent("gc-0002", "order-read", 0),
        pattern=make_candidate("gc-0003", slug="order", size=84).pattern,
        cosine=0.714,
        alike=True,
        asked_by="detector",
        state=MergeState.PROPOSED,
        updated_at=NOW,
    )


def test_the_question_says_what_is_merged_and_what_is_tested_first(merge: Merge) -> None:
    assert changes.merge_question(merge) == (
        "One specialist could do the work of two (mp-1a2b).\n"
        "'order-mail': 42 requests, one of 2 labels, 78 of 80 answers equal the upstream's.\n"
        "'order-read': 42 requests, one of 2 labels, no answer compared yet.\n"
        "Together: 84 requests, one of 2 labels. Their shapes are compatible: 98% and 98% of "
        "their answers fit that; similarity of their requests 0.71.\n"
        "Before anything changes, 'order' has to pass the gate, be no worse than each of the two "
        "on what that one was tested on, and then earn its traffic. Until it is live both go on "
        "as they are.\n"
        "Reply: merge mp-1a2b · reject mp-1a2b · details mp-1a2b"
    )


def test_a_doubtful_pair_is_called_doubtful(merge: Merge) -> None:
    text = changes.merge_question(replace(merge, alike=False, cosine=0.31))
    assert "Not surely one task: 98% and 98% of their answers fit that" in text
    assert "compatible" not in text


def test_details_of_a_merge_say_what_the_rule_says(merge: Merge) -> None:
    assert changes.merge_details(merge) == (
        "mp-1a2b: 'order-mail' version 1 and 'order-read' version 1 (proposed), proposed by "
        "detector\n"
        "Answers that fit the common shape: 98% and 98%.\n"
        "Similarity of the requests: 0.71. The same task by the detector's rule.\n"
        "The whole: classifier, one of 2 labels, agreement 97%.\n"
        "Tested before anything changes: the gate, then both test sets of the two, on which the "
        "merged one may be neither less often right nor more often wrong."
    )


def test_confirmations_say_that_the_parents_go_on(merge: Merge) -> None:
    assert changes.merge_accepted(merge, "telegram:4711") == (
        "mp-1a2b is accepted by telegram:4711: 'order' is trained at the next tick. "
        "'order-mail' and 'order-read' go on as they are."
    )
    assert changes.merge_declined(merge, "cli") == (
        "mp-1a2b is rejected by cli: 'order-mail' and 'order-read' stay two."
    )


@pytest.mark.parametrize(
    ("outcome", "opening"),
    [
        (
            Outcome.PASSED,
            "'order', merged from 'order-mail' and 'order-read', passed the gate and is no worse "
            "than either. It now runs in shadow; both go on until it is live.",
        ),
        (
            Outcome.REJECTED,
            "The merge of 'order-mail' and 'order-read' was tried and refused; both go on "
            "unchanged.",
        ),
        (
            Outcome.INCONCLUSIVE,
            "The merge of 'order-mail' and 'order-read' could not be judged yet; both go on "
            "unchanged. Try again with: apprentice tick --retry order",
        ),
    ],
)
def test_the_verdict_on_a_merge_says_what_becomes_of_the_parents(
    merge: Merge, outcome: Outcome, opening: str
) -> None:
    verdict = Verdict(outcome=outcome, reasons=("First.",), scores=None, threshold=0.5)
    assert changes.merge_verdict(merge, verdict) == f"{opening}\n- First."


def test_the_end_of_a_merge_is_told_either_way(merge: Merge) -> None:
    assert changes.merge_done(merge) == (
        "'order' is live and takes the place of 'order-mail' and 'order-read', which are retired. "
        "Their requests belong to it from now on; their versions stay in the registry."
    )
    assert changes.merge_called_off(merge, "'order-mail' has another version now") == (
        "The merge of 'order-mail' and 'order-read' is called off: 'order-mail' has another "
        "version now. Both go on as they are."
    )


def test_training_again_is_asked_with_the_reason_and_all_answers() -> None:
    assert changes.retraining_question(
        "rt-5c1e0a", "order", 2, "it is quarantined, it fell", 1
    ) == (
        "'order' version 2 should be trained again (rt-5c1e0a): it is quarantined, it fell.\n"
        "1 newer request with the upstream's answers came in since it was trained, those that it "
        "got wrong among them. What it was tested on stays the test, and newer requests are added "
        "to it. The new version starts in shadow.\n"
        "Reply: train rt-5c1e0a · skip rt-5c1e0a · details rt-5c1e0a · demote order"
    )
    assert changes.retraining_queued("rt-5c1e0a", "order", "cli") == (
        "rt-5c1e0a is accepted by cli: 'order' is trained again at the next tick. Until the new "
        "version is registered nothing changes."
    )


def test_a_refused_retraining_says_that_the_old_version_stays() -> None:
    verdict = Verdict(outcome=Outcome.REJECTED, reasons=("First.",), scores=None, threshold=0.5)
    assert changes.retraining_verdict("order", 2, verdict) == (
        "The new training of 'order' did not pass the gate; version 2 stays as it is.\n- First."
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(label=st.text(max_size=2_000), reason=st.text(max_size=3_000))
def test_whatever_is_in_it_a_message_fits_and_means_the_same_in_markdown(
    merge: Merge, label: str, reason: str
) -> None:
    strange = replace(merge, pattern=replace(merge.pattern, label=label))
    verdict = Verdict(outcome=Outcome.REJECTED, reasons=(reason,), scores=None, threshold=0.5)
    question = changes.merge_question(strange)
    assert question.endswith("Reply: merge mp-1a2b · reject mp-1a2b · details mp-1a2b")
    assert any(marker in question for marker in messages.REPLY_MARKERS)
    for text in (
        question,
        changes.merge_details(strange),
        changes.merge_verdict(strange, verdict),
        changes.merge_called_off(strange, reason),
        changes.retraining_verdict("order", 1, verdict),
    ):
        assert len(SENT_AGAIN + text) < 1_000
        assert not set(text) & set("`*~|<>")


def test_the_longest_names_leave_the_question_whole(merge: Merge) -> None:
    long = "a" * 40
    big = replace(
        merge,
        left=replace(merge.left, slug=long, compared=10**5, agreed=10**5),
        right=replace(merge.right, slug=long, compared=10**5, agreed=10**5),
        pattern=replace(merge.pattern, slug=long),
    )
    assert changes.merge_question(big).endswith("details mp-1a2b")
