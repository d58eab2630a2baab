"""What stands around every model that serves, whatever its kind.

In front of it, redaction as the training data was redacted; behind it, the rules by which an
answer may go out: the model is sure, the answer is of the pattern's shape, and every placeholder
in it can be put back. Knows nothing about how a model computes.
"""

from __future__ import annotations

from collections.abc import Callable

from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.domain.shape_inference import fits
from hermes_apprentice.domain.specialist import Abstain, Answer
from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.privacy.placeholders import placeholders_in
from hermes_apprentice.privacy.redaction import Redaction, Redactor, restore_answer

SERVED_BY = "served_by"
"""Entry in a manifest's recipe that names the way of serving that the gate judged."""

NO_REDACTION = "none"
"""What a manifest says where nothing is redacted."""


class Guard:
    """The rules of one specialist; safe to share between threads."""

    def __init__(self, *, shape: Shape, threshold: float, redactor: Redactor | None) -> None:
        """Hold the rules.

        Args:
            shape: What answers must look like.
            threshold: Confidence below which it abstains.
            redactor: What the training data was redacted with, ``None`` for raw text.
        """
        self._shape = shape
        self._threshold = threshold
        self._redactor = redactor

    def redact(self, request: str) -> Redaction:
        """Return what the model may see of a request, and what belongs in the gaps."""
        if self._redactor is None:
            return Redaction(text=request, mapping={}, counts={})
        return self._redactor.redact(request)

    def judge(self, redaction: Redaction, given: str, confidence: float) -> Answer | Abstain:
        """Let an answer out, or say why not."""
        unknown = placeholders_in(given) - placeholders_in(redaction.text)
        if unknown or not fits(self._shape, given):
            return Abstain(reason="invalid", confidence=confidence)
        text = restore_answer(given, redaction.mapping)
        if not confidence >= self._threshold:  # not a number is no confidence either
            return Abstain(reason="confidence", confidence=confidence, text=text)
        return Answer(text=text, confidence=confidence)


def redactor_for(fingerprint: str, name: str, factory: Callable[[], Redactor]) -> Redactor | None:
    """Return the redactor that a specialist's data was redacted with, ``None`` for raw text.

    Args:
        fingerprint: What its dataset says.
        name: What messages call the specialist.
        factory: Makes this machine's redactor; called only if one is needed.

    Raises:
        ArtefactError: This machine's redactor follows other rules.
    """
    if fingerprint == NO_REDACTION:
        return None
    redactor = factory()
    if redactor.fingerprint != fingerprint:
        raise ArtefactError(
            f"{name} was trained on data that was redacted by other rules ({fingerprint[:12]}) "
            f"than the ones here ({redactor.fingerprint[:12]}); train it again"
        )
    return redactor


def present(redactor: Redactor | None, name: str) -> Callable[[], Redactor]:
    """Return a factory that gives ``redactor``, or says that there is none."""

    def give() -> Redactor:
        if redactor is None:
            raise ArtefactError(
                f"{name} was trained on redacted data, and redaction is switched off now; "
                "set dataset.redact, or train it again"
            )
        return redactor

    return give
