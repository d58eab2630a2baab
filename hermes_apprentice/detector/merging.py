"""Let the answers correct the clusters of requests.

Density alone shatters a task whose requests are about many things, and mixes
tasks that are asked about the same things. Clusters are split where answers
disagree, joined where task and shape agree, and take in the scattered requests
that belong to them. Knows nothing about databases.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.detector.clustering import LEAF_SIZE, Labels
from hermes_apprentice.domain.json_answer import split_json
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.shape_inference import (
    MAX_LABEL_CHARS,
    fits,
    fits_request,
    infer_shape,
)
from hermes_apprentice.embedding.base import FloatArray

Rows = NDArray[np.int64]

MERGE_COSINE = 0.55
"""Least cosine of two centres with answers of one shape; above it the answers decide."""

MERGE_COSINE_DISJOINT = 0.65
"""The same for label sets that share nothing: topics of one task, or two tasks."""

MERGE_COSINE_TEXT = 0.85
"""The same for free texts, whose answers prove nothing."""

PART_FIT = 0.8
"""Share of each part's answers that must fit the shape of the whole."""

SPLIT_SHARE = 0.2
"""Share of a cluster that differs in shape and makes a cluster of its own."""

REACH = 0.15
"""How much further than its own outskirts (5 %) a group takes in answers of its shape."""

MIN_REACH = 0.4
"""Least cosine to a centre of anything that is taken in."""

VOTERS = 10
"""Nearest requests that decide where an answer of another shape belongs."""

VOTES = 7
"""Voters that must be of one group."""

_STRUCTURED = (ShapeKind.JSON, ShapeKind.LABEL)


class Corpus(NamedTuple):
    """The requests that are looked at, by row."""

    embeddings: FloatArray
    """Unit-length rows, shape ``(n, dimension)``."""

    requests: Sequence[str]
    """The requests."""

    answers: Sequence[str]
    """Their answers."""


class Home(NamedTuple):
    """Where a group lies."""

    shape: Shape
    """What its answers have in common."""

    centre: FloatArray
    """Its mean direction."""

    radius: float
    """Cosine to the centre that all but the outermost members reach."""

    typical: float
    """Cosine to the centre that nine in ten members reach."""


@dataclass(frozen=True)
class Group:
    """Requests that ask for the same thing."""

    corpus: Corpus
    """Where the rows point to."""

    rows: Rows
    """The members, ascending."""

    @cached_property
    def shape(self) -> Shape:
        """What the answers have in common."""
        return infer_shape(
            [self.corpus.requests[row] for row in self.rows.tolist()],
            [self.corpus.answers[row] for row in self.rows.tolist()],
        )

    @cached_property
    def fitting(self) -> NDArray[np.bool_]:
        """Which members' answers fit the shape, and are answers to the request alone."""
        corpus = self.corpus
        return np.array(
            [
                fits_request(self.shape, corpus.requests[row], corpus.answers[row])
                for row in self.rows.tolist()
            ]
        )

    @cached_property
    def centre(self) -> FloatArray:
        """The mean direction of the members whose answers fit."""
        chosen = self.rows[self.fitting] if self.fitting.any() else self.rows
        mean = self.corpus.embeddings[chosen].mean(axis=0)
        unit: FloatArray = mean / max(float(np.linalg.norm(mean)), 1e-12)
        return unit

    @cached_property
    def cosines(self) -> FloatArray:
        """Each member's cosine to the centre."""
        near: FloatArray = self.corpus.embeddings[self.rows] @ self.centre
        return near

    @cached_property
    def is_short(self) -> bool:
        """Whether most answers are one short line."""
        forms = [_form(self.corpus.answers[row]) for row in self.rows.tolist()]
        return 2 * forms.count(_SHORT) > len(forms)

    @cached_property
    def typical(self) -> float:
        """Cosine to the centre that nine in ten members with a fitting answer reach."""
        fitting = self.cosines[self.fitting] if self.fitting.any() else self.cosines
        return float(np.quantile(fitting, 0.1))

    @property
    def radius(self) -> float:
        """Cosine to the centre that all but the outermost members reach."""
        return max(MIN_REACH, float(np.quantile(self.cosines, 0.05)) - self.slack)

    @property
    def slack(self) -> float:
        """How much further the group reaches where the answer speaks for it."""
        return REACH if self.shape.kind in _STRUCTURED else 0.0


def settle(labels: Labels, corpus: Corpus, min_size: int = LEAF_SIZE) -> list[Group]:
    """Turn cluster numbers into groups whose answers agree, largest first.

    Args:
        labels: A cluster number per row, -1 for none.
        corpus: The requests with their answers.
        min_size: Rows of another shape that make a group of their own.
    """
    groups = [
        part
        for label in range(int(labels.max(initial=-1)) + 1)
        for part in split(Group(corpus, np.flatnonzero(labels == label)), min_size)
    ]
    groups += seeds(np.flatnonzero(labels < 0), corpus, min_size)
    groups = merge(groups)
    groups = absorb([trim(group) for group in groups], corpus)
    groups = merge(groups)
    return sorted(groups, key=lambda group: (-len(group.rows), int(group.rows[0])))


def split(group: Group, min_size: int) -> list[Group]:
    """Divide a group whose answers are of several forms.

    A form (objects with the same keys, one-line labels, texts) becomes a group
    of its own if enough answers have it; the others stay with the largest.
    """
    forms = _by_form(group.corpus, group.rows)
    short = [group.corpus.answers[row] for row in forms.get(_SHORT, ())]
    if short and infer_shape([""] * len(short), short).kind is not ShapeKind.LABEL:
        forms[_LONG] = forms.get(_LONG, []) + forms.pop(_SHORT)
    least = max(min_size, SPLIT_SHARE * len(group.rows))
    dominant = max(forms, key=lambda form: len(forms[form]))
    for form in [form for form, rows in forms.items() if len(rows) < least]:
        if form != dominant:
            forms[dominant] = forms[dominant] + forms.pop(form)
    return [Group(group.corpus, np.array(sorted(rows))) for rows in forms.values()]


def _by_form(corpus: Corpus, rows: Rows) -> dict[str, list[int]]:
    forms: dict[str, list[int]] = {}
    for row in rows.tolist():
        forms.setdefault(_form(corpus.answers[row]), []).append(row)
    return forms


_JSON, _SHORT, _LONG = "json ", "short", "long"


def _form(answer: str) -> str:
    parts = split_json(answer)
    if parts is not None and parts.value:
        return _JSON + " ".join(sorted(parts.value))
    text = answer.strip()
    return _SHORT if len(text) <= MAX_LABEL_CHARS and "\n" not in text else _LONG


def seeds(rows: Rows, corpus: Corpus, min_size: int) -> list[Group]:
    """Return groups of scattered requests whose answers have one form.

    Objects with the same keys need little nearness. For other forms the
    requests themselves must be close, as they are where everything is one task
    and there is no density to compare with.
    """
    found = []
    for form, members in _by_form(corpus, rows).items():
        if len(members) >= min_size:
            group = Group(corpus, np.array(members))
            least = MIN_REACH if form.startswith(_JSON) else MERGE_COSINE_DISJOINT
            if float(group.cosines.mean()) >= least:
                found.append(group)
    return found


def merge(groups: Iterable[Group]) -> list[Group]:
    """Join groups of one task, the closest first, until no two belong together."""
    pool = dict(enumerate(groups))
    refused: set[tuple[int, int]] = set()
    following = len(pool)
    while (pair := _closest(pool, refused)) is not None:
        whole = united(pool[pair[0]], pool[pair[1]])
        if whole is None:
            refused.add(pair)
            continue
        del pool[pair[0]], pool[pair[1]]
        pool[following] = whole
        following += 1
    return list(pool.values())


def _closest(pool: dict[int, Group], refused: set[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the numbers of the closest two groups that were not refused."""
    if len(pool) < 2:
        return None
    numbers = list(pool)
    centres = np.stack([group.centre for group in pool.values()])
    near = np.triu(centres @ centres.T, k=1)
    places = {number: place for place, number in enumerate(numbers)}
    for left, right in refused:
        if left in places and right in places:
            near[places[left], places[right]] = 0.0
    left, right = divmod(int(near.argmax()), len(pool))
    return (numbers[left], numbers[right]) if near[left, right] >= MERGE_COSINE else None


def united(left: Group, right: Group) -> Group | None:
    """Return the two as one group if task and shape agree."""
    objects = left.shape.kind is ShapeKind.JSON
    if left.is_short is not right.is_short or objects is not (right.shape.kind is ShapeKind.JSON):
        return None
    cosine = float(left.centre @ right.centre)
    if not left.is_short and not objects and cosine < MERGE_COSINE_TEXT:
        return None
    whole = Group(left.corpus, np.sort(np.concatenate([left.rows, right.rows])))
    if whole.shape.kind is ShapeKind.TEXT:
        return whole if cosine >= MERGE_COSINE_TEXT else None
    for part in (left, right):
        answers = [whole.corpus.answers[row] for row in part.rows.tolist()]
        if sum(fits(whole.shape, answer) for answer in answers) < PART_FIT * len(answers):
            return None
    overlap = set(left.shape.labels) & set(right.shape.labels)
    if whole.shape.kind is ShapeKind.LABEL and not overlap and cosine < MERGE_COSINE_DISJOINT:
        return None
    return whole


def belongs(group: Group, home: Home) -> bool:
    """Whether a whole group is of the task of another, going by centres and answers."""
    cosine = float(group.centre @ home.centre)
    if home.shape.kind not in _STRUCTURED:
        return group.shape.kind is home.shape.kind and cosine >= MERGE_COSINE_TEXT
    corpus, rows = group.corpus, group.rows.tolist()
    fitting = sum(
        fits_request(home.shape, corpus.requests[row], corpus.answers[row]) for row in rows
    )
    return cosine >= MERGE_COSINE and fitting >= PART_FIT * len(rows)


def trim(group: Group) -> Group:
    """Leave out members whose answer is off and whose request is not typical either.

    Off answers to typical requests stay: they are what lowers the agreement.
    """
    if group.shape.kind not in _STRUCTURED:
        return group
    kept = group.fitting | (group.cosines >= group.typical)
    return group if kept.all() else Group(group.corpus, group.rows[kept])


def absorb(groups: Sequence[Group], corpus: Corpus) -> list[Group]:
    """Give each scattered request to the group that it belongs to, if there is one."""
    owner = np.full(len(corpus.requests), -1, dtype=np.int64)
    for number, group in enumerate(groups):
        owner[group.rows] = number
    homes = [Home(group.shape, group.centre, group.radius, group.typical) for group in groups]
    owner = assign(homes, corpus, owner)
    return [Group(corpus, np.flatnonzero(owner == number)) for number in range(len(groups))]


def assign(homes: Sequence[Home], corpus: Corpus, owner: Labels) -> Labels:
    """Return a copy of ``owner`` in which the rows that have none got one if possible.

    An answer of a group's shape speaks for the nearest group within reach. Where
    the answer is off, a typical request still belongs to a group of labels or
    objects if most of the nearest requests do.
    """
    decided = owner.copy()
    loose = np.flatnonzero(owner < 0)
    if not homes or not len(loose):
        return decided
    near = corpus.embeddings[loose] @ np.stack([home.centre for home in homes]).T
    strict = np.array(
        [home.typical if home.shape.kind in _STRUCTURED else np.inf for home in homes]
    )
    off = []
    for row, cosines in zip(loose.tolist(), near, strict=True):
        within = [
            number
            for number in np.argsort(-cosines, kind="stable")[:3]
            if cosines[number] >= homes[number].radius
        ]
        request, answer = corpus.requests[row], corpus.answers[row]
        fitting = (
            number for number in within if fits_request(homes[number].shape, request, answer)
        )
        decided[row] = next(fitting, -1)
        if decided[row] < 0 and (cosines >= strict).any():
            off.append((row, cosines >= strict))
    known = decided.copy()
    for row, allowed in off:
        number = _vote(row, corpus.embeddings, known)
        if number >= 0 and allowed[number]:
            decided[row] = number
    return decided


def _vote(row: int, embeddings: FloatArray, owner: Labels) -> int:
    """Return the group that most of the nearest rows belong to, or -1."""
    similar = embeddings @ embeddings[row]
    similar[row] = -np.inf
    if len(similar) <= VOTERS:
        return -1
    nearest = owner[np.argpartition(-similar, VOTERS)[:VOTERS]]
    numbers, counts = np.unique(nearest[nearest >= 0], return_counts=True)
    if not len(counts) or counts.max() < VOTES:
        return -1
    return int(numbers[counts.argmax()])
