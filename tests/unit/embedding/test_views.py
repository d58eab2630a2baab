"""A question beside a long text stays visible."""

from __future__ import annotations

import numpy as np
import pytest

from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.embedding.views import matching_dimension, matching_vector, matching_vectors
from hermes_apprentice.testing import FakeEmbedder

MAIL = (
    "Hello, we at Fernhill Joinery need forty of the brass hinges with the number KX-77-B by "
    "Friday, please use the express courier and put our reference PO 88123 on the papers. The "
    "price you gave us last month still holds, I hope. Kind regards, Ines Holt, purchasing. "
)


ANOTHER_MAIL = (
    "Dear team, Oakwell Bakery would like twelve trays of the seeded rolls, article SR-40, on "
    "Monday before six. Please invoice the usual account and tell the driver to ring twice at "
    "the back door, nobody hears the front one. Thank you, Piet Moss, kitchen. "
)


@pytest.mark.parametrize("text", ["", "one", MAIL])
def test_a_vector_is_of_unit_length_and_as_long_as_it_says(text: str, embedder: Embedder) -> None:
    for one in (FakeEmbedder(), embedder):
        vector = matching_vector(one.encode([text])[0])
        assert vector.shape == (matching_dimension(one),)
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_another_question_about_the_same_mail_is_further_away(embedder: Embedder) -> None:
    """Measured by how far away the same question about another mail is."""
    order, number = "\nExtract the order as JSON.", "\nWhich number should I call?"
    encodings = embedder.encode([MAIL + order, MAIL + number, ANOTHER_MAIL + order])
    plain = np.stack([one.embedding for one in encodings])
    viewed = matching_vectors(encodings)

    def question(rows: np.ndarray) -> float:
        return float((1 - rows[0] @ rows[1]) / (1 - rows[0] @ rows[2]))

    assert question(viewed) > 1.3 * question(plain)
