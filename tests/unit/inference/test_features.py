import numpy as np

from hermes_apprentice.embedding.base import Encoding
from hermes_apprentice.inference.features import (
    reads_all,
    spelling,
    word_features,
    word_states,
)
from hermes_apprentice.inference.words import split_words


def encoding(offsets: list[tuple[int, int]]) -> Encoding:
    return Encoding(
        embedding=np.ones(2, np.float32),
        tokens=tuple("t" for _ in offsets),
        offsets=np.array(offsets, np.int32).reshape(-1, 2),
        states=np.arange(2 * len(offsets), dtype=np.float32).reshape(-1, 2),
    )


def test_a_word_has_the_mean_state_of_its_pieces() -> None:
    text = "unbelievable a"
    states = word_states(split_words(text), encoding([(0, 2), (2, 12), (13, 14)]))
    assert states.tolist() == [[1.0, 2.0], [4.0, 5.0]]


def test_words_share_a_piece_that_spans_both() -> None:
    states = word_states(split_words("3x"), encoding([(0, 2)]))
    assert states.tolist() == [[0.0, 1.0], [0.0, 1.0]]


def test_words_beyond_the_window_have_no_state_and_are_noticed() -> None:
    words = split_words("one two three")
    short = encoding([(0, 3), (4, 7)])
    assert word_states(words, short)[2].tolist() == [0.0, 0.0]
    assert not reads_all(words, short)
    assert reads_all(words[:2], short)
    assert reads_all([], short)
    assert not reads_all(words, encoding([]))


def test_spelling_keeps_what_names_and_numbers_look_like() -> None:
    assert [spelling(word) for word in ("Berlin", "ABC", "iPhone", "2024", "-")] == [
        "Xxx", "XX", "xXxx", "dddd", "-",
    ]  # fmt: skip


def test_features_tell_neighbours_and_edges_apart() -> None:
    first, second = word_features(split_words("to Rome"), "to Rome")
    assert "wto" in first and "1wrome" in first and "-1|" in first
    assert "-1wto" in second and "<wto wrome" in second and "1|" in second
