"""What a generator is told in training, and what its baseline is shown."""

from __future__ import annotations

from hermes_apprentice.domain.dataset import Dataset, Example, Split
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.pipeline.generators import LONGEST_SHOT, order_for, shots_of
from hermes_apprentice.settings import GeneratorSettings, Settings


def test_the_static_text_is_pruned_unless_it_is_kept(settings: Settings) -> None:
    assert order_for(settings).prompt.system == ""
    kept = GeneratorSettings(keep_system_text=True, system_text="Be brief.")
    assert order_for(settings.model_copy(update={"generator": kept})).prompt.system == "Be brief."


def test_the_baseline_is_shown_short_training_examples_only_and_the_same_each_time() -> None:
    splits = [Split.TRAIN] * 30 + [Split.VALIDATION] * 5 + [Split.TEST] * 5
    examples = tuple(
        Example(
            example_id=f"e{place}",
            group=f"g{place}",
            split=split,
            request=f"request {place}" + (" x" * LONGEST_SHOT if place % 3 == 0 else ""),
            answer="answer",
            asked_at=float(place),
        )
        for place, split in enumerate(splits)
    )
    dataset = Dataset(
        dataset_id="ds-1",
        digest="0" * 64,
        pattern_id="pt-1",
        shape=Shape(kind=ShapeKind.TEXT, agreement=1.0),
        redacted=False,
        redaction="none",
        dropped=(),
        examples=examples,
    )
    shown = shots_of(dataset, 4, seed=7)
    assert shown == shots_of(dataset, 4, seed=7) and len(set(shown)) == 4
    for seed in range(20):
        for one in shots_of(dataset, 4, seed):
            assert one.split is Split.TRAIN and len(one.request) < LONGEST_SHOT
    assert shots_of(dataset, 0, seed=7) == []
