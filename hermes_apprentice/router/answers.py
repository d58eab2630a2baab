"""What a specialist handed back: an answer that its pattern's clients expect, or none.

Runtimes promise much and may still return anything. Knows nothing about HTTP.
"""

from __future__ import annotations

from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.domain.shape_inference import fits
from hermes_apprentice.domain.specialist import Abstain, Answer


def checked(shape: Shape, given: object) -> Answer | Abstain:
    """Return an answer of the right shape that can be sent, or an abstention with its reason."""
    if isinstance(given, Abstain):
        return given
    if not isinstance(given, Answer) or not isinstance(given.text, str):
        return Abstain(reason="invalid")
    try:
        given.text.encode()
    except UnicodeEncodeError:
        return Abstain(reason="invalid")
    if not fits(shape, given.text):
        return Abstain(reason="invalid", confidence=given.confidence)
    return given
