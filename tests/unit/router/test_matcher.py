from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from hermes_apprentice.domain.routing import Match
from hermes_apprentice.domain.specialist import Envelope
from hermes_apprentice.embedding.views import matching_vectors
from hermes_apprentice.router.explain import first_call
from hermes_apprentice.router.matcher import EmbeddingMatcher, MatchOutcome, Near, visible_match
from hermes_apprentice.statistics.open_set import fit_open_set
from hermes_apprentice.statistics.word_filter import WordCheck, WordFilter, fit_word_filter
from hermes_apprentice.testing import FakeEmbedder

TICKETS = [f"label the ticket about the {word} please" for word in "abcdefghijklmnopqrstuvwxyz"]
ORDERS = [f"extract order sku number {number} quantity" for number in range(26)]
OTHER = [f"tell me a story with a {number} legged dragon in it" for number in range(60)]


def envelope(**changes: Any) -> Envelope:
    values = {"max_turn_index": 1, "min_chars": 5, "max_chars": 200, "ascii_only": True, **changes}
    return Envelope(**values)


@pytest.fixture(scope="module")
def executor() -> Any:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(scope="module")
def parts() -> Any:
    embedder = FakeEmbedder(128)
    texts = [*TICKETS, *ORDERS, *OTHER]
    labels = np.array([0] * len(TICKETS) + [1] * len(ORDERS) + [-1] * len(OTHER))
    classes = ("label-ticket", "order-json")
    return embedder, fit_open_set(
        matching_vectors(embedder.encode(texts)), labels, classes, 0.05, 3
    )


def matcher(parts: Any, executor: Any, **envelopes: Envelope) -> EmbeddingMatcher:
    embedder, model = parts
    named = {name.replace("_", "-"): value for name, value in envelopes.items()}
    return EmbeddingMatcher(embedder=embedder, model=model, envelopes=named, executor=executor)


async def test_a_request_of_a_pattern_is_matched_with_its_encoding(
    parts: Any, executor: Any
) -> None:
    found = matcher(parts, executor, label_ticket=envelope())
    outcome = await found.match("label the ticket about the billing please", 0)
    assert outcome.match is not None and outcome.match.slug == "label-ticket"
    assert outcome.match.score >= outcome.match.threshold
    assert outcome.reason == "matched"
    assert outcome.encoding is not None and outcome.encoding.embedding.shape == (128,)
    assert outcome.nearest[0].slug == "label-ticket"


async def test_other_traffic_matches_nothing(parts: Any, executor: Any) -> None:
    found = matcher(parts, executor, label_ticket=envelope())
    outcome = await found.match("sing about seven green dragons and their moons", 0)
    assert (outcome.match, outcome.reason) == (None, "no_pattern")


async def test_a_pattern_whose_specialist_is_not_served_matches_nothing(
    parts: Any, executor: Any
) -> None:
    found = matcher(parts, executor, order_json=envelope())
    outcome = await found.match(TICKETS[3], 0)
    assert (outcome.match, outcome.reason) == (None, "not_served")


async def test_the_envelope_of_the_matching_pattern_decides_in_the_end(
    parts: Any, executor: Any
) -> None:
    found = matcher(parts, executor, label_ticket=envelope(max_turn_index=0), order_json=envelope())
    outcome = await found.match(TICKETS[3], 1)
    assert (outcome.match, outcome.reason) == (None, "envelope_turn")


@pytest.mark.parametrize(
    ("request_text", "turn", "reason"),
    [
        ("x" * 500, 0, "envelope_length"),
        ("label the ticket", 9, "envelope_turn"),
        ("label thé ticket", 0, "envelope_script"),
    ],
)
async def test_what_no_specialist_may_answer_is_never_embedded(
    parts: Any, executor: Any, request_text: str, turn: int, reason: str
) -> None:
    found = matcher(parts, executor, label_ticket=envelope())
    outcome = await found.match(request_text, turn)
    assert (outcome.match, outcome.reason, outcome.encoding) == (None, reason, None)


async def test_without_any_specialist_nothing_is_embedded(parts: Any, executor: Any) -> None:
    outcome = await matcher(parts, executor).match(TICKETS[0], 0)
    assert (outcome.reason, outcome.encoding) == ("no_pattern", None)


async def test_a_hidden_pattern_takes_part_in_nothing(parts: Any, executor: Any) -> None:
    found = matcher(parts, executor, label_ticket=envelope(), order_json=envelope())
    hidden = frozenset({"label-ticket"})
    assert (await found.match(TICKETS[3], 0)).match is not None
    outcome = await found.match(TICKETS[3], 0, hidden)
    assert outcome.match is None
    assert {near.slug for near in outcome.nearest} == {"order-json"}
    seen, unseen = await found.match(ORDERS[3], 0), await found.match(ORDERS[3], 0, hidden)
    assert seen.match is not None and seen.match == unseen.match
    none = await found.match(TICKETS[3], 0, frozenset({"label-ticket", "order-json"}))
    assert (none.match, none.reason, none.nearest) == (None, "no_pattern", ())


async def test_a_hidden_pattern_cannot_draw_a_request_away(executor: Any) -> None:
    embedder = FakeEmbedder(128)
    # Two tenants with the same task: each must find its own, whatever the other's scores.
    texts = [*TICKETS[::2], *TICKETS[1::2], *OTHER]
    labels = np.array([0] * 13 + [1] * 13 + [-1] * len(OTHER))
    model = fit_open_set(
        matching_vectors(embedder.encode(texts)), labels, ("anns", "bobs"), 0.05, 3
    )
    both = EmbeddingMatcher(
        embedder=embedder,
        model=model,
        envelopes={"anns": envelope(), "bobs": envelope()},
        executor=executor,
    )
    for own, other in (("anns", "bobs"), ("bobs", "anns")):
        for text in TICKETS:
            outcome = await both.match(text, 0, frozenset({other}))
            assert [near.slug for near in outcome.nearest] == [own]
            alone = outcome.nearest[0]
            assert (outcome.match is not None) == (alone.score >= alone.threshold)


async def test_the_envelope_of_a_hidden_pattern_is_not_seen_either(
    parts: Any, executor: Any
) -> None:
    found = matcher(parts, executor, label_ticket=envelope(max_turn_index=9), order_json=envelope())
    outcome = await found.match(TICKETS[3], 5, frozenset({"label-ticket"}))
    assert (outcome.reason, outcome.encoding) == ("envelope_turn", None)


async def test_a_matcher_that_forgets_what_is_hidden_gives_nothing_away() -> None:
    class Leaky:
        async def match(
            self,
            request: str,
            turn_index: int,
            hidden: frozenset[str] = frozenset(),
            *,
            thorough: bool = False,
        ) -> MatchOutcome:
            return MatchOutcome(
                match=Match(slug="anns", score=0.9, threshold=0.1),
                reason="matched",
                nearest=(Near("anns", 0.9, 0.1), Near("bobs", 0.2, 0.1)),
                words=WordCheck(1.0, 0.0, False),
            )

    call = first_call("hello", 0, "s")
    outcome = await visible_match(Leaky(), call, frozenset({"anns"}))
    assert (outcome.match, outcome.reason) == (None, "no_pattern")
    assert [near.slug for near in outcome.nearest] == ["bobs"]
    assert outcome.words is None  # it is about all patterns
    assert (await visible_match(Leaky(), call, frozenset())).match is not None


class Watched(FakeEmbedder):
    """Remembers what it was asked to encode."""

    def __init__(self) -> None:
        super().__init__(128)
        self.seen: list[str] = []

    def encode(self, texts: Any) -> Any:
        self.seen += texts
        return super().encode(texts)


@pytest.fixture(scope="module")
def words() -> WordFilter:
    own = [f"label the ticket about the {word}{n} please" for word in "abcde" for n in range(40)]
    other = [f"tell me a story with a {n} legged dragon in it" for n in range(200)]
    found = fit_word_filter([*own, *other], np.array([0] * 200 + [-1] * 200), 1)
    assert found is not None
    return found


STORY = "tell me a story about a dragon"


async def test_what_the_word_filter_turns_away_is_never_embedded(
    parts: Any, executor: Any, words: WordFilter
) -> None:
    embedder, (_, model) = Watched(), parts
    found = EmbeddingMatcher(
        embedder=embedder,
        model=model,
        envelopes={"label-ticket": envelope()},
        executor=executor,
        words=words,
    )
    outcome = await found.match(STORY, 0)
    assert (outcome.match, outcome.reason, outcome.nearest) == (None, "words", ())
    assert outcome.words is not None and outcome.words.score < outcome.words.threshold
    assert embedder.seen == []
    kept = await found.match(TICKETS[3], 0)
    assert kept.match is not None and kept.match.slug == "label-ticket"
    assert kept.words is not None and not kept.words.rejected


async def test_a_thorough_look_names_the_nearest_and_decides_the_same(
    parts: Any, executor: Any, words: WordFilter
) -> None:
    embedder, model = parts
    found = EmbeddingMatcher(
        embedder=embedder,
        model=model,
        envelopes={"label-ticket": envelope(max_turn_index=0)},
        executor=executor,
        words=words,
    )
    for text, turn in ((STORY, 0), (TICKETS[3], 0), (TICKETS[3], 1), ("x" * 400, 0)):
        brief = await found.match(text, turn)
        thorough = await found.match(text, turn, thorough=True)
        assert (thorough.match, thorough.reason) == (brief.match, brief.reason)
        assert {near.slug for near in thorough.nearest} == {"label-ticket", "order-json"}
        assert thorough.words == words.check(text)
    late = await found.match(TICKETS[3], 1, thorough=True)
    assert (late.nearest[0].slug, late.nearest[0].outside) == ("label-ticket", "turn")
    assert late.nearest[1].envelope is None
