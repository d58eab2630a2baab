from __future__ import annotations

import pytest

from hermes_apprentice.domain.affix import common_affix
from hermes_apprentice.domain.shape import FieldKind
from hermes_apprentice.domain.shape_inference import infer_shape


@pytest.mark.parametrize(
    ("texts", "prefix", "suffix"),
    [
        (["ORD-123", "ORD-145", "ORD-9"], "ORD-", ""),
        (["123 EUR", "145 EUR"], "", " EUR"),
        (["no. 12/B", "no. 12/B"], "no. 12/", ""),
        (["1200", "1250"], "", ""),
        (["Anna", "Annegret"], "", ""),
        (["x", "x"], "", ""),
        ([], "", ""),
        (["", "ORD-1"], "", ""),
    ],
)
def test_common_ends_stop_where_a_word_or_a_number_begins(
    texts: list[str], prefix: str, suffix: str
) -> None:
    assert common_affix(texts) == (prefix, suffix)


def test_a_text_written_around_a_copied_number_is_copied() -> None:
    numbers = [17 * place + 100 for place in range(30)]
    requests = [f"where is order {number}" for number in numbers]
    shape = infer_shape(requests, [f'{{"order": "ORD-{number}"}}' for number in numbers])
    (leaf,) = shape.fields
    assert (leaf.kind, leaf.prefix, leaf.copied_share) == (FieldKind.COPIED, "ORD-", 1.0)
    assert leaf.bare("ORD-5") == "5"
    assert leaf.bare("5") is None and leaf.bare("ORD-") is None


def test_what_all_texts_begin_with_does_not_make_an_invented_rest_copied() -> None:
    requests = [f"where is order {place}" for place in range(30)]
    answers = [f'{{"order": "ORD-{9_000 + 7 * place}"}}' for place in range(30)]
    (leaf,) = infer_shape(requests, answers).fields
    assert leaf.kind is FieldKind.FREE_TEXT and not leaf.prefix
