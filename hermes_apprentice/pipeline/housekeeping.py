"""What old versions and runs may go, and how they are removed.

A version stays while it is served, current, or one of the versions to go back to; a
run stays while a version that stays was made by it, while it is a specialist's
present run, or while it is young. Everything else is waste. Only one process at a
time learns, so nothing that is being made is mistaken for it. Old rows of the database
are added up instead; see ``storage.retention``.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from hermes_apprentice.errors import ConfigError, RegistryError
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.storage.lease import lease
from hermes_apprentice.storage.retention import Shortened, shorten
from hermes_apprentice.storage.rollouts import find_rollout
from hermes_apprentice.storage.specialists import list_specialists

DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waste:
    """One thing that may go."""

    what: str
    """For people, such as ``version 3 of 'order-mails'``."""

    path: Path
    """Where it lies."""

    size: int
    """In bytes."""

    slug: str = ""
    """The specialist, for a version."""

    version: int = 0
    """The version's number, for a version."""


def add_up(shop: Workshop, *, apply: bool = True) -> Shortened:
    """Add up calls that are older than ``ledger.keep_days``, and evidence nobody looks back on.

    Raises:
        StorageError: The database is locked or cannot be written.
    """
    before = shop.clock() - shop.settings.ledger.keep_days * DAY
    return shorten(shop.database, before, apply=apply)


def clean(
    shop: Workshop, *, keep: int = 2, young_days: float = 30, apply: bool = False
) -> tuple[Waste, ...]:
    """Return what may go, and remove it if ``apply`` is set.

    Args:
        shop: Settings, database and registry.
        keep: Versions to keep of those that were current, the present one among them.
        young_days: Age below which a run stays whatever became of it.
        apply: Remove it; otherwise nothing changes.

    Raises:
        ConfigError: ``keep`` would leave no version.
        LeaseHeldError: A tick is running.
        RegistryError: An alias is damaged, or the disk refused.
    """
    if keep < 1:
        raise ConfigError("At least one version has to stay; use --keep 1 or more.")
    with lease(shop.leases, "tick"):
        versions, runs_kept = _versions(shop, keep)
        runs = _runs(shop, runs_kept, shop.clock() - young_days * DAY)
        if apply:
            for waste in versions:
                shop.registry.remove(waste.slug, waste.version)
            for waste in runs:
                try:
                    shutil.rmtree(waste.path)
                except OSError as exc:
                    raise RegistryError(f"{waste.path} could not be removed: {exc}") from exc
        rows = add_up(shop, apply=apply)
        kinds = zip(("calls", "comparisons", "runs of specialists"), rows, strict=True)
        added_up = [
            Waste(what=f"{number:,} old {what}, added up", path=shop.database.path, size=0)
            for what, number in kinds
            if number
        ]
    return (*versions, *runs, *added_up)


def _versions(shop: Workshop, keep: int) -> tuple[list[Waste], set[str]]:
    """Return the versions that may go, and the runs of those that stay."""
    waste, runs = [], set()
    registry = shop.registry
    for slug in registry.slugs():
        with shop.database.transaction() as connection:
            rollout = find_rollout(connection, slug)
        stays = set(registry.history(slug)[-keep:])
        stays |= {rollout.version} if rollout is not None else set()
        for version in registry.versions(slug):
            folder = registry.root / slug / str(version)
            if version in stays or not stays:
                run = _run_of(shop, slug, version)
                runs |= {run} if run else set()
            else:
                waste.append(
                    Waste(
                        what=f"version {version} of '{slug}'",
                        path=folder,
                        size=_size(folder),
                        slug=slug,
                        version=version,
                    )
                )
    return waste, runs


def _run_of(shop: Workshop, slug: str, version: int) -> str:
    try:
        manifest = shop.registry.open_version(slug, version).manifest
    except RegistryError:
        return ""  # reported where it is served; its run is not known
    return dict(manifest.recipe).get("run", "")


def _runs(shop: Workshop, kept: set[str], before: float) -> list[Waste]:
    with shop.database.transaction() as connection:
        kept = kept | {specialist.run_id for specialist in list_specialists(connection)}
    root = shop.settings.runs_dir
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return [
        Waste(what=f"run {folder.name}", path=folder, size=_size(folder))
        for folder in folders
        if folder.name not in kept
        and not folder.is_symlink()
        and max(path.lstat().st_mtime for path in (folder, *folder.rglob("*"))) < before
    ]


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
