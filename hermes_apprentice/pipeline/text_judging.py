"""Put a judge's questions to a model at the upstream: paid for, within the budget, never twice.

Where the money, the price or an answer is missing, nobody is asked, and the gate's own rule decides
alone. Knows nothing about what is compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from hermes_apprentice.domain.dataset import Dataset
from hermes_apprentice.domain.prompt import Message
from hermes_apprentice.domain.shape import ShapeKind
from hermes_apprentice.ledger.budget import may_start
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.storage.judgements import add_judgement, find_judgement
from hermes_apprentice.storage.spending import add_spending
from hermes_apprentice.validator.text_judge import TextJudge, read

PURPOSE = "judge"
"""What the money is booked under."""

MOST_TOKENS = 64
"""Longest answer of a judge."""

_SECONDS = 60.0
_CHARS_PER_TOKEN = 3
_OVERHEAD_TOKENS = 20
_GIVE_UP = 3
"""Failures in a row after which nothing more is asked."""


class UpstreamAsker:
    """Asks one model on behalf of one specialist."""

    def __init__(self, shop: Workshop, slug: str, client: httpx.Client) -> None:
        """Ask nobody yet.

        Args:
            shop: Settings with keys, database, prices and clock.
            slug: Whom it is for.
            client: Reaches the upstream.
        """
        self._shop = shop
        self._slug = slug
        self._client = client
        self._model = shop.settings.gate.judge_model
        self._failures = 0
        self.problem = ""
        """Why nothing more is asked; empty while something may be."""

    def __call__(self, messages: Sequence[Message]) -> str | None:
        """Return the model's answer, from memory where it was given before."""
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [one._asdict() for one in messages],
            "temperature": 0,
            "max_tokens": MOST_TOKENS,
        }
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        with self._shop.database.transaction() as connection:
            known = find_judgement(connection, digest)
        if known is not None:
            return known
        guessed = sum(len(one.content) for one in messages) // _CHARS_PER_TOKEN + _OVERHEAD_TOKENS
        if self.problem or not self._affordable(guessed):
            return None
        try:
            told = self._client.post("chat/completions", json=body)
            told.raise_for_status()
            said = told.json()
            answer = said["choices"][0]["message"]["content"]
            usage = said.get("usage") or {}
            tokens = (
                int(usage.get("prompt_tokens") or guessed),
                int(usage.get("completion_tokens") or MOST_TOKENS),
            )
        except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError) as error:
            self._failed(type(error).__name__)
            return None
        self._book(digest, answer, tokens)
        if not isinstance(answer, str) or read(answer) is None:
            self._failed("an answer that is no yes or no")
            return None
        self._failures = 0
        return answer

    def _affordable(self, prompt_tokens: int) -> bool:
        cost = self._shop.prices.cost_of(self._model, prompt_tokens, MOST_TOKENS)
        if cost is None:
            self.problem = f"no price of {self._model} is known; write it into prices.toml"
        elif cost:
            shop = self._shop
            verdict = may_start(shop.database, shop.settings.budget, shop.clock(), cost)
            self.problem = "" if verdict.allowed else verdict.reason
        return not self.problem

    def _book(self, digest: str, answer: object, tokens: tuple[int, int]) -> None:
        """Write down what was paid and, where it is a yes or no, what was said, at once."""
        now = self._shop.clock()
        with self._shop.database.transaction() as connection:
            add_spending(
                connection,
                at=now,
                purpose=PURPOSE,
                amount=self._shop.prices.cost_of(self._model, *tokens) or 0,
                slug=self._slug,
                note=f"{self._model}: {tokens[0]} and {tokens[1]} tokens",
            )
            if isinstance(answer, str) and read(answer) is not None:
                add_judgement(connection, digest, answer, now)

    def _failed(self, how: str) -> None:
        self._failures += 1
        if self._failures >= _GIVE_UP:
            self.problem = f"it failed {_GIVE_UP} times in a row, last with {how}"


class Judging:
    """A judge with whoever reaches it."""

    def __init__(self, judge: TextJudge, asker: UpstreamAsker) -> None:
        """Join the two."""
        self.judge = judge
        self._asker = asker

    def in_words(self) -> str:
        """Return what came of it, for the verdict's reasons."""
        why = f" Nothing more was asked: {self._asker.problem.rstrip('.')}."
        return self.judge.in_words() + (why if self._asker.problem else "")


@contextmanager
def open_judging(shop: Workshop, slug: str, dataset: Dataset) -> Iterator[Judging | None]:
    """Give the judge that the settings name; ``None`` for none, and for answers that are no texts.

    Args:
        shop: Settings with keys, database, prices and clock.
        slug: Whom it is for.
        dataset: What is judged.
    """
    settings = shop.settings
    if not settings.gate.judge_model or dataset.shape.kind is not ShapeKind.TEXT:
        yield None
        return
    key = settings.upstream_api_key
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    url = settings.upstream.base_url.rstrip("/") + "/"
    with httpx.Client(base_url=url, headers=headers, timeout=_SECONDS, trust_env=False) as client:
        asker = UpstreamAsker(shop, slug, client)
        judge = TextJudge(settings.gate.judge_model, asker, seed=settings.trainer.seed)
        yield Judging(judge, asker)
