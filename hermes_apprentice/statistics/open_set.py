"""Which of the known classes does a vector belong to, if any? With a bounded rate of false yeses.

**Scores.** One kernel ridge per class against everything else, other traffic included (one-vs-rest,
regularised least squares classification: Rifkin, Yeo and Poggio, 2003). Far from all data a
score falls back to 0, so what was never seen is turned away. An error on a class's own row counts
`OWN_WEIGHT` times, since they are few. Halfway points between classes as
artificial other traffic were tried and left out: they moved nothing reliably in either direction.

**Short vectors.** The rows are turned to their `DIRECTIONS` principal directions. What a request
has outside of them counts as a difference from every row, so that the unknown stays far away;
with fewer rows than directions nothing is lost at all.

**Held-out scores.** Thresholds are set on leave-one-out scores, which the ridge gives in closed
form, so no row is judged by a model that saw it, and none is lost for fitting.

**The bound.** A request of other traffic is a false route when any class takes it. One level
``t`` is lowered from the top while the exact binomial upper bound (Clopper and Pearson) of the
false-route rate stays below the stated rate. The rate can only grow as ``t`` falls, therefore
stopping at the last level that is proven needs no correction for having tried many (Bates,
Angelopoulos, Lei, Malik and Jordan, "Distribution-free, risk-controlling prediction sets", 2021).
With no false route among ``n`` rows a rate of 0.005 is proven at 95 % from ``n = 598`` on.

**The bound of each class.** The same rate is proven for every class by itself, on its own count:
above the ``c + 1`` highest false scores of a class lies a share whose exact bound is known for
each ``c``, and the chance of error is shared out over all ``c``, so it holds at whatever level the
threshold was set (learn-then-test without an order: Angelopoulos, Bates, Candès, Jordan and Lei,
"Learn then test", 2021). A class that takes so many false routes that its own bound would pass the
rate is stopped earlier than the others. The rate is not split over the classes: with 20 of them
each would have to prove 0.025 %, which takes 12,000 rows without a false route.

**New topics.** Tomorrow's other traffic contains topics that today's does not, and leaving out a
single request keeps its topic known. So a request is also scored with its nearest neighbours in
the other traffic left out, at most the stated rate of these scores may be taken, and the stricter
threshold holds. More is left out than most topics have, because few topics make most false routes:
with just a topic left out the mean over topics is more often too low than too high. Requests of
one topic are not independent and tomorrow's topics are not drawn from today's, so this is an
estimate without a confidence: a precaution and no proof.

**A class's own floor.** However much the other traffic would allow, a class takes nothing that is
less like it than nearly all of its own rows. Requests made from a template are near-copies of each
other: with one left out its copies remain, and it scores far above the next request that is none.
So for the floor a row's near-copies are left out with it. Near is half the usual distance within
the class, so that a class without copies keeps its leave-one-out scores. Where the other traffic is
too little for a proof, the plain leave-one-out scores count as well, the less of it the more. The
bounds above are not touched by this: they only ever raise a threshold.

**Assumptions of the bound.** Future other traffic is like the other traffic given here, and its
requests are drawn independently: repeats are counted once. Leave-one-out scores stand in for
scores of a separate calibration set; the model differs by one row in thousands. With too little
other traffic nothing can be proven: then ``Bound.achieved`` is false, a class takes only what
scores above all other traffic seen, and gives up a part of its own rows that grows to one half
where there is no other traffic at all.

Knows nothing about texts, embedders or specialists.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.statistics import kernel
from hermes_apprentice.statistics.projection import principal_directions
from hermes_apprentice.statistics.risk_control import BACKGROUND, Bound, ClassBound, set_thresholds
from hermes_apprentice.statistics.selection import (
    balanced,
    choose,
    distinct,
    near_copies,
    neighbourhoods,
    one_against_rest,
)

METHOD = "ridge-own-bounds-1"
"""Names the scores, thresholds and bounds that a file holds."""

MAX_SUPPORT = 5_000
"""Most rows that the model keeps; the rest only helps to set the thresholds."""

OWN_WEIGHT = 4.0
"""How many times the error on a class's own row counts; they are few among the other traffic."""

DIRECTIONS = 256
"""Most principal directions in which vectors are compared."""

_UNREADABLE = (
    AttributeError,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy and zipfile raise for bytes that are no ``npz`` file."""

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]


class OpenSetDecision(NamedTuple):
    """What the model says about one vector."""

    label: str | None
    """The class that takes it, or ``None``."""

    score: float
    """Score of the nearest class: about 1 for a typical member, about 0 far from everything."""

    threshold: float
    """The threshold of the nearest class."""

    nearest: str
    """The class with the highest score, whether it takes the vector or not."""


class OpenSetModel:
    """A fitted model. Deciding is a matrix product with at most `MAX_SUPPORT` rows."""

    def __init__(
        self,
        *,
        classes: tuple[str, ...],
        projection: Vectors,
        vectors: Vectors,
        weights: Vectors,
        thresholds: Vectors,
        bandwidth: float,
        ridge: float,
        bound: Bound,
    ) -> None:
        self.classes = classes
        self.thresholds = thresholds
        self.bandwidth = bandwidth
        self.ridge = ridge
        self.bound = bound
        self._projection = np.ascontiguousarray(projection, dtype=np.float32)
        self._vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self._weights = np.ascontiguousarray(weights, dtype=np.float32)

    @property
    def dimension(self) -> int:
        """Length of the vectors it reads."""
        return len(self._projection)

    def bound_of(self, index: int) -> ClassBound:
        """Return what is known about the false routes of one class by itself."""
        return self.bound.of(index, float(self.thresholds[index]))

    def scores(self, vectors: Vectors) -> Vectors:
        """Return the score of every class, shape ``(vectors, classes)``."""
        short = np.atleast_2d(vectors) @ self._projection
        similarity = self._vectors @ short.T
        np.minimum(similarity, np.float32(1), out=similarity)
        similarity -= np.float32(1)
        similarity *= np.float32(2 * self.bandwidth)
        np.exp(similarity, out=similarity)
        return np.asarray(similarity.T @ self._weights, dtype=np.float32)

    def decide(self, vectors: Vectors) -> list[OpenSetDecision]:
        """Decide for each unit vector; a vector with NaN in it belongs to no class."""
        decisions = []
        for row in self.scores(vectors):
            best = int(row.argmax())
            score, threshold = float(row[best]), float(self.thresholds[best])
            name = self.classes[best]
            decisions.append(
                OpenSetDecision(name if score >= threshold else None, score, threshold, name)
            )
        return decisions

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays without objects, ready for ``numpy.savez``."""
        bound = self.bound
        return {
            "classes": np.array(self.classes, dtype=np.str_),
            "projection": self._projection,
            "vectors": self._vectors,
            "weights": self._weights,
            "thresholds": self.thresholds,
            "kernel": np.array([self.bandwidth, self.ridge], dtype=np.float64),
            "rates": np.array(
                [bound.rate, bound.upper, bound.confidence, bound.novel], dtype=np.float64
            ),
            "counts": np.array(
                [bound.achieved, bound.background, bound.false_routes], dtype=np.int64
            ),
            "taken": np.array(bound.taken, dtype=np.int64),
            "coverage": np.array(bound.coverage, dtype=np.float64),
            "suspects": np.array(bound.suspects, dtype=np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> OpenSetModel:
        """Rebuild a model from `to_arrays`.

        Raises:
            ArtefactError: An array is missing, has another shape, or holds no finite numbers.
        """
        try:
            classes = tuple(str(name) for name in arrays["classes"])
            projection = np.asarray(arrays["projection"], dtype=np.float32)
            vectors = np.asarray(arrays["vectors"], dtype=np.float32)
            weights = np.asarray(arrays["weights"], dtype=np.float32)
            thresholds = np.asarray(arrays["thresholds"], dtype=np.float32)
            bandwidth, ridge = (float(value) for value in arrays["kernel"])
            rate, upper, confidence, novel = (float(value) for value in arrays["rates"])
            achieved, background, false_routes = (int(value) for value in arrays["counts"])
            taken = tuple(int(value) for value in arrays["taken"])
            coverage = tuple(float(value) for value in arrays["coverage"])
            suspects = tuple(int(value) for value in arrays["suspects"])
        except (KeyError, TypeError, ValueError) as exc:
            raise ArtefactError(f"the matcher's file is incomplete: {exc}; fit it again") from exc
        fits = (
            bool(classes)
            and vectors.ndim == projection.ndim == 2
            and vectors.shape[1] == projection.shape[1]
            and weights.shape == (len(vectors), len(classes))
            and thresholds.shape == (len(classes),)
            and len(coverage) == len(taken) == len(classes)
            and min(taken) >= 0
            and max(taken) <= background
            and all(np.isfinite(part).all() for part in (projection, vectors, weights, thresholds))
            and 0 < bandwidth < np.inf
        )
        if not fits:
            raise ArtefactError("the matcher's arrays do not fit each other; fit it again")
        return cls(
            classes=classes,
            projection=projection,
            vectors=vectors,
            weights=weights,
            thresholds=thresholds,
            bandwidth=bandwidth,
            ridge=ridge,
            bound=Bound(
                rate=rate,
                achieved=bool(achieved),
                upper=upper,
                confidence=confidence,
                background=background,
                false_routes=false_routes,
                novel=novel,
                taken=taken,
                coverage=coverage,
                suspects=suspects,
            ),
        )

    def to_bytes(self) -> bytes:
        """Return the model as one ``npz`` file."""
        buffer = io.BytesIO()
        np.savez(buffer, **self.to_arrays())  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> OpenSetModel:
        """Read a model back; objects inside the file are never unpickled.

        Raises:
            ArtefactError: It is no such file.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return cls.from_arrays({name: arrays[name] for name in arrays.files})
        except _UNREADABLE as exc:
            raise ArtefactError(f"the matcher's file cannot be read: {exc}; fit it again") from exc


def fit_open_set(
    vectors: Vectors,
    labels: Labels,
    classes: tuple[str, ...],
    false_route_rate: float,
    seed: int,
    *,
    confidence: float = 0.95,
) -> OpenSetModel:
    """Fit the model and set a threshold per class.

    Args:
        vectors: Unit vectors, shape ``(rows, dimension)``.
        labels: Index into ``classes`` for each row, or `BACKGROUND`.
        classes: Names of the classes.
        false_route_rate: Bound on the share of other requests that any class takes.
        seed: Fixes which rows are kept when there are more than `MAX_SUPPORT`.
        confidence: Confidence of the bound.

    Raises:
        ValueError: Shapes do not fit, a class has no row, or a vector is not of unit length.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    labels = np.asarray(labels, dtype=np.int64)
    _check(vectors, labels, classes, false_route_rate)
    rows = np.flatnonzero(distinct(vectors, labels))
    generator = np.random.default_rng(seed)
    keep = balanced(labels[rows], MAX_SUPPORT, generator)
    support, rest = rows[keep], np.delete(rows, keep)
    projection = principal_directions(vectors[support], DIRECTIONS, generator)
    short = vectors @ projection
    kept, kept_labels = short[support], labels[support]
    choice = choose(kept, kept_labels, len(classes), generator)
    targets = one_against_rest(kept_labels, len(classes))
    ridges = np.where(kept_labels == BACKGROUND, choice.ridge, choice.ridge / OWN_WEIGHT)
    fitted = kernel.fit(kernel.self_gram(kept, choice.bandwidth), targets, ridges)
    scores = np.full((len(vectors), len(classes)), -np.inf)
    scores[support] = kernel.without_self(fitted, targets)
    scores[rest] = kernel.gram(short[rest], kept, choice.bandwidth) @ fitted.weights
    novel = kernel.without_block(fitted, targets, neighbourhoods(kept, kept_labels))
    fresh = [_without_copies(fitted, targets, kept, kept_labels, k) for k in range(len(classes))]
    thresholds, bound = set_thresholds(
        scores[rows], labels[rows], novel, fresh, rate=false_route_rate, confidence=confidence
    )
    return OpenSetModel(
        classes=classes,
        projection=projection,
        vectors=kept,
        weights=fitted.weights.astype(np.float32),
        thresholds=thresholds.astype(np.float32),
        bandwidth=choice.bandwidth,
        ridge=choice.ridge,
        bound=replace(bound, suspects=tuple(int(rows[row]) for row in bound.suspects)),
    )


def _without_copies(
    fitted: kernel.Ridge, targets: kernel.Matrix, vectors: Vectors, labels: Labels, index: int
) -> NDArray[np.float64]:
    """Return the scores of a class's rows, each with its near-copies left out."""
    blocks = near_copies(vectors, labels, index)
    found = [kernel.without_block(fitted, targets, block[None])[0, index] for block in blocks]
    return np.array(found)


def _check(vectors: Vectors, labels: Labels, classes: tuple[str, ...], rate: float) -> None:
    if vectors.ndim != 2 or labels.shape != (len(vectors),):
        raise ValueError("vectors must be a matrix with one label per row")
    if not 0 < rate < 1:
        raise ValueError(f"the false-route rate must lie between 0 and 1, not {rate}")
    if not classes or len(set(classes)) != len(classes):
        raise ValueError("there must be at least one class, and each needs its own name")
    if len(labels) and (labels.min() < BACKGROUND or labels.max() >= len(classes)):
        raise ValueError("a label names no class")
    for index, name in enumerate(classes):
        if not (labels == index).any():
            raise ValueError(f"the class {name} has no row")
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-2):
        raise ValueError("every vector must be of unit length")
