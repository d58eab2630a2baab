"""Generators in the learning half: whether one can be trained here, and how the gate asks it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hermes_apprentice.domain.dataset import Dataset, Example, Split
from hermes_apprentice.domain.prompt import PromptTemplate
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.training import GeneratorOrder
from hermes_apprentice.errors import ApprenticeError, MissingExtraError
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.serving.cpu import open_artefact
from hermes_apprentice.serving.generators import GeneratorHosts, open_generator
from hermes_apprentice.serving.local_generator import few_shot, shots
from hermes_apprentice.serving.local_host import NAME
from hermes_apprentice.serving.remote_generator import NAME as REMOTE
from hermes_apprentice.serving.remote_generator import open_remote
from hermes_apprentice.settings import Settings
from hermes_apprentice.trainer.environment import find_train_python
from hermes_apprentice.trainer.generator import EXTRA, prepare
from hermes_apprentice.trainer.hardware import serving_device
from hermes_apprentice.validator.baseline import Rival
from hermes_apprentice.validator.evaluate import AnswerMany

LONGEST_SHOT = 2_000
"""Characters of request and answer up to which an example is shown to the bare base."""


class Judged(NamedTuple):
    """What the gate scores, and against what."""

    answer_many: AnswerMany
    """The served artefact."""

    rival: Rival | None
    """The baseline; the best constant answer where there is none."""

    served_by: str
    """Name of the way of serving, for verdict and manifest; empty for what runs in the sidecar."""


def order_for(settings: Settings) -> GeneratorOrder:
    """Return what a training of a generator has to be told."""
    wanted = settings.generator
    return GeneratorOrder(
        base_model=settings.trainer.base_model,
        bases_file=str(settings.bases_path),
        recipe=wanted.recipe,
        recipes_file=str(settings.recipes_path),
        prompt=PromptTemplate(system=wanted.system_text if wanted.keep_system_text else ""),
        on_cpu=wanted.on_cpu,
    )


def why_not(settings: Settings) -> str:
    """Return why no generator can be trained on this machine now; empty if one can."""
    try:
        python = find_train_python(settings.trainer.train_python) or ""
        prepare(order_for(settings), python)
    except ApprenticeError as error:
        return str(error)
    return ""


def open_hosts(settings: Settings) -> GeneratorHosts:
    """Return what runs generators on this machine; starts nothing.

    Raises:
        MissingExtraError: There is no training environment.
        ArtefactError: There is no GPU, and the CPU may not be used.
    """
    python = find_train_python(settings.trainer.train_python)
    if python is None:
        raise MissingExtraError("running a generator", EXTRA)
    device = serving_device(python, on_cpu=settings.generator.on_cpu)
    return GeneratorHosts(python, device=device, seconds=settings.generator.answer_seconds)


@contextmanager
def open_for_gate(shop: Workshop, kind: Kind, artefact: Path, dataset: Dataset) -> Iterator[Judged]:
    """Give an artefact to the gate through the runtime that would serve it.

    Raises:
        ApprenticeError: It cannot be loaded.
    """
    if kind is Kind.GENERATOR:
        with open_judged(shop, artefact, dataset) as judged:
            yield judged
        return
    with open_artefact(artefact, dataset, shop.embedder, shop.redactor) as runtime:
        yield Judged(runtime.answer_many, None, "")


@contextmanager
def open_judged(shop: Workshop, artefact: Path, dataset: Dataset) -> Iterator[Judged]:
    """Give a generator's artefact to the gate, as it would be served, with its baseline.

    Raises:
        ApprenticeError: It cannot be loaded.
    """
    settings = shop.settings.generator
    shown = shots_of(dataset, settings.shots, shop.settings.trainer.seed)
    name = f"the same base model with {len(shown)} examples in its prompt"
    if shop.settings.vllm.server != "off":
        with open_remote(artefact, dataset, shop.settings, shop.redactor) as remote:
            user = remote.adapter.card.prompt.user

            def bare(asked: Sequence[Example]) -> list[str | None]:
                return remote.bare(shots(user, settings.system_text, shown, asked))

            yield Judged(remote.answer_many, Rival(name, bare), REMOTE)
        return
    hosts = open_hosts(shop.settings)
    try:
        with open_generator(artefact, dataset, hosts, shop.embedder, shop.redactor) as opened:
            runtime, card = opened
            rival = Rival(name, few_shot(hosts.host(card), card, settings.system_text, shown))
            yield Judged(runtime.answer_many, rival, NAME)
    finally:
        hosts.close()


def shots_of(dataset: Dataset, count: int, seed: int) -> list[Example]:
    """Return some training examples, the same ones each time."""
    short = [
        one for one in dataset.of(Split.TRAIN) if len(one.request) + len(one.answer) <= LONGEST_SHOT
    ]
    order = np.random.default_rng(seed).permutation(len(short))[:count]
    return [short[place] for place in sorted(order)]
