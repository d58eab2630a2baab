import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.evaluation import agrees
from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.domain.shape_inference import infer_shape
from hermes_apprentice.embedding.base import Encoding
from hermes_apprentice.errors import ArtefactError, TrainingError
from hermes_apprentice.inference.extractor import PLAN_FILE, WEIGHTS_FILE, Extractor
from hermes_apprentice.inference.perceptron import Perceptron
from hermes_apprentice.testing import FakeEmbedder
from hermes_apprentice.trainer.extractor import ExtractorFit, train_extractor

Make = Callable[[Sequence[tuple[str, str]]], list[Example]]


def silent(share: float, doing: str) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def shape(bookings: list[tuple[str, str]]) -> Shape:
    return infer_shape([text for text, _ in bookings], [answer for _, answer in bookings])


@pytest.fixture(scope="module")
def fit(make_examples: Make, bookings: list[tuple[str, str]], shape: Shape) -> ExtractorFit:
    examples = make_examples(bookings)
    encodings = FakeEmbedder().encode([example.request for example in examples])
    return train_extractor(shape, examples, encodings, 7, silent)


def answer(model: Extractor, request: str) -> tuple[str, float]:
    (prediction,) = model.predict([request], FakeEmbedder().encode([request]))
    return prediction.text, prediction.confidence


def test_held_out_answers_agree(fit: ExtractorFit) -> None:
    assert fit.trained.scores["agreement"] >= 0.9
    assert len(fit.trained.held_out) == 90
    assert all(0.0 <= one.confidence <= 1.0 for one in fit.trained.held_out)


def test_values_never_seen_are_extracted_and_read(fit: ExtractorFit) -> None:
    text, confidence = answer(fit.model, "I need five nights in Quillhaven! It is for Ákos.")
    assert json.loads(text) == {
        "town": "QUILLHAVEN",
        "nights": 5,
        "guest": "Ákos",
        "late": False,
        "kind": "room",
    }
    assert text.startswith('{\n "town": "QUILLHAVEN"') and confidence > 0.3


def test_a_foreign_request_gets_little_confidence(fit: ExtractorFit) -> None:
    _, usual = answer(fit.model, "Room in Dunwick for 3 nights. Guest: Ida")
    _, foreign = answer(fit.model, "write a poem about autumn leaves and rivers")
    assert usual > 0.7 and foreign < 0.2


def test_a_request_beyond_the_window_is_never_silently_wrong(fit: ExtractorFit) -> None:
    request = "Room in Dunwick for 3 nights. Guest: Ida"
    (whole,) = FakeEmbedder().encode([request])
    cut = Encoding(
        embedding=whole.embedding,
        tokens=whole.tokens[:4],
        offsets=whole.offsets[:4],
        states=whole.states[:4],
    )
    (prediction,) = fit.model.predict([request], [cut])
    assert prediction.confidence < 0.01, "training saw no such request, so nothing is known"


def test_answers_are_the_same_after_saving_and_loading(
    fit: ExtractorFit, bookings: list[tuple[str, str]], tmp_path: Path
) -> None:
    fit.model.save(tmp_path)
    again = Extractor.load(tmp_path)
    requests = [text for text, _ in bookings] + ["", "\u2028", "x" * 5_000, "naïve 東京 \U0001f980"]
    encodings = FakeEmbedder().encode(requests)
    for before, after in zip(
        fit.model.predict(requests, encodings), again.predict(requests, encodings), strict=True
    ):
        assert before.text == after.text
        assert before.confidence == pytest.approx(after.confidence, abs=5e-3)


@pytest.mark.parametrize("name", [PLAN_FILE, WEIGHTS_FILE])
def test_cut_or_missing_files_are_refused(fit: ExtractorFit, tmp_path: Path, name: str) -> None:
    fit.model.save(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for kept in (0, 1, len(whole) // 2, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:kept])
        with pytest.raises(ArtefactError):
            Extractor.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ArtefactError):
        Extractor.load(tmp_path)


def test_the_same_seed_gives_the_same_files(
    make_examples: Make, bookings: list[tuple[str, str]], shape: Shape, tmp_path: Path
) -> None:
    examples = make_examples(bookings)
    encodings = FakeEmbedder().encode([example.request for example in examples])
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        train_extractor(shape, examples, encodings, 3, silent).model.save(tmp_path / name)
        with np.load(tmp_path / name / WEIGHTS_FILE) as stored:
            written.append({key: stored[key] for key in stored.files})
    assert all(np.array_equal(written[0][key], written[1][key]) for key in written[0])


def test_held_out_answers_do_not_come_from_near_duplicates(
    make_examples: Make, bookings: list[tuple[str, str]], shape: Shape
) -> None:
    examples = [replace(example, group="all the same") for example in make_examples(bookings)]
    encodings = FakeEmbedder().encode([example.request for example in examples])
    with pytest.raises(TrainingError, match="near-duplicates"):
        train_extractor(shape, examples, encodings, 7, silent)


def test_confidence_ranks_right_answers_above_wrong_ones(
    fit: ExtractorFit, bookings: list[tuple[str, str]], shape: Shape
) -> None:
    right = np.array(
        [
            agrees(shape, one.text, wanted)
            for one, (_, wanted) in zip(fit.trained.held_out, bookings, strict=True)
        ]
    )
    sure = np.array([one.confidence for one in fit.trained.held_out])
    assert sure[right].mean() > (sure[~right].mean() if (~right).any() else 0.5)


def test_encodings_are_needed(fit: ExtractorFit) -> None:
    with pytest.raises(ArtefactError):
        fit.model.predict(["Room"], None)


def test_answers_without_copied_values_need_no_chain(make_examples: Make) -> None:
    rows = [
        (f"{word} number {n}", json.dumps({"urgent": word == "now", "unit": "day"}))
        for n in range(15)
        for word in ("now", "later")
    ]
    shape = infer_shape([text for text, _ in rows], [answer for _, answer in rows])
    examples = make_examples(rows)
    encodings = FakeEmbedder().encode([example.request for example in examples])
    fit = train_extractor(shape, examples, encodings, 7, silent)
    assert fit.model.chains == () and fit.trained.scores["agreement"] == 1.0
    text, _ = answer(fit.model, "now number 99")
    assert json.loads(text) == {"urgent": True, "unit": "day"}


def with_networks(model: Extractor, width: int) -> Extractor:
    """The same model with small random networks beside its chains."""
    rng = np.random.default_rng(5)
    networks = tuple(
        Perceptron(
            hidden=rng.normal(size=(width, 4)).astype(np.float32),
            hidden_bias=np.zeros(4, np.float32),
            output=rng.normal(size=(4, len(chain.labels))).astype(np.float32),
            output_bias=np.zeros(len(chain.labels), np.float32),
        )
        for chain in model.chains
    )
    return replace(model, networks=networks, network_weight=0.5)


def test_networks_beside_the_chains_survive_their_files(fit: ExtractorFit, tmp_path: Path) -> None:
    model = with_networks(fit.model, 3 * FakeEmbedder().state_dimension)
    model.save(tmp_path)
    again = Extractor.load(tmp_path)
    requests = ["Room in Dunwick for 3 nights. Guest: Ida", "I need two nights in Grimsund!"]
    encodings = FakeEmbedder().encode(requests)
    before, after = (one.predict(requests, encodings) for one in (model, again))
    assert [one.text for one in before] == [one.text for one in after]
    mixed, plain = (one.decode(requests[0], encodings[0])[0] for one in (again, fit.model))
    assert not np.allclose(mixed.signals, plain.signals), "the networks have a say"


def test_networks_that_do_not_fit_the_chains_are_refused(fit: ExtractorFit, tmp_path: Path) -> None:
    with_networks(fit.model, 7).save(tmp_path)
    with pytest.raises(ArtefactError):
        Extractor.load(tmp_path)
