from __future__ import annotations

from hermes_apprentice.domain.money import Price, Usage
from hermes_apprentice.router.costing import MODELS, Costing

PRICE = Price(
    model="big-one",
    input=3_000_000,
    cached_input=300_000,
    output=15_000_000,
    source="invented",
    as_of="2026-01-01",
)


def costing() -> Costing:
    return Costing(lambda model: PRICE if model == "big-one" else None)


def test_a_call_costs_what_the_upstream_counted() -> None:
    usage = Usage(prompt_tokens=1_000, completion_tokens=100, cached_tokens=600)
    assert costing().charge("big-one", usage) == 400 * 3 + 600 * 0.3 + 100 * 15


def test_a_model_without_a_price_has_no_cost() -> None:
    assert costing().charge("unknown", Usage(prompt_tokens=9, completion_tokens=9)) is None


def test_before_anything_was_counted_four_characters_are_a_token() -> None:
    usage = costing().estimate("big-one", 4_000, 8)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (1_000, 8, True)


def test_estimates_follow_what_this_upstream_counts() -> None:
    learned = costing()
    for _ in range(40):
        counted = Usage(prompt_tokens=2_000, completion_tokens=5, cached_tokens=1_500)
        learned.observe("big-one", 10_000, counted, first=True)
    usage = learned.estimate("big-one", 20_000, 8)
    assert usage.prompt_tokens == 4_000
    assert usage.cached_tokens == 3_000
    assert learned.estimate("other", 20_000, 8).prompt_tokens == 5_000


def test_only_first_calls_say_how_much_would_have_been_cached() -> None:
    learned = costing()
    cached = Usage(prompt_tokens=1_000, completion_tokens=5, cached_tokens=900)
    for _ in range(40):
        learned.observe("big-one", 4_000, cached, first=False)
    assert learned.estimate("big-one", 4_000, 1).cached_tokens == 0
    learned.observe("big-one", 4_000, cached, first=True)
    assert learned.estimate("big-one", 4_000, 1).cached_tokens == 900


def test_calls_without_counts_teach_nothing() -> None:
    learned = costing()
    learned.observe("big-one", 10_000, Usage(prompt_tokens=0, completion_tokens=0), first=True)
    learned.observe("big-one", 0, Usage(prompt_tokens=50, completion_tokens=0), first=True)
    assert learned.estimate("big-one", 400, 0).prompt_tokens == 100


def test_names_that_clients_invent_do_not_fill_the_memory() -> None:
    learned = costing()
    for number in range(10 * MODELS):
        learned.observe(f"m{number}", 100, Usage(prompt_tokens=10, completion_tokens=1), first=True)
    assert len(learned._seen) == MODELS
