"""How answers are compared, and what the gate said.

Pure: two texts go in, a number or a verdict comes out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hermes_apprentice.domain.json_answer import split_json
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.text_agreement import rouge_l, same_text, words


class Outcome(StrEnum):
    """The gate's three answers."""

    PASSED = "passed"
    REJECTED = "rejected"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A point estimate and its confidence interval."""

    value: float
    """The estimate."""

    low: float
    """Lower end."""

    high: float
    """Upper end."""

    confidence: float = 0.95
    """The stated confidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """How a specialist did on one frozen test split."""

    test_digest: str
    """sha256 of the split; scores of different splits are never compared."""

    examples: int
    """Size of the split."""

    agreement: Interval
    """Share of answers that equal the upstream's, abstentions counted as wrong."""

    f1: float
    """Macro F1 for labels, micro F1 over leaves for JSON, mean token F1 for text."""

    baseline_f1: float
    """The same for the untuned baseline."""

    f1_gain: Interval
    """``f1 - baseline_f1`` with its paired bootstrap interval."""

    baseline: str
    """What the baseline was."""

    coverage: float
    """Share of the split answered at the calibrated threshold."""

    selective_agreement: Interval
    """Agreement among what was answered at that threshold."""

    invalid: float
    """Share of answers that are not of the pattern's shape."""

    latency_p50_ms: float
    """Median time of one answer through the serving runtime."""

    size_bytes: int
    """Size of the artefact on disk."""

    others: tuple[tuple[str, float], ...] = ()
    """Cheaper ways to answer that it was compared with, and their F1."""

    rouge_l: float | None = None
    """Mean ROUGE-L of texts; ``None`` for labels and JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The gate's answer for one model version. A rejection is a normal outcome."""

    outcome: Outcome
    """Whether the version may be promoted."""

    reasons: tuple[str, ...]
    """One sentence per check, written for the operator."""

    scores: Scores | None
    """What it was judged on; ``None`` where nothing could be scored."""

    threshold: float
    """Confidence below which the specialist must abstain."""

    @property
    def passed(self) -> bool:
        """Whether the version may be promoted."""
        return self.outcome is Outcome.PASSED


def parse_json(text: str) -> dict[str, Any] | None:
    """Return the JSON object in an answer, a code fence or a lead-in allowed, or ``None``."""
    answer = split_json(text)
    return None if answer is None else answer.value


def label_key(text: str) -> str:
    """Return what two spellings of a label have in common.

    Case, white space and what stands around the words (quotes, markup, a full
    stop) do not count.
    """
    return " ".join(text.split()).strip(" .,:;!?*_`'\"#\u201c\u201d\u2018\u2019").casefold()


def leaves(value: Any, path: str = "") -> Counter[tuple[str, str]]:
    """Return every leaf of a JSON value as ``(path, canonical value)``, with counts.

    Missing values (``null``, empty text, empty list) have no leaf, so an answer
    that leaves a key out equals one that writes ``null``. ``2.0`` and ``2`` are one value.
    """
    found: Counter[tuple[str, str]] = Counter()
    if isinstance(value, dict):
        for key, item in value.items():
            found += leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for item in value:
            found += leaves(item, f"{path}[]")
    elif value is not None and value != "":
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        found[(path, json.dumps(value, sort_keys=True))] += 1
    return found


def agrees(shape: Shape, answer: str, reference: str) -> bool:
    """Whether two answers are equal under the pattern's metric.

    Labels are compared without case and what stands around them, JSON by value (key
    order and formatting do not count, list order does), texts by the rule of
    ``domain.text_agreement``.
    """
    if shape.kind is ShapeKind.JSON:
        left, right = parse_json(answer), parse_json(reference)
        return left is not None and right is not None and _plain(left) == _plain(right)
    if shape.kind is ShapeKind.LABEL:
        return label_key(answer) == label_key(reference)
    return same_text(answer, reference)


def _plain(value: Any) -> Any:
    """Drop missing values, and keep ``1`` and ``True`` apart, which Python does not."""
    if isinstance(value, dict):
        kept = {key: _plain(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, "", [], {})}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return ("bool", value) if isinstance(value, bool) else value


def f1(shape: Shape, answers: Sequence[str | None], references: Sequence[str]) -> float:
    """Return the pattern's F1 over paired answers, 0 to 1; ``None`` is an abstention.

    Macro F1 over the reference's labels, micro F1 over JSON leaves, or mean
    token F1 for text.
    """
    if shape.kind is ShapeKind.LABEL:
        return _macro_f1(answers, references)
    if shape.kind is ShapeKind.JSON:
        return _leaf_f1(answers, references)
    pairs = list(zip(answers, references, strict=True))
    return sum(_token_f1(answer or "", wanted) for answer, wanted in pairs) / max(1, len(pairs))


def mean_rouge_l(
    shape: Shape, answers: Sequence[str | None], references: Sequence[str]
) -> float | None:
    """Return the mean ROUGE-L over paired texts, 0 to 1; ``None`` for labels and JSON."""
    if shape.kind is not ShapeKind.TEXT or not references:
        return None
    pairs = zip(answers, references, strict=True)
    scores = [rouge_l(words(answer or ""), words(wanted)) for answer, wanted in pairs]
    return sum(scores) / len(scores)


def _macro_f1(answers: Sequence[str | None], references: Sequence[str]) -> float:
    wanted = [label_key(text) for text in references]
    given = [label_key(text or "") for text in answers]
    scores = []
    for label in sorted(set(wanted)):
        hits = sum(a == label == w for a, w in zip(given, wanted, strict=True))
        scores.append(_f1(hits, given.count(label), wanted.count(label)))
    return sum(scores) / max(1, len(scores))


def _leaf_f1(answers: Sequence[str | None], references: Sequence[str]) -> float:
    hits = given = wanted = 0
    for answer, reference in zip(answers, references, strict=True):
        mine = leaves(parse_json(answer or "") or {})
        theirs = leaves(parse_json(reference) or {})
        hits += (mine & theirs).total()
        given += mine.total()
        wanted += theirs.total()
    return _f1(hits, given, wanted)


def _token_f1(answer: str, reference: str) -> float:
    mine, theirs = Counter(answer.lower().split()), Counter(reference.lower().split())
    return _f1((mine & theirs).total(), mine.total(), theirs.total())


def _f1(hits: int, given: int, wanted: int) -> float:
    return 2 * hits / (given + wanted) if given + wanted else 1.0
