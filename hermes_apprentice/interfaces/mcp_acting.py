"""The tools that would change something: they ask the operator, who alone decides.

A tool named in ``mcp.allow_actions`` acts at once. An agent reads texts that
anybody may have written, so by default even taking a specialist out of service
is a question: a message to the operator, once per occasion however often it is
asked.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from typing import Literal

from pydantic import Field

from hermes_apprentice.domain.approval import ProposalState
from hermes_apprentice.domain.pattern import CandidateState
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.errors import ReplyError
from hermes_apprentice.interfaces.mcp_catalogue import (
    Arguments,
    Opened,
    Report,
    Result,
    Tool,
    opened,
)

WHO = "agent"
"""Who decides when a tool acts at once; ``approvals.deciders`` must name it, if it names any."""

_LONGEST_REASON = 200
_MARKUP = re.compile(r"[^\w .,:;%()+/'-]+")


class Candidate(Arguments):
    """Which candidate, and why."""

    candidate: str = Field(
        pattern=r"^gc-[0-9a-f]{4,12}$", description="Such as gc-7f3a, from list_candidates."
    )
    reason: str = Field(default="", max_length=1_000, description="Shown to the operator.")
    kind: Literal["", "classifier", "extractor", "generator"] = Field(
        default="", description="Only if the user named one; otherwise the answers decide."
    )


class Served(Arguments):
    """Which specialist, and why."""

    name: str = Field(min_length=1, max_length=100, description="From list_specialists.")
    reason: str = Field(default="", max_length=1_000, description="Shown to the operator.")


class Two(Arguments):
    """Which specialists."""

    first: str = Field(min_length=1, max_length=100, description="From list_specialists.")
    second: str = Field(min_length=1, max_length=100)


def dispatch_training(asked: Candidate, report: Report) -> Result:
    """Ask the operator to train a candidate, or train it where that is allowed."""
    what = f"train {asked.candidate}" + (f" as {asked.kind}" if asked.kind else "")
    with opened() as place:
        with place.database.transaction() as connection:
            nonce = _undecided(connection, asked.candidate, place.now)
            if asked.kind:
                _check_kind(connection, asked.candidate, Kind(asked.kind))
        if "dispatch_training" not in place.settings.mcp.allow_actions:
            return _ask(
                place,
                topic=asked.candidate,
                occasion=f"train:{asked.candidate}:{nonce}"
                + (f":{asked.kind}" if asked.kind else ""),
                what=what,
                reason=asked.reason,
            )
        report("starting", 0.0)
        return _act_and_train(place, what)


def propose_merge(asked: Two, report: Report) -> Result:
    """Ask the operator to merge two specialists, or begin it where that is allowed."""
    report("comparing the two", 0.0)
    from hermes_apprentice.pipeline import open_pipeline

    with opened() as place:
        merge = open_pipeline(place.settings, place.database).propose_merge(
            asked.first, asked.second, WHO
        )
        if "propose_merge" in place.settings.mcp.allow_actions:
            return _act_and_train(place, f"merge {merge.merge_id}")
    return {
        "status": "asked",
        "shapes_are_compatible": merge.alike,
        "tell_the_user": (
            "Nothing was changed. The operator was asked and decides by replying: "
            f"merge {merge.merge_id}"
        ),
    }


def demote(asked: Served, report: Report) -> Result:
    """Ask the operator to take a specialist out of service, or do it where that is allowed."""
    return _change_served("demote", asked)


def rollback(asked: Served, report: Report) -> Result:
    """Ask the operator to go back to the previous version, or do it where that is allowed."""
    return _change_served("rollback", asked)


def _change_served(tool: str, asked: Served) -> Result:
    with opened() as place:
        with place.database.transaction() as connection:
            rollout = _served(connection, asked.name)
        if tool == "demote" and rollout.stage is Stage.RETIRED:
            raise ReplyError(f"'{asked.name}' is out of service already.")
        if tool in place.settings.mcp.allow_actions:
            return _act(place, f"{tool} {asked.name}")
        return _ask(
            place,
            topic=asked.name,
            occasion=f"{tool}:{asked.name}:{rollout.version}:{rollout.step_started_at}",
            what=f"{tool} {asked.name}",
            reason=asked.reason,
        )


def _act(place: Opened, command: str) -> Result:
    from hermes_apprentice.pipeline import open_pipeline

    said = open_pipeline(place.settings, place.database).reply(command, WHO)
    return {"status": "done", "tell_the_user": said}


def _act_and_train(place: Opened, command: str) -> Result:
    said = _act(place, command)
    from hermes_apprentice.interfaces.background import leave
    from hermes_apprentice.interfaces.cron_jobs import start_tick

    child = start_tick(place.settings)
    if child is not None:
        leave(child)
    return {**said, "training": "started" if child else "follows the one that is running"}


def _ask(place: Opened, *, topic: str, occasion: str, what: str, reason: str) -> Result:
    from hermes_apprentice.storage.approvals import add_message

    quoted = plain(reason)
    text = f"Hermes' agent asks to: {what}.\n"
    text += f'Its reason, in its own words: "{quoted}"\n' if quoted else ""
    text += f"Nothing was done. To do it, reply: {what}"
    with place.database.transaction() as connection:
        new = add_message(connection, topic, f"agent:{occasion}", text, place.now)
    return {
        "status": "asked" if new else "asked_before",
        "tell_the_user": (
            f"Nothing was changed. The operator {'was' if new else 'has already been'} asked and "
            f"decides by replying: {what}"
        ),
    }


def _undecided(connection: sqlite3.Connection, handle: str, now: float) -> str:
    """Return the nonce of a candidate's open proposal."""
    from hermes_apprentice.storage.approvals import find_proposal
    from hermes_apprentice.storage.patterns import PatternStore

    found = PatternStore(connection).find_candidate(handle)
    if found is None:
        raise ReplyError(f"There is no candidate {handle}; call list_candidates.")
    if found.state is CandidateState.SKIPPED:
        raise ReplyError(f"The operator declined {handle}; only they can change that.")
    if found.state is CandidateState.APPROVED:
        raise ReplyError(f"{handle} was approved already; see '{found.pattern.slug}'.")
    proposal = find_proposal(connection, handle)
    if proposal is None or proposal.state is not ProposalState.OPEN or now >= proposal.expires_at:
        raise ReplyError(f"The question about {handle} has expired; it is asked again soon.")
    return proposal.nonce


def _check_kind(connection: sqlite3.Connection, handle: str, kind: Kind) -> None:
    """Refuse what the operator could only be asked in vain."""
    from hermes_apprentice.pipeline import kinds
    from hermes_apprentice.storage.patterns import PatternStore

    kinds.check(kind, PatternStore(connection).candidate(handle).pattern.shape)


def _served(connection: sqlite3.Connection, name: str) -> Rollout:
    from hermes_apprentice.storage.rollouts import find_rollout

    rollout = find_rollout(connection, name)
    if rollout is None:
        raise ReplyError(f"There is no specialist '{name}' in service; call list_specialists.")
    return rollout


def plain(text: str) -> str:
    """Return a text as one short line that no platform takes for markup or a command."""
    folded = unicodedata.normalize("NFKC", text)
    line = " ".join(_MARKUP.sub(" ", folded).split())
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"


ACTING = (
    Tool(
        name="dispatch_training",
        description=(
            "Ask the operator to have a candidate trained. Only after the user wished it; never "
            "claim that it is done unless status is 'done'."
        ),
        arguments=Candidate,
        work=dispatch_training,
        reads=False,
    ),
    Tool(
        name="propose_merge",
        description="Ask the operator to merge two specialists that do one task into one.",
        arguments=Two,
        work=propose_merge,
        reads=False,
    ),
    Tool(
        name="demote",
        description="Ask the operator to take a specialist out of service.",
        arguments=Served,
        work=demote,
        reads=False,
    ),
    Tool(
        name="rollback",
        description="Ask the operator to put back a specialist's previous version, in shadow.",
        arguments=Served,
        work=rollback,
        reads=False,
    ),
)
"""Tools that ask, or act where the operator allowed it."""
