"""Find personal data in a text.

Rules find what a form, a checksum or a label can prove, and the words nearby
weigh weak matches. Names of people, places and organisations need a spaCy
model, which runs under Presidio; they are reported as not covered when none is
installed. No step uses the network. Knows nothing about placeholders.
"""

from __future__ import annotations

import importlib.metadata
import re
import threading
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from hermes_apprentice.errors import RedactionError
from hermes_apprentice.privacy import (
    address_rules,
    finance_rules,
    identity_rules,
    online_rules,
    phone_rules,
)
from hermes_apprentice.privacy.context import Surroundings, ignored_words
from hermes_apprentice.privacy.kinds import LANGUAGE_KINDS, PATTERN_KINDS, Finding, Kind
from hermes_apprentice.privacy.rules import THRESHOLD, Rule, words

RULES: tuple[Rule, ...] = (
    *online_rules.RULES,
    *finance_rules.RULES,
    *phone_rules.RULES,
    *identity_rules.RULES,
    *address_rules.RULES,
)
"""Every rule, in the order that decides between two kinds for exactly the same characters."""

LONGEST_TEXT = 100_000
"""Longer texts are refused, so that one exchange cannot stall a build."""

_MODELS = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm")
_ESCAPE = re.compile(r"\\(?:[nrtbf\"\\]|u[0-9a-fA-F]{4})")
_RANK = {kind: rank for rank, kind in enumerate((*(rule.kind for rule in RULES), *LANGUAGE_KINDS))}


def installed_model() -> str | None:
    """Return the name of the best installed spaCy model for English, without loading it."""
    for name in _MODELS:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return name
    return None


class Analyzer:
    """Finds personal data; safe to share between threads once built.

    Without a language model Presidio is never loaded by `find`; the answer is the
    same either way.
    """

    def __init__(self, *, model: str | None = None, kinds: Iterable[Kind] | None = None) -> None:
        """Use the spaCy ``model`` of that name, or none, and look for ``kinds`` only.

        Nothing is loaded yet; see `load`. `installed_model` names the model to use.
        """
        self._lock = threading.Lock()
        wanted = frozenset(Kind if kinds is None else kinds)
        self._rules = tuple(rule for rule in RULES if rule.kind in wanted)
        known = (*PATTERN_KINDS, *(LANGUAGE_KINDS if model else ()))
        self.model = model if wanted & frozenset(LANGUAGE_KINDS) else None
        self.kinds: tuple[Kind, ...] = tuple(kind for kind in known if kind in wanted)
        self.not_covered: tuple[Kind, ...] = tuple(
            k for k in Kind if k in wanted and k not in known
        )

    def load(self) -> None:
        """Load what `find` needs now instead of at the first text that needs it.

        Raises:
            RedactionError: The spaCy model is missing or broken.
        """
        with self._lock:
            _ = self._ignored if self.model is None else self._engine

    @property
    def model_version(self) -> str | None:
        """The installed version of the spaCy model, or ``None`` without one."""
        return importlib.metadata.version(self.model) if self.model else None

    def find(self, text: str) -> tuple[Finding, ...]:
        """Return what was found, by place; findings never overlap.

        Raises:
            RedactionError: The text is too long, or the analysis failed.
        """
        self._check_length(text)
        scanned = _blank_escapes(text)
        if self.model is None:
            return self._find_by_rules(scanned)
        return self._find_by_presidio(scanned)

    def find_thoroughly(self, text: str) -> tuple[Finding, ...]:
        """Return the same as `find`, always by way of Presidio."""
        self._check_length(text)
        return self._find_by_presidio(_blank_escapes(text))

    @cached_property
    def _engine(self) -> Any:
        from hermes_apprentice.privacy.presidio_engine import build_engine

        return build_engine(self._rules, self._load_model() if self.model else None)

    def _load_model(self) -> Any:
        import spacy

        try:
            return spacy.load(str(self.model), exclude=["parser", "lemmatizer", "attribute_ruler"])
        except (OSError, ValueError, ImportError) as exc:
            raise RedactionError(
                f"the spaCy model {self.model} could not be loaded: install it again, or remove it "
                "to go without names, places and organisations"
            ) from exc

    @cached_property
    def _ignored(self) -> frozenset[str]:
        return ignored_words(self._rules)

    def _find_by_rules(self, text: str) -> tuple[Finding, ...]:
        """Return what the rules find, weak matches weighed only where a context word occurs."""
        matches = [(rule, match) for rule in self._rules for match in rule.find(text)]
        vocabulary: frozenset[str] = frozenset()
        if any(match.score < THRESHOLD for _, match in matches):
            vocabulary = frozenset(words(text))
        if any(
            match.score < THRESHOLD and not vocabulary.isdisjoint(rule.context)
            for rule, match in matches
        ):
            surroundings = Surroundings(text, self._ignored)
            matches = [
                (rule, match._replace(score=surroundings.lifted(match, rule)))
                for rule, match in matches
            ]
        return _separate(
            Finding(kind=rule.kind, start=match.start, end=match.end, score=match.score)
            for rule, match in matches
            if match.score >= THRESHOLD
        )

    def _find_by_presidio(self, text: str) -> tuple[Finding, ...]:
        # An engine without recognisers would load Presidio's defaults.
        if not text.strip() or not self.kinds:
            return ()
        with self._lock:
            engine = self._engine
        try:
            results = engine.analyze(text, language="en")
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            OSError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as exc:
            # Presidio's messages quote the text, so neither they nor the chain may reach a log.
            raise RedactionError(
                f"the analysis for personal data failed ({type(exc).__name__}); nothing was written"
            ) from None
        return _separate(
            Finding(kind=Kind(r.entity_type), start=r.start, end=r.end, score=r.score)
            for r in results
            if r.entity_type in self.kinds
        )

    @staticmethod
    def _check_length(text: str) -> None:
        if len(text) > LONGEST_TEXT:
            raise RedactionError(
                f"a text of {len(text)} characters is longer than {LONGEST_TEXT}, the most that is "
                "searched for personal data; nothing was written"
            )


def _blank_escapes(text: str) -> str:
    r"""Blank escapes such as ``\n`` in quoted JSON, so that no word begins with their letter."""
    return _ESCAPE.sub(lambda match: " " * len(match.group()), text) if "\\" in text else text


def _separate(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Join findings that overlap: the union of the characters, the kind of the longest."""
    separate: list[Finding] = []
    group: list[Finding] = []
    end = -1
    for finding in sorted(findings, key=lambda f: (f.start, f.end)):
        if finding.start >= end and group:
            separate.append(_join(group))
            group = []
        group.append(finding)
        end = max(end, finding.end)
    if group:
        separate.append(_join(group))
    return tuple(separate)


def _join(group: list[Finding]) -> Finding:
    best = min(group, key=lambda f: (f.start - f.end, -f.score, _RANK[f.kind]))
    return Finding(
        kind=best.kind,
        start=min(f.start for f in group),
        end=max(f.end for f in group),
        score=best.score,
    )
