"""Take specialists out of service, go back to earlier versions, and keep the skills in step.

Knows nothing about how a version was made.
"""

from __future__ import annotations

from dataclasses import replace

from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.errors import RegistryError, ReplyError
from hermes_apprentice.pipeline.steps import in_shadow
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.registry.skills import sync_skills
from hermes_apprentice.storage.forgotten import tainted_versions
from hermes_apprentice.storage.patterns import PatternStore
from hermes_apprentice.storage.rollouts import find_rollout, save_rollout
from hermes_apprentice.storage.specialists import (
    find_specialist,
    list_specialists,
    save_specialist,
)

SERVED = (Stage.CANARY, Stage.LIVE)
"""Stages in which a specialist has a skill."""


def demote(shop: Workshop, slug: str, reason: str) -> str:
    """Take a specialist out of service and return what to tell; its versions stay.

    Raises:
        ReplyError: There is no such specialist in service.
    """
    now = shop.clock()
    with shop.database.transaction() as connection:
        rollout = find_rollout(connection, slug)
        if rollout is None:
            raise ReplyError(f"There is no specialist '{slug}' in service.")
        save_rollout(
            connection,
            replace(rollout, stage=Stage.RETIRED, share=0.0, reason=reason, step_started_at=now),
            now,
        )
    bring_skills_up_to_date(shop)
    return f"'{slug}' is out of service; the upstream answers all of its requests."


def rollback(shop: Workshop, slug: str, reason: str) -> str:
    """Go back to a specialist's previous version, in shadow, and return what to tell.

    Raises:
        ReplyError: It was merged, or the previous version was trained on forgotten sessions.
        UnknownVersionError: There was none before.
        SignatureError: It cannot be verified.
    """
    with shop.database.transaction() as connection:
        found = find_specialist(connection, slug)
        if found is not None and PatternStore(connection).is_merged(found.pattern_id):
            raise ReplyError(f"'{slug}' was merged into another, which has its requests now.")
        tainted = {one.version for one in tainted_versions(connection, {slug})}
    before = shop.registry.history(slug)[-2:-1]
    if tainted.intersection(before):
        raise ReplyError(
            f"Version {before[0]} of '{slug}' was trained on sessions that were forgotten since; "
            "there is no going back to it."
        )
    version = shop.registry.rollback(slug)
    now = shop.clock()
    with shop.database.transaction() as connection:
        specialist = find_specialist(connection, slug)
        if specialist is not None:
            save_specialist(connection, replace(specialist, version=version, updated_at=now))
        save_rollout(connection, replace(in_shadow(slug, version, now), reason=reason), now)
    return f"'{slug}' is back at version {version}, in shadow."


def bring_skills_up_to_date(shop: Workshop) -> None:
    """Make the skills those of the specialists that answer requests."""
    manifests = []
    with shop.database.transaction() as connection:
        rollouts = [find_rollout(connection, one.slug) for one in list_specialists(connection)]
    for rollout in rollouts:
        if rollout is None or rollout.stage not in SERVED:
            continue
        try:
            version = shop.registry.open_version(rollout.slug, rollout.version)
        except RegistryError:
            continue  # damaged, so the sidecar does not serve it either
        manifests.append(version.manifest)
    sync_skills(shop.settings.skills_dir, manifests)
