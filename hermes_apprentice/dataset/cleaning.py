"""Which exchanges of a pattern are fit to learn from.

Real traces hold wrong answers: the user corrected them, the model refused, the
schema changed, the same question got two answers. Pure: exchanges go in, the
kept ones and the reasons for the others come out. Knows nothing about privacy.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from hermes_apprentice.domain.evaluation import agrees, parse_json
from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.shape_inference import fits, fits_request, infer_shape

NEWEST_SHARE = 0.2
"""Share of the data, the newest, that shows the present schema."""

NEWEST_LEAST = 8
"""Answers that are needed to speak of a present schema."""

_REFUSAL = re.compile(
    r"(?:i'?m sorry|sorry, (?:but )?i|i (?:can(?:no|')t|am (?:not able|unable)|'m unable)"
    r"|as an ai\b|unfortunately,? i)",
    re.IGNORECASE,
)


class Cleaned(NamedTuple):
    """What is left, and what was dropped why."""

    kept: tuple[Exchange, ...]
    """In the order they came."""

    dropped: Counter[str]
    """How many, by reason."""


def clean(exchanges: Sequence[Exchange]) -> Cleaned:
    """Keep the exchanges that show the pattern's present task rightly answered."""
    dropped: Counter[str] = Counter()
    kept = _without(exchanges, dropped, "ineligible", lambda one: not one.eligible)
    kept = _without(kept, dropped, "corrected", lambda one: one.corrected)
    kept = _without(kept, dropped, "refused", lambda one: _refuses(one.answer))
    kept = _present_schema(kept, dropped)
    if kept:
        shape = infer_shape([one.request for one in kept], [one.answer for one in kept])
        kept = _without(kept, dropped, "off_shape", lambda one: not fits(shape, one.answer))
        kept = _without(
            kept,
            dropped,
            "not_in_request",
            lambda one: not fits_request(shape, one.request, one.answer),
        )
        kept = _without_contradictions(kept, shape, dropped)
    return Cleaned(tuple(kept), dropped)


def plain(text: str) -> str:
    """Return a text in which only its words count, for finding the same request again."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", folded))


def _without(
    exchanges: Iterable[Exchange],
    dropped: Counter[str],
    reason: str,
    unfit: Callable[[Exchange], bool],
) -> list[Exchange]:
    kept = []
    for one in exchanges:
        if unfit(one):
            dropped[reason] += 1
        else:
            kept.append(one)
    return kept


def _refuses(answer: str) -> bool:
    return _REFUSAL.match(answer.strip()) is not None


def _present_schema(exchanges: list[Exchange], dropped: Counter[str]) -> list[Exchange]:
    """Drop JSON answers whose keys are not those of the newest ones.

    Keys that the newest answers sometimes leave out may be missing, no others.
    """
    keys = {
        one.exchange_id: frozenset(parsed)
        for one in exchanges
        if (parsed := parse_json(one.answer)) is not None
    }
    if len(keys) < max(NEWEST_LEAST, len(exchanges) / 2):
        return exchanges
    by_time = sorted((one for one in exchanges if one.exchange_id in keys), key=_moment)
    newest = by_time[-max(NEWEST_LEAST, round(NEWEST_SHARE * len(by_time))) :]
    seen = Counter(key for one in newest for key in keys[one.exchange_id])
    # A key in a single new answer is a slip, one that is nearly always there is part of the schema.
    known = {key for key, count in seen.items() if count > 0.1 * len(newest)}
    required = {key for key, count in seen.items() if count >= 0.9 * len(newest)}

    def outdated(one: Exchange) -> bool:
        present = keys.get(one.exchange_id)
        return present is not None and not required <= present <= known

    return _without(exchanges, dropped, "old_schema", outdated)


def _without_contradictions(
    exchanges: list[Exchange], shape: Shape, dropped: Counter[str]
) -> list[Exchange]:
    """Where the same request got different answers, keep the clear majority or nothing."""
    if shape.kind is ShapeKind.TEXT:
        return exchanges
    same: dict[str, list[Exchange]] = defaultdict(list)
    for one in exchanges:
        same[plain(one.request)].append(one)
    unfit: set[str] = set()
    for group in same.values():
        camps: list[list[Exchange]] = []
        for one in group:
            for camp in camps:
                if agrees(shape, camp[0].answer, one.answer):
                    camp.append(one)
                    break
            else:
                camps.append([one])
        largest = max(camps, key=len)
        majority = 2 * len(largest) > len(group)
        for camp in camps:
            if camp is not largest or not majority:
                unfit.update(one.exchange_id for one in camp)
    return _without(exchanges, dropped, "contradictory", lambda one: one.exchange_id in unfit)


def _moment(exchange: Exchange) -> tuple[float, str]:
    return exchange.asked_at, exchange.exchange_id
