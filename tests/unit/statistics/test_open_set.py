from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.statistics.open_set import (
    BACKGROUND,
    MAX_SUPPORT,
    OpenSetModel,
    fit_open_set,
)

DIMENSION = 48


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


class World:
    """Patterns and other topics, each a cloud around a direction."""

    def __init__(self, patterns: int, topics: int, seed: int, spread: float = 0.8) -> None:
        self.generator = np.random.default_rng(seed)
        self.centres = unit(self.generator.standard_normal((patterns + topics, DIMENSION)))
        self.patterns = patterns
        self.spread = spread

    def draw(self, topic: int, count: int) -> np.ndarray:
        noise = self.generator.standard_normal((count, DIMENSION)) / np.sqrt(DIMENSION)
        return unit(self.centres[topic] + self.spread * noise)

    def own(self, each: int) -> tuple[np.ndarray, np.ndarray]:
        vectors = np.vstack([self.draw(topic, each) for topic in range(self.patterns)])
        return vectors, np.repeat(np.arange(self.patterns), each)

    def other(self, count: int, first: int = 0, last: int | None = None) -> np.ndarray:
        topics = np.arange(self.patterns, len(self.centres))[first:last]
        picked = self.generator.choice(topics, count)
        return np.vstack([self.draw(int(topic), 1) for topic in picked])


def fitted(world: World, each: int, others: int, rate: float = 0.005) -> OpenSetModel:
    own, labels = world.own(each)
    vectors = np.vstack([own, world.other(others)]) if others else own
    labels = np.concatenate([labels, np.full(others, BACKGROUND)])
    names = tuple(f"pattern-{index}" for index in range(world.patterns))
    return fit_open_set(vectors, labels, names, rate, seed=1)


def test_members_are_found_and_strangers_turned_away() -> None:
    world = World(patterns=3, topics=20, seed=1)
    model = fitted(world, each=40, others=700)
    own, labels = world.own(200)
    found = [decision.label for decision in model.decide(own)]
    right = np.mean([name == f"pattern-{k}" for name, k in zip(found, labels, strict=True)])
    strangers = [decision.label is not None for decision in model.decide(world.other(2_000))]
    assert right > 0.85
    assert np.mean(strangers) <= 0.005
    assert model.bound.achieved
    assert model.bound.upper <= 0.005


def test_the_bound_holds_on_new_traffic_in_nearly_every_run() -> None:
    """Overlapping clouds, so that false routes do happen and the bound has work to do."""
    broken = 0
    routed = []
    for seed in range(20):
        world = World(patterns=3, topics=12, seed=seed, spread=1.6)
        model = fitted(world, each=40, others=400, rate=0.02)
        assert model.bound.achieved
        strangers = world.other(4_000)
        broken += np.mean([d.label is not None for d in model.decide(strangers)]) > 0.02
        routed.append(np.mean([d.label is not None for d in model.decide(world.own(50)[0])]))
    assert broken <= 2
    assert np.mean(routed) > 0.3


def test_topics_that_were_never_seen_are_turned_away_too() -> None:
    world = World(patterns=3, topics=40, seed=2, spread=1.2)
    own, labels = world.own(40)
    seen = world.other(650, 0, 20)
    model = fit_open_set(
        np.vstack([own, seen]),
        np.concatenate([labels, np.full(650, BACKGROUND)]),
        ("a", "b", "c"),
        0.01,
        seed=1,
    )
    unseen = model.decide(world.other(3_000, 20, None))
    assert np.mean([decision.label is not None for decision in unseen]) <= 0.02


def test_too_little_other_traffic_is_admitted_and_makes_it_careful() -> None:
    world = World(patterns=2, topics=20, seed=3)
    blind, little, plenty = (fitted(world, each=40, others=n) for n in (0, 150, 700))
    assert [m.bound.achieved for m in (blind, little, plenty)] == [False, False, True]
    assert blind.bound.upper == 1
    coverage = [np.mean(model.bound.coverage) for model in (blind, little, plenty)]
    assert 0.4 <= coverage[0] < coverage[1] < coverage[2]


def test_a_single_pattern_without_other_traffic_still_routes_its_own_only() -> None:
    world = World(patterns=1, topics=30, seed=4)
    model = fitted(world, each=20, others=0)
    assert np.mean([d.label == "pattern-0" for d in model.decide(world.own(200)[0])]) > 0.3
    assert not any(d.label for d in model.decide(world.other(500)))


def test_a_pattern_never_takes_what_is_far_from_everything() -> None:
    world = World(patterns=2, topics=20, seed=5)
    model = fitted(world, each=40, others=700)
    away = -world.centres[:2]
    assert [decision.label for decision in model.decide(unit(away))] == [None, None]


def test_repeats_of_one_request_prove_nothing() -> None:
    world = World(patterns=2, topics=20, seed=6)
    own, labels = world.own(40)
    other = np.repeat(world.other(50), 20, axis=0)
    model = fit_open_set(
        np.vstack([own, other]),
        np.concatenate([labels, np.full(1_000, BACKGROUND)]),
        ("a", "b"),
        0.005,
        seed=1,
    )
    assert model.bound.background == 50
    assert not model.bound.achieved


def test_members_hidden_in_the_other_traffic_are_named() -> None:
    world = World(patterns=2, topics=20, seed=7)
    own, labels = world.own(40)
    other = world.other(300)
    hidden = world.draw(0, 1)
    vectors = np.vstack([own, other, hidden])
    labels = np.concatenate([labels, np.full(301, BACKGROUND)])
    model = fit_open_set(vectors, labels, ("a", "b"), 0.01, seed=1)
    scores = model.scores(other)[:, 0]
    assert scores.max() < 0.5
    assert model.bound.suspects in ((), (len(vectors) - 1,))
    closer = unit(world.centres[:1] + 0.2 * (world.draw(0, 1) - world.centres[:1]))
    vectors[-1] = closer[0]
    assert fit_open_set(vectors, labels, ("a", "b"), 0.01, seed=1).bound.suspects == (
        len(vectors) - 1,
    )


def test_the_same_data_and_seed_give_the_same_model() -> None:
    first, second = (fitted(World(2, 10, seed=8), 30, 200).to_arrays() for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_model_survives_its_file() -> None:
    world = World(patterns=2, topics=10, seed=9)
    model = fitted(world, each=30, others=200)
    again = OpenSetModel.from_bytes(model.to_bytes())
    vectors = world.other(50)
    assert again.decide(vectors) == model.decide(vectors)
    assert again.bound == model.bound
    assert again.classes == model.classes


def test_more_rows_than_fit_are_thinned_fairly() -> None:
    world = World(patterns=2, topics=30, seed=10)
    big, small = world.draw(0, MAX_SUPPORT), world.draw(1, 20)
    other = world.other(900)
    vectors = np.vstack([big, small, other])
    labels = np.repeat([0, 1, BACKGROUND], [len(big), 20, 900])
    model = fit_open_set(vectors, labels, ("big", "small"), 0.005, seed=1)
    assert len(model.to_arrays()["vectors"]) <= MAX_SUPPORT
    assert model.bound.background == 900
    assert np.mean([d.label == "small" for d in model.decide(world.draw(1, 100))]) > 0.7


def test_a_vector_without_numbers_belongs_to_no_pattern() -> None:
    model = fitted(World(2, 10, seed=11), 30, 50)
    broken = np.full((1, DIMENSION), np.nan, dtype=np.float32)
    assert model.decide(broken)[0].label is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0, 0, 5])}, "names no class"),
        ({"labels": np.array([0, 0])}, "one label per row"),
        ({"classes": ("a", "b", "c")}, "class c has no row"),
        ({"classes": ("a", "a")}, "its own name"),
        ({"classes": ()}, "at least one class"),
        ({"rate": 0.0}, "between 0 and 1"),
        ({"vectors": np.zeros((3, 4), np.float32)}, "unit length"),
        ({"vectors": np.full((3, 4), np.nan, np.float32)}, "unit length"),
    ],
)
def test_impossible_input_is_refused(change: dict[str, object], message: str) -> None:
    values: dict[str, object] = {
        "vectors": unit(np.eye(3, 4)),
        "labels": np.array([0, 1, BACKGROUND]),
        "classes": ("a", "b"),
        "rate": 0.01,
    } | change
    with pytest.raises(ValueError, match=message):
        fit_open_set(
            values["vectors"],
            values["labels"],
            values["classes"],
            values["rate"],
            seed=1,  # type: ignore[arg-type]
        )


def test_damaged_files_are_refused_with_a_way_out() -> None:
    data = fitted(World(2, 10, seed=12), 20, 50).to_bytes()
    generator = np.random.default_rng(0)
    for cut in generator.integers(0, len(data), 60):
        with pytest.raises(ArtefactError, match="fit it again"):
            OpenSetModel.from_bytes(data[:cut])
    for junk in (b"", b"PK\x03\x04", bytes(generator.integers(0, 256, 500, dtype=np.uint8))):
        with pytest.raises(ArtefactError):
            OpenSetModel.from_bytes(junk)


def test_objects_in_a_file_are_never_unpickled() -> None:
    buffer = io.BytesIO()
    model = fitted(World(2, 10, seed=13), 20, 50)
    np.savez(buffer, **(model.to_arrays() | {"classes": np.array([object()])}))
    with pytest.raises(ArtefactError):
        OpenSetModel.from_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    "name", ["vectors", "weights", "thresholds", "classes", "coverage", "taken"]
)
def test_arrays_that_do_not_fit_each_other_are_refused(name: str) -> None:
    arrays = fitted(World(2, 10, seed=14), 20, 50).to_arrays()
    with pytest.raises(ArtefactError):
        OpenSetModel.from_arrays(arrays | {name: arrays[name][:1]})
    with pytest.raises(ArtefactError):
        OpenSetModel.from_arrays({key: arrays[key] for key in arrays if key != name})


def test_thresholds_that_are_not_numbers_are_refused() -> None:
    arrays = fitted(World(2, 10, seed=15), 20, 50).to_arrays()
    with pytest.raises(ArtefactError):
        OpenSetModel.from_arrays(arrays | {"thresholds": np.array([np.nan, 0.1])})


def test_an_npz_of_something_else_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ArtefactError):
        OpenSetModel.from_bytes(buffer.getvalue())


class Templates:
    """Requests made from templates: each content comes in several nearly equal wordings."""

    def __init__(self, patterns: int, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.leads = self.scatter(patterns)

    def scatter(self, count: int) -> np.ndarray:
        return unit(self.generator.standard_normal((count, 4 * DIMENSION)))

    def own(self, contents: int, wordings: int) -> tuple[np.ndarray, np.ndarray]:
        said = [
            unit(lead + 0.7 * content + 0.15 * wording)
            for lead in self.leads
            for content in self.scatter(contents)
            for wording in self.scatter(wordings)
        ]
        return np.array(said), np.repeat(np.arange(len(self.leads)), contents * wordings)


def test_a_new_request_of_a_template_is_taken_and_other_traffic_is_not() -> None:
    taken = []
    for seed in (20, 21, 22):
        templates = Templates(patterns=3, seed=seed)
        own, labels = templates.own(contents=20, wordings=3)
        vectors = np.vstack([own, templates.scatter(610)])
        labels = np.concatenate([labels, np.full(610, BACKGROUND)])
        model = fit_open_set(vectors, labels, ("0", "1", "2"), 0.005, seed=1)
        assert model.bound.achieved
        fresh, right = templates.own(contents=100, wordings=1)
        found = [decision.label for decision in model.decide(fresh)]
        taken.append(np.mean([name == str(k) for name, k in zip(found, right, strict=True)]))
        strangers = model.decide(templates.scatter(2_000))
        assert np.mean([decision.label is not None for decision in strangers]) <= 0.005
    assert np.mean(taken) >= 0.9
