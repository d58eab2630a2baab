from hermes_apprentice.inference.words import Word, split_words


def test_letters_digits_and_signs_are_words_of_their_own() -> None:
    assert [word.text for word in split_words("3x AB-12_b, ok!")] == [
        "3", "x", "AB", "-", "12", "_", "b", ",", "ok", "!",
    ]  # fmt: skip


def test_places_point_into_the_text() -> None:
    text = " Zürich\t 42 "
    assert split_words(text) == [Word("Zürich", 1, 7), Word("42", 9, 11)]
    assert all(text[word.start : word.end] == word.text for word in split_words(text))


def test_scripts_without_spaces_are_split_into_characters() -> None:
    assert [word.text for word in split_words("東京へ2")] == ["東", "京", "へ", "2"]


def test_an_empty_text_has_no_words() -> None:
    assert split_words(" \n\u2028 ") == []
