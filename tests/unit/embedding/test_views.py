"""A question beside a long text stays visible."""

from __future__ import annotations

import numpy as np
import pytest

from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.embedding.views import matching_vector, matching_vectors
from hermes_apprentice.testing import FakeEmbedder

MAIL = (
    "Hello, we at Fernhill Joinery need forty of the brass hinges with the number KX-77-B by "
    "Friday, please use the express courier and put our reference PO 88123 on the papers. The "
    "price you gave us last month still holds, I hope. Kind regards, Ines Holt, purchasing. "
)


def test_a_vector_is_of_unit_length_and_three_times_as_long() -> None:
    embedder = FakeEmbedder()
    for text in ("", "one", MAIL):
        vector = matching_vector(embedder.encode([text])[0])
        assert vector.shape == (3 * embedder.dimension,)
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_a_short_text_is_compared_as_by_its_embedding(embedder: Embedder) -> None:
    encodings = embedder.encode(["play some jazz", "stop the music", "pay the rent"])
    plain = np.stack([one.embedding for one in encodings])
    viewed = matching_vectors(encodings)
    assert np.allclose(plain @ plain.T, viewed @ viewed.T, atol=1e-5)


def test_another_question_about_the_same_mail_is_further_away(embedder: Embedder) -> None:
    same, other = f"{MAIL}\nExtract the order as JSON.", f"{MAIL}\nWhich number should I call?"
    first, second = embedder.encode([same, other])
    plain = float(first.embedding @ second.embedding)
    viewed = float(matching_vector(first) @ matching_vector(second))
    assert viewed < plain - 0.03
