"""Turn away what shares no words with any class, before anything expensive is computed.

**Score.** For each class the log-odds of a text's distinct words against all other texts (naive
Bayes with add-a-half smoothing over hashed words), divided by the square root of their number so
that long texts are not favoured; the best class counts.

**The bound.** A text of a class that scores below the threshold is lost. The threshold lies below
all but so few held-out scores of the classes' own texts that the exact binomial upper bound
(Clopper and Pearson, 1934) of the lost share stays below the stated loss. Scores are held out in
closed form: a text's own words are taken out of the counts first. And it is never above 0, where
the words begin to speak for a class: how alike a class's texts happen to be is no reason to turn
away a new wording. The bound assumes that future texts of the classes are drawn as the ones given
were; repeats are counted once. With fewer than about 150 different texts no loss of 2 % can be
proven, and then there is no filter.

Knows nothing about embedders, and keeps no words, only counts in hashed places.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.statistics.intervals import binomial_upper
from hermes_apprentice.statistics.risk_control import BACKGROUND

RECIPE = "words-1"
"""Names this way of scoring."""

PLACES = 4_096
"""Places that words are hashed to."""

LOSS = 0.02
"""Share of the classes' own texts that may be lost."""

_ENDS = 512
"""Characters read at either end of a text."""
_SMOOTHING = 0.5
_USEFUL = 0.1
"""A filter that turns away less than this share of other texts is not worth its loss."""
_MARGIN = 1e-3
_WORD = re.compile(r"\w+|[^\w\s]")
_UNREADABLE = (EOFError, KeyError, OSError, RuntimeError, ValueError, zipfile.BadZipFile)

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WordCheck:
    """What the filter says about one text."""

    score: float
    """Log-odds of the best class, per square root of a word."""

    threshold: float
    """Below it the text is turned away."""

    rejected: bool
    """Whether it is."""


class Evidence(NamedTuple):
    """What is known about a filter's price and use; all held out."""

    members: int
    """Different texts of the classes."""

    lost: int
    """How many of them are turned away."""

    upper: float
    """Upper bound of the lost share."""

    confidence: float
    """Confidence of that bound."""

    rejected: float
    """Share of other texts turned away."""


class WordFilter:
    """A fitted filter: one table lookup per word."""

    def __init__(self, *, table: NDArray[np.float32], threshold: float, evidence: Evidence) -> None:
        self.threshold = threshold
        self.evidence = evidence
        self._table = np.ascontiguousarray(table, dtype=np.float32)

    def check(self, text: str) -> WordCheck:
        """Score one text."""
        places = _places(text)
        if not len(places):
            return WordCheck(0.0, self.threshold, False)
        score = float(self._table[places].sum(axis=0).max() / np.sqrt(len(places)))
        return WordCheck(score, self.threshold, score < self.threshold)

    def to_bytes(self) -> bytes:
        """Return the filter as one ``npz`` file."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            table=self._table,
            threshold=np.float64(self.threshold),
            evidence=np.array(self.evidence, dtype=np.float64),
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> WordFilter:
        """Read a filter back; objects inside the file are never unpickled.

        Raises:
            ArtefactError: It is no such file.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                table = np.asarray(arrays["table"], dtype=np.float32)
                threshold = float(arrays["threshold"])
                members, lost, upper, confidence, rejected = arrays["evidence"].tolist()
        except _UNREADABLE as exc:
            raise ArtefactError(f"the word filter cannot be read: {exc}; fit it again") from exc
        if table.ndim != 2 or len(table) != PLACES or not table.shape[1]:
            raise ArtefactError("the word filter's table has an unknown form; fit it again")
        if not (np.isfinite(table).all() and np.isfinite(threshold)):
            raise ArtefactError("the word filter holds no finite numbers; fit it again")
        evidence = Evidence(int(members), int(lost), upper, confidence, rejected)
        return cls(table=table, threshold=threshold, evidence=evidence)


def fit_word_filter(
    texts: Sequence[str],
    labels: Labels,
    classes: int,
    *,
    loss: float = LOSS,
    confidence: float = 0.95,
) -> WordFilter | None:
    """Fit a filter, or return ``None`` where its loss cannot be bounded or it is of no use.

    Args:
        texts: The texts.
        labels: Class of each, or ``BACKGROUND``.
        classes: How many classes there are.
        loss: Bound on the share of the classes' own texts that are turned away.
        confidence: Confidence of the bound.
    """
    first = {
        (text, int(label)): row for row, (text, label) in enumerate(zip(texts, labels, strict=True))
    }
    kept = sorted(first.values())
    found = [_places(texts[row]) for row in kept]
    own = np.asarray(labels, dtype=np.int64)[kept]
    members, others = np.flatnonzero(own != BACKGROUND), np.flatnonzero(own == BACKGROUND)
    allowed = _allowed(len(members), loss, confidence)
    if allowed < 0 or not len(others):
        return None
    counts = np.zeros((PLACES, classes + 1))
    for places, label in zip(found, own, strict=True):
        counts[places, label] += 1
    totals = counts.sum(axis=0)
    scores = np.array(
        [_held_out(counts, totals, places, int(k)) for places, k in zip(found, own, strict=True)]
    )
    threshold = min(float(np.sort(scores[members])[allowed]) - _MARGIN, 0.0)
    lost = int((scores[members] < threshold).sum())
    rejected = float((scores[others] < threshold).mean())
    if rejected < _USEFUL:
        return None
    return WordFilter(
        table=_odds(counts, totals).astype(np.float32),
        threshold=threshold,
        evidence=Evidence(
            members=len(members),
            lost=lost,
            upper=binomial_upper(lost, len(members), confidence),
            confidence=confidence,
            rejected=rejected,
        ),
    )


def _places(text: str) -> NDArray[np.intp]:
    """Return where a text's distinct words are hashed to, sorted."""
    if len(text) > 2 * _ENDS:
        text = f"{text[:_ENDS]} {text[-_ENDS:]}"
    words = {zlib.crc32(word.encode("utf-8", "replace")) for word in _WORD.findall(text.lower())}
    return np.array(sorted({word % PLACES for word in words}), dtype=np.intp)


def _odds(counts: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log-odds of each class against other texts, shape ``(places, classes)``."""
    logs = np.log(counts + _SMOOTHING) - np.log(totals + _SMOOTHING * PLACES)
    return np.asarray(logs[:, :-1] - logs[:, -1:], dtype=np.float64)


def _held_out(
    counts: NDArray[np.float64], totals: NDArray[np.float64], places: NDArray[np.intp], label: int
) -> float:
    """Return a text's score had it not been among the texts; ``BACKGROUND`` is the last column."""
    if not len(places):
        return 0.0
    rest, all_rest = counts[places].copy(), totals.copy()
    rest[:, label] -= 1
    all_rest[label] -= len(places)
    return float(_odds(rest, all_rest).sum(axis=0).max() / np.sqrt(len(places)))


def _allowed(trials: int, rate: float, confidence: float) -> int:
    """Return how many losses still prove the rate; -1 if none may happen."""
    allowed = -1
    while allowed + 1 < trials and binomial_upper(allowed + 1, trials, confidence) <= rate:
        allowed += 1
    return allowed
