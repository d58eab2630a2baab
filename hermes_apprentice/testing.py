"""Fakes of every protocol, for our tests and for those of people who build on Apprentice.

They are deterministic and small, and behave like the real ones in everything
that a caller may rely on.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hermes_apprentice.domain.routing import Match, Rollout
from hermes_apprentice.domain.specialist import Abstain, Answer, Stage
from hermes_apprentice.embedding.base import Encoding, FloatArray
from hermes_apprentice.inference.base import Prediction
from hermes_apprentice.router.matcher import MatchOutcome, Near, PatternMatcher
from hermes_apprentice.router.specialists import Loaded, Loading
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.rollouts import save_rollout

_WORD = re.compile(r"\w+|[^\w\s]")


class FakeEmbedder:
    """Bags of hashed words: texts that share words are close. Runs no network."""

    def __init__(self, dimension: int = 64) -> None:
        self._dimension = dimension

    @property
    def name(self) -> str:
        """A name no real model has."""
        return "fake"

    @property
    def digest(self) -> str:
        """Depends on the dimension, as vectors of different lengths never mix."""
        return hashlib.sha256(f"fake-{self._dimension}".encode()).hexdigest()

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self._dimension

    @property
    def state_dimension(self) -> int:
        """Token states are as long as embeddings."""
        return self._dimension

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return the normalised sum of the words' vectors."""
        rows = [encoding.embedding for encoding in self.encode(texts)]
        return np.stack(rows) if rows else np.zeros((0, self._dimension), np.float32)

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Return one token per word or punctuation mark."""
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> Encoding:
        found = list(_WORD.finditer(text))
        states = np.stack(
            [self._vector(match.group().lower()) for match in found]
            or [np.zeros(self._dimension, np.float32)]
        )
        total = states.sum(axis=0)
        length = float(np.linalg.norm(total))
        embedding = total / length if length else self._vector("")
        return Encoding(
            embedding=embedding.astype(np.float32),
            tokens=tuple(match.group().lower() for match in found),
            offsets=np.array([match.span() for match in found], np.int32).reshape(-1, 2),
            states=states[: len(found)],
        )

    def _vector(self, word: str) -> FloatArray:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
        vector = np.random.default_rng(seed).standard_normal(self._dimension)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


class FakeModel:
    """A CPU model that knows some answers by heart and guesses ``default`` elsewhere."""

    def __init__(self, answers: Mapping[str, str], default: str = "") -> None:
        self._answers = dict(answers)
        self._default = default

    @property
    def reads_encodings(self) -> bool:
        """It reads texts."""
        return False

    def predict(
        self, requests: Sequence[str], encodings: Sequence[Encoding] | None
    ) -> list[Prediction]:
        """Return known answers with confidence 1, others with 0."""
        return [
            Prediction(self._answers.get(text, self._default), float(text in self._answers))
            for text in requests
        ]


class FakeRuntime:
    """A serving runtime that knows some answers by heart and abstains elsewhere."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        self._answers = dict(answers)
        self.asked: list[str] = []

    async def answer(self, request: str, encoding: Encoding | None = None) -> Answer | Abstain:
        """Answer from memory."""
        self.asked.append(request)
        if request in self._answers:
            return Answer(text=self._answers[request], confidence=1.0)
        return Abstain(reason="confidence")

    def close(self) -> None:
        """Nothing is held."""


class FakeMatcher:
    """A matcher that knows some requests by heart and calls the rest other traffic."""

    def __init__(self, slugs: Mapping[str, str], encoding: Encoding | None = None) -> None:
        self._slugs = dict(slugs)
        self._encoding = encoding
        self.asked: list[str] = []

    async def match(
        self,
        request: str,
        turn_index: int,
        hidden: frozenset[str] = frozenset(),
        *,
        thorough: bool = False,
    ) -> MatchOutcome:
        """Match from memory."""
        self.asked.append(request)
        slug = self._slugs.get(request)
        if slug is None or slug in hidden:
            return MatchOutcome(match=None, reason="no_pattern", encoding=self._encoding)
        return MatchOutcome(
            match=Match(slug=slug, score=0.9, threshold=0.5),
            reason="matched",
            encoding=self._encoding,
            nearest=(Near(slug, 0.9, 0.5),),
        )


class FakeSource:
    """A source of specialists without a registry: what is put in ``available`` can be loaded."""

    def __init__(self, matcher: PatternMatcher | None, *available: Loaded) -> None:
        self.matcher = matcher
        self.available = {(loaded.slug, loaded.version): loaded for loaded in available}
        self.loads = 0

    def put(self, loaded: Loaded) -> None:
        """Make a version available."""
        self.available[loaded.slug, loaded.version] = loaded

    def stamp(self, wanted: Mapping[str, int]) -> object:
        """Return what could be loaded now."""
        return (id(self.matcher), *sorted(self.available))

    def load(self, wanted: Mapping[str, int]) -> Loading:
        """Load what is there; the rest is a problem."""
        self.loads += 1
        found = {slug: self.available.get((slug, version)) for slug, version in wanted.items()}
        return Loading(
            specialists={slug: loaded for slug, loaded in found.items() if loaded is not None},
            matcher=self.matcher,
            problems={slug: "not available" for slug, loaded in found.items() if loaded is None},
        )


def put_in_stage(
    path: Path,
    slug: str,
    stage: Stage = Stage.LIVE,
    share: float = 1.0,
    *,
    version: int = 1,
    held: bool = False,
) -> None:
    """Write a specialist's place in its rollout, as if it had got there.

    Args:
        path: Apprentice's database.
        slug: The specialist.
        stage: Where it stands.
        share: Of the requests that match, those that it answers in this stage.
        version: Which one of its versions.
        held: Whether it stays there.
    """
    rollout = Rollout(
        slug=slug,
        version=version,
        stage=stage,
        share=share,
        held=held,
        step_started_at=time.time(),
        reason="",
    )
    with Database(path) as database, database.transaction() as connection:
        save_rollout(connection, rollout, 1.0)
