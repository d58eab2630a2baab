import numpy as np
import pytest

from hermes_apprentice.inference.head import softmax
from hermes_apprentice.trainer.folds import make_folds
from hermes_apprentice.trainer.head_fitting import OPTIONS, HeadSettings, choose_head, fit_head


def corpus(count: int = 60) -> tuple[np.ndarray, list[list[str]], np.ndarray]:
    """Only one word of many tells the class; the embedding is noise."""
    rng = np.random.default_rng(5)
    embeddings = rng.normal(size=(count, 8)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    classes = np.arange(count) % 3
    bags = [
        [f"key{kind}", *(f"noise{word}" for word in rng.integers(0, 30, 12))] for kind in classes
    ]
    return embeddings, bags, classes


@pytest.mark.parametrize("settings", OPTIONS, ids=lambda one: one.text)
def test_every_option_gives_probabilities_over_all_classes(settings: HeadSettings) -> None:
    embeddings, bags, classes = corpus()
    head = fit_head(embeddings, bags, classes, 4, settings)
    shares = softmax(head.scores(embeddings[0], bags[0]))
    assert shares.shape == (4,) and shares.sum() == pytest.approx(1.0)
    assert shares[3] < 1e-6, "a class without examples is never chosen"


def test_what_tells_the_classes_apart_is_found_by_cross_validation() -> None:
    embeddings, bags, classes = corpus()
    folds = make_folds([f"g{n}" for n in range(60)], classes.tolist(), 4, seed=0)
    settings, accuracy = choose_head(embeddings, bags, classes, 3, folds)
    assert settings.bag and accuracy > 0.95


def test_one_class_is_always_chosen() -> None:
    embeddings, bags, _ = corpus(10)
    head = fit_head(embeddings, bags, np.ones(10, np.intp), 2, OPTIONS[0])
    assert softmax(head.scores(embeddings[0], bags[0])).tolist() == pytest.approx([0, 1], abs=1e-9)


def test_two_classes_have_a_column_each() -> None:
    embeddings, bags, classes = corpus()
    head = fit_head(embeddings, bags, classes % 2, 2, OPTIONS[1])
    assert head.dense.shape == (8, 2) and head.bias.shape == (2,)


def test_a_sparse_prior_keeps_few_words() -> None:
    embeddings, bags, classes = corpus()
    sparse = HeadSettings(embedding=False, bag=True, strength=1.0, sparse=True)
    head = fit_head(embeddings, bags, classes, 3, sparse)
    used = {name for name, row in head.vocabulary.items() if np.abs(head.named[row]).max() > 1e-6}
    assert {"key0", "key1", "key2"} >= {name for name in used if name.startswith("key")} != set()
    assert len(used) < len(head.vocabulary) / 3
