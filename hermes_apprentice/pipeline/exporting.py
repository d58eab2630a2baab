"""Write a specialist into one signed file that another machine can route to.

What the other machine's matcher learns from are vectors of the *redacted* training requests, with
invented values where the placeholders stood, since that is how requests sound there; in half
precision, without order, time or count of repeats. Texts are never exported.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from hermes_apprentice.domain.pattern import Forecast, Pattern
from hermes_apprentice.domain.specialist import Manifest, Specialist
from hermes_apprentice.embedding.views import RECIPE, matching_vectors
from hermes_apprentice.errors import DatasetError, RegistryError, UnknownVersionError
from hermes_apprentice.pipeline.past import dataset_of
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.privacy.fillers import filled
from hermes_apprentice.registry.bundle import write_bundle
from hermes_apprentice.registry.sealed import SIGNATURE
from hermes_apprentice.registry.signing import load_or_create_keys, signer_of
from hermes_apprentice.storage.forgotten import tainted_versions
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.specialists import find_specialist, list_specialists
from hermes_apprentice.storage.transfers import imported_vectors

MEMBERS_FILE = "members.f16"
CENTRE_FILE = "centre.f32"

MAX_MEMBERS = 2_000
"""Most vectors that are exported, or accepted."""

_BATCH = 256
_PATTERN = TypeAdapter(Pattern)


class About(BaseModel):
    """What a bundle says beside the version; signed, yet from another machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: Pattern
    """What the specialist is for."""

    embedder: str = Field(pattern=r"[0-9a-f]{64}")
    """Digest of the embedder that made the vectors."""

    recipe: str
    """How the matcher's vectors are made of what the embedder gives."""

    members: int = Field(ge=1, le=MAX_MEMBERS)
    """Vectors to recognise requests by."""

    dimension: int = Field(ge=1, le=65_536)
    """Numbers in each of them."""

    radius: float = Field(ge=-1, le=1)
    """Least cosine to the centre of what belongs to the pattern."""


class Exported(NamedTuple):
    """What was written."""

    path: Path
    """The file."""

    size: int
    """In bytes."""

    manifest: Manifest
    """The version in it."""

    signers: tuple[str, ...]
    """Ids of the keys that must be trusted where it is taken in: the one that signed the file,
    and where keys were rotated since, the one that signed the version."""

    members: int
    """Vectors of requests in it."""


def export_specialist(shop: Workshop, slug: str, path: Path) -> Exported:
    """Write the present version of a specialist into a new file.

    Raises:
        UnknownVersionError: There is no such specialist, or it has no version.
        DatasetError: What it was trained on is gone, so nobody could learn to recognise it.
        RegistryError: The version is damaged or learnt what was forgotten since, the file exists,
            or the disk refused.
    """
    with shop.database.transaction() as connection:
        specialist = find_specialist(connection, slug)
        if specialist is None:
            names = ", ".join(one.slug for one in list_specialists(connection)) or "none"
            raise UnknownVersionError(f"There is no specialist '{slug}'; known: {names}.")
        found = [
            one
            for one in PatternStore(connection).stored()
            if one.pattern.pattern_id == specialist.pattern_id
        ]
        tainted = {one.version for one in tainted_versions(connection, {slug})}
    if specialist.version in tainted:
        raise RegistryError(
            f"Version {specialist.version} of '{slug}' was trained on sessions that were forgotten "
            "since; train it again before it goes to another machine."
        )
    if specialist.version is None:
        raise UnknownVersionError(f"'{slug}' has no version yet ({specialist.step}).")
    if not found:
        raise RegistryError(f"'{slug}' was merged into another, which has its requests now.")
    version = shop.registry.open_version(slug, specialist.version)
    stored = _placed(shop, found[0])
    vectors = _vectors(shop, specialist, version.manifest)
    about: dict[str, Any] = {
        "pattern": _PATTERN.dump_python(_bare(stored.pattern), mode="json"),
        "embedder": version.manifest.embedder,
        "recipe": RECIPE,
        "members": len(vectors),
        "dimension": vectors.shape[1],
        "radius": float(stored.radius),
    }
    extras = {
        MEMBERS_FILE: np.ascontiguousarray(vectors, dtype="<f2").tobytes(),
        CENTRE_FILE: np.ascontiguousarray(stored.centre, dtype="<f4").tobytes(),
    }
    keys = load_or_create_keys(shop.settings.keys_dir)
    size = write_bundle(path, version, about, extras, keys)
    signed = signer_of((version.folder / SIGNATURE).read_bytes())
    signers = tuple(dict.fromkeys((keys.key_id, signed)))
    return Exported(path, size, version.manifest, signers, len(vectors))


def _placed(shop: Workshop, stored: StoredPattern) -> StoredPattern:
    if stored.embedder != shop.embedder.digest:
        raise RegistryError(
            f"'{stored.pattern.slug}' was placed by another embedder; run: apprentice detect"
        )
    return stored


def _bare(pattern: Pattern) -> Pattern:
    """Return a pattern without what it tells about the operator's traffic and bills."""
    nothing = Forecast(
        requests_per_day=0.0, cost_per_request=0, coverage=0.0, saved_per_month=0, priced=False
    )
    return replace(pattern, size=0, first_seen=0.0, last_seen=0.0, forecast=nothing)


def _vectors(shop: Workshop, specialist: Specialist, manifest: Manifest) -> NDArray[np.float16]:
    """Return what the pattern is recognised by, distinct rows in an order of their own."""
    if manifest.embedder != shop.embedder.digest:
        raise RegistryError(
            f"'{specialist.slug}' was trained on another embedder than the present one; set "
            "models.embedder back, or train it again"
        )
    try:
        rng = random.Random(0)
        texts = [filled(one.request, rng) for one in dataset_of(shop, manifest).examples]
    except DatasetError:
        with shop.database.transaction() as connection:
            brought = imported_vectors(connection, f"{shop.embedder.digest}/{RECIPE}")
        if specialist.pattern_id not in brought:
            raise
        return _spread(brought[specialist.pattern_id].astype(np.float16))
    parts = []
    for start in range(0, len(texts), _BATCH):
        shop.progress(f"exporting {specialist.slug}", start / len(texts))
        parts.append(matching_vectors(shop.embedder.encode(texts[start : start + _BATCH])))
    return _spread(np.concatenate(parts).astype(np.float16))


def _spread(vectors: NDArray[np.float16]) -> NDArray[np.float16]:
    """Return the distinct rows sorted, at most `MAX_MEMBERS` of them, evenly picked."""
    distinct: NDArray[np.float16] = np.unique(vectors, axis=0)
    if len(distinct) <= MAX_MEMBERS:
        return distinct
    return np.take(distinct, np.linspace(0, len(distinct) - 1, MAX_MEMBERS).astype(int), axis=0)
