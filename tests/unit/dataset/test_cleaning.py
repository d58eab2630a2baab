"""What is fit to learn from."""

from __future__ import annotations

from collections.abc import Callable

from hermes_apprentice.dataset.cleaning import clean, plain
from hermes_apprentice.domain.exchange import Exchange, Ineligible

NOW = 1_790_000_000.0
Make = Callable[..., Exchange]


def tickets(make: Make, count: int = 40) -> list[Exchange]:
    labels = ("bug", "billing", "praise", "shipping")
    return [
        make(f"Which label fits ticket number {index}?", labels[index % 4], asked_at=NOW + index)
        for index in range(count)
    ]


def orders(make: Make, count: int, start: float = NOW, key: str = "sku") -> list[Exchange]:
    return [
        make(
            f"Read the order of {index} pieces of K-{index:03}",
            f'{{"{key}": "K-{index:03}", "quantity": {index}}}',
            asked_at=start + index,
        )
        for index in range(count)
    ]


def test_good_exchanges_all_stay(make_exchange: Make) -> None:
    exchanges = tickets(make_exchange)
    cleaned = clean(exchanges)
    assert cleaned.kept == tuple(exchanges)
    assert cleaned.dropped.total() == 0


def test_ineligible_corrected_and_refused_exchanges_are_dropped(make_exchange: Make) -> None:
    bad = [
        make_exchange("a", "bug", ineligible=Ineligible.TOOLS),
        make_exchange("b", "bug", corrected=True),
        make_exchange("c", "I'm sorry, but I can't help with that."),
    ]
    cleaned = clean([*tickets(make_exchange), *bad])
    assert len(cleaned.kept) == 40
    assert cleaned.dropped == {"ineligible": 1, "corrected": 1, "refused": 1}


def test_an_answer_of_another_form_is_dropped(make_exchange: Make) -> None:
    odd = make_exchange("d", "Well, that depends on how you look at it, but I would say a bug.")
    cleaned = clean([*tickets(make_exchange), odd])
    assert odd not in cleaned.kept
    assert cleaned.dropped["off_shape"] == 1


def test_the_majority_decides_between_contradicting_answers(make_exchange: Make) -> None:
    same = [
        make_exchange("Label: the APP crashes!", label, session_id=f"s{index}", asked_at=NOW)
        for index, label in enumerate(("bug", "bug", "Bug", "praise"))
    ]
    cleaned = clean([*tickets(make_exchange), *same])
    assert [one.answer for one in cleaned.kept if one in same] == ["bug", "bug", "Bug"]
    assert cleaned.dropped["contradictory"] == 1


def test_without_a_majority_all_sides_are_dropped(make_exchange: Make) -> None:
    same = [
        make_exchange("Label: the app crashes", label, session_id=f"s{index}", asked_at=NOW)
        for index, label in enumerate(("bug", "praise"))
    ]
    cleaned = clean([*tickets(make_exchange), *same])
    assert not set(same) & set(cleaned.kept)
    assert cleaned.dropped["contradictory"] == 2


def test_after_a_change_of_schema_the_old_answers_are_dropped(make_exchange: Make) -> None:
    old = orders(make_exchange, 60, NOW, key="article")
    new = orders(make_exchange, 20, NOW + 1_000, key="sku")
    cleaned = clean([*old, *new])
    assert cleaned.kept == tuple(new)
    assert cleaned.dropped["old_schema"] == 60


def test_a_key_that_is_sometimes_left_out_is_no_change_of_schema(make_exchange: Make) -> None:
    exchanges = [
        make_exchange(
            f"Read order {index}",
            f'{{"sku": "K-{index}"}}' if index % 3 else f'{{"sku": "K-{index}", "note": "x"}}',
            asked_at=NOW + index,
        )
        for index in range(60)
    ]
    assert clean(exchanges).dropped["old_schema"] == 0


def test_one_odd_answer_among_the_newest_is_not_the_new_schema(make_exchange: Make) -> None:
    exchanges = orders(make_exchange, 60)
    odd = make_exchange("Read this order", '{"other": 1}', asked_at=NOW + 5_000)
    cleaned = clean([*exchanges, odd])
    assert cleaned.kept == tuple(exchanges)


def test_no_exchanges_give_nothing() -> None:
    assert clean([]).kept == ()


def test_only_words_count_when_requests_are_compared() -> None:
    assert plain("  The APP, crashes!\n") == plain("the app crashes") == "the app crashes"
    assert plain("100 pieces") != plain("10 pieces")


def test_an_answer_that_needs_earlier_turns_is_dropped(make_exchange: Make) -> None:
    def order(request: str, sku: str, amount: int, firm: str, moment: int) -> Exchange:
        answer = f'{{"sku": "{sku}", "quantity": {amount}, "firm": "{firm}"}}'
        return make_exchange(request, answer, asked_at=NOW + moment)

    exchanges = [
        order(
            f"Read: Fern {index} Ltd wants {index} of K-{index}",
            f"K-{index}",
            index,
            f"Fern {index} Ltd",
            index,
        )
        for index in range(60)
    ]
    misspelt = order("Read: Fern 99 Ltd wants 12 of K-o99", "K-099", 12, "Fern 99 Ltd", 70)
    follow_up = order("Make it 7 instead", "K-12", 7, "Fern 12 Ltd", 71)
    cleaned = clean([*exchanges, misspelt, follow_up])
    assert cleaned.kept == (*exchanges, misspelt)
    assert cleaned.dropped["not_in_request"] == 1
