from __future__ import annotations

import random
import re
from collections import Counter

from hermes_apprentice.demo.phrasing import ticket_frames as frames
from hermes_apprentice.demo.tickets import LABELS, PHRASES, write_ticket, write_ticket_text


def test_there_are_seven_labels_and_each_has_forty_phrases() -> None:
    assert len(LABELS) == 7
    for label, (matters, details) in PHRASES.items():
        assert len(matters) + len(details) >= 40, label
        assert len({*matters, *details}) == len(matters) + len(details), label


def test_the_answer_is_the_label_and_nothing_else() -> None:
    rng = random.Random(1)
    for label in LABELS:
        assert write_ticket(rng, label).answer == label


def test_every_instruction_lists_every_label() -> None:
    for instruction in (*frames.INSTRUCTIONS_BEFORE, *frames.INSTRUCTIONS_AFTER):
        assert all(label in instruction for label in LABELS)


def test_tickets_are_asked_for_in_at_least_twelve_ways() -> None:
    rng = random.Random(2)
    requests = [write_ticket(rng, rng.choice(LABELS)).request for _ in range(400)]
    phrases = (*frames.INSTRUCTIONS_BEFORE, *frames.INSTRUCTIONS_AFTER)
    assert sum(any(phrase in text for text in requests) for phrase in phrases) >= 12


def test_no_slot_is_left_open() -> None:
    rng = random.Random(3)
    for _ in range(700):
        assert not re.search(r"[{}]", write_ticket_text(rng, rng.choice(LABELS)))


def test_a_list_of_keywords_does_not_solve_the_task() -> None:
    keywords = {
        "billing": ("billing", "bill", "invoice", "payment", "charge"),
        "bug": ("bug", "error", "crash", "wrong", "broken"),
        "outage": ("outage", "down", "offline", "unreachable"),
        "feature-request": ("feature", "wish", "suggestion", "idea"),
        "account-access": ("account", "login", "log in", "password"),
        "shipping": ("shipping", "parcel", "delivery", "tracking"),
        "praise": ("praise", "thank", "great", "love"),
    }
    rng = random.Random(4)
    tickets = [(label, write_ticket_text(rng, label).lower()) for label in LABELS * 60]

    def guess(text: str) -> str:
        hits = {label: sum(text.count(word) for word in words) for label, words in keywords.items()}
        return max(hits, key=lambda label: hits[label])

    right = sum(guess(text) == label for label, text in tickets)
    assert right / len(tickets) < 0.7


def test_no_single_word_marks_a_label() -> None:
    rng = random.Random(5)
    tickets = [(label, write_ticket_text(rng, label).lower()) for label in LABELS * 60]
    for label in LABELS:
        own = [set(re.findall(r"[a-z]{3,}", text)) for of, text in tickets if of == label]
        other = [set(re.findall(r"[a-z]{3,}", text)) for of, text in tickets if of != label]
        for word, count in Counter(word for words in own for word in words).items():
            recall = count / len(own)
            precision = count / (count + sum(word in words for words in other))
            assert recall < 0.6 or precision < 0.6, (label, word)
