"""The steps of a specialist's life, one function each.

A step may be interrupted at any moment and run again: what it writes to the
disk appears whole or not at all, and the database changes last, in one
transaction together with the message to the operator. Knows nothing about when
steps are taken; ``loop`` decides that.
"""

from __future__ import annotations

import uuid
from typing import NamedTuple

from pydantic import TypeAdapter

from hermes_apprentice.approvals import changes, messages
from hermes_apprentice.dataset.builder import build_dataset
from hermes_apprentice.dataset.card import note_doubtful
from hermes_apprentice.dataset.reader import read_dataset
from hermes_apprentice.domain.dataset import Dataset
from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.merge import MERGED_FROM, Merge
from hermes_apprentice.domain.pattern import Candidate, Pattern
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Envelope, Manifest, Specialist, Stage, Step
from hermes_apprentice.domain.training import DOUBTFUL, TrainingResult
from hermes_apprentice.errors import NotEnoughExamplesError, RegistryError, SignatureError
from hermes_apprentice.pipeline.generators import why_not
from hermes_apprentice.pipeline.judging import VERDICT, VERDICT_FILE, judge
from hermes_apprentice.pipeline.merging import merge_of
from hermes_apprentice.pipeline.past import RUN, lessons, tested
from hermes_apprentice.pipeline.training import output_dir, train
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.serving.guard import SERVED_BY
from hermes_apprentice.storage.patterns import PatternStore
from hermes_apprentice.storage.transfers import highest_number, remember_number

_RESULT = TypeAdapter(TrainingResult)

MOVING = (Step.APPROVED, Step.DATASET_BUILT, Step.TRAINED, Step.VALIDATED)
"""Steps that a tick works on."""

_LENGTH_MARGIN = 1.25
"""How far beyond the lengths seen in training a request may be."""


class Outcomes(NamedTuple):
    """Where a step leads."""

    step: Step
    """The next step."""

    reason: str
    """Why, one sentence."""

    kind: Kind
    """The kind from here on."""

    version: int | None
    """The registered version."""

    message: str | None
    """What the operator is told, if anything."""


def take_step(shop: Workshop, specialist: Specialist) -> Outcomes:
    """Do the work of a specialist's present step.

    Raises:
        ApprenticeError: The step failed; nothing was half-done.
    """
    if specialist.step is Step.APPROVED:
        return _build(shop, specialist)
    if specialist.step is Step.DATASET_BUILT:
        return _train(shop, specialist)
    if specialist.step is Step.TRAINED:
        return _validate(shop, specialist)
    return _register(shop, specialist)


def _build(shop: Workshop, specialist: Specialist) -> Outcomes:
    merge, unkept = merge_of(shop, specialist), ""
    earlier: list[Dataset] = []
    if merge is not None:
        parents = (merge.left, merge.right)
        exchanges = lessons(shop, *(one.pattern.pattern_id for one in parents))
        earlier = [old for one in parents for old in tested(shop, one.slug, one.version)]
    else:
        exchanges = lessons(shop, specialist.pattern_id)
        number = specialist.version
        try:
            earlier += tested(shop, specialist.slug, number) if number else []
        except SignatureError:
            # Training again is the way out of a damaged version or a stolen key.
            unkept = f" Version {number} cannot be verified, so its test is not kept."
    try:
        dataset = build_dataset(
            exchanges,
            specialist.pattern_id,
            shop.settings.dataset,
            shop.redactor,
            shop.run_dir(specialist.run_id) / "dataset",
            shop.clock(),
            earlier=earlier,
        )
    except NotEnoughExamplesError as error:
        return _to(specialist, Step.WAITING, str(error), tell=True)
    return _to(
        specialist,
        Step.DATASET_BUILT,
        f"{len(dataset.examples)} examples of {len(exchanges)} exchanges.{unkept}",
    )


def _train(shop: Workshop, specialist: Specialist) -> Outcomes:
    result = train(shop, specialist)
    reason = (
        f"{result.kind.with_article.capitalize()} was trained in {result.seconds:.1f} s "
        f"({result.method})."
    )
    doubted = int(dict(result.recipe).get(DOUBTFUL, "0"))
    if doubted:
        note_doubtful(shop.run_dir(specialist.run_id) / "dataset", doubted)
        reason += f" It did not learn from {doubted} answers that are probably wrong."
    return _to(specialist, Step.TRAINED, reason)


def _validate(shop: Workshop, specialist: Specialist) -> Outcomes:
    merge = merge_of(shop, specialist)
    verdict = judge(shop, specialist, merge)
    if verdict.outcome is Outcome.PASSED:
        return _to(specialist, Step.VALIDATED, verdict.reasons[0])
    if verdict.outcome is Outcome.REJECTED and specialist.kind is not Kind.GENERATOR:
        words = _verdict_in_words(specialist, merge, verdict)
        return next_kind(shop, specialist, " ".join(verdict.reasons), words)
    step = Step.REJECTED if verdict.outcome is Outcome.REJECTED else Step.WAITING
    return Outcomes(
        step,
        " ".join(verdict.reasons),
        specialist.kind,
        specialist.version,
        _verdict_in_words(specialist, merge, verdict),
    )


def _verdict_in_words(specialist: Specialist, merge: Merge | None, verdict: Verdict) -> str:
    if merge is not None:
        return changes.merge_verdict(merge, verdict)
    if specialist.version is not None:
        return changes.retraining_verdict(specialist.slug, specialist.version, verdict)
    return messages.verdict_message(specialist.slug, verdict)


def next_kind(shop: Workshop, specialist: Specialist, reason: str, words: str) -> Outcomes:
    """Go on with a generator on the same data, or say why none is tried.

    The extractor is no next kind of the classifier: each fits its own shape of answers only.
    """
    with shop.database.transaction() as connection:
        chosen = PatternStore(connection).chosen_kind(specialist.pattern_id)
    wanted = shop.settings.generator.fallback
    if chosen is specialist.kind:
        problem = f"the operator chose {chosen.with_article}"
    else:
        problem = why_not(shop.settings) if wanted else "generator.fallback is off"
    if problem:
        told = f"No generator was tried: {problem.rstrip('.')}."
        step, kind, reason = Step.REJECTED, specialist.kind, f"{reason} {told}"
    else:
        told = "A generator is trained on the same data next."
        step, kind = Step.DATASET_BUILT, Kind.GENERATOR
        reason = f"The {specialist.kind} was rejected. {told} {reason}"
    opening, _, why = words.partition("\n")  # a long message is cut at its end
    message = messages.limited("\n".join([opening, told, why]))
    return Outcomes(step, reason, kind, specialist.version, message)


def _register(shop: Workshop, specialist: Specialist) -> Outcomes:
    folder = shop.run_dir(specialist.run_id)
    output = output_dir(folder, specialist.kind)
    dataset = read_dataset(folder / "dataset")
    verdict = VERDICT.validate_json((output / VERDICT_FILE).read_bytes())
    result = _RESULT.validate_json((output / "result.json").read_bytes())
    with shop.database.transaction() as connection:
        pattern = PatternStore(connection).pattern(specialist.pattern_id)
        above = highest_number(connection, specialist.slug)
    merge = merge_of(shop, specialist)
    recipe = dict(result.recipe) | {RUN: specialist.run_id}
    if merge is not None:
        recipe[MERGED_FROM] = " ".join(merge.slugs)
    if specialist.kind is Kind.GENERATOR:
        recipe[SERVED_BY] = (output / SERVED_BY).read_text(encoding="utf-8")
    manifest = _published(shop, specialist) or shop.registry.publish(
        output / "artefact",
        Manifest(
            format=1,
            slug=specialist.slug,
            version=0,
            pattern_id=specialist.pattern_id,
            label=pattern.label,
            kind=specialist.kind,
            base=result.base,
            embedder=result.embedder,
            dataset=dataset.digest,
            redaction=dataset.redaction,
            recipe=tuple(sorted(recipe.items())),
            shape=dataset.shape,
            envelope=envelope(pattern, dataset),
            verdict=verdict,
            created_at=shop.clock(),
            files=(),
        ),
        above,
    )
    with shop.database.transaction() as connection:
        remember_number(connection, specialist.slug, manifest.version)
    shop.registry.set_alias(specialist.slug, manifest.version)
    return Outcomes(
        Step.REGISTERED,
        f"Version {manifest.version} is signed and runs in shadow.",
        specialist.kind,
        manifest.version,
        _verdict_in_words(specialist, merge, verdict),
    )


def _published(shop: Workshop, specialist: Specialist) -> Manifest | None:
    """Return the version that this run published before it was interrupted, if it did."""
    for version in reversed(shop.registry.versions(specialist.slug)):
        try:
            manifest = shop.registry.open_version(specialist.slug, version).manifest
        except RegistryError:
            continue  # a damaged old version is reported where it is served, not here
        if (RUN, specialist.run_id) in manifest.recipe:
            return manifest
    return None


def envelope(pattern: Pattern, dataset: Dataset) -> Envelope:
    """Return the limits of what the training data covers."""
    lengths = [len(example.request) for example in dataset.examples]
    return Envelope(
        max_turn_index=pattern.max_turn_index,
        min_chars=max(1, int(min(lengths) / _LENGTH_MARGIN)),
        max_chars=int(max(lengths) * _LENGTH_MARGIN),
        ascii_only=all(example.request.isascii() for example in dataset.examples),
    )


def _to(specialist: Specialist, step: Step, reason: str, *, tell: bool = False) -> Outcomes:
    text = messages.step_failed(specialist.slug, reason) if tell else None
    return Outcomes(step, reason, specialist.kind, specialist.version, text)


def new_specialist(candidate: Candidate, kind: Kind, now: float) -> Specialist:
    """Return the specialist that begins with a yes to a candidate, to be trained as ``kind``."""
    return Specialist(
        slug=candidate.pattern.slug,
        pattern_id=candidate.pattern.pattern_id,
        candidate_id=candidate.candidate_id,
        kind=kind,
        step=Step.APPROVED,
        reason="The operator said train.",
        run_id=new_run_id(),
        version=None,
        updated_at=now,
    )


def new_run_id() -> str:
    """Return a fresh name for a run; its folder holds everything the run makes."""
    return f"run-{uuid.uuid4().hex[:12]}"


def in_shadow(slug: str, version: int, now: float) -> Rollout:
    """Return the rollout that every registered version begins with."""
    return Rollout(
        slug=slug,
        version=version,
        stage=Stage.SHADOW,
        share=0.0,
        held=False,
        step_started_at=now,
        reason="Newly registered.",
    )
