"""Which kind a pattern's specialist is trained as: the shape's choice, or the operator's.

What the operator chose stays with the pattern, so it outlives trainings and detections. Choosing
what the shape asks for anyway takes a choice back.
"""

from __future__ import annotations

import sqlite3

from hermes_apprentice.domain.shape import Kind, Shape, kind_for, misfit
from hermes_apprentice.errors import KindError
from hermes_apprentice.storage.patterns import PatternStore


def choose(connection: sqlite3.Connection, pattern_id: str, kind: Kind | None) -> None:
    """Keep what the operator chose; ``None`` changes nothing.

    Raises:
        KindError: Such answers can never come from this kind.
    """
    if kind is None:
        return
    store = PatternStore(connection)
    shape = store.pattern(pattern_id).shape
    check(kind, shape)
    store.choose_kind(pattern_id, None if kind is kind_for(shape) else kind)


def check(kind: Kind, shape: Shape) -> None:
    """Refuse a kind that can never give answers of a shape.

    Raises:
        KindError: It cannot.
    """
    problem = misfit(kind, shape)
    if problem:
        raise KindError(f"It cannot be trained as {kind.with_article}: {problem}.")


def kind_of(connection: sqlite3.Connection, pattern_id: str, otherwise: Kind) -> Kind:
    """Return what a pattern's next training makes: the operator's choice, or ``otherwise``."""
    return PatternStore(connection).chosen_kind(pattern_id) or otherwise
