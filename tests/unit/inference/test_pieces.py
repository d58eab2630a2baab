from pathlib import Path
from types import SimpleNamespace

import pytest

from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.pieces import OVERLAP, WINDOW, lay_out, open_tokenizer
from hermes_apprentice.inference.words import split_words


class OnePerLetterOrDigit:
    """A tokenizer whose pieces are single characters, between two special ones."""

    def encode(self, text: str) -> SimpleNamespace:
        places = [n for n, letter in enumerate(text) if letter.isalnum()]
        ids = [101, *(ord(text[n]) for n in places), 102]
        return SimpleNamespace(ids=ids, offsets=[(0, 0), *((n, n + 1) for n in places), (0, 0)])


def test_a_word_is_looked_up_at_its_first_piece() -> None:
    layout = lay_out(OnePerLetterOrDigit(), "ab - cd", split_words("ab - cd"))
    assert layout.windows == ((101, 97, 98, 99, 100, 102),)
    assert layout.places.tolist() == [[0, 1], [-1, -1], [0, 3]]


def test_a_long_text_is_read_in_windows_that_overlap() -> None:
    text = " ".join(["abcd"] * 200)
    words = split_words(text)
    layout = lay_out(OnePerLetterOrDigit(), text, words)
    assert len(layout.windows) > 1
    assert all(len(window) <= WINDOW for window in layout.windows)
    assert (layout.places >= 0).all()
    for window, place in layout.places.tolist():
        assert layout.windows[window][place] == ord("a")
        edge = min(place - 1, len(layout.windows[window]) - 2 - place)
        inside = window not in (0, len(layout.windows) - 1)
        assert not inside or edge >= OVERLAP // 2 - 1


def test_an_empty_text_has_one_empty_window() -> None:
    layout = lay_out(OnePerLetterOrDigit(), "", [])
    assert layout.windows == ((101, 102),) and layout.places.shape == (0, 2)


def test_a_missing_or_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="missing"):
        open_tokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ArtefactError, match="damaged"):
        open_tokenizer(tmp_path / "tokenizer.json")
