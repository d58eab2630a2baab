"""What the operator reads about specialists that merge, are trained again, or are done.

Pure: values go in, a plain text comes out. Like all texts of ours they carry
evidence and no words from a request.
"""

from __future__ import annotations

from hermes_apprentice.approvals.messages import (
    REPLY_WITH,
    limited,
    shape_in_words,
    verdict_message,
)
from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.merge import Merge, Parent
from hermes_apprentice.domain.shape import Kind

_DAY = 86_400.0


def merge_question(merge: Merge) -> str:
    """Return the question whether to merge two specialists."""
    handle = merge.merge_id
    return limited(
        f"One specialist could do the work of two ({handle}).\n"
        f"{_parent(merge.left)}\n"
        f"{_parent(merge.right)}\n"
        f"Together: {merge.pattern.size} requests, {shape_in_words(merge.pattern.shape)}. "
        f"{_compatible(merge)}\n"
        f"Before anything changes, '{merge.pattern.slug}' has to pass the gate, be no worse than "
        "each of the two on what that one was tested on, and then earn its traffic. Until it is "
        "live both go on as they are.\n"
        f"Reply: merge {handle} · reject {handle} · details {handle}"
    )


def merge_details(merge: Merge) -> str:
    """Return what is known about a merge."""
    left, right = merge.left, merge.right
    return limited(
        "\n".join(
            [
                f"{merge.merge_id}: '{left.slug}' version {left.version} and '{right.slug}' "
                f"version {right.version} ({merge.state}), proposed by {merge.asked_by}",
                f"Answers that fit the common shape: {left.fit:.0%} and {right.fit:.0%}.",
                f"Similarity of the requests: {merge.cosine:.2f}. "
                f"{'The same task' if merge.alike else 'Not surely the same task'} by the "
                "detector's rule.",
                f"The whole: {merge.pattern.kind}, {shape_in_words(merge.pattern.shape)}, "
                f"agreement {merge.pattern.shape.agreement:.0%}.",
                "Tested before anything changes: the gate, then both test sets of the two, on "
                "which the merged one may be neither less often right nor more often wrong.",
            ]
        )
    )


def merge_accepted(merge: Merge, who: str) -> str:
    """Return the confirmation of a yes."""
    return limited(
        f"{merge.merge_id} is accepted by {who}: '{merge.pattern.slug}' is trained at the next "
        f"tick. '{merge.left.slug}' and '{merge.right.slug}' go on as they are."
    )


def merge_declined(merge: Merge, who: str) -> str:
    """Return the confirmation of a no."""
    return limited(
        f"{merge.merge_id} is rejected by {who}: '{merge.left.slug}' and '{merge.right.slug}' "
        "stay two."
    )


def merge_verdict(merge: Merge, verdict: Verdict) -> str:
    """Return what the gate said about a merged specialist."""
    both = f"'{merge.left.slug}' and '{merge.right.slug}'"
    opening = {
        Outcome.PASSED: f"'{merge.pattern.slug}', merged from {both}, passed the gate and is no "
        "worse than either. It now runs in shadow; both go on until it is live.",
        Outcome.REJECTED: f"The merge of {both} was tried and refused; both go on unchanged.",
        Outcome.INCONCLUSIVE: f"The merge of {both} could not be judged yet; both go on "
        f"unchanged. Try again with: apprentice tick --retry {merge.pattern.slug}",
    }[verdict.outcome]
    return limited("\n".join([opening, *(f"- {reason}" for reason in verdict.reasons)]))


def merge_done(merge: Merge) -> str:
    """Return the message that a merged specialist has taken its parents' place."""
    return limited(
        f"'{merge.pattern.slug}' is live and takes the place of '{merge.left.slug}' and "
        f"'{merge.right.slug}', which are retired. Their requests belong to it from now on; "
        "their versions stay in the registry."
    )


def merge_called_off(merge: Merge, why: str) -> str:
    """Return the message that a merge ends without one."""
    return limited(
        f"The merge of '{merge.left.slug}' and '{merge.right.slug}' is called off: {why}. "
        "Both go on as they are."
    )


def retraining_question(handle: str, slug: str, version: int, why: str, newer: int) -> str:
    """Return the question whether to train a specialist again."""
    return limited(
        f"'{slug}' version {version} should be trained again ({handle}): {why}.\n"
        f"{newer} newer request{'s' if newer != 1 else ''} with the upstream's answers came in "
        "since it was trained, those that it got wrong among them. What it was tested on stays "
        "the test, and newer requests are added to it. The new version starts in shadow.\n"
        f"{REPLY_WITH} {handle} · skip {handle} · details {handle} · demote {slug}"
    )


def forgotten_question(handle: str, slug: str, version: int, examples: int, left: int) -> str:
    """Return the question whether to train a specialist again without forgotten sessions."""
    learnt = f"{examples} of its examples came" if examples else "It may have learnt"
    return limited(
        f"'{slug}' version {version} was trained on sessions that were forgotten since "
        f"({handle}): {learnt} from them.\n"
        f"It goes on until another version takes its place; then it is deleted. {left} requests "
        "of its kind are left to learn from. To take it out and delete it at once: apprentice "
        "forget --retire --yes\n"
        f"{REPLY_WITH} {handle} · skip {handle} · details {handle} · demote {slug}"
    )


def forgotten(sessions: int, exchanges: int, kept: list[str], removed: list[str]) -> str:
    """Return the message that sessions are forgotten.

    Args:
        sessions: How many.
        exchanges: How many exchanges of theirs were stored.
        kept: Versions that were trained on them and go on for now, in words.
        removed: Those that were deleted.
    """
    lines = [
        f"Forgotten: {_counted(sessions, 'session')} with {_counted(exchanges, 'exchange')}, in "
        "the database, in datasets, predictions and reports. They are not read again."
    ]
    lines += [f"Deleted, because it was trained on them: {name}." for name in removed]
    lines += [f"Trained on them, and goes on until it is replaced: {name}." for name in kept]
    lines.append("The next tick fits the matcher without them.")
    return limited("\n".join(lines))


def forgotten_version_deleted(slug: str, version: int) -> str:
    """Return the message that a version is gone because of what it had learnt."""
    return limited(
        f"'{slug}' version {version} is deleted: it was trained on sessions that were forgotten, "
        "and is out of service."
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def retraining_queued(handle: str, slug: str, who: str, chosen: Kind | None = None) -> str:
    """Return the confirmation of a yes."""
    how = f" as {chosen.with_article}" if chosen else ""
    return limited(
        f"{handle} is accepted by {who}: '{slug}' is trained again{how} at the next tick. Until "
        "the new version is registered nothing changes."
    )


def retraining_verdict(slug: str, version: int, verdict: Verdict) -> str:
    """Return what the gate said about a specialist that was trained again."""
    if verdict.outcome is Outcome.PASSED:
        return verdict_message(slug, verdict)
    return limited(
        "\n".join(
            [
                f"The new training of '{slug}' "
                + (
                    "did not pass the gate"
                    if verdict.outcome is Outcome.REJECTED
                    else "could not be judged yet"
                )
                + f"; version {version} stays as it is.",
                *(f"- {reason}" for reason in verdict.reasons),
            ]
        )
    )


def idle(slug: str, version: int, days: float) -> str:
    """Return the proposal to retire a specialist that nobody asks any more."""
    return limited(
        f"'{slug}' version {version} has seen no request of its kind for {days:.0f} days.\n"
        f"It costs nothing to keep. To retire it, reply: demote {slug}"
    )


def _parent(parent: Parent) -> str:
    seen = (
        f"{parent.agreed} of {parent.compared} answers equal the upstream's"
        if parent.compared
        else "no answer compared yet"
    )
    pattern = parent.pattern
    return f"'{parent.slug}': {pattern.size} requests, {shape_in_words(pattern.shape)}, {seen}."


def _compatible(merge: Merge) -> str:
    fit = f"{merge.left.fit:.0%} and {merge.right.fit:.0%} of their answers fit that"
    near = f"similarity of their requests {merge.cosine:.2f}"
    if merge.alike:
        return f"Their shapes are compatible: {fit}; {near}."
    return f"Not surely one task: {fit}; {near}."
