from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hermes_apprentice.detector.merging import (
    Corpus,
    Group,
    Home,
    absorb,
    assign,
    belongs,
    merge,
    seeds,
    settle,
    split,
    trim,
)
from hermes_apprentice.domain.shape import ShapeKind

Pairs = list[tuple[str, str]]
SORRY = "I'm afraid I cannot read this message, could you please send it to me once again?"


def corpus_of(pairs: Pairs, embedder) -> Corpus:  # type: ignore[no-untyped-def]
    requests = [request for request, _ in pairs]
    return Corpus(embedder.embed(requests), requests, [answer for _, answer in pairs])


def group_of(corpus: Corpus, start: int, stop: int) -> Group:
    return Group(corpus, np.arange(start, stop))


@pytest.fixture
def mixed(orders, moods, chats, word_embedder) -> Corpus:  # type: ignore[no-untyped-def]
    """Rows 0-39 are orders, 40-79 moods, 80-119 chats."""
    return corpus_of([*orders(40), *moods(40), *chats(40)], word_embedder)


def test_a_shattered_task_becomes_one_group(mixed: Corpus) -> None:
    parts = [group_of(mixed, at, at + 10) for at in range(0, 80, 10)]
    whole = merge(parts)

    assert sorted(len(group.rows) for group in whole) == [40, 40]
    assert {group.shape.kind for group in whole} == {ShapeKind.JSON, ShapeKind.LABEL}


def test_topics_of_a_labelling_task_with_one_label_each_become_one_group(
    mixed: Corpus,
) -> None:
    by_label = [
        Group(mixed, np.array([row for row in range(40, 80) if mixed.answers[row] == label]))
        for label in ("good", "bad", "neutral")
    ]

    (whole,) = merge(by_label)
    assert set(whole.shape.labels) == {"good", "bad", "neutral"}


def test_tasks_of_different_shape_stay_apart_however_close(
    orders: Callable[..., Pairs], word_embedder: object
) -> None:
    pairs = orders(40)
    pairs[20:] = [
        (request, "yes" if at % 2 else "no") for at, (request, _) in enumerate(pairs[20:])
    ]
    corpus = corpus_of(pairs, word_embedder)

    assert len(merge([group_of(corpus, 0, 20), group_of(corpus, 20, 40)])) == 2


def test_schemas_that_share_nothing_stay_apart(
    orders: Callable[..., Pairs], word_embedder: object
) -> None:
    pairs = orders(40)
    pairs[20:] = [
        (request, f'{{"summary": "{at}", "urgent": true}}')
        for at, (request, _) in enumerate(pairs[20:])
    ]
    corpus = corpus_of(pairs, word_embedder)

    assert len(merge([group_of(corpus, 0, 20), group_of(corpus, 20, 40)])) == 2


def test_free_texts_are_joined_only_when_very_close(mixed: Corpus) -> None:
    assert len(merge([group_of(mixed, 80, 100), group_of(mixed, 100, 120)])) == 2


def test_short_free_texts_are_joined_only_when_very_close(
    orders: Callable[..., Pairs], word_embedder: object
) -> None:
    pairs = [
        (request, f"About {at * 37} grams, {at}") for at, (request, _) in enumerate(orders(40))
    ]
    corpus = corpus_of(pairs, word_embedder)
    near = merge([group_of(corpus, 0, 20), group_of(corpus, 20, 40)])
    far = corpus_of(
        [
            (request.replace("json please", f"weight {at}"), answer)
            if at < 20
            else (request, answer)
            for at, (request, answer) in enumerate(pairs)
        ],
        word_embedder,
    )
    halves = [group_of(far, 0, 20), group_of(far, 20, 40)]

    assert len(near) == 1
    assert halves[0].centre @ halves[1].centre > 0.55
    assert len(merge(halves)) == 2


def test_a_cluster_of_two_tasks_about_the_same_things_is_split(
    orders: Callable[..., Pairs], word_embedder: object
) -> None:
    pairs = orders(40)
    pairs[25:] = [
        (request, "yes" if at % 2 else "no") for at, (request, _) in enumerate(pairs[25:])
    ]
    corpus = corpus_of(pairs, word_embedder)
    parts = split(group_of(corpus, 0, 40), 10)

    assert sorted(part.rows.tolist() for part in parts) == [list(range(25)), list(range(25, 40))]


def test_a_few_refusals_do_not_split_a_group(
    orders: Callable[..., Pairs], word_embedder: object
) -> None:
    pairs = orders(40)
    pairs[:4] = [(request, SORRY) for request, _ in pairs[:4]]
    (whole,) = split(group_of(corpus_of(pairs, word_embedder), 0, 40), 10)

    assert len(whole.rows) == 40
    assert whole.shape.agreement == pytest.approx(0.9)


def test_scattered_requests_join_the_group_that_their_answer_speaks_for(mixed: Corpus) -> None:
    grown = absorb([group_of(mixed, 0, 20), group_of(mixed, 40, 60)], mixed)

    assert grown[0].rows.tolist() == list(range(40))
    assert grown[1].rows.tolist() == list(range(40, 80))


def test_an_off_answer_to_a_typical_request_is_a_member_and_lowers_the_agreement(
    orders: Callable[..., Pairs], chats: Callable[..., Pairs], word_embedder: object
) -> None:
    pairs = [*orders(60), *chats(40)]
    pairs[30] = (pairs[2][0], SORRY)
    corpus = corpus_of(pairs, word_embedder)
    (grown,) = absorb([group_of(corpus, 0, 30)], corpus)

    assert 30 in grown.rows
    assert grown.shape.agreement < 1.0


def test_an_off_answer_to_another_request_is_no_member(
    orders: Callable[..., Pairs], chats: Callable[..., Pairs], word_embedder: object
) -> None:
    pairs = [*orders(40), *chats(40)]
    corpus = corpus_of(pairs, word_embedder)
    (grown,) = absorb([group_of(corpus, 0, 40)], corpus)
    mixed_in = Group(corpus, np.array([*range(40), 50, 60]))

    assert grown.rows.tolist() == list(range(40))
    assert trim(mixed_in).rows.tolist() == list(range(40))


def test_scattered_requests_with_one_schema_make_a_group(mixed: Corpus) -> None:
    found = seeds(np.arange(120), mixed, 10)

    assert [0] in [group.rows[:1].tolist() for group in found]
    assert all(row < 80 for group in found for row in group.rows)


def test_settling_finds_both_tasks_without_any_cluster(mixed: Corpus) -> None:
    groups = settle(np.full(120, -1), mixed)

    assert [group.rows.tolist() for group in groups] == [list(range(40)), list(range(40, 80))]


def test_a_new_group_is_recognised_as_part_of_a_known_task(mixed: Corpus) -> None:
    known = group_of(mixed, 0, 20)
    home = Home(known.shape, known.centre, known.radius, known.typical)

    assert belongs(group_of(mixed, 20, 40), home)
    assert not belongs(group_of(mixed, 40, 80), home)
    assert not belongs(group_of(mixed, 80, 120), home)


def test_rows_that_have_an_owner_keep_it(mixed: Corpus) -> None:
    known = group_of(mixed, 0, 20)
    home = Home(known.shape, known.centre, known.radius, known.typical)
    owner = np.full(120, -1, dtype=np.int64)
    owner[30] = 7
    owner[:20] = 0
    decided = assign([home], mixed, owner)

    assert decided[30] == 7
    assert (decided[20:30] == 0).all()
    assert (decided[40:] == -1).all()
    assert (owner[20:30] == -1).all()


def test_nothing_is_assigned_without_groups(mixed: Corpus) -> None:
    assert absorb([], mixed) == []
    assert merge([]) == []
    assert settle(np.full(0, -1), Corpus(mixed.embeddings[:0], [], [])) == []
