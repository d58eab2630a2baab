from __future__ import annotations

import random

import pytest

from hermes_apprentice.domain.text_agreement import facts, rouge_l, same_text, token_f1, words

LONG = (
    "The report for Marta is now ready for you to review, and it was sent to the whole team by "
    "mail this morning, together with the 3 lists that they had asked for at the last meeting."
)


def longest_common(left: list[str], right: list[str]) -> int:
    """The textbook table, to check the bit-vectors against."""
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for row, one in enumerate(left):
        for column, other in enumerate(right):
            table[row + 1][column + 1] = (
                table[row][column] + 1
                if one == other
                else max(table[row][column + 1], table[row + 1][column])
            )
    return table[-1][-1]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (LONG, LONG.replace("is now ready", "is ready now")),
        (LONG, LONG.replace("mail this morning", "mail  this\nmorning")),
        (LONG, LONG.replace("that they had", "which they had")),
        ("It costs 1,000 dollars.", "It costs 1000 dollars."),
        ("Don\u2019t wait.", "Don't wait."),
        ("ready", "Ready"),
        ("", ""),
    ],
)
def test_texts_that_say_the_same_agree(left: str, right: str) -> None:
    assert same_text(left, right)
    assert same_text(right, left)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (LONG, LONG.replace("3 lists", "4 lists")),
        (LONG, LONG.replace("Marta", "Jonas")),
        (LONG, LONG.replace("it was sent", "it was not sent")),
        (f"{LONG} See https://example.org/a", f"{LONG} See https://example.org/b"),
        (f"{LONG} <EMAIL_1>", f"{LONG} <EMAIL_2>"),
        (f"{LONG} Run `make a`", f"{LONG} Run `make b`"),
        (LONG, " ".join(reversed(LONG.split()))),
        (LONG, LONG[: len(LONG) // 2]),
        ("The door is open.", "The door is shut."),
        ("yes", "no"),
        ("yes", ""),
    ],
)
def test_texts_that_differ_in_a_fact_or_in_many_words_do_not_agree(left: str, right: str) -> None:
    assert not same_text(left, right)
    assert not same_text(right, left)


def test_one_ordinary_word_among_many_is_not_seen_as_the_module_says() -> None:
    assert same_text(LONG, LONG.replace("ready", "late"))


def test_a_name_at_the_start_of_a_sentence_counts_if_it_stands_inside_another() -> None:
    assert facts("Marta called.", "We asked Marta.")["name marta"] == 1
    assert not facts("Please call.", "We asked Marta.")


def test_the_longest_common_subsequence_is_that_of_the_table() -> None:
    rng = random.Random(5)
    for _ in range(200):
        left = [rng.choice("abcd") for _ in range(rng.randint(0, 12))]
        right = [rng.choice("abcd") for _ in range(rng.randint(0, 12))]
        if left or right:
            wanted = 2 * longest_common(left, right) / (len(left) + len(right))
            assert rouge_l(left, right) == pytest.approx(wanted)


def test_scores_of_equal_empty_and_disjoint_texts() -> None:
    assert token_f1([], []) == rouge_l([], []) == 1.0
    assert token_f1(words("a b"), words("c d")) == rouge_l(words("a b"), words("c d")) == 0.0
    assert words("It costs 1,000.50, not 7") == ["it", "costs", "1000.50", ",", "not", "7"]
