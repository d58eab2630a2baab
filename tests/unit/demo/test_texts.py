from __future__ import annotations

import random
from collections import Counter

import pytest

from hermes_apprentice.demo.texts import LABELS, TASKS, Corpus, Sizes, make_corpus
from hermes_apprentice.errors import ConfigError

HELD_OUT = Sizes(order=200, ticket=200, chat=120, multi_turn=20, tool=12)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return make_corpus(random.Random(1))


@pytest.fixture(scope="module")
def held_out(corpus: Corpus) -> Corpus:
    return make_corpus(random.Random(2), HELD_OUT, apart_from=(corpus,))


def test_a_corpus_has_the_sizes_that_were_asked_for(corpus: Corpus) -> None:
    counts = {task: len(corpus.of(task)) for task in TASKS}
    assert counts == {"order": 230, "ticket": 230, "chat": 150, "multi_turn": 25, "tool": 20}
    assert len(corpus) == sum(counts.values())


def test_the_same_seed_gives_the_same_corpus(corpus: Corpus) -> None:
    assert list(make_corpus(random.Random(1))) == list(corpus)
    assert list(make_corpus(random.Random(3))) != list(corpus)


def test_held_out_texts_do_not_occur_in_training(corpus: Corpus, held_out: Corpus) -> None:
    assert not corpus.texts() & held_out.texts()


def test_held_out_texts_of_the_same_seed_are_new_as_well(corpus: Corpus) -> None:
    again = make_corpus(random.Random(1), Sizes(chat=60, tool=5), apart_from=(corpus,))
    assert not corpus.texts() & again.texts()


def test_no_two_requests_are_equal(corpus: Corpus) -> None:
    requests = [item.request for item in corpus]
    assert len(set(requests)) == len(requests)


def test_requests_of_one_task_are_not_near_duplicates(corpus: Corpus) -> None:
    def shingles(text: str) -> frozenset[tuple[str, ...]]:
        words = text.lower().split()
        return frozenset(zip(words, words[1:], words[2:], strict=False))

    for task in ("order", "ticket"):
        sets = [shingles(item.request) for item in corpus.of(task)]
        overlaps = [
            len(one & two) / len(one | two) for i, one in enumerate(sets) for two in sets[:i]
        ]
        assert max(overlaps) < 0.75, task


def test_labels_are_balanced(corpus: Corpus) -> None:
    counts = Counter(item.answer for item in corpus.of("ticket"))
    assert set(counts) == set(LABELS)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_tasks_are_mixed(corpus: Corpus) -> None:
    first = Counter(item.task for item in list(corpus)[:100])
    assert first["order"] > 15
    assert first["ticket"] > 15


def test_truth_knows_every_request_and_nothing_else(corpus: Corpus) -> None:
    for item in corpus:
        assert corpus.truth(item.request) == item.answer
        for turn in item.history:
            assert corpus.truth(turn.request) == turn.answer
    assert corpus.truth("What is nobody asking?") is None


def test_a_request_is_found_inside_what_hermes_makes_of_it(corpus: Corpus) -> None:
    for item in corpus.of("order")[:20]:
        assert corpus.find(f"{item.request}\n\n[System note: first message ever.]") == item
    assert corpus.find("Hello there") is None


def test_the_longest_contained_request_wins() -> None:
    corpus = make_corpus(random.Random(5), Sizes(order=1, ticket=1, chat=0, multi_turn=0, tool=0))
    (order,), (ticket,) = corpus.of("order"), corpus.of("ticket")
    assert len(order.request) > len(ticket.request)
    assert corpus.find(f"{ticket.request}\n\n{order.request}") == order


def test_two_corpora_join_into_one_that_knows_both(corpus: Corpus, held_out: Corpus) -> None:
    both = corpus + held_out
    assert len(both) == len(corpus) + len(held_out)
    for item in (*list(corpus)[:5], *list(held_out)[:5]):
        assert both.truth(item.request) == item.answer


def test_asking_for_too_many_different_texts_says_so() -> None:
    with pytest.raises(ConfigError, match=r"only \d+ more different texts of the task 'tool'"):
        make_corpus(random.Random(1), Sizes(order=0, ticket=0, chat=0, multi_turn=0, tool=5000))
