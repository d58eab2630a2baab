from itertools import pairwise, product

import numpy as np
import pytest

from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.chain import (
    FORBIDDEN,
    Chain,
    allowed_transitions,
    best_labels,
    posteriors,
)

LABELS = ("O", "B-a", "I-a", "B-b", "I-b")


def random_scores(words: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    moves, start = allowed_transitions(LABELS)
    free = rng.normal(size=moves.shape)
    transitions = np.where(moves < 0, FORBIDDEN, free)
    return rng.normal(size=(words, len(LABELS))) * 2, transitions, start.astype(float)


def every_path(
    emissions: np.ndarray, transitions: np.ndarray, start: np.ndarray
) -> dict[tuple[int, ...], float]:
    scores = {}
    for path in product(range(len(LABELS)), repeat=len(emissions)):
        score = start[path[0]] + sum(emissions[n, label] for n, label in enumerate(path))
        score += sum(transitions[a, b] for a, b in pairwise(path))
        if score > FORBIDDEN / 2:
            scores[path] = score
    return scores


@pytest.mark.parametrize("seed", range(5))
def test_the_best_labels_are_the_best_of_all_paths(seed: int) -> None:
    emissions, transitions, start = random_scores(4, seed)
    paths = every_path(emissions, transitions, start)
    best = max(paths, key=paths.__getitem__)
    partition = np.log(sum(np.exp(score) for score in paths.values()))
    found = best_labels(LABELS, emissions, transitions, start)
    assert found.labels == tuple(LABELS[label] for label in best)
    assert found.log_probability == pytest.approx(paths[best] - partition, abs=1e-6)


def test_posteriors_are_sums_over_all_paths() -> None:
    emissions, transitions, start = random_scores(4, 9)
    paths = every_path(emissions, transitions, start)
    total = sum(np.exp(score) for score in paths.values())
    shares, log_partition = posteriors(emissions, transitions, start)
    wanted = np.zeros_like(shares)
    for path, score in paths.items():
        for word, label in enumerate(path):
            wanted[word, label] += np.exp(score) / total
    assert np.allclose(shares, wanted, atol=1e-9)
    assert log_partition == pytest.approx(np.log(total))


def test_inside_never_follows_another_field_or_nothing() -> None:
    for seed in range(20):
        labels = best_labels(LABELS, *random_scores(6, seed)).labels
        for before, label in zip(("O", *labels), labels, strict=False):
            assert not label.startswith("I-") or before[2:] == label[2:]


def test_a_required_field_gets_a_span_at_its_likeliest_word() -> None:
    emissions = np.zeros((3, len(LABELS)))
    emissions[:, 0] = 5.0
    emissions[1, 1] = 3.0
    moves, start = allowed_transitions(LABELS)
    free = best_labels(LABELS, emissions, moves, start)
    bound = best_labels(LABELS, emissions, moves, start, required=("a", "b"))
    assert free.labels == ("O", "O", "O")
    assert bound.labels.count("B-a") == 1 and bound.labels[1] == "B-a"
    assert bound.labels.count("B-b") == 1
    assert bound.log_probability < free.log_probability


def test_more_required_fields_than_words_is_no_error() -> None:
    moves, start = allowed_transitions(LABELS)
    found = best_labels(LABELS, np.zeros((1, 5)), moves, start, required=("a", "b", "unknown"))
    assert len(found.labels) == 1
    assert best_labels(LABELS, np.zeros((0, 5)), moves, start, required=("a",)).labels == ()


def chain() -> Chain:
    rng = np.random.default_rng(3)
    moves, start = allowed_transitions(LABELS)
    return Chain(
        labels=LABELS,
        vocabulary={"wa": 0, "wß \U0001f980": 1},
        named=rng.normal(size=(2, 5)).astype(np.float16).astype(np.float32),
        dense=rng.normal(size=(4, 5)).astype(np.float32),
        offset=rng.normal(size=5).astype(np.float32),
        transitions=moves,
        start=start,
    )


def test_a_chain_reads_known_features_and_states_only() -> None:
    one = chain()
    states = np.array([[1, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    scores = one.emissions([["wa", "unknown"], ["unknown"]], states)
    assert np.allclose(scores[0], one.named[0] + one.dense[0] + one.offset, atol=1e-6)
    assert not scores[1].any()


def test_a_chain_survives_its_arrays() -> None:
    one = chain()
    again = Chain.from_arrays(one.to_arrays())
    assert again.labels == one.labels and dict(again.vocabulary) == dict(one.vocabulary)
    states = np.ones((2, 4), np.float32)
    features = [["wa"], ["wß \U0001f980"]]
    assert np.array_equal(one.emissions(features, states), again.emissions(features, states))


@pytest.mark.parametrize("name", sorted(chain().to_arrays()))
def test_a_missing_array_is_refused(name: str) -> None:
    arrays = chain().to_arrays()
    del arrays[name]
    with pytest.raises(ArtefactError):
        Chain.from_arrays(arrays)


@pytest.mark.parametrize("name", ["named", "offset", "start", "transitions"])
def test_arrays_that_do_not_fit_each_other_are_refused(name: str) -> None:
    arrays = chain().to_arrays()
    with pytest.raises(ArtefactError):
        Chain.from_arrays({**arrays, name: arrays[name][:-1]})
