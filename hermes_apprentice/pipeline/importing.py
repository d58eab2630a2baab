"""Take in a specialist that another machine exported.

Everything is checked before anything is written. Then the version is signed anew as a version of
this registry, and the database changes last; an import that was interrupted is done again.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from hermes_apprentice.domain.merge import MERGED_FROM
from hermes_apprentice.domain.specialist import Manifest, Specialist, Step
from hermes_apprentice.embedding.views import RECIPE, matching_dimension
from hermes_apprentice.errors import RegistryError
from hermes_apprentice.pipeline.exporting import CENTRE_FILE, MEMBERS_FILE, About
from hermes_apprentice.pipeline.past import IMPORTED_FROM, RUN
from hermes_apprentice.pipeline.steps import in_shadow, new_run_id
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.privacy.redaction import Redactor
from hermes_apprentice.registry.bundle import Bundle, open_bundle
from hermes_apprentice.registry.registry import check_slug, to_canonical
from hermes_apprentice.registry.signing import load_or_create_keys
from hermes_apprentice.serving.guard import NO_REDACTION
from hermes_apprentice.storage.lease import lease
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.rollouts import save_rollout
from hermes_apprentice.storage.specialists import find_specialist, list_specialists, save_specialist
from hermes_apprentice.storage.transfers import highest_number, remember_number, save_imported

_PATTERN_ID = re.compile(r"pt-[0-9a-f]{12}")
_MOVING = (Step.APPROVED, Step.DATASET_BUILT, Step.TRAINED, Step.VALIDATED)
_ORIGIN = "origin."
"""Before what a recipe says about runs and specialists of the other machine."""


class Imported(NamedTuple):
    """What became of an import."""

    slug: str
    """The specialist's name here."""

    version: int
    """Its version here."""

    signer: str
    """Id of the key that signed the file."""

    origin: str
    """Its name and version there, for people."""

    again: bool
    """Whether it had been imported before; then nothing was changed."""


class _Content(NamedTuple):
    about: About
    vectors: NDArray[np.float16]
    centre: NDArray[np.float32]


def import_specialist(shop: Workshop, path: Path, name: str | None = None) -> Imported:
    """Take in a file; the specialist starts in shadow, and the next tick teaches the matcher.

    Args:
        shop: Settings, database and registry.
        path: Written by ``export_specialist``.
        name: What to call it here; as there where there is none.

    Raises:
        SignatureError: It is not signed by a trusted key, or not as it was signed.
        RegistryError: It does not fit this machine, or the name is taken.
        LeaseHeldError: A tick is running.
    """
    keys = load_or_create_keys(shop.settings.keys_dir)
    with lease(shop.leases, "tick"), open_bundle(path, keys) as bundle:
        manifest = bundle.manifest
        slug = name if name is not None else manifest.slug
        check_slug(slug)
        content = _content(bundle, path)
        _require_fit(shop, bundle, content)
        told = (slug, bundle.signer, f"version {manifest.version} of '{manifest.slug}'")
        if _is_our_own(shop, bundle, slug):
            return Imported(told[0], manifest.version, *told[1:], again=True)
        with shop.database.transaction() as connection:
            known = _require_free(connection, slug, manifest)
            above = highest_number(connection, slug)
        version = _earlier(shop, slug, bundle)
        if version is not None and known is not None and (known.version or 0) >= version:
            return Imported(told[0], version, *told[1:], again=True)
        if version is None:
            draft = _draft(shop, slug, bundle)
            version = shop.registry.publish(bundle.folder, draft, above).version
        shop.registry.set_alias(slug, version)
        with shop.database.transaction() as connection:
            _store(connection, shop, slug, version, bundle, content)
    return Imported(told[0], version, *told[1:], again=False)


# --- checking -------------------------------------------------------------------------


def _content(bundle: Bundle, path: Path) -> _Content:
    """Return what the bundle's own values say, checked for their shape."""
    try:
        about = About.model_validate(bundle.about)
        vectors = np.frombuffer(bundle.extras[MEMBERS_FILE], dtype="<f2")
        vectors = vectors.reshape(about.members, about.dimension)
        centre = np.frombuffer(bundle.extras[CENTRE_FILE], dtype="<f4")
    except (ValidationError, ValueError, KeyError) as exc:
        raise RegistryError(f"{path} lacks what is needed to recognise its requests") from exc
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    centred = np.linalg.norm(centre)
    if not (np.allclose(lengths, 1.0, atol=1e-2) and np.isclose(centred, 1.0, atol=1e-2)):
        raise RegistryError(f"{path} holds vectors that are not of unit length; it is refused")
    pattern, manifest = about.pattern, bundle.manifest
    check_slug(pattern.slug)
    if not _PATTERN_ID.fullmatch(pattern.pattern_id) or manifest.pattern_id != pattern.pattern_id:
        raise RegistryError(f"{path} holds a version and a pattern that do not belong together")
    return _Content(about, vectors, centre)


def _require_fit(shop: Workshop, bundle: Bundle, content: _Content) -> None:
    """Refuse what cannot be run here as it was judged there."""
    manifest, about, embedder = bundle.manifest, content.about, shop.embedder
    what = f"'{manifest.slug}'"
    if not manifest.embedder == about.embedder == embedder.digest:
        raise RegistryError(
            f"{what} was trained on the embedder {manifest.embedder[:12]} ({manifest.base[:40]}), "
            f"and this machine has {embedder.digest[:12]} ({embedder.name}); set models.embedder "
            "to the same one"
        )
    if (
        about.recipe != RECIPE
        or about.dimension != matching_dimension(embedder)
        or content.centre.shape != (embedder.dimension,)
    ):
        raise RegistryError(
            f"{what} is recognised by vectors that this release does not make; use the release "
            "that exported it"
        )
    if manifest.redaction != NO_REDACTION:
        here = Redactor().fingerprint
        if manifest.redaction != here:
            raise RegistryError(
                f"{what} was trained on data that was redacted by other rules "
                f"({manifest.redaction[:12]}) than the ones here ({here[:12]}); install the same "
                "release with the same language models on both machines"
            )


def _is_our_own(shop: Workshop, bundle: Bundle, slug: str) -> bool:
    """Whether this very version lies in this registry, where it was exported from."""
    manifest = bundle.manifest
    if slug != manifest.slug or manifest.version not in shop.registry.versions(slug):
        return False
    try:
        here = shop.registry.open_version(slug, manifest.version).manifest
    except RegistryError:
        return False
    return hashlib.sha256(to_canonical(here)).hexdigest() == bundle.manifest_sha256


def _require_free(
    connection: sqlite3.Connection, slug: str, manifest: Manifest
) -> Specialist | None:
    """Return the specialist whose next version this is, if there is one.

    Raises:
        RegistryError: The name or the pattern is taken by something else.
    """
    store = PatternStore(connection)
    known = find_specialist(connection, slug)
    twin = next(
        (one for one in list_specialists(connection) if one.pattern_id == manifest.pattern_id),
        None,
    )
    if twin is not None and twin.slug != slug:
        raise RegistryError(
            f"these requests have a specialist here already, '{twin.slug}'; to make this its next "
            f"version, use: --as {twin.slug}"
        )
    if known is not None and known.pattern_id != manifest.pattern_id:
        raise RegistryError(
            f"there is a specialist '{slug}' here, for other requests; choose a name with: "
            "--as NAME"
        )
    ids, slugs = store.names()
    if known is None and slug in slugs:
        raise RegistryError(
            f"there is a pattern '{slug}' here, which may become a specialist of that name; choose "
            "a name with: --as NAME"
        )
    if known is None and manifest.pattern_id in ids:
        raise RegistryError(
            "the pattern of these requests is known here and waits for your decision: "
            "apprentice candidates"
        )
    if store.is_merged(manifest.pattern_id):
        raise RegistryError(f"'{slug}' was merged into another here, which has its requests now")
    if known is not None and known.step in _MOVING:
        raise RegistryError(f"'{slug}' is being trained here ({known.step}); let that end first")
    return known


def _earlier(shop: Workshop, slug: str, bundle: Bundle) -> int | None:
    """Return the version that this file became before, if it did.

    Raises:
        RegistryError: A later version from there is here already.
    """
    mark = _mark(bundle).split()
    for version in reversed(shop.registry.versions(slug)):
        try:
            manifest = shop.registry.open_version(slug, version).manifest
        except RegistryError:
            continue  # reported where it is served
        other = dict(manifest.recipe).get(IMPORTED_FROM, "").split()
        if other == mark:
            return version
        if other[:2] == mark[:2] and int(other[2]) > int(mark[2]):
            raise RegistryError(
                f"version {other[2]} from there was imported already, as version {version}; this "
                f"is the older version {mark[2]}. To go back: apprentice specialists rollback "
                f"{slug}"
            )
    return None


# --- writing --------------------------------------------------------------------------


def _mark(bundle: Bundle) -> str:
    manifest = bundle.manifest
    return f"{bundle.signer} {manifest.slug} {manifest.version} {bundle.manifest_sha256}"


def _draft(shop: Workshop, slug: str, bundle: Bundle) -> Manifest:
    """Return the manifest to sign here; names of the other machine mean nothing here."""
    recipe = {
        f"{_ORIGIN}{key}" if key in (RUN, MERGED_FROM, IMPORTED_FROM) else key: value
        for key, value in bundle.manifest.recipe
    }
    recipe[IMPORTED_FROM] = _mark(bundle)
    return replace(
        bundle.manifest,
        slug=slug,
        version=0,
        recipe=tuple(sorted(recipe.items())),
        created_at=shop.clock(),
        files=(),
    )


def _store(
    connection: sqlite3.Connection,
    shop: Workshop,
    slug: str,
    version: int,
    bundle: Bundle,
    content: _Content,
) -> None:
    about, now = content.about, shop.clock()
    known = _require_free(connection, slug, bundle.manifest)
    if known is None:
        pattern = replace(about.pattern, slug=slug, size=0, first_seen=now, last_seen=now)
        PatternStore(connection).save(
            StoredPattern(
                pattern=pattern,
                embedder=about.embedder,
                centre=content.centre,
                radius=about.radius,
            ),
            now,
        )
    save_imported(
        connection, bundle.manifest.pattern_id, f"{about.embedder}/{RECIPE}", content.vectors
    )
    save_specialist(
        connection,
        Specialist(
            slug=slug,
            pattern_id=bundle.manifest.pattern_id,
            candidate_id=known.candidate_id if known is not None else f"specialist:{slug}",
            kind=bundle.manifest.kind,
            step=Step.REGISTERED,
            reason=(
                f"Imported: version {bundle.manifest.version} of '{bundle.manifest.slug}', signed "
                f"by {bundle.signer}. Its gate said: {' '.join(bundle.manifest.verdict.reasons)}"
            ),
            run_id=new_run_id(),
            version=version,
            updated_at=now,
        ),
    )
    save_rollout(connection, in_shadow(slug, version, now), now)
    remember_number(connection, slug, version)
