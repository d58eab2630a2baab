"""Presidio's analyzer over our rules, with no language model or with an installed spaCy one.

Importing this module imports Presidio and spaCy: about a second and 60 MB.
`analyzer` does so only where a language model is installed; without one it
weighs context by itself, and this engine is what the tests compare it with.

Words are cut by a small tokenizer of our own, not by spaCy's: spaCy keeps
every new word in its vocabulary for as long as the process lives, which a
server must not do with private text, and leaves JSON keys glued to their
values, which hides context words.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from presidio_analyzer import (
    AnalysisExplanation,
    AnalyzerEngine,
    LocalRecognizer,
    RecognizerRegistry,
    RecognizerResult,
)
from presidio_analyzer.context_aware_enhancers import LemmaContextAwareEnhancer
from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine

from hermes_apprentice.privacy.context import BEFORE, TOKEN, ignored_words
from hermes_apprentice.privacy.kinds import LANGUAGE_KINDS, Kind
from hermes_apprentice.privacy.rules import LIKELY, THRESHOLD, Rule

_LANGUAGE = "en"
_MODEL_KINDS = {
    "PERSON": Kind.PERSON,
    "PER": Kind.PERSON,
    "GPE": Kind.PLACE,
    "LOC": Kind.PLACE,
    "FAC": Kind.PLACE,
    "ORG": Kind.ORGANISATION,
    "NORP": Kind.GROUP,
}
_BLANK_EDGES = " \t\r\n"


class PlainNlpEngine(NlpEngine):  # type: ignore[misc]
    """Gives Presidio the words of a text, and the entities of a spaCy model if there is one.

    Presidio compares context words with lemmas, which a pipeline without a
    model does not have; here the lower-cased word stands in for its lemma.
    """

    def __init__(self, pipeline: Any = None, stop_words: frozenset[str] = frozenset()) -> None:
        """Use the loaded spaCy ``pipeline``, or none; ``stop_words`` are no context."""
        self._pipeline = pipeline
        self._stop_words = stop_words

    def load(self) -> None:
        """Do nothing; the pipeline was handed in loaded."""

    def is_loaded(self) -> bool:
        """Return true: there is nothing to load."""
        return True

    def process_text(self, text: str, language: str) -> NlpArtifacts:
        """Return the words of ``text``, their places, and the model's entities."""
        tokens = [(m.group(), m.start()) for m in TOKEN.finditer(text)]
        entities = self._pipeline(text).ents if self._pipeline is not None else []
        return NlpArtifacts(
            entities=[entity for entity in entities if entity.label_ in _MODEL_KINDS],
            tokens=[token for token, _ in tokens],
            tokens_indices=[start for _, start in tokens],
            lemmas=[token.lower() for token, _ in tokens],
            nlp_engine=self,
            language=language,
        )

    def process_batch(
        self, texts: Iterable[str], language: str, batch_size: int = 1, n_process: int = 1, **_: Any
    ) -> Iterator[tuple[str, NlpArtifacts]]:
        """Yield each text with its words."""
        for text in texts:
            yield text, self.process_text(text, language)

    def is_stopword(self, word: str, language: str) -> bool:
        """Say whether ``word`` is too common to be context."""
        return word in self._stop_words

    def is_punct(self, word: str, language: str) -> bool:
        """Say whether ``word`` is a punctuation mark."""
        return not any(sign.isalnum() for sign in word)

    def get_supported_entities(self) -> list[str]:
        """Return the kinds that the model knows; none without one."""
        return [str(kind) for kind in LANGUAGE_KINDS] if self._pipeline is not None else []

    def get_supported_languages(self) -> list[str]:
        """Return the one language of the engine."""
        return [_LANGUAGE]


class RuleRecognizer(LocalRecognizer):  # type: ignore[misc]
    """One of our rules, as Presidio sees it."""

    def __init__(self, rule: Rule) -> None:
        """Wrap ``rule``."""
        self._rule = rule
        super().__init__(
            supported_entities=[str(rule.kind)],
            name=f"{rule.kind} rule",
            supported_language=_LANGUAGE,
            context=list(rule.context),
        )

    def load(self) -> None:
        """Do nothing; rules are compiled when their module is imported."""

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts | None = None
    ) -> list[RecognizerResult]:
        """Return the rule's matches, weak ones too: Presidio weighs their context afterwards."""
        return [
            _result(self, str(self._rule.kind), match.start, match.end, match.score)
            for match in self._rule.find(text)
        ]


class ModelRecognizer(LocalRecognizer):  # type: ignore[misc]
    """The entities that a spaCy model found."""

    def __init__(self) -> None:
        """Support every kind that needs a language model."""
        super().__init__(
            supported_entities=[str(kind) for kind in LANGUAGE_KINDS],
            name="language model",
            supported_language=_LANGUAGE,
        )

    def load(self) -> None:
        """Do nothing; the NLP engine holds the model."""

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts | None = None
    ) -> list[RecognizerResult]:
        """Return the model's entities without the blanks at their edges."""
        results = []
        for entity in nlp_artifacts.entities if nlp_artifacts is not None else ():
            value = text[entity.start_char : entity.end_char]
            start = entity.start_char + len(value) - len(value.lstrip(_BLANK_EDGES))
            end = start + len(value.strip(_BLANK_EDGES))
            if start < end:
                kind = _MODEL_KINDS[entity.label_]
                results.append(_result(self, str(kind), start, end, LIKELY))
        return results


def build_engine(rules: Iterable[Rule], pipeline: Any = None) -> AnalyzerEngine:
    """Return an engine with exactly these rules, and the model's kinds if there is a ``pipeline``.

    Nothing of Presidio's defaults is registered: several of them swallow
    article numbers, and its e-mail recogniser fetches a list from the network.
    """
    # Its debug messages quote the words around a match, its errors the match itself.
    logging.getLogger("presidio-analyzer").setLevel(logging.CRITICAL)
    rules = tuple(rules)
    recognizers: list[LocalRecognizer] = [RuleRecognizer(rule) for rule in rules]
    if pipeline is not None:
        recognizers.append(ModelRecognizer())
    return AnalyzerEngine(
        registry=RecognizerRegistry(recognizers=recognizers, supported_languages=[_LANGUAGE]),
        nlp_engine=PlainNlpEngine(pipeline, ignored_words(rules)),
        supported_languages=[_LANGUAGE],
        default_score_threshold=THRESHOLD,
        context_aware_enhancer=LemmaContextAwareEnhancer(
            min_score_with_context_similarity=THRESHOLD,
            context_prefix_count=BEFORE,
            context_suffix_count=0,
            context_matching_mode="whole_word",
        ),
    )


def _result(
    recognizer: LocalRecognizer, kind: str, start: int, end: int, score: float
) -> RecognizerResult:
    return RecognizerResult(
        entity_type=kind,
        start=start,
        end=end,
        score=score,
        # Presidio writes into this while it weighs context; it holds no text.
        analysis_explanation=AnalysisExplanation(
            recognizer=recognizer.name, original_score=score, pattern_name=kind
        ),
        recognition_metadata={
            RecognizerResult.RECOGNIZER_NAME_KEY: recognizer.name,
            RecognizerResult.RECOGNIZER_IDENTIFIER_KEY: recognizer.id,
        },
    )
